"""What is on stage: a frame of a motion, and what the sliders add to it."""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion

LOOKS = (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight"),
         ("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight"))  # fmt: skip
"""Coefficients of a look to the subject's left, right, up and down."""


@dataclass(kw_only=True)
class Puppet:
    """An avatar's pose at one moment: mutable, since a person moves its sliders."""

    motion: Motion | None = None
    frame: int = 0
    coefficients: Float[Tensor, "52"] = field(default_factory=lambda: torch.zeros(len(ARKIT_NAMES)))
    """Added to the motion's, and the sums kept within 0..1."""
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the head on top of the motion's, shared by neck and head: about +y (to the subject's left), +x (down) and +z
    (towards the right shoulder), radians."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """To the subject's left and up, -1..1."""

    @property
    def frames(self) -> int:
        """Of the motion; 1 without one."""
        return self.motion.frames if self.motion else 1

    def pose(self) -> Motion:
        """A motion of one frame: what is to be drawn."""
        one = self._of_motion()
        expression = one.expression[0].clone()
        added = self.coefficients.clone()
        for (toward, away), amount in zip((LOOKS[:2], LOOKS[2:]), self.gaze, strict=True):
            for name in toward if amount > 0 else away:
                added[ARKIT_INDEX[name]] += abs(amount)
        moved = added != 0
        expression[moved] = (expression + added)[moved].clamp(0, 1)
        rotations = dict(one.rotations)
        if any(self.turn):
            half = rotvec_to_matrix(torch.diag(torch.tensor(self.turn)[[1, 0, 2]]) / 2)
            half = half[1] @ half[0] @ half[2]
            for name in ("neck", "head"):
                R = rotvec_to_matrix(rotations.get(name, torch.zeros(1, 3)))
                rotations[name] = matrix_to_rotvec(R @ half)
        return replace(one, expression=expression[None], rotations=rotations)

    def _of_motion(self) -> Motion:
        if self.motion is None:
            return Motion(fps=30.0, expression=torch.zeros(1, len(ARKIT_NAMES)))
        first = min(max(self.frame, 0), self.frames - 1)
        at = slice(first, first + 1)
        return replace(
            self.motion,
            expression=self.motion.expression[at].float(),
            rotations={name: r[at].float() for name, r in self.motion.rotations.items()},
            translation=None if self.motion.translation is None else self.motion.translation[at].float(),
            confidence=None,
        )


def frame_at(seconds: float, fps: float, frames: int) -> int:
    """The frame that is on after so much time, round and round."""
    return int(math.floor(seconds * fps)) % max(frames, 1)
