"""Looking through footage goes on where a killed run stopped, with the same result."""

import numpy as np
import pytest
import torch
from footage_cases import write_video

from avatar3d.capture import CutDetector, open_capture
from avatar3d.pipeline import demo_clip
from avatar3d.track.footage import find_face
from avatar3d.track.slices import Slices


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Two shots: a face, something without one, and the face again elsewhere."""
    images = [frame.image for frame in open_capture(demo_clip()).views[0].frames(0, 10)]
    wall = np.random.default_rng(0).integers(0, 255, (9, 16, 3)).astype(np.uint8).repeat(40, 0).repeat(40, 1)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return open_capture(write_video(path, [*images, wall, wall, *(i[:, ::-1] for i in images)]))


def until(frame):
    def progress(stage, done, total):
        if done >= frame:
            raise Killed

    return progress


def look(capture, slices=None, progress=None, said=None):
    return find_face(capture, new_shot=CutDetector, slices=slices, progress=progress, say=said)


def same(a, b):
    torch.testing.assert_close(a.detections.landmarks, b.detections.landmarks, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(a.detections.presence, b.detections.presence, rtol=0, atol=0)
    torch.testing.assert_close(a.detections.scores, b.detections.scores, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(a.detections.time, b.detections.time, rtol=0, atol=0)
    assert a.detections.cuts == b.detections.cuts and a.notes == b.notes and a.faces == b.faces
    assert (a.light, a.sharpness) == (b.light, b.sharpness)


def test_a_killed_look_goes_on(capture, tmp_path):
    expected = look(capture)
    assert expected.detections.cuts and not bool(expected.detections.seen.all())
    slices, said = Slices(tmp_path / "slices", "key", seconds=0), []
    for frame in (4, 11, 15):
        with pytest.raises(Killed):
            look(capture, slices, until(frame), said.append)
    actual = look(capture, slices, None, said.append)
    same(actual, expected)
    assert [int(line.split(": ")[1].split()[0]) for line in said] == [4, 11, 15]
    again = look(capture, slices, until(0))  # complete: no frame is looked at
    same(again, expected)


def test_slices_of_other_footage_do_not_count(capture, tmp_path):
    with pytest.raises(Killed):
        look(capture, Slices(tmp_path / "slices", "other", seconds=0), until(9))
    said = []
    same(look(capture, Slices(tmp_path / "slices", "key", seconds=0), None, said.append), look(capture))
    assert said == []


def test_a_damaged_slice_ends_what_is_kept(capture, tmp_path):
    slices, said = Slices(tmp_path / "slices", "key", seconds=0), []
    with pytest.raises(Killed):
        look(capture, slices, until(9))
    third = sorted(slices.folder.iterdir())[2]
    third.write_bytes(third.read_bytes()[:-100])
    same(look(capture, slices, None, said.append), look(capture))
    assert said == ["going on from a checkpoint: 2 frames of clip need not be looked at again"]
