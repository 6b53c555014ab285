from dataclasses import replace

import pytest
import torch
from rig_factory import make_gaussians, make_rig

from avatar3d import ops
from avatar3d.geometry.projection import project
from avatar3d.geometry.rotation import matrix_to_quat, quat_product, rotvec_to_matrix
from avatar3d.geometry.transform import invert_rigid, make_transform
from avatar3d.models.anchors import with_anchors
from avatar3d.models.rig import pose_rig
from avatar3d.render import look_at, render_mesh
from avatar3d.render.gaussians import PosedGaussians, head_rotation_of, pose_gaussians
from avatar3d.render.splats import render_gaussians
from avatar3d.types import Camera

W, H = 48, 40


@pytest.fixture(scope="module")
def rig():
    return with_anchors(make_rig())


def camera_from(x: float, z: float, **changes) -> Camera:
    eye = torch.tensor([x, 0.12, z])
    return replace(look_at(torch.tensor([0.0, 0.1, 0.0]), eye, W, H, field_of_view=0.6), **changes)


def posed_batch(rig, b: int = 2, *, degree: int = 2, dtype=torch.float64) -> PosedGaussians:
    rng = torch.Generator().manual_seed(5)
    coefficients = torch.rand(b, 52, generator=rng)
    rotations = {name: 0.5 * torch.randn(b, 3, generator=rng) for name in ("head", "neck")}
    vertices = pose_rig(rig, coefficients, rotations).to(dtype)
    splats = make_gaussians(make_rig(), 60, degree=degree)
    return pose_gaussians(splats, rig, vertices, coefficients.to(dtype), head_rotation_of(rig, rotations).to(dtype))


def test_is_what_the_operation_draws(rig):
    posed, camera = posed_batch(rig), camera_from(0.1, 0.7)
    drawn = render_gaussians(posed, camera, depth=True, normals=True)
    for i in range(2):
        image = ops.render_splats(
            posed.means[i], posed.quats[i], posed.scales[i], posed.opacities[i], None, camera.K, camera.T_camera_world,
            W, H, torch.ones(3).double(), sh=posed.world_sh[i], depth=True, normals=True,
        )  # fmt: skip
        torch.testing.assert_close(drawn.rgb[i], image.color[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(drawn.alpha[i], image.alpha[0], rtol=1e-6, atol=1e-6)
        covered = image.alpha[0] > 0.01
        depth = (image.depth[0] / image.alpha[0])[covered]
        torch.testing.assert_close(drawn.depth[i][covered], depth, rtol=1e-6, atol=1e-6)
        towards = torch.nn.functional.normalize(image.normals[0], dim=-1)[covered]
        torch.testing.assert_close(drawn.normals[i][covered], towards, rtol=1e-5, atol=1e-5)
    assert 0.05 < drawn.alpha.mean() < 0.95


def test_cameras_and_poses_pair_up(rig):
    posed, cameras = posed_batch(rig), [camera_from(0.1, 0.7), camera_from(-0.3, 0.6)]
    one = {i: PosedGaussians(**{k: v[i : i + 1] for k, v in vars(posed).items()}) for i in range(2)}
    paired, around = render_gaussians(posed, cameras), render_gaussians(one[0], cameras)
    for i in range(2):
        torch.testing.assert_close(paired.rgb[i : i + 1], render_gaussians(one[i], cameras[i]).rgb)
        torch.testing.assert_close(around.rgb[i : i + 1], render_gaussians(one[0], cameras[i]).rgb)
    with pytest.raises(ValueError, match="3 cameras for 2 poses"):
        render_gaussians(posed, [*cameras, cameras[0]])
    with pytest.raises(ValueError, match="cameras of different sizes"):
        render_gaussians(posed, [cameras[0], cameras[1].resized(20, 20)])


def test_background(rig):
    posed, camera = posed_batch(rig, 1), camera_from(0.1, 0.7)
    white, red = render_gaussians(posed, camera), render_gaussians(posed, camera, background=torch.tensor([1.0, 0, 0]))
    empty = white.alpha[0] == 0
    assert empty.any() and (white.rgb[0][empty] == 1).all()
    torch.testing.assert_close(red.rgb[..., 0], white.rgb[..., 0])
    torch.testing.assert_close(red.rgb[..., 1], white.rgb[..., 1] - (1 - white.alpha))
    image = torch.rand(H, W, 3, dtype=torch.float64)
    pictured = render_gaussians(posed, camera, background=image).rgb
    torch.testing.assert_close(pictured, white.rgb + (1 - white.alpha)[..., None] * (image - 1))


def test_moving_everything_together_changes_nothing(rig):
    posed, camera = posed_batch(rig, 1), camera_from(0.2, 0.6)
    R, t = rotvec_to_matrix(torch.tensor([0.3, -1.0, 0.4]).double()), torch.tensor([0.5, -0.2, 0.1]).double()
    moved = replace(
        posed,
        means=posed.means @ R.T + t,
        quats=quat_product(matrix_to_quat(R).expand(posed.quats.shape), posed.quats),
        head_rotation=R @ posed.head_rotation,
    )
    there = replace(camera, T_camera_world=camera.T_camera_world @ invert_rigid(make_transform(R, t)))
    after, before = render_gaussians(moved, there).rgb, render_gaussians(posed, camera).rgb
    torch.testing.assert_close(after, before, rtol=0, atol=2e-5)  # the head's rotation has single precision


def test_splats_lie_where_the_mesh_is(rig):
    """Small opaque splats at the vertices' triangles cover the pixels that the mesh covers, at its depth."""
    n = 6000
    splats = make_gaussians(make_rig(), n, components=0)
    count = len(rig.faces) - len(rig.joint_names)
    face = (torch.arange(n) % count).to(torch.int32)
    flat = torch.tensor([-2.0, -2.0, -6.0]).expand(n, 3)
    splats = replace(
        splats, face=face, offsets=torch.zeros(n, 3), quats=torch.tensor([1.0, 0, 0, 0]).expand(n, 4),
        log_scales=flat, logit_opacities=torch.full((n,), 4.0),
    )  # fmt: skip
    camera, plain = camera_from(0.1, 0.7), make_rig()
    drawn = render_gaussians(pose_gaussians(splats, rig, rig.neutral[None]), camera, depth=True, normals=True)
    mesh = render_mesh(plain.neutral[None], plain.faces, camera, antialias=False)
    inside = torch.nn.functional.avg_pool2d(mesh.alpha[None], 5, 1, 2)[0] == 1
    outside = torch.nn.functional.max_pool2d(mesh.alpha[None], 5, 1, 2)[0] == 0
    assert inside.sum() > 100 and (drawn.alpha[inside] > 0.95).all() and (drawn.alpha[outside] < 0.05).all()
    assert (drawn.depth - mesh.depth)[inside].abs().max() < 0.01
    assert ((drawn.normals * mesh.normals).sum(-1)[inside] > 0.8).all()


def test_a_lens_moves_splats_to_where_it_shows_them(rig):
    bent = torch.tensor([-0.25, 0.05, 0.01, -0.01, 0.0]).double()
    camera = camera_from(0.05, 0.5, distortion=bent)
    posed = posed_batch(rig, 1, degree=0)
    tiny = replace(posed, scales=torch.full_like(posed.scales, 1e-5), opacities=torch.ones_like(posed.opacities))
    for splat in range(4):
        alone = PosedGaussians(
            **{k: None if v is None or k == "head_rotation" else v[:, splat : splat + 1] for k, v in vars(tiny).items()}
        )
        alpha = render_gaussians(alone, camera).alpha[0]
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        seen = torch.stack([(alpha * x).sum(), (alpha * y).sum()]) / alpha.sum()
        expected, straight = (project(alone.means[0], c)[0] for c in (camera, replace(camera, distortion=None)))
        torch.testing.assert_close(seen, expected, rtol=0, atol=0.1)
        if splat == 0:
            assert (expected - straight).norm() > 0.3


def test_gradients_reach_everything(rig):
    camera = camera_from(0.1, 0.7)
    posed = posed_batch(rig, 1)
    leaves = {
        name: getattr(posed, name).detach().clone().requires_grad_() for name in ("means", "scales", "opacities", "sh")
    }
    T = camera.T_camera_world.clone().requires_grad_()
    zeros = torch.zeros(1, 60, 2, dtype=torch.float64, requires_grad=True)
    drawn = render_gaussians(
        replace(posed, **leaves), replace(camera, T_camera_world=T), absolute_gradients=zeros
    )  # fmt: skip
    drawn.rgb.square().sum().backward()
    for name, value in leaves.items():
        assert value.grad.abs().max() > 0, name
    assert T.grad[:3].abs().max() > 0 and zeros.grad.min() >= 0 and zeros.grad.max() > 0
