"""Brows on accents, and breathing: chest, nostrils, the mouth that takes in air before a phrase."""

import numpy as np

from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.motion_shapes import ROW, Noise, Pulses, Spring
from avatar3d.drive.speech.prosody import ProsodyRow
from avatar3d.drive.speech.style import Style

BROW_SHAPES = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight")
_RAISE = np.array([0.8, 1.0, 1.0, 0.0, 0.0])
_FROWN = np.array([0.0, 0.0, 0.0, 1.0, 1.0])


class Brows:
    """The coefficients `BROW_SHAPES`: raised on accents and at phrases that end high, seldom drawn together."""

    def __init__(self, rng: np.random.Generator, style: Style, gain: float) -> None:
        self._rng, self._gain = rng, gain * style.brows
        self._pulses, self._noise = Pulses(5), Noise(rng, 1.5, 1)
        self._free_at = 0

    def step(self, row: int, voice: ProsodyRow, *, listening: bool, cues: list[Cue]) -> np.ndarray:
        """The five coefficients of this row."""
        if voice.accent > 0 and not listening and row >= self._free_at:
            if self._rng.random() < 0.2 + 0.5 * voice.accent:
                self._beat(row, voice.accent)
        if listening and voice.ends and self._rng.random() < 0.25:
            self._beat(row, 0.5)
        for cue in cues:
            if cue.kind in ("brows", "frown"):
                shape = _RAISE if cue.kind == "brows" else _FROWN
                self._pulses.add(row, 0.15, cue.duration or 0.4, 0.35, shape * 0.8 * cue.amount)
        raised = max(0.0, 0.04 * float(self._noise.step()[0]))
        return self._gain * (self._pulses.step(row) + raised * _RAISE)

    def _beat(self, row: int, strength: float) -> None:
        kind = self._rng.random()
        if kind < 0.12:
            shape = _FROWN * 0.8
        elif kind < 0.22:
            shape = _RAISE * np.array([0.5, *((1.0, 0.2) if self._rng.random() < 0.5 else (0.2, 1.0)), 0, 0])
        else:
            shape = _RAISE
        size = (0.15 + 0.4 * strength) * self._rng.uniform(0.7, 1.3)
        rise, hold, fall = self._rng.uniform((0.12, 0.05, 0.25), (0.18, 0.2, 0.45))
        self._pulses.add(row, float(rise), float(hold), float(fall), shape * size)
        self._free_at = row + round((rise + hold + 0.3) / ROW)


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
