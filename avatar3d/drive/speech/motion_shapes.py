"""Shapes of single movements over time: pulses, minimum-jerk moves, springs and Ornstein-Uhlenbeck noise."""

import math

import numpy as np

from avatar3d.drive.speech.rate import RATE

ROW = 1 / RATE
"""Seconds between rows."""


def ease(x: float) -> float:
    """0..1 -> 0..1 with minimum jerk (Flash and Hogan 1985), held outside."""
    x = min(1.0, max(0.0, x))
    return x * x * x * (10 + x * (6 * x - 15))


def pulse(t: float, rise: float, hold: float, fall: float) -> float:
    """0 -> 1 -> 0: eased up in `rise` seconds, held, eased down in `fall` seconds."""
    if t <= 0 or t >= rise + hold + fall:
        return 0.0
    if t < rise:
        return ease(t / rise)
    return 1.0 if t <= rise + hold else 1.0 - ease((t - rise - hold) / fall)


class Noise:
    """Ornstein-Uhlenbeck processes: stationary, standard deviation 1, correlation time `seconds`."""

    def __init__(self, rng: np.random.Generator, seconds: float, size: int) -> None:
        self._rng = rng
        self._keep = math.exp(-ROW / seconds)
        self._kick = math.sqrt(1 - self._keep**2)
        self.value = rng.standard_normal(size)

    def step(self) -> np.ndarray:
        """The next row."""
        self.value = self._keep * self.value + self._kick * self._rng.standard_normal(len(self.value))
        return self.value


class Spring:
    """Critically damped: follows its target without overshoot, with a bandwidth of `hertz`."""

    def __init__(self, hertz: float, size: int) -> None:
        self.position, self._velocity = np.zeros(size), np.zeros(size)
        self.hertz = hertz

    def step(self, target: np.ndarray | float) -> np.ndarray:
        """The next row; exact for a target that is constant within the row."""
        w = 2 * math.pi * self.hertz
        away = self.position - target
        decay = math.exp(-w * ROW)
        slope = self._velocity + w * away
        self._velocity = (self._velocity - w * slope * ROW) * decay
        self.position = target + (away + slope * ROW) * decay
        return self.position


class Pulses:
    """Movements under way; each is (start row, rise, hold, fall, amounts)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._running: list[tuple[int, float, float, float, np.ndarray]] = []

    def add(self, row: int, rise: float, hold: float, fall: float, amounts: np.ndarray) -> None:
        """Starts one at a row."""
        self._running.append((row, rise, hold, fall, amounts))

    def step(self, row: int) -> np.ndarray:
        """Their sum at a row; those that are over are forgotten."""
        total = np.zeros(self._size)
        kept = []
        for item in self._running:
            start, rise, hold, fall, amounts = item
            t = (row - start) * ROW
            if t < rise + hold + fall:
                kept.append(item)
                if t > 0:
                    total += pulse(t, rise, hold, fall) * amounts
        self._running = kept
        return total
