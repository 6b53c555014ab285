"""What is fixed stays fixed, the rest goes on, and nothing jumps."""

import json

import numpy as np
import pytest
import torch

from avatar3d import storage
from avatar3d.drive.speech.editing import Keyframe, Region, edit, read_edits
from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.livelink import head_angles
from avatar3d.models.motion import head_rotation
from avatar3d.types import ARKIT_INDEX, Motion

SMILE = ARKIT_INDEX["mouthSmileLeft"]


def take(seed=0, frames=150, fps=30.0):
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None] / fps
    waves = 0.4 + 0.2 * np.sin(2 * np.pi * (rng.uniform(0.3, 2, 52) * t + rng.random(52)))
    turns = 0.1 * np.sin(2 * np.pi * (rng.uniform(0.2, 1, 3) * t + rng.random(3)))
    return Motion(fps=fps, expression=torch.from_numpy(waves).float(),
                  rotations={"head": torch.from_numpy(turns).float()})  # fmt: skip


def test_keyframes_are_met_and_the_rest_is_kept():
    motion = take()
    keys = (Keyframe(time=1.0, values={"mouthSmileLeft": 0.9, "headYaw": 0.3}),
            Keyframe(time=3.0, values={"mouthSmileLeft": 0.1}))  # fmt: skip
    out = edit(motion, keys, blend=0.3)
    assert out.expression[30, SMILE] == pytest.approx(0.9, abs=1e-6)
    assert out.expression[90, SMILE] == pytest.approx(0.1, abs=1e-6)
    angles = head_angles(head_rotation(out))
    before = head_angles(head_rotation(motion))
    assert float(angles[30, 0]) == pytest.approx(0.3, abs=1e-5)
    torch.testing.assert_close(angles[30, 1:], before[30, 1:], rtol=0, atol=1e-5)
    far = [i for i in range(150) if min(abs(i - 30), abs(i - 90)) >= 9]
    torch.testing.assert_close(out.expression[far], motion.expression[far])
    others = [i for i in range(52) if i != SMILE]
    assert torch.equal(out.expression[:, others], motion.expression[:, others])
    jump = (out.expression[1:, SMILE] - out.expression[:-1, SMILE]).abs().max()
    assert jump < 0.15


def test_near_keyframes_are_joined():
    motion = take()
    keys = tuple(Keyframe(time=t, values={"jawOpen": 0.8}) for t in (2.0, 2.2, 2.4))
    out = edit(motion, keys, blend=0.25).expression[:, ARKIT_INDEX["jawOpen"]]
    detail = motion.expression[:, ARKIT_INDEX["jawOpen"]]
    assert [float(out[i]) for i in (60, 66, 72)] == pytest.approx([0.8] * 3, abs=1e-6)
    assert out[60:73].min() > 0.7 and (out - detail)[60:73].std() < (out - detail).std()


def test_regions_keep_another_take():
    motion, other = take(0), take(1)
    out = edit(motion, regions=[Region(start=1.0, end=2.0, curves=("brows", "head"), motion=other)], blend=0.4)
    brows = [i for n, i in ARKIT_INDEX.items() if n.startswith("brow")]
    rest = [i for i in range(52) if i not in brows]
    torch.testing.assert_close(out.expression[30:61, brows], other.expression[30:61, brows])
    assert torch.equal(out.expression[:, rest], motion.expression[:, rest])
    turned = matrix_to_rotvec(head_rotation(out))
    torch.testing.assert_close(turned[30:61], matrix_to_rotvec(head_rotation(other))[30:61], rtol=0, atol=1e-5)
    torch.testing.assert_close(turned[:18], matrix_to_rotvec(head_rotation(motion))[:18], rtol=0, atol=1e-5)
    steps = (turned[1:] - turned[:-1]).norm(dim=1)
    assert steps.max() < 0.05
    assert set(out.rotations) == {"head", "neck"}


def test_regions_hold_values():
    out = edit(take(), regions=[Region(start=0.0, end=5.0, values={"cheekPuff": 0.0})])
    assert float(out.expression[:, ARKIT_INDEX["cheekPuff"]].max()) == 0


def test_nothing_fixed_changes_nothing():
    motion = take()
    assert edit(motion) is motion


@pytest.mark.parametrize(
    "keys, regions, match",
    [
        ([Keyframe(time=0.5, values={"grin": 1.0})], [], "grin"),
        ([Keyframe(time=9.0, values={"jawOpen": 1.0})], [], "0..4.97"),
        ([], [Region(start=2.0, end=1.0, values={"jawOpen": 0.0})], "before its end"),
        ([], [Region(start=1.0, end=2.0)], "values to hold"),
        ([], [Region(start=1.0, end=2.0, curves=("ears",), motion=take())], "ears"),
        ([], [Region(start=1.0, end=4.0, motion=take(frames=60))], "ends at 2.00"),
    ],
)
def test_wrong_edits_are_said(keys, regions, match):
    with pytest.raises(ValueError, match=match):
        edit(take(), keys, regions)


def test_files(tmp_path):
    storage.save(tmp_path / "one.motion", take(1))
    content = {"keyframes": [{"time": 1, "values": {"jawOpen": 0.5}}],
               "regions": [{"start": 2, "end": 3, "curves": ["eyes"], "motion": "one.motion"},
                           {"start": 0, "end": 1, "values": {"headRoll": 0.1}}]}  # fmt: skip
    path = tmp_path / "edits.json"
    path.write_text(json.dumps(content))
    keys, regions = read_edits(path)
    assert keys == (Keyframe(time=1.0, values={"jawOpen": 0.5}),)
    assert regions[0].motion is not None and regions[1].values == {"headRoll": 0.1}
    assert edit(take(), keys, regions).frames == 150
    path.write_text('{"keyframes": [{"at": 1}]}')
    with pytest.raises(FormatError, match="time and values"):
        read_edits(path)
    for other in ('{"keys": []}', "[]"):
        path.write_text(other)
        with pytest.raises(FormatError, match="either or both"):
            read_edits(path)
    path.write_text("no")
    with pytest.raises(FormatError, match="JSON"):
        read_edits(path)
    with pytest.raises(FileError, match="read"):
        read_edits(tmp_path / "none.json")
