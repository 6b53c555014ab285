import numpy as np
import pytest
import torch

from avatar3d.nets.mel import BANDS, FEATURES, HOP, MelFrames, Normaliser


def sound(rng, seconds=1.0):
    t = torch.arange(int(16000 * seconds)) / 16000
    return 0.3 * torch.sin(2 * torch.pi * 440 * t) * (t % 0.5 < 0.3) + 0.02 * torch.randn(len(t), generator=rng)


def test_tone_is_in_its_band(rng):
    t = torch.arange(16000) / 16000
    centres = []
    for hz in (200.0, 1000.0, 4000.0):
        frames = MelFrames()(torch.sin(2 * torch.pi * hz * t))
        centres.append(int(frames[10].argmax()))
        mel = 2595 * np.log10(1 + hz / 700)
        low, high = (2595 * np.log10(1 + f / 700) for f in (60, 7600))
        assert abs(centres[-1] - ((mel - low) / (high - low) * (BANDS + 1) - 1)) <= 1
    assert centres == sorted(centres)


def test_power_scales_with_gain(rng):
    x = sound(rng)
    quiet, loud = MelFrames()(0.1 * x), MelFrames()(x)
    steady = (loud > -6).all(1)
    torch.testing.assert_close(
        loud[steady] - quiet[steady], torch.full((int(steady.sum()), BANDS), 2.0), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("piece", [1, 37, 160, 320, 5000])
def test_pieces_give_the_frames_of_the_whole(rng, piece):
    x = sound(rng)
    if piece == 1:
        x = x[:1500]
    whole_frames = MelFrames()(x)
    whole = Normaliser()(whole_frames.numpy())
    mel, normaliser = MelFrames(), Normaliser()
    parts = [normaliser(mel(x[i : i + piece]).numpy()) for i in range(0, len(x), piece)]
    joined = np.concatenate(parts)
    assert len(joined) == len(x) // HOP and joined.shape[1] == FEATURES
    np.testing.assert_allclose(joined, whole, atol=2e-5)


def test_features_do_not_know_the_gain(rng):
    # once the level is known, 12 dB less changes nothing but what the floor hides
    x = sound(rng, 3.0)
    a, b = (Normaliser()(MelFrames()(x * g).numpy())[100:] for g in (1.0, 0.25))
    assert np.abs(a - b).max() < 0.05


def test_features_do_not_know_the_microphone(rng):
    frames = MelFrames()(sound(rng, 12.0)).numpy()
    tilt = np.linspace(-1, 1, BANDS).astype(np.float32)
    plain, tilted = Normaliser()(frames), Normaliser()(np.maximum(frames + tilt, -10))
    start, end = (np.median(np.abs(plain - tilted)[a:b, :BANDS]) for a, b in ((0, 50), (1000, 1200)))
    assert end < 0.5 * start


def test_batch_equals_one_by_one(rng):
    frames = np.stack([MelFrames()(sound(rng)).numpy() for _ in range(3)])
    together = Normaliser()(frames)
    for i in range(3):
        np.testing.assert_array_equal(together[i], Normaliser()(frames[i]))


def test_silence_stays_under_the_level():
    out = Normaliser()(MelFrames()(torch.zeros(16000)).numpy())
    assert np.isfinite(out).all() and (out[:, -1] < -2).all()
