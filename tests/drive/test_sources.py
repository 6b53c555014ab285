"""ARKit JSON, the built-in motion, retargeting, and which reader reads what."""

import json

import pytest
import torch
from rig_factory import make_avatar, make_motion

from avatar3d import drive, storage
from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.motion import head_rotation
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion


def test_real_arkit_json(data):
    path = data("motion/lam_test_expression.json")
    motion, raw = drive.from_arkit_json(path), json.loads(path.read_text())
    assert motion.fps == 30.0 and motion.frames == 973
    for name in ("jawOpen", "browInnerUp", "mouthSmileRight", "eyeBlinkLeft"):
        column = torch.tensor([frame["weights"][raw["names"].index(name)] for frame in raw["frames"]])
        torch.testing.assert_close(motion.expression[:, ARKIT_INDEX[name]], column)
    head = rotvec_to_matrix(torch.tensor(raw["head_pose"], dtype=torch.float64))
    torch.testing.assert_close(head_rotation(motion), head, rtol=0, atol=1e-6)


def test_json_layouts(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"nothing": 0.5}]))
    with pytest.raises(FormatError, match="0 ARKit names"):
        drive.from_arkit_json(path)
    path.write_text(json.dumps({"fps": 24, "frames": [{"weights": {"JawOpen": 0.5}}, {"weights": {"eyeBlink_L": 1}}]}))
    motion = drive.from_arkit_json(path)
    assert motion.fps == 24 and motion.expression[0, ARKIT_INDEX["jawOpen"]] == 0.5
    assert motion.expression[1, ARKIT_INDEX["eyeBlinkLeft"]] == 1 and motion.expression.sum() == 1.5
    for text, match in [("{", "not JSON"), ("[]", "no frames"), ('{"frames": 3}', "layout"), ("[1, 2]", "layout")]:
        path.write_text(text)
        with pytest.raises(FormatError, match=match):
            drive.from_arkit_json(path)


def test_demo_shows_everything():
    motion, steps = drive.demo_motion(), drive.demo_steps()
    assert 18 < motion.duration < 24 and motion.fps == 30
    assert [step.name for step in steps[:52]] == list(ARKIT_NAMES)
    for step in steps[:52]:
        assert motion.expression[round(step.peak * 30), ARKIT_INDEX[step.name]] == 1, step.name
    assert motion.expression.min() >= 0 and motion.expression.max() <= 1
    assert motion.expression.diff(dim=0).abs().max() < 0.5, "eased"
    assert (motion.expression[[0, -1]] == 0).all()
    forward = head_rotation(motion)[:, :, 2]
    at = {step.name: round(step.peak * 30) for step in steps}
    assert forward[at["head turns left"], 0] > 0.5 and forward[at["head turns right"], 0] < -0.5
    assert forward[at["head up"], 1] > 0.3 and forward[at["head down"], 1] < -0.3
    assert head_rotation(motion)[at["head tilts left"], 0, 1] > 0.3
    assert motion.expression[at["eyes left"], ARKIT_INDEX["eyeLookOutLeft"]] > 0.7
    assert motion.expression[at["eyes left"], ARKIT_INDEX["eyeLookInRight"]] > 0.7
    assert motion.expression[at["mouthClose"], ARKIT_INDEX["jawOpen"]] == 1
    with pytest.raises(ValueError, match="positive"):
        drive.demo_motion(-1.0)


def test_a_resting_brow_does_not_raise_the_targets(rng):
    frames = 0.02 * torch.rand(300, 52, generator=rng)
    brow, jaw, look = (ARKIT_INDEX[name] for name in ("browInnerUp", "jawOpen", "eyeLookDownLeft"))
    frames[:, brow] += 0.2
    frames[100:150, brow] = 1.0  # raised
    frames[200:280, jaw] = 0.8
    frames[:, look] = 0.3
    motion = Motion(fps=30.0, expression=frames, translation=torch.tensor([[0.1, 0.2, 0.3]]).expand(300, 3))
    there = drive.retarget(motion)
    assert there.expression[:100, brow].max() < 0.03 and there.expression[100:150, brow].min() > 0.99
    assert there.expression[200:280, jaw].min() > 0.79 and there.expression[:200, jaw].max() < 0.03
    torch.testing.assert_close(there.expression[:, look], frames[:, look])  # gaze has no rest
    assert there.translation.abs().max() < 1e-6
    assert torch.equal(drive.retarget(motion, torch.zeros(52), centre=False).expression, frames)


def test_a_smile_held_all_along_stays_mostly():
    frames = torch.zeros(50, 52)
    frames[:, ARKIT_INDEX["mouthSmileLeft"]] = 0.9
    assert drive.retarget(Motion(fps=30.0, expression=frames)).expression[:, ARKIT_INDEX["mouthSmileLeft"]].min() > 0.8


def test_bridged_frames_do_not_count_as_rest():
    frames = torch.full((50, 52), 0.25)
    frames[:20] = 0
    motion = Motion(fps=30.0, expression=frames, confidence=torch.tensor([0.0] * 20 + [1.0] * 30))
    assert drive.resting_face(motion)[ARKIT_INDEX["jawOpen"]] == 0.25


def test_sources_by_name(tmp_path):
    motion = make_motion(frames=6, fps=25.0)
    storage.save(tmp_path / "a.motion", motion)
    storage.save(tmp_path / "a.avatar", make_avatar(motion))
    storage.save(tmp_path / "still.avatar", make_avatar())
    assert torch.equal(drive.from_source(tmp_path / "a.motion").expression, motion.expression)
    assert torch.equal(drive.from_source(tmp_path / "a.avatar").expression, motion.expression)
    assert drive.from_source(str(tmp_path / "a.motion"), fps=50.0).frames == 11
    assert drive.from_source("demo", fps=60.0).fps == 60
    assert drive.is_motion_source("demo") and drive.is_motion_source("x.CSV") and not drive.is_motion_source("x.mov")
    with pytest.raises(FileError, match="carries no motion"):
        drive.from_source(tmp_path / "still.avatar")
    with pytest.raises(ValueError, match="No motion can be read from me.mov; expected .csv"):
        drive.from_source("me.mov")
