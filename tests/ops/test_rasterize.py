import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from tests.mesh_cases import in_front, intrinsics, soup, sphere

CASES = [(1, 3, 1, 16, 16), (2, 40, 60, 96, 70), (1, 200, 300, 130, 65), (2, 5, 0, 9, 7)]


@pytest.mark.parametrize("b, v, f, width, height", CASES)
@pytest.mark.parametrize("cull", [False, True])
def test_native_equals_reference(rng, device, b, v, f, width, height, cull):
    points, faces = soup(rng, b, v, f)
    inputs = [points.to(device).requires_grad_(), intrinsics(b, width, height).to(device).requires_grad_()]
    out = {}
    for backend in ("native", "reference"):
        raster = ops.rasterize(inputs[0], faces.to(device), inputs[1], width, height, cull=cull, backend=backend)
        out[backend] = raster
    actual, expected = out["native"], out["reference"]
    assert torch.equal(actual.triangle, expected.triangle)
    assert f == 0 or b * v < 20 or 0.05 < (actual.triangle >= 0).double().mean()
    torch.testing.assert_close(actual.barycentrics, expected.barycentrics, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(actual.depth, expected.depth, rtol=1e-9, atol=1e-9)
    if f == 0:
        return
    cotangents = [
        torch.randn(s, generator=rng, dtype=torch.float64).to(device)
        for s in ((b, height, width, 3), (b, height, width))
    ]
    grads = [torch.autograd.grad((r.barycentrics, r.depth), inputs, cotangents) for r in (actual, expected)]
    for a, e in zip(*grads, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-9 * float(e.abs().max()))


def test_gradcheck(rng, device):
    points = torch.tensor(
        [[[-1.2, -0.9, 2.0], [1.1, -0.8, 3.0], [0.1, 1.3, 2.5], [0.3, 0.2, 4.0]]], dtype=torch.float64
    )
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]], dtype=torch.int32, device=device)
    K = intrinsics(1, 8, 8).to(device).requires_grad_()
    points = points.to(device).requires_grad_()
    triangle = ops.rasterize(points, faces, K, 8, 8).triangle
    assert int((triangle >= 0).sum()) > 10

    def f(points, K):
        raster = ops.rasterize(points, faces, K, 8, 8, backend="native")
        assert torch.equal(raster.triangle, triangle)  # no pixel changes hands within the step
        return raster.barycentrics, raster.depth

    assert torch.autograd.gradcheck(f, (points, K), eps=1e-7)


def cover_counts(points, faces, K, width, height):
    """How often every pixel is covered, face by face, so that no depth test hides a second cover."""
    counts = torch.zeros(height, width, dtype=torch.int64, device=points.device)
    for face in faces:
        counts += ops.rasterize(points, face[None], K, width, height, backend="native").triangle[0] >= 0
    return counts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_a_sheet_covers_every_pixel_exactly_once(rng, device, dtype, jitter):
    n, step = 13, 11.0
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    xy = torch.stack([x, y], -1).double() + jitter * (torch.rand(n, n, 2, generator=rng, dtype=torch.float64) - 0.5)
    # Without jitter the corners and many edge points fall on pixel centres exactly.
    z = 2 + torch.rand(n, n, 1, generator=rng, dtype=torch.float64) if jitter else torch.ones(n, n, 1)
    pixels = (xy - 1) * step + 0.5
    points = torch.cat([pixels * z, z], -1).reshape(1, -1, 3).to(device, dtype)
    a = (y[:-1, :-1] * n + x[:-1, :-1]).flatten()
    faces = torch.cat([torch.stack([a, a + 1, a + n], -1), torch.stack([a + 1, a + n + 1, a + n], -1)]).int().to(device)
    K = torch.eye(3, dtype=dtype, device=device)[None]
    counts = cover_counts(points, faces, K, 110, 103)
    assert int(counts.min()) == 1 and int(counts.max()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_closed_mesh_is_watertight(device, dtype):
    vertices, faces = sphere(24, 40)
    points, faces = in_front(vertices)[None].to(device, dtype), faces.to(device)
    K = intrinsics(1, 150, 140, 170.0).to(device, dtype)
    front = ops.rasterize(points, faces, K, 150, 140, cull=True).triangle[0] >= 0
    back = ops.rasterize(points, faces.flip(1), K, 150, 140, cull=True).triangle[0] >= 0
    assert torch.equal(front, back) and 0.2 < front.double().mean() < 0.9
    # What is enclosed by the outline has no hole: rows and columns are covered from first to last.
    for mask in (front, front.T):
        first, last = mask.int().argmax(1), mask.shape[1] - mask.flip(1).int().argmax(1)
        assert torch.equal(mask.sum(1)[mask.any(1)], (last - first)[mask.any(1)])
    counts = cover_counts(points, faces, K, 150, 140)
    assert torch.equal(counts, 2 * front.long())


def test_known_plane(device):
    """A slanted plane through the near plane: depth and position are known at every pixel."""
    corners = torch.tensor([[-50.0, 0.5, -20], [50, 0.5, -20], [0, 0.5, 400]], dtype=torch.float64, device=device)
    K = intrinsics(1, 64, 48).to(device)
    raster = ops.rasterize(
        corners[None], torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), K, 64, 48, near=1.0
    )
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).double().to(device) @ torch.linalg.inv(K[0]).T
    hit = rays * (0.5 / rays[..., 1:2])
    floor = (rays[..., 1] > 0) & (hit[..., 2] >= 1) & (hit[..., 2] < 300)
    assert int(floor.sum()) > 900
    torch.testing.assert_close(raster.depth[0][floor], hit[floor][:, 2], rtol=1e-9, atol=0)
    position = raster.barycentrics[0] @ corners
    torch.testing.assert_close(position[floor], hit[floor], rtol=1e-8, atol=1e-8)
    assert not (raster.triangle[0][(rays[..., 1] <= 0) | (hit[..., 2] < 1)] >= 0).any()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_bad_triangles_are_left_out_and_the_rest_is_drawn(device, backend):
    nan, inf = float("nan"), float("inf")
    good = [[-1.0, -1, 3], [1, -1, 3], [0, 1, 3]]
    bad = [[nan, 0, 2], [0, inf, 2], [0, 0, -1], [1, 1, -2], [-1, 1, -1], [0.5, 0.5, 2], [1e20, 0, 1], [0, -1, inf]]
    points = torch.tensor(good + bad, device=device)[None]
    faces = [[0, 1, 2], [0, 1, 3], [0, 4, 2], [5, 6, 7], [8, 8, 0], [8, 8, 8], [0, 1, 1], [0, 2, 9], [0, 2, 10]]
    faces = torch.tensor(faces, dtype=torch.int32, device=device)
    K = intrinsics(1, 40, 40).float().to(device)
    raster = ops.rasterize(points, faces, K, 40, 40, backend=backend)
    alone = ops.rasterize(points, faces[:1], K, 40, 40)
    assert torch.equal(raster.triangle, alone.triangle) and int((raster.triangle == 0).sum()) > 50
    for value in raster[1:]:
        assert torch.isfinite(value).all()


def test_a_huge_triangle_fills_the_picture(device):
    points = torch.tensor([[[-1e6, -1e6, 2.0], [1e6, -1e6, 2.0], [0, 1e6, 2.0]]], device=device)
    face = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    raster = ops.rasterize(points, face, intrinsics(1, 300, 200).float().to(device), 300, 200)
    assert (raster.triangle == 0).all()
    torch.testing.assert_close(raster.depth, torch.full_like(raster.depth, 2.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_equal_depths_go_to_what_faces_the_camera_then_to_the_lower_index(device, dtype, backend):
    # Whole pixels and an area that is a power of two: nothing is rounded, whatever the order of the corners.
    points = torch.tensor([[[0.0, 0, 1], [32, 0, 1], [0, 32, 1]]], device=device, dtype=dtype)
    K = torch.eye(3, device=device, dtype=dtype)[None]
    for faces, winner in (([[0, 2, 1]] * 3, 0), ([[0, 1, 2], [0, 2, 1], [2, 1, 0]], 1)):
        faces = torch.tensor(faces, dtype=torch.int32, device=device)
        seen = ops.rasterize(points, faces, K, 40, 40, backend=backend).triangle.unique()
        assert set(seen.tolist()) == {-1, winner}


def test_threads_change_nothing(rng):
    points, faces = soup(rng, 2, 300, 4000)
    points, K = points.float().requires_grad_(), intrinsics(2, 200, 150).float()
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        raster = ops.rasterize(points, faces, K, 200, 150, backend="native")
        results.append([*raster, torch.autograd.grad((raster.barycentrics**2).sum() + raster.depth.sum(), points)[0]])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_opcheck(rng, device):
    from avatar3d.ops.rasterize import _rasterize

    points, faces = soup(rng, 2, 20, 30)
    pixels = (points @ intrinsics(2, 20, 16).transpose(1, 2)).to(device).requires_grad_()
    torch.library.opcheck(_rasterize.custom_op, (pixels, faces.to(device), 20, 16, 0.01, False))


def test_bad_calls(rng):
    points, faces = soup(rng, 1, 10, 5)
    K = intrinsics(1, 20, 20)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.rasterize(points.float(), faces, K, 20, 20)
    with pytest.raises(ValueError, match="1 to 32767 pixels"):
        ops.rasterize(points, faces, K, 0, 20)
    for backend in ("native", "reference"):
        with pytest.raises(ValueError, match="a vertex that does not exist"):
            ops.rasterize(points, faces + 9, K, 20, 20, backend=backend)
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.rasterize(points.half(), faces, K.half(), 20, 20, backend="native")
    with pytest.raises(Exception, match="Type-check"):
        ops.rasterize(points[0], faces, K, 20, 20)
