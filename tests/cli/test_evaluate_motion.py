import json

import numpy as np
import pytest
import torch

from avatar3d import storage
from avatar3d.cli.main import main
from avatar3d.types import ARKIT_INDEX, Motion


@pytest.fixture
def talk(tmp_path):
    """A motion and the same seen 40 ms later, with half the opening."""
    t = torch.arange(100) / 25
    jaw = 0.2 + 0.1 * torch.sin(9 * t) + 0.1 * torch.sin(23 * t)
    paths = []
    for name, values in (("truth", jaw), ("made", 0.5 * jaw.roll(1))):
        expression = torch.zeros(100, 52)
        expression[:, ARKIT_INDEX["jawOpen"]] = values
        paths.append(tmp_path / f"{name}.motion")
        storage.save(paths[-1], Motion(fps=25.0, expression=expression))
    return paths


def test_pair_of_motions(talk, tmp_path, capsys):
    truth, made = talk
    report = tmp_path / "report.json"
    assert main(["evaluate-motion", str(made), "--against", str(truth), "--report", str(report), "--json"]) == 0
    printed, written = json.loads(capsys.readouterr().out), json.loads(report.read_text())
    assert printed == written
    (pair,) = written["pairs"]
    assert pair["motion"] == "made.motion" and pair["against"] == "truth.motion"
    assert pair["lips"]["lag_ms"] == 40 and pair["lips"]["best_correlation"] > 0.99
    assert pair["lve"]["mm"] > 1 and abs(pair["fdd"]["mm2"]) < 1
    assert written["mean"]["pairs"] == 1 and written["mean"]["correlation"] == pair["lips"]["correlation"]


def test_table_of_several_pairs(talk, capsys):
    truth, made = map(str, talk)
    assert main(["evaluate-motion", made, truth, "--against", truth, truth]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].split()[0] == "against"
    assert lines[2].split()[1:4] == ["1.00", "0", "1.00"] and lines[3].split()[0] == "mean"


def test_landmarks_are_a_truth(talk, tmp_path, capsys):
    truth, made = talk
    points = np.zeros((100, 478, 3), np.float32)
    points[:, 33, 0], points[:, 263, 0] = -100, 100
    points[:, 14, 1] = 40 * storage.load(truth, Motion).expression[:, ARKIT_INDEX["jawOpen"]].numpy()
    np.savez(tmp_path / "lips.npz", landmarks=points, fps=25.0)
    assert main(["evaluate-motion", str(made), "--against", str(tmp_path / "lips.npz"), "--json"]) == 0
    pair = json.loads(capsys.readouterr().out)["pairs"][0]
    assert pair["lips"]["lag_ms"] == 40 and pair["lips"]["best_correlation"] > 0.99 and "lve" not in pair


def test_bad_calls(talk, tmp_path, capsys):
    truth, made = map(str, talk)
    assert main(["evaluate-motion", made, "--against", truth, truth]) == 2
    assert "1 motions against 2; expected one for each" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", points=np.zeros(3))
    assert main(["evaluate-motion", made, "--against", str(tmp_path / "other.npz")]) == 1
    assert "holds no `landmarks`" in capsys.readouterr().err
    assert main(["evaluate-motion", made, "--against", truth, "--baselines"]) == 1
    assert "has no sound, which --baselines needs" in capsys.readouterr().err


def test_speech_beats_loudness_and_tells_its_speed(data, capsys):
    folder = data("audio_motion_pairs/echomimic_video_tracked")
    sound, truth = folder / "movie_0_clip_0.wav", folder / "mediapipe478_landmarks_DERIVED.npz"
    assert main(["evaluate-motion", str(sound), "--against", str(truth), "--baselines", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (pair,) = result["pairs"]
    assert pair["rtf"] > 0
    assert pair["lips"]["correlation"] > result["baselines"]["loudness"]["correlation"] + 0.05
    assert abs(pair["lips"]["lag_ms"]) <= 60


def test_what_is_missing_is_told_before_anything_is_tracked(talk, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"not looked at")
    assert main(["evaluate-motion", str(tmp_path / "none.motion"), "--against", str(clip)]) == 1
    assert "none.motion does not exist" in capsys.readouterr().err


def test_an_empty_argument_is_refused(capsys):
    assert main(["evaluate-motion", "", "--against", "x.motion"]) == 2
    assert "an argument is empty" in capsys.readouterr().err
