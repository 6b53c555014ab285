import math

import numpy as np
import pytest

from avatar3d.nets.crop import Square, crop


@pytest.fixture(scope="module")
def smooth():
    """A picture whose value at (x, y) is known: a plane in each channel, sampled at pixel centres."""
    y, x = np.mgrid[0:120, 0:160] + 0.5
    return np.stack([x, y, 0.5 * (x + y)], -1).round().astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2, -2.0, math.pi])
@pytest.mark.parametrize("size", [20.0, 64.0, 70.5])
def test_crop_samples_where_the_window_says(smooth, angle, size):
    window = Square(80.0, 60.0, size, angle)
    got = crop(smooth, window, 32, extend=True).numpy()
    u = (np.arange(32) + 0.5) / 32
    where = window.to_image(np.stack(np.meshgrid(u, u), -1))
    inside = ((where > 2) & (where < [158, 118])).all(-1)
    assert inside.mean() > 0.9
    # uint8 rounding of the picture, and of its low-passed copy, is half a level each
    assert np.abs(got[..., :2] - where)[inside].max() < 1.05


@pytest.mark.parametrize("extend", [True, False])
def test_beyond_the_picture(smooth, extend):
    got = crop(smooth, Square(0.0, 60.0, 64.0), 64, extend=extend).numpy()
    assert np.abs(got[:, :31, 0] - (smooth[0, 0, 0] if extend else 0)).max() <= 0.5
    assert np.allclose(got[10:50, 34:, 0], smooth[60, 2:32, 0], atol=1)


@pytest.mark.parametrize("extend", [True, False])
def test_wholly_outside(smooth, extend):
    got = crop(smooth, Square(-500.0, 900.0, 50.0, 0.5), 16, extend=extend).numpy()
    assert np.allclose(got, smooth[-1, 0] if extend else 0)


def test_reduction_averages_instead_of_skipping():
    checkers = np.zeros((512, 512, 3), np.uint8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = 255
    got = crop(checkers, Square(256.0, 256.0, 512.0), 128, extend=True).numpy()
    assert np.abs(got - 127.5).max() < 3


def test_read_only_pictures_are_fine(smooth):
    frozen = smooth.copy()
    frozen.flags.writeable = False
    window = Square(80.0, 60.0, 400.0)
    assert np.array_equal(crop(frozen, window, 32, extend=True), crop(smooth, window, 32, extend=True))


def test_to_image_corners():
    window = Square(10.0, 20.0, 4.0, math.pi / 2)
    corners = window.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]]))
    assert np.allclose(corners, [[12, 18], [12, 22], [10, 20]])
