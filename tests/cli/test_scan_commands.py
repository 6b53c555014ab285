"""`avatar3d fit` on a scan, as a user runs it."""

import json
import math

import numpy as np
import pytest
import torch
import trimesh

from avatar3d import models, storage
from avatar3d.cli.main import main
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.paint import Palette, paint
from avatar3d.types import Avatar


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A coloured scan of somebody without the back of the head, in centimetres and z up, fitted."""
    torch.set_num_threads(1)
    folder, head = tmp_path_factory.mktemp("scan"), models.load("head")
    rng = torch.Generator().manual_seed(5)
    v = head.rest_vertices(0.6 * torch.randn(1, len(head.identity_basis), generator=rng))[0]
    colours = paint(head, Palette(skin=(0.6, 0.4, 0.3)))
    R = rotvec_to_matrix(torch.tensor([math.pi / 2, 0.0, 0.0]))
    keep = (v[head.faces][:, :, 2] > -0.03).all(1)
    scan = trimesh.Trimesh((v @ R.T * 100).numpy(), head.faces[keep].numpy(), process=False,
                           vertex_colors=(255 * colours).byte().numpy())  # fmt: skip
    scan.export(folder / "scan.ply")
    status = main(["fit", str(folder / "scan.ply"), "-o", str(folder / "me.avatar"), "--quality", "draft",
                   "--report", str(folder / "report.json")])  # fmt: skip
    assert status == 0
    return folder, v, head


def test_report_says_units_axes_and_millimetres(fitted):
    report = json.loads((fitted[0] / "report.json").read_text())
    assert report["units"] == "cm" and report["scan"]["metres_per_unit"] == 0.01
    assert report["scan"]["up_axis"] == "+z" and report["scan"]["face_axis"] == "-y"
    surface = report["surface"]
    assert 0 < surface["median_mm"] < 0.3 and surface["p95_mm"] < 1.5 and surface["flipped_triangles"] == 0
    assert surface["median_mm"] < surface["coefficients"]["median_mm"] < 1.5
    assert {"face", "nose", "cheeks", "forehead"} <= set(surface["by_region"])
    assert surface["by_region"]["nose"]["median_mm"] < 0.4
    assert report["landmarks"]["found"] > 400 and report["landmarks"]["given"] == 0
    assert set(report["timings"]) >= {"landmarks", "register", "texture"}


def test_avatar_is_the_scan_with_its_colours(fitted):
    folder, truth, head = fitted
    avatar = storage.load(folder / "me.avatar", Avatar)
    assert avatar.motion is None and avatar.footage is None and avatar.manifest["scan"]["units"] == "cm"
    cheeks = head.regions["cheeks"]
    T = torch.linalg.lstsq(
        torch.cat([truth, torch.ones(len(truth), 1)], 1)[cheeks], avatar.rig.neutral[cheeks]
    ).solution
    off = (torch.cat([truth, torch.ones(len(truth), 1)], 1) @ T - avatar.rig.neutral)[head.regions["face"]].norm(dim=1)
    assert off.median() < 0.002
    seen = avatar.appearance.seen > 0
    skin = avatar.appearance.albedo[seen].float().median(0).values / 255
    assert (skin - torch.tensor([0.6, 0.4, 0.3])).abs().max() < 0.06
    assert 0.2 < seen.float().mean() < 0.8


def test_exports(fitted):
    folder, truth, _ = fitted
    avatar = folder / "me.avatar"
    for name in ("me.glb", "me.obj"):
        assert main(["export", str(avatar), "-o", str(folder / name)]) == 0
    back = trimesh.load(folder / "me.obj", process=False)
    assert np.ptp(back.vertices[:, 1]) > 0.2  # metres, y up
    assert main(["render", str(avatar), "-o", str(folder / "me_front.png")]) == 0


@pytest.mark.parametrize(
    "options, status, text",
    [
        (["{a}", "clip.mp4"], 2, "clip.mp4 is no scan"),
        (["{a}", "--appearance", "splats"], 2, "is for footage"),
        (["{a}", "--cameras", "c.json"], 2, "--cameras is for footage"),
        (["{a}", "--landmarks", "{b}"], 1, "holds no landmarks"),
        (["{empty}"], 1, "0 bytes"),
        (["{lost}"], 1, "cannot be read"),
        (["clip.mp4", "--landmarks", "l.npy"], 2, "--landmarks are those of a scan"),
    ],
)
def test_bad_calls_fail_in_a_line_and_leave_nothing(tmp_path, capsys, options, status, text):
    for name in ("a.obj", "b.obj"):
        trimesh.creation.box().export(tmp_path / name)
    (tmp_path / "empty.ply").touch()
    names = {"a": "a.obj", "b": "b.obj", "empty": "empty.ply", "lost": "lost.stl"}
    filled = [o.format(**{k: str(tmp_path / v) for k, v in names.items()}) for o in options]
    assert main(["fit", *filled, "-o", str(tmp_path / "out.avatar")]) == status
    told = capsys.readouterr().err.strip().splitlines()
    assert text in "\n".join(told) and len(told) <= 3
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]
