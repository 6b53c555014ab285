"""Sequences of meshes: consistency, confidence, head motion, the picture."""

import pytest
import torch

from avatar3d import models, stabilize
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.transform import apply, invert_rigid, make_transform
from avatar3d.models.motion import head_rotation
from avatar3d.stabilize.head_motion import mesh_axes
from avatar3d.stabilize.picture import nice

Z_UP = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def talking():
    """A head that turns and talks, ten frames; the true motion."""
    rng = torch.Generator().manual_seed(1)
    model = models.load("head")
    identity = 0.6 * torch.randn(1, 160, generator=rng)
    t = torch.linspace(0, 1, 10)
    e = torch.zeros(10, 52)
    for name, phase in (("jawOpen", 0.0), ("mouthPucker", 1.0), ("browInnerUp", 2.0), ("mouthSmileLeft", 3.0)):
        e[:, model.expression_names.index(name)] = 0.4 + 0.4 * torch.sin(12 * t + phase)
    x = model.rest_vertices(identity.expand(10, -1), e).double()
    w = torch.stack([0.1 * torch.sin(3 * t), 0.3 * t, 0 * t], 1).double()
    T = make_transform(rotvec_to_matrix(w), 0.1 * w)
    seen = model.template[:, 2] > 0.02
    faces = model.faces[seen[model.faces].all(1)]
    skull = model.rest_vertices(identity)[0][model.regions["skull_attached"]].double()
    return apply(T, x), faces, T @ invert_rigid(T[:1]), skull


@pytest.fixture(scope="module")
def found(talking):
    return stabilize.stabilize_meshes(talking[0], talking[1], references=3)


def test_the_skull_stands_still(talking, found):
    vertices, _, T, skull = talking
    left = apply(invert_rigid(found.T_frame_anchor) @ T, skull.expand(10, -1, -1)) - skull
    assert left.norm(dim=-1).max() < 0.4e-3
    assert (found.T_frame_anchor[0] - torch.eye(4)).abs().max() < 1e-9
    assert (found.confidence[1:] > 0.5).all() and found.confidence[0] == 1
    torch.testing.assert_close(found.apply(vertices)[0], vertices[0])


@pytest.mark.parametrize("method", ["full", "upper", "skull", "robust"])
def test_baselines_are_worse(talking, found, method):
    vertices, faces, T, skull = talking
    theirs = stabilize.stabilize_meshes(vertices, faces, method=method)

    def left(T_frame_anchor):
        return float((apply(invert_rigid(T_frame_anchor) @ T, skull.expand(10, -1, -1)) - skull).norm(dim=-1).mean())

    assert left(found.T_frame_anchor) < left(theirs.T_frame_anchor) < 5e-3
    assert ((theirs.confidence >= 0) & (theirs.confidence <= 1)).all()


def test_head_motion_in_metres_and_upright(talking, found):
    T = talking[2]
    motion = stabilize.head_motion(found, fps=25)
    assert motion.fps == 25 and motion.frames == 10 and not motion.expression.any()
    off = matrix_to_rotvec(head_rotation(motion).mT @ T[:, :3, :3]).norm(dim=1)
    assert torch.rad2deg(off).max() < 0.2
    joint = torch.linalg.inv(found.T_head_mesh)[:3, 3]
    moved = apply(T, joint.expand(10, 1, 3))[:, 0] - joint
    assert (motion.translation - moved).norm(dim=1).max() < 1e-3


def test_head_motion_of_centimetres_with_z_up(talking):
    vertices, faces, T, _ = talking
    found = stabilize.stabilize_meshes(100 * vertices[:3] @ Z_UP.mT, faces)
    assert stabilize.mesh_units(found) == ("centimetres", 0.01)
    assert torch.equal(mesh_axes(found), Z_UP.mT)
    motion = stabilize.head_motion(found, fps=30)
    off = matrix_to_rotvec(head_rotation(motion).mT @ T[:3, :3, :3]).norm(dim=1)
    assert torch.rad2deg(off).max() < 0.2
    assert motion.translation.norm(dim=1).max() < 0.2


def test_any_frame_may_be_the_anchor(talking):
    vertices, faces, T, skull = talking
    found = stabilize.stabilize_meshes(vertices[:4], faces, anchor=2)
    assert (found.T_frame_anchor[2] - torch.eye(4)).abs().max() < 1e-9
    truth = T[:4] @ invert_rigid(T[2:3])
    points = apply(T[2], skull)
    off = apply(found.T_frame_anchor, points.expand(4, -1, -1)) - apply(truth, points.expand(4, -1, -1))
    assert off.norm(dim=-1).max() < 0.5e-3


def test_picture_shows_where_the_surface_moves(talking, found):
    vertices, faces, _, _ = talking
    picture, moved = stabilize.motion_picture(found.apply(vertices), faces, found.T_head_mesh)
    assert picture.shape[2] == 3 and picture.shape[1] == 2 * 560
    model = models.load("head")
    assert moved[model.regions["chin"]].mean() > 2 > 10 * moved[model.regions["scalp"]].median()
    assert [nice(v) for v in (0.0, 0.3, 1.0, 1.2, 70.0)] == [0.01, 0.5, 1.0, 2.0, 100.0]


def test_bad_meshes_are_told(talking):
    vertices, faces, _, _ = talking
    with pytest.raises(ValueError, match="one mesh was given; two or more"):
        stabilize.stabilize_meshes(vertices[:1], faces)
    broken = vertices.clone()
    broken[2, 7] = float("nan")
    with pytest.raises(ValueError, match="mesh 2 has vertices that are not finite"):
        stabilize.stabilize_meshes(broken, faces)
    with pytest.raises(ValueError, match="mesh 1 has no surface"):
        stabilize.stabilize_meshes(torch.stack([vertices[0], 0 * vertices[1]]), faces)
    with pytest.raises(ValueError, match="anchor 4 of 3 meshes"):
        stabilize.stabilize_meshes(vertices[:3], faces, anchor=4)
