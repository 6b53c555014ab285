"""A built-in motion that shows all that an avatar can do."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.motion import head_joint_rotations
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion
from avatar3d.typing import typed

STEP_SECONDS = 0.28
"""From one shape to the next."""
HOLD_SECONDS = 0.44
"""How long a shape is away from zero."""
# Shapes that cannot be seen, or that would look broken, without another one.
_COMPANIONS = {"mouthClose": {"jawOpen": 1.0}, "tongueOut": {"jawOpen": 0.6}}
# Name, rotation vector of the head (radians) or gaze (right, up) in eyeLook units, seconds.
_HEAD = (
    ("head turns left", (0.0, 0.6, 0.0)),
    ("head turns right", (0.0, -0.6, 0.0)),
    ("head up", (-0.35, 0.0, 0.0)),
    ("head down", (0.35, 0.0, 0.0)),
    ("head tilts left", (0.0, 0.0, -0.35)),
    ("head tilts right", (0.0, 0.0, 0.35)),
)
_GAZE = (
    ("eyes left", (-0.8, 0.0)),
    ("eyes right", (0.8, 0.0)),
    ("eyes up", (0.0, 0.7)),
    ("eyes down", (0.0, -0.7)),
)
_POSE_SECONDS = 0.6


@dataclass(frozen=True)
class DemoStep:
    """One thing that the demo shows."""

    name: str
    """ARKit name, or words: "head turns left"."""
    start: float
    """Seconds."""
    peak: float
    stop: float


@lru_cache
def demo_steps() -> tuple[DemoStep, ...]:
    """What `demo_motion` shows, and when: the 52 shapes in Apple's order, head turns, gaze."""
    steps, start = [], 0.0
    for name in ARKIT_NAMES:
        steps.append(DemoStep(name, start, start + HOLD_SECONDS / 2, start + HOLD_SECONDS))
        start += STEP_SECONDS
    start += HOLD_SECONDS - STEP_SECONDS
    for name, _ in (*_HEAD, *_GAZE):
        steps.append(DemoStep(name, start, start + _POSE_SECONDS / 2, start + _POSE_SECONDS))
        start += _POSE_SECONDS
    return tuple(steps)


@typed
def demo_motion(fps: float = 30.0) -> Motion:
    """Every shape to 1 and back in turn, then head turns and gaze; about 21 seconds, eased.

    Raises:
        ValueError: `fps` is not positive.
    """
    if fps <= 0:
        raise ValueError(f"demo_motion: {fps:g} frames per second; expected a positive rate.")
    steps = demo_steps()
    time = torch.arange(ceil(steps[-1].stop * fps) + 1, dtype=torch.float64) / fps
    expression = torch.zeros(len(time), len(ARKIT_NAMES), dtype=torch.float64)
    head = torch.zeros(len(time), 3, dtype=torch.float64)
    turns, gazes = dict(_HEAD), dict(_GAZE)
    for step in steps:
        bump = _bump(time, step, fps)
        if step.name in turns:
            head += bump[:, None] * torch.tensor(turns[step.name], dtype=torch.float64)
        elif step.name in gazes:
            for name, value in _gaze_shapes(*gazes[step.name]).items():
                expression[:, ARKIT_INDEX[name]] += bump * value
        else:
            for name, value in ({step.name: 1.0} | _COMPANIONS.get(step.name, {})).items():
                column = expression[:, ARKIT_INDEX[name]]
                torch.maximum(column, bump * value, out=column)
    return Motion(
        fps=fps,
        expression=expression.float(),
        rotations=head_joint_rotations(rotvec_to_matrix(head)),
        source="built-in demo",
    )


def _bump(time: torch.Tensor, step: DemoStep, fps: float) -> torch.Tensor:
    """0 -> 1 -> 0 along a raised cosine; the frame nearest to the peak has 1."""
    phase = (time - step.start) / (step.stop - step.start)
    bump = torch.where((phase > 0) & (phase < 1), 0.5 - 0.5 * (2 * torch.pi * phase).cos(), torch.zeros_like(phase))
    bump[min(round(step.peak * fps), len(time) - 1)] = 1.0
    return bump


def _gaze_shapes(right: float, up: float) -> dict[str, float]:
    """eyeLook coefficients of both eyes for a gaze to the subject's right and up."""
    shapes = {
        "eyeLookOutRight": right, "eyeLookInLeft": right, "eyeLookOutLeft": -right, "eyeLookInRight": -right,
        "eyeLookUpLeft": up, "eyeLookUpRight": up, "eyeLookDownLeft": -up, "eyeLookDownRight": -up,
    }  # fmt: skip
    return {name: value for name, value in shapes.items() if value > 0}
