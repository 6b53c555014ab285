"""People and expressions from one model to another and back, and what is lost on the way."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar3d import models, ops
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.arkit import arkit_shapes
from avatar3d.models.obj import read_obj
from avatar3d.models.surface_map import surface_map
from avatar3d.types import ARKIT_INDEX
from tests.models import flame_file

sys.path.append(str(Path(__file__).parents[2] / "tools"))


@pytest.fixture(scope="module")
def head():
    return models.load("head")


@pytest.fixture(scope="module")
def ict(data):
    return models.load(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parent)


@pytest.fixture(scope="module")
def arkit(data):
    return models.load(data("3dmm/arkit/ARKit_reference_blendshapes.zip"))


@pytest.fixture(scope="module")
def flame(tmp_path_factory, data):
    """FLAME's mesh and format; its expressions are random mixtures of plausible faces, which FLAME's are, too."""
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    model = models.load(flame_file.write(tmp_path_factory.mktemp("flame"), mesh=(mesh.vertices, mesh.quads[:, :3])))
    mixtures = 0.3 * torch.randn(100, 52, generator=torch.Generator().manual_seed(5))
    basis = torch.einsum("es,svc->evc", mixtures, arkit_shapes(model))
    for side in ("left", "right"):
        basis[:, model.regions[f"eyeball_{side}"]] = 0
    rigid = torch.zeros_like(model.skinning_weights)
    rigid[:, model.joint_index("head")] = 1
    return replace(model, expression_basis=basis, skinning_weights=rigid, pose_basis=None, joint_expression_basis=None)


def faces_of(**values: float) -> torch.Tensor:
    """Rest, then the values."""
    out = torch.zeros(2, 52)
    for name, value in values.items():
        out[1, ARKIT_INDEX[name]] = value
    return out


def gap_mm(head, back, identity, with_offsets: bool = True) -> float:
    """Of the neutral face, rigid motion apart."""
    found = head.rest_vertices(back.identity[None])[0] + (back.offsets if with_offsets else 0)
    true, face = head.rest_vertices(identity[None])[0], head.regions["face"]
    off = apply(procrustes(found[face], true[face]), found) - true
    return float(1e3 * off[face].square().sum(1).mean().sqrt())


def test_a_model_into_itself(head, rng):
    identity, e = 0.7 * torch.randn(40, generator=rng), faces_of(jawOpen=0.6, eyeBlinkLeft=0.9)
    found = models.convert(head, head, identity, e)
    assert max(found.identity_mm.values()) < 0.3 and max(found.expression_mm.values()) < 0.3
    assert (found.expression - e).abs().max() < 0.06
    torch.testing.assert_close(found.T_source_target, torch.eye(4), atol=2e-3, rtol=0)
    assert gap_mm(head, found, identity) < 0.01


@pytest.mark.parametrize("which, there, back", [("ict", 4.0, 0.3), ("arkit", 4.0, 1.1), ("flame", 4.0, 0.7)])
def test_round_trips_lose_nothing_silently(head, which, there, back, request, rng):
    """What coefficients lose is told; with offsets the face comes back."""
    other = request.getfixturevalue(which)
    identity, e = 0.7 * torch.randn(60, generator=rng), faces_of(jawOpen=0.7)
    a = models.convert(head, other, identity, e)
    assert a.identity_mm["face"] < there
    # the residual is what there is: the surface that was asked for, less the one that coefficients give
    where = surface_map(head, other)
    goal = points_on_faces(head.rest_vertices(identity[None])[0], head.faces, where.faces, where.weights)
    shape = apply(a.T_source_target, other.rest_vertices(a.identity[None])[0])
    mask = where.known & other.regions["face"]
    surface = head.rest_vertices(identity[None])[0]
    near = ops.nearest_on_mesh(shape[mask], surface, head.faces).distance
    assert abs(1e3 * float(near.square().mean().sqrt()) - a.identity_mm["face"]) < 0.01
    torch.testing.assert_close(apply(a.T_source_target, other.rest_vertices(a.identity[None])[0] + a.offsets)[mask],
                               goal[mask], atol=1e-5, rtol=0)  # fmt: skip
    b = models.convert(other, head, a.identity, a.expression, a.joints, offsets=a.offsets)
    assert gap_mm(head, b, identity) < back
    jaw = ARKIT_INDEX["jawOpen"]
    assert b.frames_mm[0] < 0.02 and abs(b.expression[1, jaw] - 0.7) < 0.2


def test_more_identities_lose_less(head, ict, rng):
    """Residuals are honest: with the identities taken away they grow."""
    identity = 0.7 * torch.randn(60, generator=rng)
    few = replace(ict, identity_basis=0 * ict.identity_basis)
    with_, without = (models.convert(head, m, identity).identity_mm["face"] for m in (ict, few))
    assert with_ < without


def test_neutral_alone(head, ict):
    found = models.convert(head, ict, torch.zeros(5))
    assert found.expression.shape == (0, len(ict.expression_names)) and not found.expression_mm
    assert len(found.frames_mm) == 0


def test_published_flame_people_on_the_head(head, flame, data):
    """Neutral faces of real FLAME fits: what the head model's identities cannot follow."""
    with np.load(data("motion/mead_flame_shapes_DERIVED.npz")) as file:
        people = torch.from_numpy(file["neutral_vertices"][:3])
    for person in people:
        found = models.convert(flame, head, torch.zeros(1), offsets=person - flame.template)
        assert found.identity_mm["face"] < 1.3 and found.identity_mm["lips_outer"] < 0.8


def test_gaze_goes_by_the_eyes(head, flame):
    e = faces_of(eyeLookOutLeft=0.6, eyeLookInRight=0.6)
    there = models.convert(head, flame, torch.zeros(1), e)
    assert set(there.joints) == {"jaw", "eye_left", "eye_right"} and there.joints["eye_left"][1, 1] > 0.1
    back = models.convert(flame, head, there.identity, there.expression, there.joints)
    look = [ARKIT_INDEX["eyeLookOutLeft"], ARKIT_INDEX["eyeLookInRight"]]
    torch.testing.assert_close(back.expression[1, look], e[1, look], atol=1e-3, rtol=0)


def test_lips_keep_apart(head, ict):
    """Upper lips of one mesh lie on upper lips of the other, though they touch."""
    where = surface_map(head, ict)
    wrong = []
    for a, b in (("upper", "lower"), ("lower", "upper")):
        mine = ict.regions[f"lips_outer_{a}"] & where.known
        wrong.append(head.regions[f"lips_outer_{b}"][head.faces[where.faces[mine]]].any(1))
    assert torch.cat(wrong).float().mean() < 0.05  # corners of the mouth


def test_bad_calls(head, flame):
    with pytest.raises(ValueError, match="500 identity coefficients"):
        models.convert(head, head, torch.zeros(500))
    with pytest.raises(ValueError, match="60 expression coefficients"):
        models.convert(head, head, torch.zeros(5), torch.zeros(1, 60))
    with pytest.raises(ValueError, match="where this mesh of 5023 vertices lies"):
        models.convert(head, replace(flame, faces=flame.faces[:-1]), torch.zeros(5))


def test_the_table(head):
    from convert_table import REGIONS, round_trip

    rows = round_trip(head, head, people=1)
    assert rows["neutral, there and back, with offsets"]["face"] < 0.05
    assert set(rows["identity, there"]) <= set(REGIONS)
