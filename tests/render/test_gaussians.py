from dataclasses import replace

import pytest
import torch
from rig_factory import make_gaussians, make_rig

from avatar3d.geometry.harmonics import SPLAT_SIGNS, rotate_splat_sh, sh_basis
from avatar3d.geometry.rotation import matrix_to_quat, quat_product, quat_to_matrix, rotvec_to_matrix
from avatar3d.models.anchors import with_anchors
from avatar3d.models.rig import pose_rig
from avatar3d.render.gaussians import PosedGaussians, head_rotation_of, pose_gaussians


@pytest.fixture
def rig():
    return with_anchors(make_rig())


def rotation(rng, *batch: int) -> torch.Tensor:
    return rotvec_to_matrix(2 * torch.randn(*batch, 3, generator=rng, dtype=torch.float64))


def covariances(posed: PosedGaussians) -> torch.Tensor:
    half = quat_to_matrix(posed.quats) * posed.scales[..., None, :]
    return half @ half.mT


def test_quat_product(rng):
    a, b = torch.randn(2, 9, 4, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(quat_to_matrix(quat_product(a, b)), quat_to_matrix(a) @ quat_to_matrix(b))


@pytest.mark.parametrize("k", [1, 4, 9])
def test_rotated_harmonics_give_the_same_colours_in_rotated_directions(rng, k):
    sh = torch.randn(5, 7, k, 3, generator=rng, dtype=torch.float64)
    R = rotation(rng, 5)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=rng, dtype=torch.float64), dim=-1)
    signs = torch.tensor(SPLAT_SIGNS, dtype=torch.float64)

    def colours(sh, directions):
        return torch.einsum("...dk,...nkc->...ndc", (sh_basis(directions) * signs)[..., :k], sh)

    turned = colours(rotate_splat_sh(sh, R), directions @ R.mT)
    torch.testing.assert_close(turned, colours(sh, directions), rtol=0, atol=1e-5)  # sh_basis has six digits
    with pytest.raises(ValueError, match="16 coefficients; expected 1, 4 or 9"):
        rotate_splat_sh(torch.zeros(1, 16, 3), torch.eye(3))


def test_splats_follow_a_rigid_motion(rng, rig):
    splats = make_gaussians(make_rig(), 60)
    splats = replace(splats, face=splats.face % len(rig.faces))
    vertices = rig.neutral[None].double()
    R, t = rotation(rng), torch.randn(3, generator=rng, dtype=torch.float64)
    rest, moved = pose_gaussians(splats, rig, vertices), pose_gaussians(splats, rig, vertices @ R.T + t)
    torch.testing.assert_close(moved.means, rest.means @ R.T + t)
    torch.testing.assert_close(covariances(moved), R @ covariances(rest) @ R.T)
    torch.testing.assert_close(moved.opacities, splats.logit_opacities.double().sigmoid()[None])


def test_frame_of_a_triangle(rig):
    """x along the first edge, z the normal, units of sqrt(2 area): by hand for one triangle."""
    splats = make_gaussians(make_rig(), 1, components=0)
    one = replace(rig, neutral=torch.tensor([[1.0, 0, 0], [3, 0, 0], [1, 1, 0]]), faces=torch.tensor([[0, 1, 2]]))
    splats = replace(
        splats,
        face=torch.zeros(1, dtype=torch.int32),
        barycentrics=torch.tensor([[0.5, 0.25, 0.25]]),
        offsets=torch.tensor([[0.0, 0, 1]]),
        quats=torch.tensor([[2.0, 0, 0, 0]]),
        log_scales=torch.tensor([[0.0, -1, -2]]),
    )
    posed = pose_gaussians(splats, one, one.neutral[None])
    torch.testing.assert_close(posed.means[0, 0], torch.tensor([1.5, 0.25, 2**0.5]))
    torch.testing.assert_close(posed.scales[0, 0], 2**0.5 * torch.tensor([0.0, -1, -2]).exp())
    torch.testing.assert_close(covariances(posed)[0, 0], torch.diag(posed.scales[0, 0].square()))


def test_expression_changes_all_that_it_should_and_stops_at_the_limits(rng, rig):
    splats = make_gaussians(make_rig(), 40, components=3)
    vertices, coefficients = rig.neutral[None].double(), torch.rand(1, 52, generator=rng, dtype=torch.float64)
    at_rest = pose_gaussians(splats, rig, vertices, torch.zeros_like(coefficients))
    for name in ("means", "quats", "scales", "opacities", "sh"):
        a, b = getattr(at_rest, name), getattr(pose_gaussians(splats, rig, vertices), name)
        torch.testing.assert_close(a, b, msg=name)
        assert not torch.allclose(a, getattr(pose_gaussians(splats, rig, vertices, coefficients), name)), name
    free = replace(splats, limits=None)
    components = (coefficients @ splats.mixing.double().T).clamp(-0.5, 0.5)
    by_hand = torch.einsum("e,enc->nc", components[0], splats.basis.double())
    posed = pose_gaussians(splats, rig, vertices, coefficients)
    torch.testing.assert_close(posed.sh[0, :, 0], splats.sh[:, 0].double() + by_hand[:, 10:13])
    torch.testing.assert_close(posed.sh[0, :, 1:], splats.sh[:, 1:].double())
    torch.testing.assert_close(posed.opacities[0], (splats.logit_opacities.double() + by_hand[:, 13]).sigmoid())
    wide = pose_gaussians(free, rig, vertices, 9 * coefficients)
    assert not torch.allclose(wide.means, pose_gaussians(splats, rig, vertices, 9 * coefficients).means)


def test_the_turn_of_the_head_changes_splats_too(rng, rig):
    splats = make_gaussians(make_rig(), 40, components=2)
    by_turn = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.5, 0.2]])
    turned = replace(splats, mixing=torch.cat([splats.mixing, by_turn], 1))
    turned.check(len(rig.faces), 52)
    vertices, coefficients = rig.neutral[None].double(), torch.rand(1, 52, generator=rng, dtype=torch.float64)
    turn = torch.tensor([[0.3, -0.4, 0.2]], dtype=torch.float64)
    components = (coefficients @ splats.mixing.double().T + turn @ by_turn.double().T).clamp(-0.5, 0.5)
    by_hand = torch.einsum("e,enc->nc", components[0], splats.basis.double())
    posed = pose_gaussians(turned, rig, vertices, coefficients, rotvec_to_matrix(turn))
    torch.testing.assert_close(posed.sh[0, :, 0], splats.sh[:, 0].double() + by_hand[:, 10:13])
    still = pose_gaussians(turned, rig, vertices, coefficients)
    torch.testing.assert_close(still.sh, pose_gaussians(splats, rig, vertices, coefficients).sh)


def test_a_batch_is_its_items(rng, rig):
    splats = make_gaussians(make_rig(), 30)
    coefficients = torch.rand(3, 52, generator=rng)
    rotations = {"head": torch.randn(3, 3, generator=rng), "neck": torch.randn(3, 3, generator=rng)}
    vertices, R = pose_rig(rig, coefficients, rotations), head_rotation_of(rig, rotations)
    together = pose_gaussians(splats, rig, vertices, coefficients, R)
    for i in range(3):
        one = slice(i, i + 1)
        alone = pose_gaussians(splats, rig, vertices[one], coefficients[one], R[one])
        for name in ("means", "quats", "scales", "opacities", "sh", "world_sh"):
            torch.testing.assert_close(getattr(together, name)[one], getattr(alone, name))


def test_head_rotation_is_the_chain_of_joints(rng, rig):
    rotations = {name: torch.randn(2, 3, generator=rng) for name in ("root", "neck", "head", "jaw")}
    root, neck, head = (rotvec_to_matrix(rotations[name]) for name in ("root", "neck", "head"))
    torch.testing.assert_close(head_rotation_of(rig, rotations), root @ neck @ head)
    torch.testing.assert_close(head_rotation_of(rig, {}, 2), torch.eye(3).expand(2, 3, 3))
    headless = replace(rig, joint_names=("root", "neck", "skull", "jaw", "eye_left", "eye_right"))
    torch.testing.assert_close(head_rotation_of(headless, rotations), root @ neck)


def test_splats_on_an_anchor_move_with_its_joint(rng, rig):
    head = rig.joint_names.index("head")
    splats = make_gaussians(make_rig(), 8, components=0)
    splats = replace(splats, face=torch.full((8,), len(rig.faces) - 6 + head, dtype=torch.int32))
    rotations = {"head": torch.tensor([[0.0, 0.7, 0]])}
    zero = torch.zeros(1, 52)
    rest, turned = (pose_gaussians(splats, rig, pose_rig(rig, zero, r)) for r in (None, rotations))
    R, joint = rotvec_to_matrix(rotations["head"])[0], rig.joint_positions[head]
    torch.testing.assert_close(turned.means, (rest.means - joint) @ R.T + joint)


def test_gradients(rng, rig):
    splats = make_gaussians(make_rig(), 3, degree=1, components=2)
    names = ("barycentrics", "offsets", "quats", "log_scales", "logit_opacities", "sh", "mixing", "basis")
    leaves = [getattr(splats, name).double().requires_grad_() for name in names]
    vertices = pose_rig(rig, torch.rand(2, 52, generator=rng)).double().requires_grad_()
    coefficients = torch.rand(2, 52, generator=rng, dtype=torch.float64).requires_grad_()

    def run(vertices, coefficients, *values):
        free = replace(splats, limits=None, **dict(zip(names, values, strict=True)))
        posed = pose_gaussians(free, rig, vertices, coefficients)
        return posed.means, posed.quats, posed.scales, posed.opacities, posed.sh

    assert torch.autograd.gradcheck(run, (vertices, coefficients, *leaves), fast_mode=True)


def test_a_degenerate_triangle_hides_its_splats(rig):
    splats = make_gaussians(make_rig(), 20, components=0)
    vertices = torch.zeros_like(rig.neutral)[None].requires_grad_()
    posed = pose_gaussians(splats, rig, vertices)
    assert (posed.scales == 0).all() and torch.isfinite(posed.means).all()
    (posed.means.sum() + posed.quats.sum()).backward()
    assert torch.isfinite(vertices.grad).all()


def test_bad_calls(rig):
    splats = make_gaussians(make_rig(), 5)
    with pytest.raises(ValueError, match="192 vertices for a rig of 210; pose the rig that models.anchors"):
        pose_gaussians(splats, rig, rig.neutral[None, :192])
    with pytest.raises(ValueError, match="51 coefficients for splats made for 52"):
        pose_gaussians(splats, rig, rig.neutral[None], torch.zeros(1, 51))


def test_rotation_of_the_head_turns_the_view_dependence(rng, rig):
    splats = make_gaussians(make_rig(), 5)
    R = rotation(rng, 1).float()
    posed = pose_gaussians(splats, rig, rig.neutral[None], None, R)
    torch.testing.assert_close(posed.sh[0], splats.sh)
    torch.testing.assert_close(posed.world_sh, rotate_splat_sh(splats.sh[None], R))
    assert torch.allclose(quat_to_matrix(matrix_to_quat(R)), R, atol=1e-5)
