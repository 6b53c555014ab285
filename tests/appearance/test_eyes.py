"""What pictures tell of eyes, and how they are painted."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from avatar3d import models
from avatar3d.appearance.chart import build_chart
from avatar3d.appearance.eyes import fit_sphere, paint_eyes, read_eyes, with_lashes
from avatar3d.appearance.inside import Readings, settle_tints
from avatar3d.appearance.layout import in_one_texture
from avatar3d.appearance.regions import faces_in, region
from avatar3d.models.rig import build_rig
from avatar3d.types.face_points import EYE_CORNERS, IRIS, LIDS_LOWER, LIDS_UPPER

SKIN, WHITE, BLUE = (0.5, 0.3, 0.22), (0.6, 0.57, 0.55), (0.10, 0.13, 0.16)
LEVEL = np.array([0.9, 1.0, 1.1])


def picture(r, *, opening=1.6, lash=0.02, width=2.2, blurred=0):
    """Two eyes with irises of `r` pixels in linear colours, and their landmarks."""
    h, w = int(10 * r), int(22 * r)
    scale = 4
    canvas = Image.new("RGB", (w * scale, h * scale))
    draw = ImageDraw.Draw(canvas)

    def paint(shape, points, colour):
        getattr(draw, shape)([c * scale for p in points for c in p], fill=tuple(int(255 * c) for c in colour))

    paint("rectangle", [(0, 0), (w, h)], SKIN)
    points = np.full((478, 2), 5.0)
    for side, x in (("right", 6 * r), ("left", 16 * r)):
        y, out = 4 * r, -1 if side == "right" else 1
        t = np.linspace(-1, 1, 9)
        arc = 0.5 * opening * r * (1 - t**2)
        upper = np.stack([x - out * width * r * t, y - arc], 1)  # temple to nose
        lower = np.stack([x - out * width * r * t, y + arc], 1)
        paint("polygon", np.concatenate([upper, lower[::-1]]), WHITE)
        paint("ellipse", [(x - r, y - r), (x + r, y + r)], BLUE)
        for lid, beyond in ((upper, -2 * r), (lower, 2 * r)):  # lids before the iris
            paint("polygon", np.concatenate([lid, [[lid[-1, 0], y + beyond], [lid[0, 0], y + beyond]]]), SKIN)
        band = np.concatenate([upper - [0, 0.25 * r], upper[::-1]])
        paint("polygon", band, (lash, lash, lash))
        points[list(LIDS_UPPER[side])], points[list(LIDS_LOWER[side])] = upper[1:-1], lower[1:-1]
        points[EYE_CORNERS[side][0]], points[EYE_CORNERS[side][1]] = upper[0], upper[-1]
        points[list(IRIS[side])] = np.array([x, y]) + r * np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]])
    small = np.asarray(canvas.resize((w, h), Image.Resampling.BOX), np.float32) / 255
    if blurred:  # colours are coarser than brightness in footage
        coarse = Image.fromarray((255 * small).astype(np.uint8)).resize(
            (w // blurred, h // blurred), Image.Resampling.BOX
        )
        coarse = coarse.resize((w, h), Image.Resampling.BILINEAR)
        coarse = np.asarray(coarse, np.float32) / 255
        small = coarse * (small.mean(2) / coarse.mean(2).clip(1e-3))[..., None]
    return small, points


def test_colours_and_sizes_are_read():
    image, points = picture(30)
    left, right = read_eyes(image, points, LEVEL)
    for eye in (left, right):
        np.testing.assert_allclose(eye.iris * LEVEL, BLUE, atol=0.01)
        np.testing.assert_allclose(eye.sclera * LEVEL, WHITE, atol=0.02)
        assert eye.size == pytest.approx(0.1, rel=0.02)  # 30 of 300 pixels
        assert eye.openness == pytest.approx(1.6, abs=0.05)
    tints = settle_tints(Readings([left, right], []))
    assert tints.iris_size == pytest.approx(0.1, rel=0.02) and tints.iris[2] > tints.iris[0]


def test_dark_lashes_are_told_from_none():
    dark, faint, none = (read_eyes(*picture(30, lash=x), LEVEL)[0].lashes for x in (0.005, 0.1, 0.33))
    assert dark > 0.95 > faint > 0.2 > none


def test_small_irises_do_not_take_the_hue_of_the_skin():
    image, points = picture(9, blurred=6)
    eye = read_eyes(image, points, LEVEL)[0]
    places = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in image.shape[1::-1])), -1)
    away = np.linalg.norm(places - points[473], axis=2)
    plain = np.median(image[(away > 4) & (away < 7)], 0)
    true, found, naive = (c[0] / c[2] for c in (np.array(BLUE), eye.iris * LEVEL, plain))
    assert abs(found - true) < 0.7 * abs(naive - true)


def test_eyes_that_are_black_are_read_as_black():
    image, points = picture(30)
    for eye in read_eyes(np.zeros_like(image), points, LEVEL):
        assert (eye.iris == 0).all()


def test_closed_eyes_and_eyes_beyond_the_picture_tell_nothing():
    assert read_eyes(*picture(30, opening=0.3), LEVEL) == []
    image, points = picture(30)
    assert read_eyes(image, points - [0, 1000], LEVEL) == []
    usual = settle_tints(Readings([], []))
    assert usual.iris_size is None and 0 < usual.lashes < 1


@pytest.fixture(scope="module")
def dressed():
    head = models.load("head")
    rig = in_one_texture(build_rig(head, torch.zeros(len(head.identity_basis))))
    return rig, build_chart(rig, 512)


def test_lashes_are_at_the_lids_edges(dressed):
    rig, chart = dressed
    grey = torch.full((chart.count, 3), 0.4)
    none, some, many = (with_lashes(grey, rig, chart, x)[:, 1] for x in (0.0, 0.5, 1.0))
    torch.testing.assert_close(none, grey[:, 1])
    place = chart.interpolate(rig.neutral.float(), rig.faces.long())
    rim = rig.neutral.float()[rig.regions["lid_margin_upper_left"]]
    away = torch.cdist(place, rim).amin(1)
    near = chart.of_faces(faces_in(rig, region(rig, "eyelid_upper_left")))
    near = near[away[near] < 1e-3]
    assert len(near) > 20
    assert many[near].median() < some[near].median() < 0.3
    assert (many[away > 8e-3] == 0.4).float().mean() > 0.95  # all but the other lids
    bare = {n: m for n, m in rig.regions.items() if not n.startswith("lid_margin")}
    torch.testing.assert_close(with_lashes(grey, type(rig)(**{**vars(rig), "regions": bare}), chart, 1.0), grey)


def test_eyes_have_irises_of_the_size_that_was_read_and_stand_in_the_lids_shade(dressed):
    rig, chart = dressed
    balls = faces_in(rig, region(rig, "eyeball"))
    iris, white = torch.tensor([0.05, 0.05, 0.2]), torch.tensor([0.6, 0.6, 0.6])
    place = chart.interpolate(rig.neutral.float(), rig.faces.long(), chart.of_faces(balls))
    left = place[:, 0] > 0
    points = rig.neutral.float()[region(rig, "eyeball_left")]
    middle, _ = fit_sphere(points)
    apart = 2 * float(middle[0])
    radii = []
    for size in (0.085, 0.105):
        _, colour = paint_eyes(rig, chart, balls, iris, white, size)
        blue = left & (colour[:, 2] > 1.5 * colour[:, 0]) & (place[:, 2] > middle[2])
        radii.append(float((place[blue, :2] - middle[:2]).norm(dim=1).max()) / apart)
    assert radii[0] == pytest.approx(0.085, rel=0.1) and radii[1] == pytest.approx(0.105, rel=0.1)
    edge = rig.neutral[rig.regions["lid_margin_upper_left"], 1].max()
    beside = left & ((place[:, 0] - middle[0]).abs() > 0.0075) & ((place[:, 0] - middle[0]).abs() < 0.009)
    beside &= place[:, 2] > middle[2]
    high = colour[beside & ((place[:, 1] - edge + 2e-3).abs() < 1.5e-3), 0].mean()
    low = colour[beside & ((place[:, 1] - edge + 8e-3).abs() < 1e-3), 0].mean()
    assert high < 0.85 * low
