"""Laughter and sighs in a voice, by rhythm, voicing and timbre.

Laughter is a row of like bursts, four to six a second, each voiced in its first half and breath in its second
(Bachorowski and others 2001); speech has such rhythm too, but its syllables differ from one another. A sigh is half a
second to two of breath alone, loud at first and fading. Both rules were set on made sounds and checked for false alarms
on recorded speech: no recorded laughter was at hand.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from avatar3d.drive.speech.prosody import ProsodyRow
from avatar3d.drive.speech.rate import RATE

HEAR_AHEAD = 75
"""Rows after its beginning by which a laugh or a sigh is recognised, mostly."""
_BURSTS = 5
_BEAT = (0.14, 0.32)
"""Seconds between bursts."""
_UNEVEN = 0.1
"""Largest deviation of the beats, beside their mean."""
_UNLIKE = 5.0
"""Largest mean distance of neighbouring bursts' timbre, dB."""
_BREATH = (0.45, 2.4)
"""Seconds that a sigh lasts."""
_APART = 0.3
"""Seconds without a voice before a sigh."""


@dataclass(frozen=True)
class Heard:
    """What was recognised; a laugh that goes on is told again with a later end."""

    kind: str
    """"laugh" or "sigh"."""
    start: int
    """Row."""
    end: int
    """Row; of a laugh its last burst so far."""


class NonSpeech:
    """Hears laughter and sighs row by row."""

    def __init__(self) -> None:
        self._row = 0
        self._bursts: deque[tuple[int, tuple[float, ...]]] = deque(maxlen=_BURSTS)
        self._breathy: deque[bool] = deque(maxlen=round(_BURSTS * _BEAT[1] * RATE))
        self._laugh: tuple[int, int] | None = None
        self._levels: list[float] = []
        self._quiet = -120.0
        self._voiced_at = -(10**6)

    def step(self, voice: ProsodyRow) -> Heard | None:
        """What this row completes."""
        row = self._row
        self._row += 1
        voiced = voice.pitch > 0
        self._breathy.append(not voiced and voice.loudness > 0.05)
        if voice.syllable:
            self._bursts.append((row, voice.timbre))
            if self._is_laughter(row):
                going_on = self._laugh is not None and row - self._laugh[1] < 2 * _BEAT[1] * RATE
                first = self._laugh[0] if going_on and self._laugh else self._bursts[0][0]
                self._laugh = (first, row)
                return Heard("laugh", first, row)
        return self._sigh(row, voice, voiced)

    def _is_laughter(self, row: int) -> bool:
        if len(self._bursts) < _BURSTS:
            return False
        times = np.array([at for at, _ in self._bursts])
        beats = np.diff(times) / RATE
        if beats.min() < _BEAT[0] or beats.max() > _BEAT[1] or beats.std() > _UNEVEN * beats.mean():
            return False
        colours = np.array([timbre for _, timbre in self._bursts])
        if np.sqrt((np.diff(colours, axis=0) ** 2).mean(1)).mean() > _UNLIKE:
            return False
        breath = np.array(self._breathy)  # the newest row is the last
        at = len(breath) - 1 - (row - times)
        return all(breath[max(0, a) : b].sum() >= 3 for a, b in zip(at[:-1], at[1:], strict=True))

    def _sigh(self, row: int, voice: ProsodyRow, voiced: bool) -> Heard | None:
        if voiced:
            self._voiced_at, self._levels = row, []
            return None
        if voice.loudness > 0.1 and (row - self._voiced_at) / RATE > _APART:
            self._levels.append(voice.level)
            return None
        levels, self._levels = np.array(self._levels), []
        quiet, self._quiet = self._quiet, voice.level
        if not _BREATH[0] <= len(levels) / RATE <= _BREATH[1]:
            return None
        smooth = np.convolve(levels, np.ones(5) / 5, "valid")
        top = int(smooth.argmax())
        fades = smooth[top] - smooth[-1] > 5 and top < 0.5 * len(smooth)
        steady = np.abs(np.diff(smooth)).max() < 4  # speech and clicks jump
        clear = smooth[top] > max(quiet, voice.level) + 10
        return Heard("sigh", row - len(levels), row) if fades and steady and clear else None
