"""Brows on accents, and breathing: chest, nostrils, the mouth that takes in air before a phrase."""

import numpy as np

from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.motion_shapes import ROW, Noise, Pulses, Spring
from avatar3d.drive.speech.prosody import ProsodyRow
from avatar3d.drive.speech.style import Style

BROW_SHAPES = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight")
_RAISE = np.array([0.65, 0.45, 0.45, 0.0, 0.0])
_FROWN = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
_WAITS = 2.5
"""Seconds of speech within which some accent raises the brows."""
_LIFT, _DRAWN = 0.05, 0.05
"""Standard deviation of what brows do by themselves, up and together."""


class Brows:
    """The coefficients `BROW_SHAPES`: raised on accents (seldom drawn together), a little on most, never quite still.

    Most raised brows of speakers go with a rise of the pitch (Cavé and others 1996); the inner ends go further than
    the outer ones and there is some frowning in between, as in the tracked clips of docs/speech.md.
    """

    def __init__(self, rng: np.random.Generator, style: Style, gain: float) -> None:
        self._rng, self._gain = rng, gain * style.brows
        self._pulses, self._noise = Pulses(5), Noise(rng, 1.5, 2)
        self._free_at, self._spoken = 0, 0.4 * _WAITS
        self._talking = 0.0

    def step(self, row: int, voice: ProsodyRow, *, listening: bool, cues: list[Cue]) -> np.ndarray:
        """The five coefficients of this row."""
        speaks = voice.speaking and not listening
        self._spoken += ROW if speaks else 0.0
        self._talking += ((1.0 if speaks else 0.3) - self._talking) * (ROW / 0.5)
        if voice.accent > 0 and speaks and row >= self._free_at:
            chance = 0.15 + 0.45 * voice.accent + max(0.0, self._spoken / _WAITS - 0.4)
            if self._rng.random() < chance:
                self._beat(row, voice.accent)
            else:  # a trace of it
                self._pulses.add(row, 0.14, 0.05, 0.3, _RAISE * 0.12 * self._rng.uniform(0.3, 1.0))
        if listening and voice.ends and self._rng.random() < 0.25:
            self._beat(row, 0.5)
        for cue in cues:
            if cue.kind in ("brows", "frown"):
                shape = _RAISE if cue.kind == "brows" else _FROWN
                self._pulses.add(row, 0.15, cue.duration or 0.4, 0.35, shape * 0.8 * cue.amount)
        up, together = self._noise.step()
        idle = self._talking * (_LIFT * max(0.0, float(up)) * _RAISE + _DRAWN * max(0.0, float(together)) * _FROWN)
        return self._gain * (self._pulses.step(row) + idle)

    def _beat(self, row: int, strength: float) -> None:
        kind = self._rng.random()
        if kind < 0.2:
            shape = _FROWN * 0.7
        elif kind < 0.3:
            shape = _RAISE * np.array([0.6, *((1.5, 0.3) if self._rng.random() < 0.5 else (0.3, 1.5)), 0, 0])
        else:
            shape = _RAISE
        size = (0.2 + 0.4 * strength) * self._rng.uniform(0.7, 1.3)
        rise, hold, fall = self._rng.uniform((0.12, 0.05, 0.25), (0.18, 0.25, 0.5))
        self._pulses.add(row, float(rise), float(hold), float(fall), shape * size)
        self._free_at, self._spoken = row + round((rise + hold + 0.3) / ROW), 0.0


class Breathing:
    """Volume of the chest 0..1 and the flow of air in (0 when none, 1 a quick breath before a phrase).

    At rest a breath takes four seconds, two fifths of it in. A speaker breathes in within half a second in pauses and
    lets the air out along the phrase.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.volume = 0.3
        self._inhaling, self._target, self._pace = True, 0.7, 0.25
        self._smooth = Spring(2.0, 1)
        self._spent = 0.0

    def step(self, voice: ProsodyRow, *, own: bool, deep: float = 0.0) -> tuple[float, float]:
        """Volume and inward flow of this row.

        Args:
            voice: What is heard.
            own: Whether the voice is the avatar's.
            deep: How strongly a sigh draws air in at this row, 0..1.
        """
        speaks = own and voice.speaking
        if deep > 0:
            self._inhaling, self._target, self._pace = True, 1.1, 1.6 * deep
        elif speaks:
            self._inhaling, self._target, self._pace = False, 0.05, 0.16 + 0.1 * voice.loudness
            self._spent += ROW
        elif own and 0.04 < voice.pause < 0.4 and self._spent > 0.8:
            self._inhaling, self._spent = True, 0.0
            self._target, self._pace = self._rng.uniform(0.75, 1.0), 1.6
        if self._inhaling and self.volume >= self._target:
            self._inhaling, self._target, self._pace = False, self._rng.uniform(0.2, 0.3), 0.2
        elif not self._inhaling and not speaks and self.volume <= self._target:
            self._inhaling, self._target, self._pace = True, self._rng.uniform(0.6, 0.75), self._rng.uniform(0.26, 0.34)
        change = self._pace * ROW * (1 if self._inhaling else -1)
        self.volume = max(0.0, min(1.1, self.volume + change))
        flow = self._pace / 1.6 if self._inhaling else 0.0
        return float(self._smooth.step(self.volume)[0]), min(1.0, flow)
