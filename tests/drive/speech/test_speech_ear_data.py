"""What the second ear is trained on: sound and targets stay together, and disturbances keep speech where it is."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "tools"))

from speech_corpus import COLUMNS
from train_speech_ear import disturbed, noise, nothing, pieces

from avatar3d.nets.speech_motion import ROW


def said(count):
    """Tones of 100 rows, whose first column says where they are."""
    for _ in range(count):
        goal = np.zeros((100, COLUMNS), np.float32)
        goal[:, 0] = 1
        yield np.sin(np.arange(100 * ROW + 17) * 0.3), goal


def test_pieces_keep_sound_and_targets_together():
    found = list(pieces(np.random.default_rng(0), said(20)))
    assert len(found) > 1 and sum(int(goal[:, 0].sum()) for _, goal in found) == 2000
    for sound, goal in found:
        assert len(sound) == ROW * len(goal)
        loud = np.abs(sound).reshape(len(goal), ROW).max(1) > 0.1
        assert np.array_equal(loud, goal[:, 0] > 0.5)


@pytest.mark.parametrize("seed", range(6))
def test_disturbed_speech_stays_where_it_is(seed):
    rng = np.random.default_rng(seed)
    ((sound, goal),) = pieces(rng, said(2))
    changed = disturbed(rng, sound, [])
    power = np.square(changed).reshape(len(goal), ROW).mean(1)
    assert np.isfinite(changed).all() and np.abs(changed).max() == pytest.approx(0.8)
    assert power[goal[:, 0] > 0.5].mean() > 1.2 * power[goal[:, 0] < 0.5].mean()


def test_noises_are_of_one_loudness_and_nobody_speaks_in_them():
    rng = np.random.default_rng(1)
    assert noise(rng, 16000).std() == pytest.approx(1, rel=1e-3)
    parts = list(nothing(rng, 1.0))
    assert len(parts) >= 4 and all(not goal.any() and len(sound) == ROW * len(goal) for sound, goal in parts)
