"""ICT-FaceKit's folder as a linear model."""

import time

import pytest
import torch

from avatar3d.errors import FileError, FormatError
from avatar3d.models.ict import NEUTRAL, arkit_name, load_ict
from avatar3d.models.obj import read_positions


@pytest.fixture(scope="module")
def folder(data):
    return data("3dmm/ict/FaceXModel/" + NEUTRAL).parent


@pytest.fixture(scope="module")
def model(folder):
    return load_ict(folder)


def test_names():
    assert [arkit_name(n) for n in ("eyeBlink_L", "mouthSmile_R", "browInnerUp_L", "cheekPuff_R", "jawOpen")] == [
        "eyeBlinkLeft", "mouthSmileRight", "browInnerUp", "cheekPuff", "jawOpen"]  # fmt: skip


def test_shapes_are_the_files(model, folder):
    assert len(model.identity_basis) == len(list(folder.glob("identity*.obj")))
    assert {"eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthPucker", "mouthSmileLeft"} <= set(model.expression_names)
    expression = torch.zeros(1, len(model.expression_names))
    expression[0, model.expression_names.index("eyeBlinkLeft")] = 1
    vertices = model.rest_vertices(torch.eye(len(model.identity_basis))[1:2], expression)[0]
    neutral, one, blink = (read_positions(folder / f) for f in (NEUTRAL, "identity001.obj", "eyeBlink_L.obj"))
    expected = torch.from_numpy(0.01 * (one + blink - neutral)).float()
    torch.testing.assert_close(vertices, expected[: len(vertices)], rtol=0, atol=1e-6)


def test_conventions(model):
    """Metres, +y up, face along +z, the subject's left at +x."""
    size = model.template.amax(0) - model.template.amin(0)
    assert 0.15 < size[0] < 0.35 and 0.25 < size[1] < 0.45
    left, right = (model.joint_template[model.joint_index(f"eye_{s}")] for s in ("left", "right"))
    assert 0.05 < left[0] - right[0] < 0.075 and left[2] > model.joint_template[model.joint_index("head"), 2]
    blink = model.expression_basis[model.expression_names.index("eyeBlinkLeft")].norm(dim=1)
    assert model.template[blink.argmax(), 0] > 0.01
    normals = torch.linalg.cross(
        *(model.template[model.faces[:, i]] - model.template[model.faces[:, 0]] for i in (1, 2))
    )
    face = model.regions["face"][model.faces[:, 0]] & (model.template[model.faces[:, 0], 2] > 0.1)
    assert (normals[face, 2] > 0).float().mean() > 0.7  # lips and nostrils turn inwards
    assert model.faces.max() < len(model.template) and model.uv_faces.max() < len(model.uvs)
    torch.testing.assert_close(model.skinning_weights.sum(1), torch.ones(len(model.template)))


def test_mirror_images(model):
    mirror, flip = model.mirror, torch.tensor([-1.0, 1, 1])
    assert (mirror[mirror] == torch.arange(len(mirror))).all()
    assert (model.template[mirror] * flip - model.template).norm(dim=1).max() < 5e-4
    assert (model.regions["eyeball_left"][mirror] == model.regions["eyeball_right"]).all()


def test_eyes_turn_about_their_centres(model):
    rotations = torch.zeros(1, 6, 3)
    rotations[0, model.joint_index("eye_left"), 1] = 0.4
    posed = model.forward(torch.zeros(1, 1), None, rotations)
    moved = (posed.vertices[0] - model.template).norm(dim=1)
    ball = model.regions["eyeball_left"]
    assert moved[~ball].max() < 1e-6 and moved[model.regions["iris_left"]].mean() > 0.003
    centre = model.joint_template[model.joint_index("eye_left")]
    radius = (posed.vertices[0, ball] - centre).norm(dim=1)
    torch.testing.assert_close(radius, (model.template[ball] - centre).norm(dim=1), rtol=0, atol=1e-5)


def test_the_second_load_is_immediate(model, folder):
    start = time.perf_counter()
    assert load_ict(folder) is model and time.perf_counter() - start < 0.1


def test_wrong_folders(tmp_path):
    with pytest.raises(FileError, match="has no generic_neutral_mesh.obj"):
        load_ict(tmp_path)
    (tmp_path / NEUTRAL).write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(FormatError, match="has 3 vertices"):
        load_ict(tmp_path)
