"""Footage that cuts to another person: the shots of one are kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from footage_cases import write_video
from PIL import Image

from avatar3d import models
from avatar3d.capture import CutDetector, open_capture
from avatar3d.track import TrackConfig, track, track_landmarks
from tests.track.synthetic import make_footage

QUICK = TrackConfig(keyframes=12, surface_rounds=0, smooth_iterations=0)


@pytest.fixture(scope="module")
def model():
    return models.load("head")


def joined(*shots):
    """One clip of several shots."""
    lengths = torch.tensor([len(s.time) for s in shots])
    total = int(lengths.sum())
    return replace(
        shots[0], landmarks=torch.cat([s.landmarks for s in shots]), presence=torch.ones(total).double(),
        camera=torch.zeros(total, dtype=torch.long), time=torch.arange(total).double() / 30,
        cuts=tuple(lengths.cumsum(0)[:-1].tolist()),
    )  # fmt: skip


def part(footage, begin, end):
    d = footage.detections
    return replace(d, landmarks=d.landmarks[begin:end], presence=d.presence[begin:end],
                   camera=d.camera[begin:end], time=d.time[begin:end])  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_other_person_is_left_out(model, seed):
    one, two = (make_footage(model, seed=s, frames=40, moving=True) for s in (seed, seed + 100))
    alone = track_landmarks(part(one, 0, 40), model, QUICK)
    mixed = track_landmarks(joined(part(one, 0, 20), part(two, 0, 15), part(one, 20, 40)), model, QUICK)
    assert [(d.index, d.reason) for d in mixed.dropped] == [(i, "another person") for i in range(20, 35)]
    assert not bool(mixed.tracked[20:35].any()) and bool(mixed.landmarks[20:35].isnan().all())
    apart = float((mixed.identity - alone.identity).norm() / alone.identity.norm())
    assert apart < 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_person_in_two_shots_is_one(model, seed):
    footage = make_footage(model, seed=seed, frames=40, moving=True)
    near = part(footage, 20, 40)
    near = replace(near, landmarks=near.landmarks * 1.4 - 100)  # another framing
    assert track_landmarks(joined(part(footage, 0, 20), near), model, QUICK).dropped == ()


def test_real_people(model, data, tmp_path):
    """A cut from one person to another and back; the first is longer in all, the second in one shot."""
    clips = {"a": "videos/mead_M026_disgust.mp4", "b": "videos/older_man_lightning_track.mp4"}
    views = {name: open_capture(data(path)).views[0] for name, path in clips.items()}
    images = [
        square(frame.image) for name, begin, end in (("a", 0, 16), ("b", 0, 24), ("a", 60, 76))
        for frame in views[name].frames(begin, end)
    ]  # fmt: skip
    said = []
    capture = open_capture(write_video(tmp_path / "cuts.mp4", images))
    result = track(capture, model, QUICK, new_shot=Cuts, say=said.append)
    assert [d.index for d in result.dropped if d.reason == "another person"] == [*range(16), *range(40, 56)]
    assert bool(result.tracked[16:40].all())
    assert any("32 another person" in line for line in said)


class Cuts(CutDetector):
    """Cuts where the test has made them: whether they are found is not the question here."""

    def push(self, image):
        self.count = getattr(self, "count", -1) + 1
        return self.count in (16, 40)


def square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    x = (image.shape[1] - side) // 2
    return np.asarray(Image.fromarray(image[:side, x : x + side]).resize((480, 480)))
