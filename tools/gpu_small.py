"""Every operation once on the GPU, forward and backward, on small cases: what compute-sanitizer looks at.

python tools/gpu_small.py [cpu]
"""

import sys

import torch

from avatar3d import ops

DEVICE = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
SIZE = 48


def leaf(value: torch.Tensor) -> torch.Tensor:
    """On the device, asking for its gradient."""
    return value.to(DEVICE).requires_grad_()


def mesh() -> None:
    points = torch.randn(2, 60, 3) * 0.3 + torch.tensor([0.0, 0, 2])
    faces = torch.stack([torch.randperm(60)[:3] for _ in range(80)]).int().to(DEVICE)
    K = torch.tensor([[60.0, 0, SIZE / 2], [0, 60, SIZE / 2], [0, 0, 1]]).expand(2, 3, 3).to(DEVICE)
    points, colours = leaf(points), leaf(torch.rand(2, 60, 3))
    raster = ops.rasterize(points, faces, K, SIZE, SIZE, backend="native")
    image = ops.interpolate(colours, faces, raster.triangle, raster.barycentrics, backend="native")
    image = ops.antialias(image, raster, points, faces, K, backend="native")
    derivatives = ops.screen_derivatives(raster, points, faces, K, backend="native")
    loss = image.square().sum() + sum(d.sum() for d in derivatives) + raster.depth.sum()
    loss.backward()
    texture, uv = leaf(torch.rand(1, 32, 32, 3)), leaf(torch.rand(2, SIZE, SIZE, 2))
    ops.sample_texture(texture, uv, backend="native").sum().backward()
    ops.nearest_on_mesh(points.detach()[:1, :20], points.detach()[:1], faces, backend="native")


def splats() -> None:
    vertices, faces = leaf(torch.randn(2, 50, 3)), torch.randint(50, (90, 3)).to(DEVICE)
    n = 300
    weights = torch.rand(n, 3)
    inputs = [
        weights / weights.sum(1, keepdim=True),
        0.2 * torch.randn(n, 3),
        torch.randn(n, 4),
        0.1 * torch.rand(n, 3),
    ]
    rigged = ops.rig_splats(vertices, faces, torch.randint(90, (n,)).to(DEVICE), *map(leaf, inputs), backend="native")
    K = torch.tensor([[60.0, 0, SIZE / 2], [0, 60, SIZE / 2], [0, 0, 1]]).expand(2, 3, 3)
    T = torch.eye(4).repeat(2, 1, 1)
    T[:, 2, 3] = 4
    for c in (3, 7, 11):
        projected = ops.project_splats(
            rigged.means[0], rigged.quats[0], rigged.scales[0], leaf(torch.rand(n)), leaf(K), leaf(T), SIZE, SIZE,
            sh=leaf(torch.randn(n, 16, 3)), antialiased=True, normals=True, backend="native",
        )  # fmt: skip
        more = torch.cat([projected.colors, leaf(torch.rand(2, n, c - 3))], -1)
        absolute = torch.zeros(2, n, 2, device=DEVICE, requires_grad=True)
        image, alpha = ops.blend_splats(
            projected.pixels, projected.conics, projected.opacities, projected.depths, more, SIZE, SIZE,
            leaf(torch.rand(2, c)), absolute_gradients=absolute if c == 3 else None, backend="native",
        )  # fmt: skip
        (image.square().sum() + alpha.sum() + projected.normals.sum()).backward(retain_graph=True)


def images() -> None:
    a, b = leaf(torch.rand(2, SIZE, SIZE, 3)), torch.rand(2, SIZE, SIZE, 3).to(DEVICE)
    ops.ssim(a, b, backend="native").sum().backward()
    ops.photometric_loss(a, b, backend="native").sum().backward()


def tracking() -> None:
    weights, maps = leaf(torch.rand(40, 5)), leaf(torch.randn(2, 5, 4, 4))
    ops.skin(leaf(torch.randn(2, 40, 3)), weights, maps, backend="native").sum().backward()
    joints = leaf(torch.randn(3, 4, 3)), leaf(torch.randn(3, 4, 3))
    sum(t.sum() for t in ops.pose_joints((-1, 0, 1, 1), *joints, backend="native")).backward()

    o, k, e, count, p = 3, 4, 5, 30, 2
    rows = ops.LandmarkRows(
        points=torch.randn(count, 3, device=DEVICE) * 0.05,
        identity_basis=torch.randn(count, 3, k, device=DEVICE) * 0.002,
        expression_basis=torch.randn(count, 3, e, device=DEVICE) * 0.005,
        expression_scale=torch.zeros(k, device=DEVICE),
        pairs=torch.randint(count, (p, 2), device=DEVICE),
    )
    T = torch.eye(4, device=DEVICE).repeat(o, 1, 1)
    T[:, 2, 3] = 0.6
    intrinsics = torch.tensor([900.0, 950, 320, 240], device=DEVICE).expand(o, 4)
    shapes = torch.randn(k, device=DEVICE), torch.rand(o, e, device=DEVICE)
    seen = 320 + 60 * torch.randn(o, count, 2, device=DEVICE), torch.rand(o, count, device=DEVICE)
    for shared in (False, True):
        ops.landmark_equations(
            rows, *shapes, T, intrinsics, *seen, torch.rand(o, p, device=DEVICE), cauchy=2.0, discount=0.5,
            shared=shared, backend="native",
        )  # fmt: skip

    J = torch.randn(3, 20, 10, device=DEVICE)
    H, g = J.mT @ J, torch.randn(3, 10, device=DEVICE)
    ops.solve_normal_equations(H, g, torch.full_like(g, -0.1), torch.full_like(g, 0.1), backend="native")
    blocks = (H + 9 * torch.eye(10, device=DEVICE)).expand(2, 3, 10, 10)
    ops.solve_chain(blocks, *torch.randn(3, 2, 3, 10, device=DEVICE), backend="native")


torch.manual_seed(0)
mesh()
splats()
images()
tracking()
if DEVICE.type == "cuda":
    torch.cuda.synchronize()
print("gpu_small: done")
