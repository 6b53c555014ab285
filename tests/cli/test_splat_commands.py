"""The path of a splat avatar through the commands, on the packaged clip and with next to no time to optimise."""

import json

import numpy as np
import pytest
from PIL import Image

from avatar3d import pipeline, storage
from avatar3d.appearance.splats import reconstruct
from avatar3d.appearance.splats.fit import Fitting
from avatar3d.cli.main import main
from avatar3d.types import Avatar


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("splats")
    command = ["fit", str(pipeline.demo_clip()), "-o", str(out / "me.avatar"), "--appearance", "splats"]
    assert (
        main([*command, "--quality", "draft", "--budget", "0.05", "--holdout", "6", "--report", str(out / "r.json")])
        == 0
    )
    return out


def test_report_says_how_well_unseen_frames_are_shown(folder):
    report = json.loads((folder / "r.json").read_text())
    held = report["holdout"]
    assert held["frames"] == 6 and held["scored"] == 6
    assert held["psnr"] > held["psnr_mesh"] + 5
    assert 0.5 < held["ssim"] <= 1
    assert report["splats"]["count"] > 1000
    assert report["splats"]["frames_per_second"] > 0.5 and report["splats"]["size"] == 256
    assert report["splats"]["bytes"] == (folder / "me.avatar").stat().st_size
    assert {"splats", "holdout", "appearance"} <= set(report["timings"])


def test_nothing_is_left_beside_the_avatar(folder):
    assert {p.name for p in folder.iterdir()} >= {"me.avatar", "r.json"}
    assert not [p for p in folder.iterdir() if "checkpoint" in p.name]


def test_splats_are_drawn_and_exported(folder, capsys):
    me = str(folder / "me.avatar")
    assert main(["render", me, "-o", str(folder / "f.png"), "--size", "160"]) == 0
    picture = np.asarray(Image.open(folder / "f.png"))
    assert picture.shape[:2] == (160, 160) and picture.std() > 20
    assert main(["export", me, "-o", str(folder / "me.spz")]) == 0
    capsys.readouterr()
    assert main(["info", me, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["splats"] and info["manifest"]["appearance"]["finished"]


def test_evaluate_judges_the_avatar(folder, capsys):
    command = ["evaluate", str(folder / "me.avatar"), "--against", str(pipeline.demo_clip())]
    report = folder / "e.json"
    assert (
        main([*command, "--frames", "6", "--size", "256", "--report", str(report), "--worst", str(folder / "w.png")])
        == 0
    )
    result = json.loads(report.read_text())
    assert result["frames"]["judged"] == 6
    fitted = json.loads((folder / "r.json").read_text())
    own = set(fitted) - {"identity", "calibration"}
    assert own <= set(result), own - set(result)  # the same keys as the report
    for key in ("faces", "nme", "jitter", "focal", "advice"):
        assert result[key] == fitted[key]
    assert {k: result["frames"][k] for k in fitted["frames"]} == fitted["frames"]
    assert result["holdout"]["frames"] == 6 and result["holdout"]["psnr"] > result["holdout"]["psnr_mesh"] + 3
    # 14.8 where a busy machine leaves no time for a single step
    assert result["psnr"] > 14 and 0 < result["akd"]["pixels"] < 10
    assert result["pose"]["rotation_deg"] < 5
    assert np.asarray(Image.open(folder / "w.png")).shape == (5 * 144, 3 * 256, 3)
    assert "AKD" in capsys.readouterr().out


def test_ctrl_c_leaves_a_usable_avatar_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    real, calls = Fitting.advance, []

    def interrupted(self, share):
        calls.append(share)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(self, share)

    monkeypatch.setattr(Fitting, "advance", interrupted)
    out = tmp_path / "me.avatar"
    command = ["fit", str(pipeline.demo_clip()), "-o", str(out), "--appearance", "splats", "--quality", "draft"]
    assert main([*command, "--budget", "0.03"]) == 130
    avatar = storage.load(out, Avatar)
    assert avatar.gaussians is not None and not avatar.manifest["appearance"]["finished"]
    capsys.readouterr()

    def interrupted_later(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # while what nobody sees is made up for
        patch.setattr(reconstruct, "polish", interrupted_later)
        assert main([*command, "--budget", "0.03"]) == 130
    assert "going on from .me.checkpoint.splats: step 3" in capsys.readouterr().err
    assert not storage.load(out, Avatar).manifest["appearance"]["finished"]
    assert main([*command, "--budget", "0.03"]) == 0
    assert storage.load(out, Avatar).manifest["appearance"]["finished"]
