"""Motion made from speech against motion tracked while the same speech was said (RESEARCH.md, metrics of speech).

Both are 52 curves on the mean head of the model `head`, so that no identity, pose or camera enters. Frame k of a motion
is at k / fps seconds. Baselines that need nothing but the sound are here too.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.models.head import load_head
from avatar3d.types import Motion
from avatar3d.types.arkit import ARKIT_INDEX
from avatar3d.typing import typed

LAG_RANGE = 0.3
"""Lags up to this many seconds are tried."""
CLOSED_MM = 1.0
"""Lips nearer than this are closed."""

_STEP = 0.005
_INNER_UPPER, _INNER_LOWER = 13, 14
_EYES = (33, 263)
_EYE_DISTANCE = 90.0  # mm between the outer corners of the eyes of the mean head


@lru_cache(maxsize=1)
def _middle() -> tuple[Tensor, Tensor]:
    """Millimetres per curve [52] of the middle of the upper and of the lower lip, upwards."""
    head = load_head()
    rest, basis = head.template * 1000, head.expression_basis * 1000
    out = []
    for name in ("lips_inner_upper", "lips_inner_lower"):
        near = head.regions[name] & (rest[:, 0].abs() < 1.5)
        out.append(basis[:, near, 1].mean(1))
    return out[0], out[1]


@typed
def lip_opening(expression: Float[Tensor, "t 52"]) -> Float[Tensor, "t"]:
    """Height of the opening in the middle of the mouth, mm, over that of the resting face; 0 where lips press."""
    upper, lower = _middle()
    return (expression @ (upper - lower).to(expression)).clamp(min=0)


@typed
def landmark_opening(points: Float[Tensor, "t 478 d"]) -> Float[Tensor, "t"]:
    """The same from landmarks in pixels, scaled to the mean head by the distance of the eyes, mm."""
    eyes = (points[:, _EYES[0]] - points[:, _EYES[1]]).norm(dim=-1)
    return (points[:, _INNER_UPPER] - points[:, _INNER_LOWER]).norm(dim=-1) / eyes * _EYE_DISTANCE


@typed
def sampled_at(values: Float[Tensor, "t *c"], fps: float | int, times: Float[Tensor, "n"]) -> Float[Tensor, "n *c"]:
    """Values at any time, linear between frames, held at both ends."""
    position = (times * fps).clamp(0, len(values) - 1)
    low = position.floor().long().clamp(max=max(len(values) - 2, 0))
    high = (low + 1).clamp(max=len(values) - 1)
    part = (position - low).to(values).view(-1, *[1] * (values.ndim - 1))
    return values[low] + part * (values[high] - values[low])


@typed
def correlation(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> float:
    """Pearson's; 0 where either does not move."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 1e-9 else 0.0


@typed
def opening_scores(
    predicted: Float[Tensor, "t"],
    predicted_fps: float | int,
    truth: Float[Tensor, "n"],
    truth_fps: float | int,
    usable: Tensor | None = None,
) -> dict:
    """How well an opening follows the true one.

    Args:
        predicted: Lip opening, any unit.
        predicted_fps: Its frames a second.
        truth: Tracked lip opening.
        truth_fps: Its frames a second.
        usable: Which frames of the truth count, bool `[n]`; all when left out.

    Returns:
        `correlation`, `lag_ms` (the shift within 300 ms that correlates best; positive where the prediction is late),
        `best_correlation` (at that shift).

    Raises:
        ValueError: fewer than 10 frames to compare.
    """
    times = torch.arange(len(truth), dtype=torch.float64) / truth_fps
    keep = (times <= (len(predicted) - 0.5) / predicted_fps) & (usable if usable is not None else times >= 0)
    if int(keep.sum()) < 10:
        raise ValueError(
            f"evaluate-motion: {int(keep.sum())} frames in common; expected 10 or more of the same speech."
        )
    times, truth = times[keep], truth[keep]
    shifts = torch.arange(-round(LAG_RANGE / _STEP), round(LAG_RANGE / _STEP) + 1) * _STEP
    scores = torch.tensor(
        [correlation(sampled_at(predicted, predicted_fps, times + s), truth) for s in shifts.double()]
    )
    best = int(scores.argmax())
    return {
        "correlation": float(scores[len(shifts) // 2]),
        "lag_ms": round(1000 * float(shifts[best])),
        "best_correlation": float(scores[best]),
    }


@lru_cache(maxsize=2)
def _vertices(part: str) -> Tensor:
    """Displacements per curve [52, v, 3] of the lips or of the upper face, mm."""
    head = load_head()
    if part == "lips":
        mask = head.regions["lips_outer"] | head.regions["lips_inner"]
    else:
        eyes = head.regions["eyeball_left"] | head.regions["eyeball_right"]
        mask = head.regions["face"] & ~eyes & (head.template[:, 1] > head.template[eyes, 1].min())
    return head.expression_basis[:, mask] * 1000


@typed
def vertex_scores(predicted: Motion, truth: Motion) -> dict:
    """`lve {mm2, mm}` over the lips, and `fdd {mm2}` over the upper face.

    LVE is the mean over frames of the largest squared distance of a lip vertex, and its root. FDD is the mean over the
    upper face of the standard deviation over time of the squared displacement, of the truth minus the predicted one.
    """
    times = torch.arange(truth.frames, dtype=torch.float64) / truth.fps
    keep = times <= (predicted.frames - 0.5) / predicted.fps
    if truth.confidence is not None:
        keep &= truth.confidence > 0
    real, made = truth.expression[keep], sampled_at(predicted.expression, predicted.fps, times[keep])
    lips = _vertices("lips").flatten(1)
    far = (((real - made) @ lips).reshape(len(real), -1, 3) ** 2).sum(-1).amax(1)
    upper = _vertices("upper").flatten(1)

    def lively(expression: Tensor) -> float:
        moved = ((expression @ upper).reshape(len(expression), -1, 3) ** 2).sum(-1)
        return float(moved.std(0, correction=0).mean())

    mean = float(far.mean())
    return {"lve": {"mm2": mean, "mm": mean**0.5}, "fdd": {"mm2": lively(real) - lively(made)}}


@typed
def closure_rate(motion: Motion, closures: Sequence[tuple[float, float]]) -> float:
    """Share of the p, b and m in which the lips come within 1 mm.

    Args:
        motion: What is judged.
        closures: Start and end of each, seconds.

    Raises:
        ValueError: there is none.
    """
    if not closures:
        raise ValueError("closure_rate: no p, b or m among the phones; expected one or more.")
    fine = torch.arange(round(motion.duration * 200) + 1, dtype=torch.float64) / 200
    gap = lip_opening(sampled_at(motion.expression, motion.fps, fine))
    hits = 0
    for start, end in closures:
        inside = (fine >= start) & (fine <= max(end, start + 0.01))
        hits += bool(inside.any() and float(gap[inside].min()) < CLOSED_MM)
    return hits / len(closures)


@typed
def compare(predicted: Motion, truth: Motion | Float[Tensor, "t 478 d"], fps: float | int | None = None) -> dict:
    """All figures of one pair: `lips`, and `lve` and `fdd` where the truth is a motion.

    Args:
        predicted: Made from the sound.
        truth: Tracked while the same was said: a motion, or 478 landmarks in pixels.
        fps: Of the landmarks.
    """
    made = lip_opening(predicted.expression)
    if isinstance(truth, Motion):
        usable = None if truth.confidence is None else truth.confidence > 0
        lips = opening_scores(made, predicted.fps, lip_opening(truth.expression), truth.fps, usable)
        return {"lips": lips, **vertex_scores(predicted, truth)}
    if fps is None:
        raise ValueError("compare: landmarks have no time of their own; pass fps.")
    return {"lips": opening_scores(made, predicted.fps, landmark_opening(truth), fps)}


@typed
def loudness_motion(samples: Float[Tensor, "n"], rate: int, fps: float | int = 50) -> Motion:
    """The least baseline: the jaw opens as far as the sound is loud (RMS over 40 ms, its 95th percentile half open)."""
    frames = max(int(len(samples) / rate * fps + 0.999), 1)
    power = torch.nn.functional.pad(samples.double(), (0, rate)).square().cumsum(0)
    centre = (torch.arange(frames) / fps * rate).long()
    half = round(0.02 * rate)
    high, low = (centre + half).clamp(max=len(power) - 1), (centre - half).clamp(min=0)
    loud = ((power[high] - power[low]) / (2 * half)).clamp(min=0).sqrt()
    expression = torch.zeros(frames, len(ARKIT_INDEX))
    expression[:, ARKIT_INDEX["jawOpen"]] = (0.5 * loud / loud.quantile(0.95).clamp(min=1e-6)).clamp(0, 1).float()
    return Motion(fps=float(fps), expression=expression, source="loudness")


def mean_scores(results: Iterable[dict]) -> dict:
    """Means of the lips' figures over several pairs; of the lag, the mean and the largest amount."""
    lips = [result["lips"] for result in results]
    if not lips:
        raise ValueError("mean_scores: nothing to average; expected one pair or more.")
    lags = [abs(x["lag_ms"]) for x in lips]
    return {
        "pairs": len(lips),
        "correlation": sum(x["correlation"] for x in lips) / len(lips),
        "best_correlation": sum(x["best_correlation"] for x in lips) / len(lips),
        "lag_ms": {"mean": sum(x["lag_ms"] for x in lips) / len(lips), "largest": max(lags)},
    }
