"""Live Link Face recordings: columns, time, gaps, and the signs of the angles on real data."""

import numpy as np
import pytest
import torch

from avatar3d.drive import from_livelink_csv
from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.livelink import COLUMNS, GAZE_PITCH, GAZE_YAW, eye_matrix, head_angles, head_matrix
from avatar3d.models.motion import head_rotation
from avatar3d.types import ARKIT_INDEX

RECORDING = "motion/livelink_iphone_rom_3.csv"


def write(path, times, columns=COLUMNS, **values):
    """A recording with these columns set and all others 0."""
    rows = [",".join(columns)]
    for i, time in enumerate(times):
        cells = {"Timecode": time, "BlendShapeCount": 61} | {name: v[i] for name, v in values.items()}
        rows.append(",".join(str(cells.get(name, 0.0)) for name in columns))
    path.write_text("\n".join(rows) + "\n")
    return path


def timecodes(frames, base=60, start=0):
    return [f"10:00:{int(f) // base:02d}:{f % base:06.3f}" for f in (start + np.asarray(frames, dtype=float))]


def test_real_recording(data):
    motion = from_livelink_csv(data(RECORDING))
    raw = np.genfromtxt(data(RECORDING), delimiter=",", names=True, dtype=None, encoding="utf-8")
    # 4030 rows at 30 per second, in a timecode of 60 per second; three frames are missing
    assert motion.fps == 30.0 and motion.frames == 4033 and int((motion.confidence == 0).sum()) == 3
    kept = motion.expression[motion.confidence > 0]
    for name in ("jawOpen", "jawLeft", "jawRight", "mouthLeft", "mouthRight", "eyeBlinkLeft", "tongueOut"):
        column = torch.from_numpy(raw[name[0].upper() + name[1:]].astype(np.float32))
        torch.testing.assert_close(kept[:, ARKIT_INDEX[name]], column, rtol=0, atol=1e-7)
    assert motion.rotations == {}  # the app recorded no head rotation here


def test_eye_angles_restate_the_look_coefficients(data):
    """Holds the eyes' signs: on the recording, angles follow In - Out and Down - Up with the stated slopes."""
    raw = np.genfromtxt(data(RECORDING), delimiter=",", names=True, dtype=None, encoding="utf-8")
    for side, inwards in (("Left", 1), ("Right", -1)):
        gaze = raw[f"EyeLookIn{side}"] - raw[f"EyeLookOut{side}"]
        assert np.polyfit(gaze, raw[f"{side}EyeYaw"], 1)[0] == pytest.approx(inwards * GAZE_YAW, rel=0.05)
        gaze = raw[f"EyeLookDown{side}"] - raw[f"EyeLookUp{side}"]
        assert np.polyfit(gaze, raw[f"{side}EyePitch"], 1)[0] == pytest.approx(GAZE_PITCH, rel=0.05)


def test_head_signs_hold_the_gaze_on_the_phone(data):
    """Holds the head's signs: a recorded person who moves the head keeps looking at the phone."""
    channels = torch.from_numpy(np.load(data("motion/llv_dao_DERIVED.npz"))["values61"]).double()
    eyes = (channels[:, 55:58] + channels[:, 58:61]) / 2
    in_head = (eye_matrix(eyes) @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))[..., None]

    def spread(directions):
        return float(directions.squeeze(-1).std(0).square().sum().sqrt().rad2deg())

    right = spread(head_matrix(channels[:, 52:55]) @ in_head)
    assert right < 0.8 * spread(in_head)
    for flip in ([-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]):
        assert spread(head_matrix(channels[:, 52:55] * torch.tensor(flip)) @ in_head) > right


def test_head_angles_mean_what_they_say():
    yaw, pitch, roll = torch.eye(3, dtype=torch.float64).mul(0.3).unbind(0)
    forward, up = torch.tensor([0.0, 0, 1]).double(), torch.tensor([0.0, 1, 0]).double()
    assert (head_matrix(yaw) @ forward)[0] > 0.29  # to the subject's left, +x
    assert (head_matrix(pitch) @ forward)[1] > 0.29  # upwards
    assert (head_matrix(roll) @ up)[0] < -0.29  # the top tips to the subject's right
    assert (eye_matrix(yaw) @ forward)[0] < -0.29 and (eye_matrix(pitch) @ forward)[1] < -0.29


def test_head_angles_round_trip(rng):
    angles = torch.rand(50, 3, generator=rng, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(head_angles(head_matrix(angles)), angles)
    x, y, z = torch.eye(3, dtype=torch.float64)
    yaw, pitch, roll = (angles[:, i : i + 1] for i in range(3))
    expected = rotvec_to_matrix(yaw * y) @ rotvec_to_matrix(-pitch * x) @ rotvec_to_matrix(roll * z)
    torch.testing.assert_close(head_matrix(angles), expected)


def test_head_rotation_is_kept(tmp_path):
    path = write(
        tmp_path / "a.csv", timecodes([0, 2, 4]), HeadYaw=[0, 0.3, 0.6], HeadPitch=[0, 0.1, -0.2], HeadRoll=[0, 0, 0.4]
    )
    motion = from_livelink_csv(path)
    expected = head_matrix(torch.tensor([[0, 0, 0], [0.3, 0.1, 0], [0.6, -0.2, 0.4]]).double())
    torch.testing.assert_close(head_rotation(motion), expected, rtol=0, atol=1e-6)
    assert set(motion.rotations) == {"neck", "head"}


@pytest.mark.parametrize(
    "base, step, fps", [(60, 2, 30.0), (60, 1, 60.0), (30, 1, 30.0), (24, 1, 24.0), (25, 1, 25.0), (60, 2.002, 29.97)]
)
def test_rate_from_timecodes(tmp_path, base, step, fps):
    path = write(tmp_path / "a.csv", timecodes(np.arange(120) * step, base, start=7))
    motion = from_livelink_csv(path)
    assert motion.fps == pytest.approx(fps, rel=1e-4) and motion.frames == 120 and (motion.confidence == 1).all()


def test_gaps_are_bridged_and_marked(tmp_path):
    frames = [0, 2, 4, 10, 12, 14, 16, 18]
    path = write(tmp_path / "a.csv", timecodes(frames, start=50), JawOpen=[0, 0, 0.0, 0.6, 0.6, 0, 0, 0])
    motion = from_livelink_csv(path)
    assert motion.fps == 30.0 and motion.confidence.tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
    torch.testing.assert_close(motion.expression[2:6, ARKIT_INDEX["jawOpen"]], torch.tensor([0.0, 0.2, 0.4, 0.6]))


def test_midnight(tmp_path):
    path = write(tmp_path / "a.csv", ["23:59:59:58.000", "00:00:00:00.000", "00:00:00:02.000"])
    motion = from_livelink_csv(path)
    assert motion.fps == 30.0 and motion.frames == 3


def test_gaze_from_eye_angles_where_there_is_nothing_else(tmp_path):
    path = write(
        tmp_path / "a.csv", timecodes([0, 2]), LeftEyeYaw=[0, 0.3], RightEyeYaw=[0, 0.3], LeftEyePitch=[0, 0.2]
    )
    frame = from_livelink_csv(path).expression[1]
    assert frame[ARKIT_INDEX["eyeLookInLeft"]] == pytest.approx(0.3 / GAZE_YAW)
    assert frame[ARKIT_INDEX["eyeLookOutRight"]] == pytest.approx(0.3 / GAZE_YAW)
    assert frame[ARKIT_INDEX["eyeLookOutLeft"]] == 0 and frame[ARKIT_INDEX["eyeLookDownLeft"]] == pytest.approx(
        0.2 / GAZE_PITCH
    )


def test_52_columns_without_angles(tmp_path):
    path = write(tmp_path / "a.csv", timecodes([0, 2]), columns=COLUMNS[:54], JawOpen=[0, 1])
    assert from_livelink_csv(path).expression[1, ARKIT_INDEX["jawOpen"]] == 1


def test_wrong_files(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(FileError, match="does not exist"):
        from_livelink_csv(path)
    path.write_text("time,x\n0,1\n")
    with pytest.raises(FormatError, match="not a Live Link Face CSV: column EyeBlinkLeft is missing"):
        from_livelink_csv(path)
    path.write_bytes(b"\x00\xff\xfe\x80" * 10)
    with pytest.raises(FormatError):
        from_livelink_csv(path)
    whole = write(path, timecodes([0, 2])).read_text()
    for damaged, match in [
        (whole[:-40], "cells where the header"),
        (whole.replace("10:00:00:02.000", "late"), "line 3: timecode 'late'"),
        (whole.replace("10:00:00:02.000", "10:00:00:00.000"), "not later than"),
        (whole.replace("61,0.0", "61,nan", 1), "line 2: not a finite number"),
        (whole.replace("61,0.0", "61,much", 1), "not a number"),
        (whole.splitlines()[0], "no frames"),
    ]:
        path.write_text(damaged)
        with pytest.raises(FormatError, match=match):
            from_livelink_csv(path)
