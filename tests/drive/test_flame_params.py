"""FLAME's parameters in .npz files become motions, and motions FLAME's parameters."""

import pickle

import numpy as np
import pytest
import torch

from avatar3d import drive, models
from avatar3d.errors import AssetError, FileError, FormatError
from avatar3d.export.dispatch import export
from avatar3d.export.flame import write_flame_npz
from avatar3d.models.arkit import arkit_shapes
from avatar3d.models.flame_params import is_flame_parameters, read_flame_parameters
from avatar3d.models.obj import read_obj
from avatar3d.pipeline.meshes import is_mesh_source
from avatar3d.pipeline.using import drive as drive_avatar
from avatar3d.types import ARKIT_INDEX, Avatar, Motion
from tests.models import flame_file


@pytest.fixture(scope="module")
def assets(tmp_path_factory, data):
    """A folder with a file in FLAME's format on FLAME's mesh; its expressions are mixtures of plausible faces."""
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    root = tmp_path_factory.mktemp("assets")
    faces = mesh.vertices, mesh.quads[:, :3]
    model = models.load(flame_file.write(root / "plain", mesh=faces))
    mixtures = 0.3 * torch.randn(100, 52, generator=torch.Generator().manual_seed(5))
    shapes = arkit_shapes(model)
    shapes[:, model.regions["eyeball_left"] | model.regions["eyeball_right"]] = 0
    content = flame_file.arrays(mesh=faces)
    content["shapedirs"][..., 300:] = torch.einsum("es,svc->vce", mixtures, shapes).double().numpy()
    content["posedirs"] = 0 * content["posedirs"]
    (root / "flame").mkdir()
    (root / "flame" / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(content, 2))
    return root


@pytest.fixture
def with_flame(assets, monkeypatch):
    monkeypatch.setenv("AVATAR3D_ASSETS", str(assets))


@pytest.fixture
def motion():
    e = torch.zeros(5, 52)
    e[1, ARKIT_INDEX["jawOpen"]] = 0.6
    e[2, [ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]]] = 0.7
    e[3, [ARKIT_INDEX["eyeLookOutLeft"], ARKIT_INDEX["eyeLookInRight"]]] = 0.5
    turn = torch.linspace(0, 0.3, 5)[:, None] * torch.tensor([0.2, 1.0, 0.0])
    return Motion(fps=24.0, expression=e, rotations={"root": 0.5 * turn, "neck": turn, "head": turn},
                  translation=torch.linspace(0, 0.1, 5)[:, None].repeat(1, 3))  # fmt: skip


def test_there_and_back(with_flame, motion, tmp_path):
    write_flame_npz(motion, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        assert file["expr"].shape == (5, 100) and file["jaw_pose"].shape == (5, 3)
        assert float(file["fps"]) == 24 and file["residual_mm"].max() < 1
    back, lost = drive.from_flame_npz(tmp_path / "x.npz")
    assert back.fps == 24 and lost.max() < 1e-3
    assert (back.expression - motion.expression).abs().mean() < 0.02
    assert abs(back.expression[1, ARKIT_INDEX["jawOpen"]] - 0.6) < 0.12
    torch.testing.assert_close(back.rotations["root"], motion.rotations["root"])
    # neck and head turn about one axis here: FLAME's neck carries both
    torch.testing.assert_close(back.rotations["neck"], 2 * motion.rotations["neck"], atol=1e-5, rtol=0)
    torch.testing.assert_close(back.translation, motion.translation)


def test_export_and_drive_by_suffix(with_flame, motion, tmp_path):
    rig = models.build_rig(models.load("head"), torch.zeros(1))
    avatar = Avatar(model="head", identity=torch.zeros(1), rig=rig, appearance=None)
    export(avatar, tmp_path / "x.npz", motion)
    assert is_flame_parameters(tmp_path / "x.npz") and not is_mesh_source(tmp_path / "x.npz")
    said = []
    back = drive_avatar(avatar, tmp_path / "x.npz", relative=False, say=said.append)
    assert (back.expression - motion.expression).abs().mean() < 0.02 and "mm are lost" in said[0]


def test_published_fits_are_read(data):
    fit = read_flame_parameters(data("motion/cap4d_seq00_fit.npz"))
    assert fit.expression.shape == (384, 65) and fit.fps == 24 and fit.translation is not None
    assert {"root", "eye_left", "eye_right"} == set(fit.joints)
    torch.testing.assert_close(fit.joints["eye_left"], fit.joints["eye_right"])
    body = read_flame_parameters(data("motion/show_smplx_face_body_300f_DERIVED.npz"))
    assert body.expression.shape == (300, 100) and {"jaw", "eye_left", "eye_right", "root"} <= set(body.joints)
    assert body.fps == 30 and not torch.equal(body.joints["eye_left"], body.joints["eye_right"])


def test_a_published_fit_drives(with_flame, data):
    """The coefficients are FLAME's, the shapes made up: what is checked is that nothing is lost unsaid."""
    motion, lost = drive.from_flame_npz(data("motion/cap4d_seq00_fit.npz"))
    assert motion.frames == 384 and motion.fps == 24 and lost.shape == (384,)
    assert 0 <= motion.expression.min() and motion.expression.max() <= 1 and lost.max() > 1e-4
    assert motion.translation[0].abs().max() == 0


@pytest.mark.parametrize(
    "arrays, text",
    [
        ({"vertices": np.zeros((3, 5, 3))}, "`expr` \\[t, e\\] were expected"),
        ({"expr": np.zeros((4, 10)), "jaw_pose": np.zeros((3, 3))}, "jaw is \\(3, 3\\)"),
        ({"expr": np.full((4, 10), np.nan)}, "not finite"),
    ],
)
def test_bad_files(tmp_path, arrays, text):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(FormatError, match=text):
        read_flame_parameters(tmp_path / "x.npz")


def test_no_file_no_flame(tmp_path, monkeypatch, motion):
    with pytest.raises(FileError, match="cannot be read"):
        read_flame_parameters(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(FormatError, match="numpy arrays"):
        read_flame_parameters(tmp_path / "text.npz")
    assert not is_flame_parameters(tmp_path / "text.npz") and not is_flame_parameters(tmp_path / "none.npz")
    monkeypatch.setenv("AVATAR3D_ASSETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssetError, match="No FLAME model"):
        write_flame_npz(motion, tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()
