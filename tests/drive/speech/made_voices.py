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
