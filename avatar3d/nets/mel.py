"""Sound -> what the speech network reads: log-mel frames, made independent of loudness, microphone and speaker.

100 frames a second, of 16 kHz sound. Everything looks back only, and a sound in pieces gives the frames of the whole:
`MelFrames` holds the samples that the next window needs, `Normaliser` the running level and spectrum.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed

SAMPLE_RATE = 16000
HOP = 160
"""Samples between frames; frame j ends at sample `(j + 1) * HOP`."""
WINDOW = 400
BANDS = 40
FEATURES = BANDS + 1
"""Normalised bands, and the level."""

_FFT = 512
_LOW, _HIGH = 60.0, 7600.0  # Hz
_FLOOR = 1e-10  # power; -100 dB under full scale
_LEAST = -6.0  # log10 power: what is quieter is never taken for speech's level
_FALL = 0.001  # log10 power a frame by which the level sinks: 1 dB a second
_GATE, _WIDTH = -2.5, 0.3  # log10 power under the level from where frames count as speech's spectrum
_MEMORY = 400.0  # frames over which the spectrum is averaged
_PRIOR = 30.0  # frames that the prior spectrum counts for
_DEEPEST = -6.0  # log10 power under the level: as good as silence


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Triangles on the mel scale (O'Shaughnessy's formula) [257, 40], each with a sum of 1."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(hz) / 700)

    edges = 700 * (10 ** (np.linspace(mel(_LOW), mel(_HIGH), BANDS + 2) / 2595) - 1)
    hz = np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rise = (hz[:, None] - low) / (middle - low)
    fall = (high - hz[:, None]) / (high - middle)
    triangles = np.clip(np.minimum(rise, fall), 0, None)
    return torch.from_numpy(triangles / triangles.sum(0)).float()


class MelFrames:
    """Log-mel frames of a sound that arrives in pieces."""

    def __init__(self) -> None:
        self._held = torch.zeros(WINDOW - HOP)
        self._window = torch.hann_window(WINDOW)

    @typed
    def __call__(self, samples: Float[Tensor, "n"]) -> Float[Tensor, "t 40"]:
        """The frames that these samples complete, log10 of power.

        Args:
            samples: 16 kHz, full scale at -1 and 1.
        """
        sound = torch.cat([self._held, samples])
        count = max((len(sound) - WINDOW) // HOP + 1, 0)
        if not count:
            self._held = sound
            return samples.new_zeros(0, BANDS)
        self._held = sound[count * HOP :]
        windows = sound[: (count - 1) * HOP + WINDOW].unfold(0, WINDOW, HOP)
        windows = windows - windows.mean(1, keepdim=True)
        power = torch.fft.rfft(windows * self._window, _FFT).abs().square() * (2 / WINDOW) ** 2
        return (power @ _filters() + _FLOOR).log10()


class Normaliser:
    """Takes the running level and the running average spectrum of speech off log-mel frames."""

    def __init__(self, prior: Float[np.ndarray, "40"] | None = None) -> None:
        """Starts anew.

        Args:
            prior: Average spectrum of speech under its level, log10 power, for the first moments.
        """
        self._prior = np.zeros(BANDS) if prior is None else np.asarray(prior, np.float64)
        self._peak = _LEAST
        self._sums: np.ndarray | None = None

    @typed
    def __call__(self, frames: Float[np.ndarray, "*b t 40"]) -> Float[np.ndarray, "*b t 41"]:
        """Features of log-mel frames; those of the next call go on from these."""
        frames = frames.astype(np.float64)
        count = frames.shape[-2]
        if not count:
            return np.zeros((*frames.shape[:-1], FEATURES), np.float32)
        energy = np.log10(np.power(10.0, frames).sum(-1))
        # peak_t = max(energy_t, peak_(t-1) - fall), never under the least
        slope = _FALL * np.arange(1, count + 1)
        rising = np.maximum.accumulate(energy + slope, -1)
        peak = np.maximum(np.maximum(rising, np.expand_dims(np.asarray(self._peak), -1)) - slope, _LEAST)
        self._peak = peak[..., -1]
        under = np.maximum(frames - peak[..., None], _DEEPEST)
        level = np.maximum(energy - peak, _DEEPEST)
        weight = 1 / (1 + np.exp(-(level - _GATE) / _WIDTH))
        terms = np.concatenate([weight[..., None] * under, weight[..., None]], -1)
        keep = 1 - 1 / _MEMORY
        start = np.zeros_like(terms[..., :1, :]) if self._sums is None else self._sums
        from scipy.signal import lfilter  # slow to import, and only speech needs it

        sums, self._sums = lfilter([1.0], [1.0, -keep], terms, axis=-2, zi=start)
        mean = (sums[..., :-1] + _PRIOR * self._prior) / (sums[..., -1:] + _PRIOR)
        return np.concatenate([under - mean, level[..., None]], -1).astype(np.float32)
