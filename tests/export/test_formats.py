"""OBJ, PLY, CSV, JSON: what was written comes back, through our readers and trimesh."""

import csv
import errno
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from rig_factory import make_avatar, make_motion

from avatar3d import drive, storage
from avatar3d.errors import ExportError, FileError
from avatar3d.export import export, mesh
from avatar3d.export.livelink import timecode
from avatar3d.models.motion import head_rotation, resample


def test_obj_is_the_neutral_identity(tmp_path):
    avatar = make_avatar()
    path = export(avatar, tmp_path / "me.obj")
    lines = path.read_text().splitlines()
    vertices = torch.tensor([[float(x) for x in line.split()[1:]] for line in lines if line.startswith("v ")])
    torch.testing.assert_close(vertices, avatar.rig.neutral, rtol=0, atol=6e-7)
    assert sum(line.startswith("f ") for line in lines) == len(avatar.rig.faces)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["me.mtl", "me.obj", "me.png"]
    picture = trimesh.load(path, process=False).visual.material.image
    assert np.array_equal(np.asarray(picture), avatar.appearance.albedo.numpy())
    (tmp_path / "me.mtl").unlink()
    assert len(trimesh.load(path, process=False, force="mesh").faces) == len(avatar.rig.faces)


def test_an_obj_is_written_with_its_picture_or_not_at_all(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(FileError, match="No space left"):
        export(make_avatar(), tmp_path / "me.obj")
    assert not list(tmp_path.iterdir())


def test_obj_names_its_normal_map(tmp_path):
    avatar = make_avatar()
    normals = torch.randint(90, 166, (32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    export(replace(avatar, appearance=replace(avatar.appearance, normals=normals)), tmp_path / "me.obj")
    assert "norm me_normals.png" in (tmp_path / "me.mtl").read_text().splitlines()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "me_normals.png")), normals.numpy())
    assert len(trimesh.load(tmp_path / "me.obj", process=False, force="mesh").faces) == len(avatar.rig.faces)


def test_ply_has_colours(tmp_path):
    avatar = make_avatar()
    back = trimesh.load(export(avatar, tmp_path / "me.ply"), process=False)
    assert np.abs(back.vertices - avatar.rig.neutral.numpy()).max() < 1e-6
    assert np.array_equal(back.faces, avatar.rig.faces.numpy()) and np.ptp(back.visual.vertex_colors[:, 0]) > 100


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_motion_round_trip(tmp_path, suffix):
    motion = resample(make_motion(frames=90, fps=30.0), 29.97)
    path = export(make_avatar(motion), tmp_path / f"me{suffix}")
    back = drive.from_source(path)
    assert back.frames == motion.frames and back.fps == pytest.approx(29.97, rel=1e-4)
    torch.testing.assert_close(back.expression, motion.expression, rtol=0, atol=1e-5)
    torch.testing.assert_close(head_rotation(back), head_rotation(motion), rtol=0, atol=1e-5)


def test_csv_is_the_apps(tmp_path, data):
    recording = data("motion/livelink_iphone_rom_3.csv")
    motion = drive.from_livelink_csv(recording)
    path = export(make_avatar(motion), tmp_path / "me.csv")
    with recording.open() as a, path.open() as b:
        theirs, ours = list(csv.reader(a)), list(csv.reader(b))
    assert ours[0] == theirs[0] and len(ours) == motion.frames + 1 and ours[1][1] == theirs[1][1] == "61"
    kept = np.array(ours[1:])[(motion.confidence > 0).numpy()][:, 2:].astype(float)
    theirs = np.array(theirs[1:])[:, 2:].astype(float)
    assert np.abs(kept - theirs)[:, :55].max() < 1e-6
    yaw, pitch = ([ours[0].index(f"{side}Eye{angle}") - 2 for side in ("Left", "Right")] for angle in ("Yaw", "Pitch"))
    for column in yaw + pitch:  # eye angles are rebuilt from the coefficients; the app's have an offset
        assert np.corrcoef(kept[:, column], theirs[:, column])[0, 1] > 0.95


def test_timecodes():
    assert timecode(0) == "00:00:00:00.000" and timecode(1 / 30) == "00:00:00:02.000"
    assert timecode(1 - 1e-6) == "00:00:01:00.000" and timecode(3661.51) == "01:01:01:30.600"


def test_what_cannot_be_exported(tmp_path):
    avatar = make_avatar()
    with pytest.raises(ValueError, match=r"unknown suffix '.fbx'; known are .glb, .html, .obj"):
        export(avatar, tmp_path / "me.fbx")
    for motion in (None, "none"):
        with pytest.raises(ValueError, match="there is none"):
            export(avatar, tmp_path / "me.csv", motion=motion)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Cannot write"):
        export(avatar, tmp_path / "file" / "me.obj")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_motion_file_by_path(tmp_path):
    storage.save(tmp_path / "a.motion", make_motion(frames=7))
    export(make_avatar(make_motion(frames=3)), tmp_path / "me.csv", motion=str(tmp_path / "a.motion"))
    assert len((tmp_path / "me.csv").read_text().splitlines()) == 8


def test_a_file_that_does_not_read_back_is_not_kept(tmp_path, monkeypatch):
    broken = make_avatar()
    monkeypatch.setattr(mesh, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"me.ply read back differs"):
        export(broken, tmp_path / "me.ply")
    assert list(tmp_path.iterdir()) == []
