"""A person's habits from some ten seconds of them speaking: their tracked motion beside ours for the same sound."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.prosody import SAMPLE_RATE, ProsodyStream
from avatar3d.drive.speech.rate import RATE, rows
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.style import Style
from avatar3d.errors import TrackingError
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.motion import head_rotation, resample
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion
from avatar3d.typing import typed

_SHORTEST = 2.0
_BELIEF = 4.0
"""Seconds of speech after which a habit counts as much as the average speaker does."""
_JAW = ARKIT_INDEX["jawOpen"]
_PAIRS = [
    (ARKIT_INDEX[n], ARKIT_INDEX[n[:-4] + "Right"])
    for n in ARKIT_NAMES if n.startswith("mouth") and n.endswith("Left") and n != "mouthLeft"
]  # fmt: skip
_LIPS = [i for n, i in ARKIT_INDEX.items() if n.startswith("mouth") and n != "mouthClose"]
_BROWS = [i for n, i in ARKIT_INDEX.items() if n.startswith("brow")]


@typed
def learn_style(motion: Motion, samples: Float[Tensor, "n"], mouth: Float[Tensor, "t 52"] | None = None) -> Style:
    """How a person's speaking differs from ours.

    Every habit is a ratio of what was seen to what `perform` does for the same sound, drawn towards the average the
    shorter the clip is; so few numbers need few seconds.

    Args:
        motion: Their tracked motion, from the first sample on.
        samples: Their sound, mono at 16 kHz.
        mouth: Our articulation of that sound at `RATE`; amplitudes of lips and jaw stay ours when left out.

    Raises:
        TrackingError: less than two seconds of them speaking.
    """
    seen = resample(motion, float(RATE)) if motion.fps != RATE else motion
    count = min(seen.frames, rows(len(samples) / SAMPLE_RATE))
    voice = ProsodyStream()
    heard = voice.push(samples.numpy()) + voice.flush()
    speaking = np.array([row.speaking for row in heard[:count]])
    if seen.confidence is not None:
        speaking &= seen.confidence[:count].numpy() > 0.3
    seconds = speaking.sum() / RATE
    if seconds < _SHORTEST:
        raise TrackingError(f"A style needs someone who speaks: {seconds:.1f} s of tracked speech were found, and "
                            f"{_SHORTEST:g} s or more expected (about ten are good).")  # fmt: skip
    belief = float(seconds / (seconds + _BELIEF))
    theirs = seen.expression[:count].double().numpy()[speaking]
    base = torch.zeros(count, 52) if mouth is None else mouth[:count]
    average = perform(base, samples, SpeechSettings(), fps=float(RATE))
    ours = average.expression[:count].double().numpy()[speaking]
    values: dict[str, float] = {}
    if mouth is not None and len(mouth) >= count:
        used = [i for i in _LIPS if ours[:, i].std() > 0.02]  # trackers stir the others too: no habit of speech
        values["mouth"] = _drawn(_ratio(theirs[:, used], ours[:, used]), belief)
        values["jaw"] = _drawn(_reach(theirs[:, _JAW]) / max(_reach(ours[:, _JAW]), 0.02), belief)
        rest = _corners(theirs) - _corners(ours)
        values["smile"] = float(np.clip(belief * rest, -0.35, 0.35))
    left, right = (np.sqrt(theirs[:, [p[side] for p in _PAIRS]].var(0).sum()) for side in (0, 1))
    if left + right > 0.02:
        values["asymmetry"] = float(np.clip(belief * (left - right) / (left + right), -0.5, 0.5))
    values["brows"] = _drawn(_ratio(theirs[:, _BROWS], ours[:, _BROWS]), belief)
    values["blinks"] = _blinks(seen.expression[:count], seen.frames / RATE)
    values |= _head_habits(seen, average, count, speaking, belief)
    return Style(**values)


def _ratio(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Of amplitudes: the spread of all curves together."""
    a, b = (float(np.sqrt(x.var(0).sum())) for x in (theirs, ours))
    return a / b if b > 1e-3 else 1.0


def _reach(values: np.ndarray) -> float:
    """From the nearly lowest to the nearly highest value."""
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


def _drawn(ratio: float, belief: float, low: float = 0.4, high: float = 1.8) -> float:
    """A ratio drawn towards 1 (as logarithms), within bounds."""
    return float(np.clip(np.exp(belief * np.log(max(ratio, 1e-3))), low, high))


def _corners(curves: np.ndarray) -> float:
    """How far the mouth's corners are up at rest between words: a low quantile, so that articulation is left out."""
    up = (curves[:, ARKIT_INDEX["mouthSmileLeft"]] + curves[:, ARKIT_INDEX["mouthSmileRight"]]) / 2
    down = (curves[:, ARKIT_INDEX["mouthFrownLeft"]] + curves[:, ARKIT_INDEX["mouthFrownRight"]]) / 2
    return float(np.quantile(up, 0.3) - np.quantile(down, 0.3))


def _blinks(curves: Tensor, seconds: float) -> float:
    """Blinks a minute, as if ten seconds of the average had been seen as well."""
    lid = (curves[:, ARKIT_INDEX["eyeBlinkLeft"]] + curves[:, ARKIT_INDEX["eyeBlinkRight"]]) / 2
    open_, shut = float(lid.quantile(0.3)), float(lid.quantile(0.99))
    closed = (lid > open_ + max(0.15, 0.5 * (shut - open_))).numpy()  # trackers give some people's blinks 0.4 alone
    count = int((closed[1:] & ~closed[:-1]).sum())
    return float(np.clip(60 * (count + Style().blinks / 6) / (seconds + 10), 2, 45))


def _head_habits(seen: Motion, average: Motion, count: int, speaking: np.ndarray, belief: float) -> dict[str, float]:
    """Spread of the head about each axis, and its speed."""
    usual = Style()
    spreads, speeds = [], []
    for motion in (seen, average):
        R = head_rotation(motion)[:count]
        middle = R[len(R) // 2]
        turns = matrix_to_rotvec(middle.mT @ R).numpy()
        spreads.append(np.array([np.subtract(*np.quantile(turns[speaking, k], [0.84, 0.16])) / 2 for k in range(3)]))
        # Over 0.2 s, so that a tracker's jitter is not taken for speed.
        step = RATE // 5
        moved = turns[step:] - turns[:-step]
        speeds.append(float(np.sqrt((moved**2).sum(1).mean())) / max(1e-4, float(np.sqrt((spreads[-1] ** 2).sum()))))
    ratios = [_drawn(a / max(b, 1e-4), belief, 0.3, 3.0) for a, b in zip(*spreads, strict=True)]
    values = {name: getattr(usual, name) * r for name, r in zip(("pitch", "yaw", "roll"), ratios, strict=True)}
    return values | {"pace": _drawn(speeds[0] / max(speeds[1], 1e-4), belief, 0.5, 2.0)}
