"""Hard cuts are found; motion, flashes and black frames are not cuts."""

import numpy as np
import pytest
from footage_cases import picture

from avatar3d.capture import CutDetector, find_cuts, open_capture


def room(shift: int, seed: int = 0) -> np.ndarray:
    """A random scene of blocks in one tint, moved sideways."""
    rng = np.random.default_rng(seed)
    tint = rng.uniform(0.6, 1, 3)
    blocks = (rng.integers(20, 160, (12, 40, 1)) * tint).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    return blocks[:, 40 + shift : 40 + shift + 320]


def cuts_of(images) -> list[int]:
    detector = CutDetector()
    return [i for i, image in enumerate(images) if detector.push(np.ascontiguousarray(image))]


def test_cut_between_scenes():
    assert cuts_of([room(i) for i in range(10)] + [room(i, 1) for i in range(10)]) == [10]


def test_cut_across_black_is_found_once():
    black = [np.zeros_like(room(0))] * 2
    assert cuts_of([room(i) for i in range(10)] + black + [room(i, 1) for i in range(5)]) == [12]
    assert cuts_of([room(i) for i in range(10)] + black + [room(i) for i in range(5)]) == []
    assert cuts_of([room(i) for i in range(10)] + black * 10) == [18]  # black for long is a shot of its own


@pytest.mark.parametrize("gain", [0.5, 1.3, 2, 2.5])
def test_flash_is_no_cut(gain):
    images = [room(i) for i in range(20)]
    images[10:12] = [np.clip(image * gain, 0, 255).astype(np.uint8) for image in images[10:12]]
    assert cuts_of(images) == []


def test_fast_pan_is_no_cut():
    assert cuts_of([room(12 * i) for i in range(20)]) == []


def test_stills_have_no_cuts():
    assert find_cuts(open_capture(picture(0)).views[0]) == []


def test_real_clips(data):
    for name, cut in (("cut_face_then_cartoon.mov", 73), ("cut_cartoon_then_face.mov", 96)):
        assert find_cuts(open_capture(data(f"videos/{name}")).views[0]) == [cut]
    for name in ("phone_selfie_smile.mp4", "body_s13_woman_dancing.mp4", "lowlight_d20_man.mp4"):
        assert find_cuts(open_capture(data(f"videos/{name}")).views[0]) == []
