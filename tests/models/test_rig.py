"""A rig moves as the model that it was built from."""

import pytest
import torch

from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.models.rig import build_rig, pose_rig
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES


@pytest.fixture
def model(rng) -> LinearModel:
    """Nine vertices, three joints, two ARKit shapes and one of its own."""

    def random(*shape):
        return torch.randn(*shape, generator=rng)

    weights = random(9, 3).abs()
    return LinearModel(
        name="toy",
        licence="none",
        template=random(9, 3),
        identity_basis=random(4, 9, 3),
        expression_basis=random(3, 9, 3),
        expression_names=("jawOpen", "wink", "eyeBlinkLeft"),
        expression_scale=0.1 * random(4),
        faces=torch.randint(9, (7, 3), generator=rng),
        uvs=random(5, 2),
        uv_faces=torch.randint(5, (7, 3), generator=rng),
        joint_names=("root", "head", "jaw"),
        joint_parents=(-1, 0, 1),
        joint_template=random(3, 3),
        joint_identity_basis=random(4, 3, 3),
        skinning_weights=weights / weights.sum(1, keepdim=True),
        landmarks={
            "mediapipe478": LandmarkEmbedding(
                faces=torch.zeros(478, dtype=torch.int64), weights=torch.ones(478, 3) / 3, residual=torch.zeros(478)
            )
        },
    )


def test_rig_equals_model(model, rng):
    identity = torch.randn(4, generator=rng)
    rig = build_rig(model, identity)
    assert rig.shape_names == ARKIT_NAMES and rig.landmark_faces is not None and len(rig.landmark_faces) == 478
    arkit, own = torch.zeros(5, 52), torch.zeros(5, 3)
    arkit[:, ARKIT_INDEX["jawOpen"]] = own[:, 0] = torch.rand(5, generator=rng)
    arkit[:, ARKIT_INDEX["eyeBlinkLeft"]] = own[:, 2] = torch.rand(5, generator=rng)
    rotations, translation = torch.randn(5, 3, 3, generator=rng), torch.randn(5, 3, generator=rng)
    named = dict(zip(model.joint_names, rotations.unbind(1), strict=True)) | {"left_foot": rotations[:, 0]}
    expected = model.forward(identity.expand(5, -1), own, rotations, translation).vertices
    torch.testing.assert_close(pose_rig(rig, arkit, named, translation), expected, rtol=1e-5, atol=1e-5)


def test_offsets_move_the_neutral_only(model, rng):
    offsets = torch.randn(9, 3, generator=rng)
    plain, moved = (build_rig(model, torch.zeros(4), o) for o in (None, offsets))
    torch.testing.assert_close(moved.neutral, plain.neutral + offsets)
    torch.testing.assert_close(moved.shapes, plain.shapes)
    torch.testing.assert_close(pose_rig(moved, torch.zeros(1, 52))[0], moved.neutral)


def test_a_wrong_number_of_coefficients_is_refused(model):
    with pytest.raises(ValueError, match="51 coefficients for a rig of 52 shapes"):
        pose_rig(build_rig(model, torch.zeros(4)), torch.zeros(1, 51))
