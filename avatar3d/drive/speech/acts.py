"""Laughter and sighs, acted: face, head and breath over their course."""

import math
from dataclasses import dataclass

from avatar3d.drive.speech.facs import units_to_shapes
from avatar3d.drive.speech.motion_shapes import ROW, pulse

LAUGH_HERTZ = 4.6
"""Bursts of laughter a second (Bachorowski and others 2001 find 4.4 in men and women)."""
_LAUGH = units_to_shapes({"AU6": 0.8, "AU12": 0.85, "AU7": 0.3, "AU10": 0.2, "AU43": 0.2})
_SIGH_IN = units_to_shapes({"AU1": 0.35, "AU2": 0.15, "AU38": 0.6})
_SIGH_OUT = units_to_shapes({"AU1": 0.3, "AU15": 0.25, "AU43": 0.3, "AU22": 0.12})


@dataclass
class Act:
    """A laugh or a sigh under way."""

    kind: str
    start: int
    """Row."""
    amount: float = 1.0
    seconds: float | None = None
    heard: int = -1
    """Row of the sound where it was recognised to begin; -1 where it was asked for."""

    @property
    def duration(self) -> float:
        """Seconds that it lasts."""
        return self.seconds or (1.8 if self.kind == "laugh" else 2.4)

    def step(self, row: int) -> "tuple[dict[str, float], tuple[float, float, float], float, float] | None":
        """Shapes, rotation vector of the head, lift of the chest (metres) and strength of breathing in; None when
        it is over.
        """
        t, length = (row - self.start) * ROW, self.duration
        if t >= length:
            return None
        if self.kind == "laugh":
            strength = self.amount * pulse(t, 0.25, max(0.0, length - 0.75), 0.5)
            fade = max(0.0, 1 - 0.6 * t / length)
            beat = max(0.0, math.sin(2 * math.pi * LAUGH_HERTZ * t)) * strength * fade
            shapes = {name: value * strength for name, value in _LAUGH.items()}
            shapes["jawOpen"] = 0.16 * strength + 0.14 * beat
            return shapes, (-0.09 * strength + 0.022 * beat, 0.0, 0.03 * strength), 0.0025 * beat, 0.0
        inward = pulse(t, 0.3 * length, 0.0, 0.2 * length)
        outward = pulse(t - 0.32 * length, 0.2 * length, 0.1 * length, 0.38 * length)
        shapes = {name: self.amount * value * inward for name, value in _SIGH_IN.items()}
        for name, value in _SIGH_OUT.items():
            shapes[name] = max(shapes.get(name, 0.0), self.amount * value * outward)
        shapes["jawOpen"] = self.amount * (0.05 * inward + 0.11 * outward)
        pitch = self.amount * (-0.05 * inward + 0.09 * outward)
        return shapes, (pitch, 0.0, 0.0), 0.0, self.amount if t < 0.3 * length else 0.0
