"""Blinks: when, how long, how far.

Gaps between blinks are lognormal; a conversation has some 17 a minute, people at rest slightly fewer (Bentivoglio and
others 1997). Lids close fast (60 to 100 ms) and open slowly (120 to 250 ms). Blinks also come with the ends of phrases
and with large shifts of gaze (Evinger and others 1994); the spontaneous ones make room for those, so that the rate
stays.
"""

import numpy as np

from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.motion_shapes import ROW, ease
from avatar3d.drive.speech.prosody import ProsodyRow
from avatar3d.drive.speech.style import Style

_SPREAD = 0.6
_SOONEST = 0.55
_PARTIAL = 0.15


class Blinks:
    """Closure of the two lids."""

    def __init__(self, rng: np.random.Generator, style: Style, gain: float) -> None:
        self._rng, self._rate = rng, style.blinks * gain / 60
        self._running: tuple[int, float, float, float, float] | None = None
        self._wink: tuple[int, float, int] | None = None
        self._last = 0
        self._owed = 0.0
        self._next = self._draw(0, 1.0)

    def step(
        self, row: int, voice: ProsodyRow, *, shift: float, resting: bool, listening: bool, cues: list[Cue]
    ) -> tuple[float, float]:
        """Closure of the left and the right lid, 0..1.

        Args:
            row: Its number.
            voice: What is heard.
            shift: Size of a gaze shift that begins at this row, radians; 0 for none.
            resting: Whether nobody speaks.
            listening: Whether the avatar listens.
            cues: What begins at this row.
        """
        pace = 0.8 if resting or listening else 1.0
        self._owed = max(-4.0, min(4.0, self._owed + self._rate * pace * ROW))
        asked = any(cue.kind == "blink" for cue in cues)
        if self._rate > 0 and not asked and (row - self._last) * ROW > _SOONEST and self._owed > -1.5:
            draw = self._rng.random() if voice.ends or shift > 0.14 else 1.0
            asked = row >= self._next or (voice.ends and draw < 0.35) or (shift > 0.14 and draw < 0.3)
        if asked:
            self._begin(row, pace)
        for cue in cues:
            if cue.kind == "wink":
                self._wink = (row, cue.duration or 0.25, 0 if cue.value != "right" else 1)
        closure = [self._closure(row)] * 2
        if self._wink:
            start, hold, side = self._wink
            t = (row - start) * ROW
            value = ease(t / 0.1) * (1 - ease((t - 0.1 - hold) / 0.22))
            closure[side] = max(closure[side], value)
            if t > hold + 0.35:
                self._wink = None
        return closure[0], closure[1]

    def _draw(self, row: int, pace: float) -> int:
        if self._rate <= 0:
            return 1 << 62
        # Who has blinked too often lately waits longer.
        mean = 1 / (self._rate * pace) * float(np.exp(-0.25 * self._owed)) * 1.1
        gap = self._rng.lognormal(np.log(mean) - _SPREAD**2 / 2, _SPREAD)
        return row + round(max(_SOONEST, gap) / ROW)

    def _begin(self, row: int, pace: float) -> None:
        close, hold, open_ = self._rng.uniform((0.06, 0.04, 0.12), (0.1, 0.07, 0.25))
        depth = self._rng.uniform(0.45, 0.8) if self._rng.random() < _PARTIAL else 1.0
        self._running = (row, float(close), float(hold), float(open_), float(depth))
        self._last, self._owed = row, self._owed - 1
        self._next = self._draw(row, pace)

    def _closure(self, row: int) -> float:
        if self._running is None:
            return 0.0
        start, close, hold, open_, depth = self._running
        t = (row - start) * ROW
        if t >= close + hold + open_:
            self._running = None
            return 0.0
        if t < close:
            return depth * ease(t / close)
        if t < close + hold:
            return depth
        x = (t - close - hold) / open_
        return depth * (1 - x) * (1 - x) * (1 + 2 * x)  # fast at first, then slow
