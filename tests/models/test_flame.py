"""FLAME's format: read without chumpy, and the same numbers as the smplx package."""

import pickle

import numpy as np
import pytest
import torch

from avatar3d.errors import AssetError, FormatError
from avatar3d.models.flame import load_flame
from avatar3d.models.obj import read_obj
from tests.models import flame_file


@pytest.fixture(scope="module")
def flame_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    flame_file.write(folder)
    return folder


@pytest.fixture(scope="module")
def model(flame_folder):
    return load_flame(flame_folder / "FLAME_NEUTRAL.pkl")


def smplx_forward(folder, identity, expression, pose):
    smplx = pytest.importorskip("smplx", reason="the extra `smplx` is not installed")
    theirs = smplx.FLAME(str(folder), num_betas=300, num_expression_coeffs=100, batch_size=len(identity))
    parts = dict(zip(("global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose"), pose.unbind(1), strict=True))
    with torch.no_grad():
        out = theirs(betas=identity, expression=expression, **parts)
    return out.vertices, out.joints[:, :5]


def compare(model, folder, rng):
    identity, expression = torch.randn(3, 300, generator=rng), torch.randn(3, 100, generator=rng)
    pose = 0.4 * torch.randn(3, 5, 3, generator=rng)
    pose[2] = 0
    vertices, joints = smplx_forward(folder, identity, expression, pose)
    rotations = torch.zeros(3, 6, 3)
    rotations[:, [0, 1, 3, 4, 5]] = pose
    ours = model.forward(identity, expression, rotations)
    assert (ours.vertices - vertices).abs().max() < 1e-5
    assert (ours.joints[:, [0, 1, 3, 4, 5]] - joints).abs().max() < 1e-5


def test_same_vertices_as_smplx(model, flame_folder, rng):
    compare(model, flame_folder, rng)


def test_same_vertices_as_smplx_on_public_topology(tmp_path, data, rng):
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    path = flame_file.write(tmp_path, mesh=(mesh.vertices, mesh.quads[:, :3]))
    compare(load_flame(path), tmp_path, rng)


def test_npz_is_the_same(model, tmp_path):
    other = load_flame(flame_file.write(tmp_path, "npz"))
    for name in ("template", "identity_basis", "expression_basis", "skinning_weights", "pose_basis", "joint_template"):
        torch.testing.assert_close(getattr(other, name), getattr(model, name), rtol=0, atol=0)


def test_the_head_joint_turns_the_skull_and_not_the_shoulders(model):
    rotations = torch.zeros(1, 6, 3)
    rotations[0, 2, 1] = 0.3
    moved = (model.forward(torch.zeros(1, 2), None, rotations).vertices[0] - model.template).norm(dim=1)
    high, low = model.template[:, 1] > 0.05, model.template[:, 1] < model.joint_template[1, 1]
    assert moved[low].max() < 1e-3 and moved[high].median() > 0.015  # the made-up jaw and eyes reach down, faintly
    assert model.joint_parents[model.joint_index("jaw")] == model.joint_index("head")


def test_uvs_cover_every_corner_once(model):
    assert 0 <= model.uvs.min() and model.uvs.max() <= 1
    corners = model.uvs[model.uv_faces]
    assert (corners.amax(1) - corners.amin(1)).max() < 0.6, "a triangle spans the seam"
    eyes = model.regions["eyeball_left"] | model.regions["eyeball_right"]
    is_eye = eyes[model.faces[:, 0]]
    assert corners[is_eye][..., 1].max() < corners[~is_eye][..., 1].min()
    assert set(model.regions) == {"eyeball_left", "eyeball_right"} and int(eyes.sum()) == 2 * flame_file.EYE


def test_the_owners_uvs_are_used(tmp_path, data):
    mesh = read_obj(data("3dmm/flame_side/head_template.obj"))
    path = flame_file.write(tmp_path, mesh=(mesh.vertices, mesh.quads[:, :3]))
    (tmp_path / "head_template.obj").write_bytes(data("3dmm/flame_side/head_template.obj").read_bytes())
    model = load_flame(path)
    np.testing.assert_allclose(model.uvs.numpy(), mesh.uvs, atol=1e-6)
    assert model.mirror is not None and (model.mirror[model.mirror] == torch.arange(5023)).all()


def test_found_by_name_or_told_where_to_get_it(flame_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AVATAR3D_ASSETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssetError, match="flame.is.tue.mpg.de"):
        load_flame()
    (tmp_path / "flame").symlink_to(flame_folder)
    assert load_flame().name == "flame"


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "generic_model.pkl"
    for change, text in (({"v_template": np.zeros((6890, 3))}, "FLAME's is"), ({"f": None}, "no array of numbers")):
        path.write_bytes(pickle.dumps(flame_file.arrays() | change))
        with pytest.raises(FormatError, match=text):
            load_flame(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(FormatError, match="has no 'v_template'"):
        load_flame(path)
