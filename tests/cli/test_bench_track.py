"""What the tracker's benchmark is given of a real clip."""

import torch

from avatar3d.capture import open_capture
from avatar3d.cli.benches.track import _first
from avatar3d.pipeline import demo_clip
from avatar3d.track.detections import observations
from avatar3d.track.footage import find_face


def test_the_first_frames_have_all_that_was_detected():
    found = find_face(open_capture(demo_clip())).detections
    part = _first(found, 5)
    assert observations(part, minimum=0.5).frames == 5
    torch.testing.assert_close(part.landmarks, found.landmarks[:5])
    torch.testing.assert_close(part.scores, found.scores[:5])
