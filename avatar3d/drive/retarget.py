"""One person's motion for another person's face."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.types import ARKIT_NAMES, Motion
from avatar3d.typing import typed

MOST_RESTING = 0.3
"""A resting face is not further from neutral than this; what is beyond it is expression."""
_GAZE = torch.tensor(["Look" in name for name in ARKIT_NAMES])


@typed
def resting_face(motion: Motion, *, quantile: float = 0.1) -> Float[Tensor, "52"]:
    """The coefficients at which the driver's face rests.

    For each coefficient the level that it falls to in a tenth of the frames, at most `MOST_RESTING`: low enough to
    be rest even in lively clips, high enough to ignore single frames. Gaze has no rest and gives 0.
    """
    frames = motion.expression
    if motion.confidence is not None and (motion.confidence > 0).any():
        frames = frames[motion.confidence > 0]
    rest = torch.quantile(frames.double(), quantile, dim=0).clamp(0, MOST_RESTING).float()
    return rest.where(~_GAZE, torch.zeros_like(rest))


@typed
def retarget(motion: Motion, rest: Float[Tensor, "52"] | None = None, *, centre: bool = True) -> Motion:
    """The motion relative to the driver's own neutral face, so that the target rests where the driver rests.

    Coefficients become (c - rest) / (1 - rest), not below 0: a brow that rests at 0.2 gives 0, and one fully raised
    still gives 1.

    Args:
        motion: The driver's motion.
        rest: The driver's resting coefficients; `resting_face(motion)` when left out.
        centre: Bring the middle (median) of the translation to the origin; the driver's place before the camera
            means nothing for another person.
    """
    rest = resting_face(motion) if rest is None else rest
    if not (rest < 1).all():
        raise ValueError(f"retarget: resting coefficients up to {rest.max():.2f}; expected less than 1.")
    expression = ((motion.expression - rest) / (1 - rest)).clamp_min(0)
    translation = motion.translation
    if centre and translation is not None and len(translation):
        translation = translation - translation.contiguous().median(0).values
    return replace(motion, expression=expression, translation=translation)
