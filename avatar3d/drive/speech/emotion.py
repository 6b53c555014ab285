"""Emotion over time: mixtures of the basic seven, from labels, from valence and arousal, or from the voice."""

import math
from dataclasses import dataclass

from avatar3d.drive.speech.facs import EMOTION_UNITS, HEAD_POSES, MOVEMENT, units_to_shapes
from avatar3d.drive.speech.prosody import ProsodyRow, Running
from avatar3d.errors import UsageError
from avatar3d.typing import typed

EMOTIONS = tuple(EMOTION_UNITS)
_ALIASES = {
    "happiness": "happy", "joy": "happy", "joyful": "happy", "sadness": "sad", "anger": "angry",
    "surprise": "surprised", "fear": "fearful", "afraid": "fearful", "disgust": "disgusted",
    "contemptuous": "contempt", "calm": "neutral",
}  # fmt: skip
_CIRCUMPLEX = {
    "happy": (0.8, 0.35), "surprised": (0.15, 0.85), "fearful": (-0.45, 0.85), "angry": (-0.75, 0.6),
    "disgusted": (-0.8, 0.15), "contempt": (-0.5, -0.05), "sad": (-0.7, -0.5),
}  # fmt: skip
"""Valence and arousal of the emotions: after Russell's circumplex (1980), drawn apart where labels share a place."""
_SPREAD = 0.35


@typed
def parse_emotion(text: str) -> dict[str, float] | None:
    """A mixture from "happy:0.7,surprised:0.3", "angry", or "va:VALENCE,AROUSAL"; None for "auto".

    Raises:
        ValueError: an unknown label, or numbers out of range.
    """
    text = text.strip().lower()
    if text == "auto":
        return None
    if text.startswith("va:"):
        try:
            valence, arousal = (float(x) for x in text[3:].split(","))
        except ValueError:
            raise UsageError(f"Emotion {text!r}; expected va:VALENCE,AROUSAL with two numbers of -1..1.") from None
        return mixture_of(valence, arousal)
    mixture: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        label, _, number = (x.strip() for x in part.partition(":"))
        label = _ALIASES.get(label, label)
        if label not in EMOTION_UNITS:
            raise UsageError(f"Emotion {label!r} is unknown; there are {', '.join(EMOTIONS)}, va:V,A and auto.")
        try:
            intensity = float(number) if number else 1.0
        except ValueError:
            intensity = math.nan
        if not 0 <= intensity <= 1:
            raise UsageError(f"Emotion {part!r}: expected an intensity of 0..1 behind the colon, as in happy:0.7.")
        mixture[label] = intensity
    mixture.pop("neutral", None)
    return mixture


@typed
def mixture_of(valence: float | int, arousal: float | int) -> dict[str, float]:
    """The mixture that stands at a place of the circumplex: near labels share, distance from the middle is intensity.

    Args:
        valence: -1 unpleasant to 1 pleasant.
        arousal: -1 sleepy to 1 excited.

    Raises:
        ValueError: outside -1..1.
    """
    if not (abs(valence) <= 1 and abs(arousal) <= 1):
        raise UsageError(f"Valence {valence:g}, arousal {arousal:g}; expected -1..1.")
    # Calm content is no emotion of the face: arousal below 0 counts where the mood is unpleasant.
    radius = math.hypot(valence, arousal if arousal > 0 or valence < 0 else 0.0)
    weights = {
        label: math.exp(-0.5 * ((valence - v) ** 2 + (arousal - a) ** 2) / _SPREAD**2)
        for label, (v, a) in _CIRCUMPLEX.items()
    }
    total = sum(weights.values())
    if total < 1e-9 or radius == 0:
        return {}
    intensity = min(1.0, radius / 0.8)
    return {label: intensity * w / total for label, w in weights.items() if w / total > 0.1}


@dataclass(frozen=True)
class Expression:
    """What a mixture does to a face."""

    shapes: dict[str, float]
    """ARKit coefficients."""
    pose: tuple[float, float, float]
    """Rotation vector of the head, radians."""
    movement: float
    """How much the head moves, beside 1."""


@typed
def expression_of(mixture: dict[str, float], units: dict[str, float] | None = None) -> Expression:
    """Shapes, pose and liveliness of a mixture, with action units of a description added.

    Raises:
        ValueError: an unknown label or action unit.
    """
    summed = dict(units or {})
    pose = [0.0, 0.0, 0.0]
    movement = 1.0
    for label, intensity in mixture.items():
        if label not in EMOTION_UNITS:
            raise ValueError(f"Emotion {label!r} is unknown; there are {', '.join(EMOTIONS)}.")
        for unit, strength in EMOTION_UNITS[label].items():
            summed[unit] = summed.get(unit, 0.0) + strength * intensity
        for axis, angle in enumerate(HEAD_POSES.get(label, (0.0, 0.0, 0.0))):
            pose[axis] += angle * intensity
        movement += (MOVEMENT.get(label, 1.0) - 1.0) * intensity
    return Expression(units_to_shapes(summed), (pose[0], pose[1], pose[2]), max(0.3, movement))


class HeardEmotion:
    """What a voice tells of its speaker, row by row: arousal, from pitch, its range, and brightness.

    Prosody of this kind tells excited from subdued, not pleasant from unpleasant, so valence stays out of it:
    excited voices raise brows and lids, subdued ones lower the corners of mouth and lids.
    """

    def __init__(self) -> None:
        self._height, self._tilt = Running(0.0, 1.0, 4.0), Running(-12.0, 3.0, 4.0)
        self.arousal = 0.0

    def step(self, voice: ProsodyRow) -> dict[str, float]:
        """The mixture after one more row."""
        if voice.pitch > 0:
            # Above 165 Hz a voice counts as a woman's or a child's, whose ordinary pitch is 200 Hz; below as a man's.
            usual = 200.0 if voice.pitch > 165 else 110.0
            self._height.add(12 * math.log2(voice.pitch / usual))
            self._tilt.add(voice.tilt)
            spread = (self._height.deviation - 3.5) / 3.0
            raw = 0.12 * self._height.mean + 0.25 * min(1.0, spread) + 0.07 * (self._tilt.mean + 12.0)
            self.arousal += (max(-1.0, min(1.0, raw)) - self.arousal) * 0.02
        excited, subdued = max(0.0, self.arousal), max(0.0, -self.arousal)
        return {label: x for label, x in (("surprised", 0.45 * excited), ("sad", 0.6 * subdued)) if x > 0.02}
