"""Phones of any speech without its words, by the recogniser of the package `hama` (optional, Apache-2.0, 5 MB).

A baseline and a convenience: its phones are heard as peaks about every 20 ms, so that boundaries between them are
guesses. The driving network needs none of it.
"""

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.phones import SILENCE, Phone, articulations
from avatar3d.errors import DependencyError
from avatar3d.typing import typed

_RATE = 16000
_FRAME = 0.02  # seconds per output of the recogniser
_DELAY = 0.035  # seconds by which its peaks come after the middle of the phone, and by place, measured on voices
# whose times are known
_LATE = {"bilabial": 0.02, "dental": 0.025, "postalveolar": 0.018, "labiovelar": 0.02, "alveolar": -0.014}
_LOUDEST = 0.8  # full scale, to which sound is brought
_LONGEST = 0.3  # seconds a phone lasts when nothing follows
_CHUNK, _OVERLAP = 30.0, 1.0  # seconds


@typed
def recognise(samples: Float[Tensor, "n"]) -> tuple[Phone, ...]:
    """The phones in a recording, with approximate times.

    Args:
        samples: Speech at 16 kHz, full scale at -1 and 1.

    Raises:
        DependencyError: the package `hama` is missing.
    """
    if not find_spec("hama"):
        raise DependencyError("hama", "speech", "Recognising phones")
    wave = samples.numpy().astype(np.float32)
    if len(wave) < _RATE // 20:
        return ()
    wave = wave * (_LOUDEST / max(float(np.abs(wave).max()), 1e-4))
    peaks: list[tuple[float, str]] = []
    step = int((_CHUNK - 2 * _OVERLAP) * _RATE)
    for first in range(0, len(wave), step):
        begin = max(first - int(_OVERLAP * _RATE), 0)
        chunk = wave[begin : first + step + int(_OVERLAP * _RATE)]
        if len(chunk) < _RATE // 20:
            break
        found = [(t + begin / _RATE, s) for t, s in _peaks(chunk)]
        peaks += [(t, s) for t, s in found if first <= t * _RATE < first + step or (first == 0 and t * _RATE < step)]
    return _phones(peaks, _loud(wave), len(wave) / _RATE)


@lru_cache(maxsize=1)
def _model() -> Any:
    from hama import ASRModel

    return ASRModel()


def _peaks(wave: np.ndarray) -> list[tuple[float, str]]:
    """Middle of each emission, seconds, and its symbol."""
    model = _model()
    result = model.transcribe_waveform(wave, _RATE)
    peaks, frames = [], list(result.frame_token_ids)
    start = 0
    for i in range(1, len(frames) + 1):
        if i == len(frames) or frames[i] != frames[start]:
            symbol = model.decoder_tokens[frames[start]]
            if frames[start] != model.blank_id and symbol[0].isalpha():
                late = _DELAY + _LATE.get(articulations(symbol)[0].place, 0.0)
                peaks.append(((start + i) * 0.5 * _FRAME - late, symbol))
            start = i
    return peaks


def _loud(wave: np.ndarray) -> np.ndarray:
    """Whether each 10 ms is within 40 dB of the loudest."""
    count = len(wave) // 160
    power = (wave[: count * 160].reshape(count, 160) ** 2).mean(1)
    return power > max(np.quantile(power, 0.98) * 1e-4, 1e-9)


def _phones(peaks: list[tuple[float, str]], loud: np.ndarray, duration: float) -> tuple[Phone, ...]:
    """Boundaries half-way between peaks; where nothing is heard for long, silence."""
    phones: list[Phone] = []
    for i, (at, symbol) in enumerate(peaks):
        before = peaks[i - 1][0] if i else at - _LONGEST
        after = peaks[i + 1][0] if i + 1 < len(peaks) else at + _LONGEST
        start = max(0.5 * (before + at), at - 0.5 * _LONGEST, 0.0)
        end = min(0.5 * (after + at), at + 0.5 * _LONGEST, duration)
        if end > start:
            phones.append(Phone(symbol=symbol, start=start, end=end))
    out: list[Phone] = []
    for phone in phones:
        cells = loud[int(phone.start * 100) : max(int(np.ceil(phone.end * 100)), int(phone.start * 100) + 1)]
        edge_start = not out or phone.start > out[-1].end + 1e-3
        if cells.any() and edge_start:
            quiet = int(np.argmax(cells)) / 100
            phone = Phone(symbol=phone.symbol, start=min(phone.start + quiet, phone.end - 0.03), end=phone.end)
        if phone.start > (out[-1].end if out else 0.0) + 1e-3:
            out.append(Phone(symbol=SILENCE, start=out[-1].end if out else 0.0, end=phone.start))
        out.append(phone)
    if out and out[-1].end < duration:
        out.append(Phone(symbol=SILENCE, start=out[-1].end, end=duration))
    return tuple(out)
