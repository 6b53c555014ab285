"""Sounds made for the tests: a voice with known syllables, pitch and stress."""

import numpy as np
import torch

RATE = 16000


def syllables(pitches, *, stress=(), seconds=0.22, gap=0.06, level=0.1, loud=2.5):
    """Vowel-like syllables of given pitches (Hz; 0 for a pause of the same length); returns sound and peak times.

    A stressed one is `loud` times the others' amplitude and 30% higher.
    """
    parts, peaks, at = [], [], 0.0
    for i, hertz in enumerate(pitches):
        t = np.arange(round(seconds * RATE)) / RATE
        if hertz:
            high = 1.3 if i in stress else 1.0
            phase = 2 * np.pi * hertz * high * t
            tone = sum(np.sin(k * phase) / k for k in range(1, 12)) / 2
            envelope = np.sin(np.pi * t / seconds) ** 1.5
            parts.append(level * (loud if i in stress else 1.0) * envelope * tone)
            peaks.append(at + seconds / 2)
        else:
            parts.append(np.zeros(len(t)))
        quiet = np.zeros(round(gap * RATE))
        parts.append(quiet)
        at += seconds + gap
    sound = np.concatenate(parts)
    hiss = np.random.default_rng(0).standard_normal(len(sound)) * 1e-4
    return torch.from_numpy((sound + hiss).astype(np.float32)), np.array(peaks)


def talk(seconds, seed=0, pitch=150.0):
    """Phrases of two to four seconds and pauses of half a second to a second, stress on every third syllable or so."""
    rng = np.random.default_rng(seed)
    sound = []
    total = 0
    while total < seconds * RATE:
        count = int(rng.integers(8, 15))
        stress = tuple(np.flatnonzero(rng.random(count) < 0.3))
        part, _ = syllables(
            pitch * 2 ** (rng.normal(0, 0.12, count)), stress=stress, seconds=float(rng.uniform(0.16, 0.24))
        )
        pause = torch.from_numpy((rng.standard_normal(round(rng.uniform(0.5, 1.0) * RATE)) * 1e-4).astype(np.float32))
        sound += [part, pause]
        total += len(part) + len(pause)
    return torch.cat(sound)[: round(seconds * RATE)]


def _breath(rng, count, centres, width):
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    spectrum *= sum(np.exp(-(((hertz - f) / width) ** 2)) for f in centres) + 0.03
    noise = np.fft.irfft(spectrum, count)
    return noise / noise.std()


def laugh(rng, bursts=7):
    """Bursts four to six times a second, voiced first and then breath, falling in level and pitch."""
    rate, pitch = rng.uniform(3.8, 5.6), rng.uniform(180, 450)
    formants = rng.uniform(0.9, 1.15) * np.array([750, 1250, 2600])
    parts = [np.zeros(int(0.4 * RATE))]
    for k in range(bursts):
        period = rng.uniform(0.93, 1.07) / rate
        t = np.arange(int(period * RATE)) / RATE
        voiced = rng.uniform(0.35, 0.55) * period
        f = pitch * (1 - 0.03 * k) * (1 - 0.15 * t / period)
        phase = 2 * np.pi * np.cumsum(f) / RATE
        tone = sum(np.sin(h * phase) * sum(np.exp(-(((h * f - c) / 180) ** 2)) for c in formants) for h in range(1, 16))
        ha = np.where(t < voiced, np.sin(np.pi * np.clip(t / voiced, 0, 1)) ** 0.7, 0)
        h = np.where(t < voiced, 0.15, 0.35 * np.sin(np.pi * np.clip((t - voiced) / (period - voiced), 0, 1)) ** 0.5)
        noise = _breath(rng, len(t), formants, 350)
        parts.append(0.85**k * (tone / np.abs(tone).max() * ha + 0.12 * noise * h))
    sound = np.concatenate([*parts, np.zeros(int(0.6 * RATE))]) * 0.3 * 10 ** rng.uniform(-1, 0)
    return torch.from_numpy((sound + rng.standard_normal(len(sound)) * 2e-4).astype(np.float32))


def sigh(rng):
    """Breath that fades over about a second."""
    seconds = rng.uniform(0.7, 1.6)
    t = np.arange(int(seconds * RATE)) / RATE
    noise = _breath(rng, len(t), (rng.uniform(500, 900), 1600), 500)
    envelope = np.minimum(1, t / 0.15) * np.exp(-2.2 * t / seconds) * np.minimum(1, (seconds - t) / 0.1)
    sound = np.concatenate([np.zeros(int(0.6 * RATE)), 0.05 * noise * envelope, np.zeros(int(0.8 * RATE))])
    return torch.from_numpy((sound + rng.standard_normal(len(sound)) * 2e-4).astype(np.float32))
