"""SMPL-X's head: found in the file by its triangles, and the same numbers as the smplx package."""

import numpy as np
import pytest
import torch

from avatar3d import models
from avatar3d.errors import AssetError, FormatError
from avatar3d.geometry.transform import apply
from avatar3d.models.flame import load_flame
from avatar3d.models.mesh_walk import find_within
from avatar3d.models.obj import read_obj
from avatar3d.models.smplx_face import IDS, JOINTS, SOURCE_OF_JOINT, load_smplx_face
from tests.models import flame_file, smplx_file


@pytest.fixture(scope="module")
def flame_model(tmp_path_factory):
    return load_flame(flame_file.write(tmp_path_factory.mktemp("flame")))


@pytest.fixture(scope="module")
def made():
    return smplx_file.arrays()


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    return smplx_file.write(tmp_path_factory.mktemp("smplx"), made[0])


@pytest.fixture(scope="module")
def model(path, flame_model):
    return load_smplx_face(path, flame_model)


def test_its_vertices_are_found_by_its_triangles(model, made, flame_model):
    content, ids = made
    assert model.provenance["vertices"] == ids.tolist()
    np.testing.assert_allclose(model.template.numpy(), content["v_template"][ids], atol=1e-6)
    assert torch.equal(model.faces, flame_model.faces) and model.name == "smplx"
    assert len(model.identity_basis) == 300 and len(model.expression_basis) == 100


def test_same_vertices_as_the_smplx_package(model, made, path, rng):
    smplx = pytest.importorskip("smplx", reason="the extra `smplx` is not installed")
    theirs = smplx.SMPLX(
        str(path), ext="npz", num_betas=300, num_expression_coeffs=100, batch_size=3, use_pca=False,
        flat_hand_mean=True,
    )  # fmt: skip
    identity, expression = torch.randn(3, 300, generator=rng), torch.randn(3, 100, generator=rng)
    pose = 0.4 * torch.randn(3, 6, 3, generator=rng)
    pose[2] = 0
    moved = torch.randn(3, 3, generator=rng)
    body = torch.zeros(3, 21, 3)
    body[:, [j - 1 for j in SOURCE_OF_JOINT[1:3]]] = pose[:, 1:3]
    with torch.no_grad():
        out = theirs(
            betas=identity, expression=expression, global_orient=pose[:, 0], body_pose=body.flatten(1), transl=moved,
            jaw_pose=pose[:, 3], leye_pose=pose[:, 4], reye_pose=pose[:, 5],
        )  # fmt: skip
    ours = model.forward(identity, expression, pose, moved)
    assert (ours.vertices - out.vertices[:, made[1]]).abs().max() < 2e-5
    assert (ours.joints - out.joints[:, list(SOURCE_OF_JOINT)]).abs().max() < 2e-5
    assert (ours.vertices[0] - ours.vertices[2]).norm(dim=1).max() > 0.01 and out.joints.shape[1] >= JOINTS


def test_the_file_of_indices_is_checked(made, flame_model, tmp_path):
    content, ids = made
    path = smplx_file.write(tmp_path, content)
    np.save(tmp_path / IDS, ids)
    assert load_smplx_face(path, flame_model).provenance["vertices"] == ids.tolist()
    np.save(tmp_path / IDS, ids[::-1])
    with pytest.raises(FormatError, match="FLAME's mesh is not in it by SMPL-X__FLAME"):
        load_smplx_face(path, flame_model)


def test_another_mesh_is_refused(made, flame_model, tmp_path):
    content = dict(made[0])
    rng = np.random.default_rng(5)
    content["f"] = content["f"][:, rng.permutation(3)]
    content["f"][::2] = content["f"][::2][:, ::-1]
    with pytest.raises(FormatError, match="following its triangles"):
        load_smplx_face(smplx_file.write(tmp_path, content), flame_model)
    for change, text in ({"weights": np.zeros((10475, 24))}, "SMPL-X's is"), ({"f": None}, "no array"):
        with pytest.raises(FormatError, match=text):
            load_smplx_face(smplx_file.write(tmp_path, made[0] | change), flame_model)


def test_what_is_missing_is_told(made, tmp_path, monkeypatch):
    monkeypatch.setenv("AVATAR3D_ASSETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssetError, match="smpl-x.is.tue.mpg.de"):
        models.load("smplx")
    smplx_file.write(tmp_path / "smplx", made[0])
    with pytest.raises(AssetError, match="no FLAME was found"):
        models.load("smplx")
    flame_file.write(tmp_path / "flame")
    assert models.load("smplx").name == "smplx"


def test_walks_find_a_piece_and_say_what_is_cut():
    """A grid within a grid; half of it when the rest is gone."""
    y, x = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    points = torch.stack([x, y, 0.3 * ((x * 5 + y * 3) % 4)], -1).view(-1, 3).float()
    i = (y[:-1, :-1] * 9 + x[:-1, :-1]).reshape(-1)
    faces = torch.cat([torch.stack([i, i + 1, i + 10], 1), torch.stack([i, i + 10, i + 9], 1)])
    order = torch.randperm(81, generator=torch.Generator().manual_seed(1))
    moved = torch.empty_like(points)
    moved[order] = points + 0.05
    found = find_within(points, faces, moved, order[faces])
    assert torch.equal(found, order)
    kept = (faces % 9 <= 4).all(1)
    part = find_within(points, faces, moved, order[faces[kept]])
    left = torch.zeros(81, dtype=torch.bool)
    left[faces[kept].flatten()] = True
    assert torch.equal(part[left], order[left]) and (part[~left] == -1).all()


def test_conversion_there_and_back(data, tmp_path):
    """On the public mesh, whose place on `head` is packaged; shapes are made up."""
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    head_mesh = mesh.vertices, mesh.quads[:, :3]
    flame_model = load_flame(flame_file.write(tmp_path / "flame", mesh=head_mesh))
    content, ids = smplx_file.arrays(head_mesh)
    path = smplx_file.write(tmp_path / "smplx", content)
    bare = load_smplx_face(path, flame_model)
    assert bare.provenance["vertices"] == ids.tolist()
    smplx_model = models.tables.with_tables(bare)
    assert "mediapipe478" in smplx_model.landmarks and "lips_outer" in smplx_model.regions
    head = models.load("head")
    identity = torch.zeros(len(head.identity_basis))
    identity[:4] = torch.tensor([0.8, -0.5, 0.3, 0.6])
    there = models.convert(head, smplx_model, identity)
    back = models.convert(smplx_model, head, there.identity, offsets=there.offsets)
    neutral = head.rest_vertices(identity[None])[0]
    found = head.rest_vertices(back.identity[None])[0] + back.offsets
    T = there.T_source_target.double() @ back.T_source_target.double()
    face = head.regions["face"] & ~head.regions["eyelids"] & ~head.regions["lips_inner"]
    off = (apply(T, found.double()) - neutral.double())[face].norm(dim=1)
    assert off.median() < 5e-4, "offsets say what made-up shapes cannot"
    assert set(there.identity_mm) >= {"face", "lips_outer", "nose"}
