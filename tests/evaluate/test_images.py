"""Scores of pictures against known errors."""

import math

import pytest
import torch

from avatar3d import models
from avatar3d.evaluate.images import ImageScores, psnr
from avatar3d.evaluate.reenactment import region_masks, score
from avatar3d.models.rig import build_rig
from avatar3d.types import Camera


def test_psnr_of_a_known_error():
    target = torch.full((8, 8, 3), 0.5)
    assert psnr(target + 0.1, target) == pytest.approx(20.0, abs=1e-4)
    where = torch.zeros(8, 8, dtype=torch.bool)
    assert math.isnan(psnr(target, target, where))
    where[0] = True
    worse = target.clone()
    worse[1:] += 0.4
    assert psnr(worse, target, where) == pytest.approx(120.0)


def test_scores_count_the_person_on_white_alone():
    generator = torch.Generator().manual_seed(0)
    footage = torch.rand(16, 16, 3, generator=generator)
    mask = torch.zeros(16, 16)
    mask[4:12, 4:12] = 1
    picture = footage * mask[..., None] + 1 - mask[..., None]
    scores = ImageScores()
    scores.add(7, picture, footage, mask)
    scores.add(8, picture * 0.9, footage, mask)
    scores.add(9, picture, footage, torch.zeros(16, 16))  # nobody there: no score
    summary = scores.summary()
    assert summary["frames"] == 2 and scores.frames == [7, 8]
    assert scores.psnr[0] == pytest.approx(120.0) and scores.ssim[0] == pytest.approx(1.0, abs=1e-5)
    expected = -10 * math.log10(float((0.1 * footage[4:12, 4:12]).square().mean()))
    assert scores.psnr[1] == pytest.approx(expected, abs=1e-3)
    assert summary["worst"] == [8, 7]
    assert ImageScores().summary()["psnr"] is None


def test_regions_lie_where_they_are():
    model = models.load("head")
    rig = build_rig(model, torch.zeros(model.identity_basis.shape[0]))
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[2, 3] = 0.8
    camera = Camera.from_focal(250.0, 96, 128, T)
    person = torch.ones(128, 96, dtype=torch.bool)
    masks = region_masks(rig, rig.neutral, camera, person)
    centre = {name: mask.nonzero().float().mean(0)[0] for name, mask in masks.items()}
    assert centre["hair"] < centre["eyes"] < centre["face"] + 8
    assert centre["eyes"] < centre["mouth"]
    assert masks["mouth"].sum() < masks["face"].sum()


def test_score_draws_every_sight_once():
    model = models.load("head")
    rig = build_rig(model, torch.zeros(model.identity_basis.shape[0]))
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[2, 3] = 0.8
    camera = Camera.from_focal(100.0, 48, 48, T)

    class Sight:
        def __init__(self, frame):
            self.frame, self.camera = frame, camera
            self.image = torch.full((48, 48, 3), 51, dtype=torch.uint8)
            self.mask = torch.full((48, 48), 255, dtype=torch.uint8)

    asked = []

    def draw(frame, camera):
        asked.append(frame)
        return torch.full((48, 48, 3), 0.2 + 0.1 * (frame == 1))

    scores = score([Sight(0), Sight(1)], draw, rig, lambda frame: rig.neutral)
    assert asked == [0, 1]
    assert scores.psnr[0] > 100 and scores.psnr[1] == pytest.approx(20.0, abs=1e-3)
    assert set(scores.regions) == {"face", "mouth", "eyes", "hair"}
