"""Masks are made sharp by colour, and clips say what stands still."""

import numpy as np
import pytest

from avatar3d.nets.matte import refine_mask
from avatar3d.nets.person_masks import PersonMasks

SKIN, WALL, CLOTH = (0.75, 0.5, 0.4), (0.3, 0.4, 0.3), (0.1, 0.5, 0.25)


def blurred(mask, by):
    padded = np.pad(mask, by, mode="edge")
    h, w = mask.shape
    return np.mean([padded[i : i + h, j : j + w] for i in range(2 * by + 1) for j in range(2 * by + 1)], 0)


def scene(truth, wall=WALL, skin=SKIN, noise=0.01, seed=0):
    generator = np.random.default_rng(seed)
    picture = truth[..., None] * np.array(skin) + (1 - truth[..., None]) * np.array(wall)
    picture = picture + noise * generator.standard_normal(picture.shape)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


@pytest.fixture
def strands():
    """A disc with strands two pixels wide that stand out from it."""
    y, x = np.mgrid[:160, :160]
    truth = (np.hypot(y - 90, x - 80) < 40).astype(np.float32)
    truth[30:60, 60:100:8] = truth[30:60, 61:100:8] = 1
    return truth


def test_strands_come_out_of_a_vague_mask(strands):
    vague = blurred(strands, 5).astype(np.float32)
    refined = refine_mask(scene(strands), vague)
    assert refined.dtype == np.float32 and refined.min() >= 0 and refined.max() <= 1
    assert np.abs(refined - strands).mean() < 0.25 * np.abs(vague - strands).mean()


def test_half_covered_pixels_are_half(strands):
    soft = blurred(strands, 1)
    refined = refine_mask(scene(soft, noise=0), blurred(strands, 5).astype(np.float32))
    edge = (soft > 0.2) & (soft < 0.8) & (np.mgrid[:160, :160][0] > 70)  # the disc's lower part: a plain edge
    assert np.abs(refined - soft)[edge].mean() < 0.12


def test_colours_that_say_nothing_change_nothing_much(strands):
    vague = blurred(strands, 5).astype(np.float32)
    same = scene(strands, wall=SKIN, noise=0)
    np.testing.assert_allclose(refine_mask(same, vague), vague, atol=0.12)


def test_nobody_and_everybody_stay(strands):
    picture = scene(strands)
    for value in (0.0, 1.0):
        plain = np.full(strands.shape, value, np.float32)
        np.testing.assert_array_equal(refine_mask(picture, plain), plain)


class Scripted:
    """A segmenter that says what it is told."""

    def __init__(self, masks):
        self.masks = iter(masks)

    def __call__(self, image, head=None):
        return next(self.masks).copy()


def test_a_cloth_that_never_moves_is_not_the_person():
    """The network takes the cloth for the person in the last frames; the disc moves, the cloth does not."""
    y, x = np.mgrid[:120, :160]
    cloth = (x > 120) & (y > 60)
    discs = [(np.hypot(y - 60, x - 60 - 2 * i) < 35).astype(np.float32) for i in range(8)]
    pictures = []
    for i, disc in enumerate(discs):
        picture = scene(disc, seed=i)
        picture[cloth] = (np.array(CLOTH) * 255).astype(np.uint8)
        pictures.append(picture)
    said = [np.where(cloth, float(i >= 4), disc).astype(np.float32) for i, disc in enumerate(discs)]
    plain, studied = PersonMasks(Scripted(said)), PersonMasks(Scripted(said + said))
    studied.study(pictures)
    before = [plain(p) for p in pictures][-1]
    after = [studied(p) for p in pictures]
    inner = cloth & (x > 126) & (y > 66)
    assert before[inner].mean() > 0.5
    assert max(a[inner].max() for a in after) < 0.1
    for disc, mask in zip(discs, after, strict=True):
        assert np.abs(mask - disc)[~cloth].mean() < 0.02
