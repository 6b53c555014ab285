"""Gaze: fixations, saccades, glances away and back, and the head that follows.

Saccades last 21 ms and 2.2 ms for each degree (Carpenter 1988) and run with minimum jerk, whose peak speed is 1.875
times the mean: the main sequence. Speakers look away as they begin to speak and back as they finish (Kendon 1967), and
look at the other half to two thirds of the time, listeners three quarters (Argyle and Cook 1976).
"""

import math

import numpy as np

from avatar3d.drive.speech.cues import DIRECTIONS, Cue
from avatar3d.drive.speech.motion_shapes import ROW, Noise, ease
from avatar3d.drive.speech.prosody import ProsodyRow

_DEGREE = math.pi / 180
_HEAD_FROM, _HEAD_SHARE = 6 * _DEGREE, 0.35
_REACH = 32 * _DEGREE


def saccade_seconds(radians: float) -> float:
    """How long a saccade of this size lasts."""
    return 0.021 + 0.0022 * radians / _DEGREE


class Gaze:
    """Direction of the eyes in the world: to the subject's left, and up, radians; 0 is the camera."""

    def __init__(self, rng: np.random.Generator, gain: float) -> None:
        self._rng, self._gain = rng, gain
        self._from, self._to = np.zeros(2), np.zeros(2)
        self._start, self._seconds = -(10**6), 0.03
        self._centre = np.zeros(2)
        self._away_until: int | None = None
        self._told_until: int | None = None
        self._next = self._fixation(0, 0.9)
        self._tremor = Noise(rng, 0.25, 2)

    @property
    def away(self) -> bool:
        """Whether the eyes are off the camera."""
        return self._away_until is not None or self._told_until is not None

    def step(
        self, row: int, voice: ProsodyRow, *, resting: bool, listening: bool, cues: list[Cue]
    ) -> tuple[np.ndarray, float]:
        """Direction at this row, and the size of a shift that begins here (0 for none)."""
        before = self._start
        looks = [cue for cue in cues if cue.kind == "look"]
        if looks:
            self._told_until = row + round((looks[-1].duration or 1.2) / ROW)
            self._away_until = None
            self._go(row, np.array(DIRECTIONS[looks[-1].value]) * looks[-1].amount)
        elif self._told_until is not None:
            if row >= self._told_until:
                self._told_until = None
                self._go(row, np.zeros(2))
        elif self._away_until is not None:
            # Who finishes a phrase looks back to the listener.
            if row >= self._away_until or (voice.ends and self._rng.random() < 0.7):
                self._away_until = None
                self._go(row, np.zeros(2))
        elif self._gain > 0 and self._leaves(voice, resting, listening):
            self._away_until = row + round(self._rng.lognormal(math.log(1.5 if resting else 0.9), 0.45) / ROW)
            self._go(row, self._glance())
        if row >= self._next:
            self._refixate(row)
        shift = float(np.linalg.norm(self._to - self._from)) if self._start == row != before else 0.0
        return self._where(row) + self._tremor.step() * (0.08 * _DEGREE * min(1.0, self._gain)), shift

    def head_share(self) -> np.ndarray:
        """What the head owes to the gaze, as a rotation vector; it comes later than the eyes, as the head is slow."""
        far = max(0.0, float(np.linalg.norm(self._centre)) - _HEAD_FROM)
        if far == 0:
            return np.zeros(3)
        direction = self._centre / np.linalg.norm(self._centre)
        left, up = direction * far * _HEAD_SHARE
        return np.array([-up, left, 0.0])

    def _leaves(self, voice: ProsodyRow, resting: bool, listening: bool) -> bool:
        rate = 0.1 if listening else 0.22 if resting else 0.16  # a second
        chance = rate * ROW * self._gain
        if voice.starts and not listening:
            chance += 0.35 * self._gain
        return self._rng.random() < chance

    def _glance(self) -> np.ndarray:
        size = min(24.0, self._rng.lognormal(math.log(10.0), 0.35)) * _DEGREE * min(1.5, self._gain) ** 0.5
        kind = self._rng.random()
        side = 1.0 if self._rng.random() < 0.5 else -1.0
        up = self._rng.normal(0.0, 0.15) if kind < 0.45 else (-0.7 if kind < 0.75 else 0.55) + self._rng.normal(0, 0.1)
        left = side * math.sqrt(max(0.1, 1 - min(0.9, up * up)))
        return size * np.array([left, up])

    def _refixate(self, row: int) -> None:
        """A small saccade: between eyes and mouth of the other, or around what is looked at."""
        spread = (2.2 if self.away else 1.0) * _DEGREE * min(1.5, self._gain)
        target = self._centre + self._rng.normal(0, 1, 2) * spread * np.array([1.0, 0.6])
        self._saccade(row, target)
        self._next = self._fixation(row, 0.5 if self.away else 0.9)

    def _go(self, row: int, target: np.ndarray) -> None:
        self._centre = target
        self._saccade(row, target)
        self._next = self._fixation(row, 0.6)

    def _saccade(self, row: int, target: np.ndarray) -> None:
        self._from, self._to, self._start = self._where(row), target, row
        self._seconds = saccade_seconds(float(np.linalg.norm(target - self._from)))

    def _where(self, row: int) -> np.ndarray:
        return self._from + (self._to - self._from) * ease((row - self._start) * ROW / self._seconds)

    def _fixation(self, row: int, median: float) -> int:
        return row + round(max(0.12, self._rng.lognormal(math.log(median), 0.5)) / ROW)


def eye_shapes(left: float, up: float) -> dict[str, float]:
    """eyeLook coefficients of both eyes, for a direction within the head in radians, held to what eyes can do."""
    from avatar3d.models.livelink import GAZE_PITCH, GAZE_YAW

    left, up = (max(-_REACH, min(_REACH, x)) for x in (left, up))
    a, b = left / GAZE_YAW, up / GAZE_PITCH
    values = {
        "eyeLookOutLeft": a, "eyeLookInRight": a, "eyeLookInLeft": -a, "eyeLookOutRight": -a,
        "eyeLookUpLeft": b, "eyeLookUpRight": b, "eyeLookDownLeft": -b, "eyeLookDownRight": -b,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value > 0}
