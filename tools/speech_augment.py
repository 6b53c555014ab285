"""Log-mel segments as microphones, rooms and bystanders would have made them; used by `train_speech.py`.

Everything happens on log10 power of mel bands, where mixing sounds is adding powers and a filter is an offset.
"""

import numpy as np
import torch

from avatar3d.nets.mel import BANDS, HOP, SAMPLE_RATE, MelFrames

SILENT = -10.0


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log power of two sounds at once."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    return high + np.log10(1 + np.power(10.0, low - high))


def loudness(mel: np.ndarray) -> float:
    """Log power of the louder frames."""
    return float(np.quantile(np.log10(np.power(10.0, mel).sum(1)), 0.9))


def warped(rng: np.random.Generator, mel: np.ndarray, most: float = 0.13) -> np.ndarray:
    """Frequencies stretched: another length of the vocal tract."""
    position = np.clip(np.arange(BANDS) * (1 + rng.uniform(-most, most)), 0, BANDS - 1)
    low = np.minimum(position.astype(int), BANDS - 2)
    part = (position - low).astype(np.float32)
    return mel[:, low] * (1 - part) + mel[:, low + 1] * part


def coloured(rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A microphone: a tilt, a few broad bumps, at times a telephone's band; log10 power per band."""
    x = np.linspace(-1, 1, BANDS)
    gain = rng.uniform(-0.9, 0.9) * x
    for k in range(1, 5):
        gain += rng.normal(0, 0.25) * np.cos(np.pi * k * (x + rng.uniform(0, 2)))
    gain *= strength
    kind = rng.random()
    if kind < 0.15:
        gain[int(rng.integers(25, 37)) :] -= rng.uniform(2, 6)
    if kind > 0.9 or kind < 0.08:
        gain[: int(rng.integers(1, 6))] -= rng.uniform(1, 4)
    return gain


def noise(rng: np.random.Generator, count: int) -> np.ndarray:
    """Hiss, rumble, wind, clatter: coloured noise with slow and quick changes; loudness 0."""
    x = np.linspace(-1, 1, BANDS)
    spectrum = rng.uniform(-2.5, 0.8) * x + coloured(rng, 1.5)
    t = np.arange(count) / 100
    slow = sum(rng.normal(0, 0.3) * np.sin(2 * np.pi * rng.uniform(0.05, 3) * t + rng.uniform(0, 6)) for _ in range(3))
    mel = spectrum[None] + rng.uniform(0, 1) * np.asarray(slow)[:, None]
    mel = mel + rng.normal(0, rng.uniform(0.05, 0.18), (count, BANDS))
    if rng.random() < 0.3:  # clicks and knocks
        for at in rng.integers(0, count, int(rng.integers(1, 25))):
            length = min(int(rng.integers(2, 20)), count - at)
            fall = rng.uniform(0.5, 2.5) - np.arange(length)[:, None] * rng.uniform(0.05, 0.5)
            mel[at : at + length] = add(mel[at : at + length], spectrum + fall + rng.normal(0, 0.4, BANDS))
    if rng.random() < 0.15:  # hum
        mel[:, : int(rng.integers(1, 5))] += rng.uniform(1, 3)
    return mel - loudness(mel)


def music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Chords, a bass and a drum, synthesised; log-mel, loudness 0."""
    count = int(seconds * SAMPLE_RATE)
    out, t = np.zeros(count), np.arange(count) / SAMPLE_RATE
    beat = 60 / rng.uniform(60, 170)
    root = rng.uniform(60, 240)
    harmonics = int(rng.integers(3, 14))
    fade = rng.uniform(0.4, 1.6)
    at = 0.0
    while at < seconds:
        long = beat * float(rng.choice([0.5, 1, 2]))
        span = (t >= at) & (t < at + long)
        local = t[span] - at
        envelope = np.minimum(local / 0.01, 1) * np.exp(-local * rng.uniform(0.3, 6))
        for step in rng.choice([0, 2, 3, 4, 5, 7, 9, 12, 16, 19, 24], int(rng.integers(1, 5))):
            f = root * 2 ** (step / 12)
            vibrato = 0.004 * np.sin(2 * np.pi * 5.5 * local) if rng.random() < 0.3 else 0
            for k in range(1, harmonics):
                if f * k < 7600:
                    out[span] += envelope * np.sin(2 * np.pi * f * k * (local + vibrato / 5)) / k**fade
        if rng.random() < 0.6:
            hit = np.exp(-local * rng.uniform(15, 60)) * rng.standard_normal(len(local))
            out[span] += rng.uniform(0.2, 2) * hit
        at += long
    mel = MelFrames()(torch.from_numpy(out / (np.abs(out).max() + 1e-9)).float()).numpy()
    return mel - loudness(mel)


def hum(rng: np.random.Generator, count: int) -> np.ndarray:
    """Mains, fans, engines: harmonics that stay as they are, with some hiss; log-mel, loudness 0."""
    t = np.arange(count * HOP + HOP) / SAMPLE_RATE
    pitch, fall = rng.uniform(35, 260), rng.uniform(0.3, 2.0)
    wobble = 1 + rng.uniform(0, 0.01) * np.sin(2 * np.pi * rng.uniform(0.1, 8) * t)
    phase = 2 * np.pi * pitch * np.cumsum(wobble) / SAMPLE_RATE
    lines = [k for k in range(1, int(rng.integers(3, 40))) if k * pitch < 7600 and rng.random() < 0.85]
    out = sum((np.sin(k * phase + rng.uniform(0, 6)) / k**fall for k in lines), np.zeros_like(t))
    out = out + rng.uniform(0, 0.3) * out.std() * rng.standard_normal(len(t))
    mel = MelFrames()(torch.from_numpy(out / (np.abs(out).max() + 1e-9)).float()).numpy()[:count]
    return mel + coloured(rng) - loudness(mel)


def mixed(rng: np.random.Generator, speech: np.ndarray, background: np.ndarray | None) -> np.ndarray:
    """Speech through a microphone with something else in the room; either may be quiet or loud."""
    speech = warped(rng, speech) + coloured(rng)
    if rng.random() < 0.3:  # nearer and farther from the microphone
        t = np.arange(len(speech)) / 100
        speech = speech + 0.3 * np.sin(2 * np.pi * rng.uniform(0.03, 0.4) * t + rng.uniform(0, 6))[:, None]
    loud = loudness(speech)
    if background is not None:
        speech = add(speech, background + loud - rng.uniform(0.7, 5.0))
    speech = speech - loud + rng.uniform(-4.5, -0.7)
    speech = np.maximum(speech, rng.uniform(-10, -7.5))
    if rng.random() < 0.4:
        low = int(rng.integers(0, BANDS - 6))
        speech[:, low : low + int(rng.integers(1, 6))] -= rng.uniform(0.5, 3)
    return np.maximum(speech + rng.normal(0, 0.04, speech.shape), SILENT)
