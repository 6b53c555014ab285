"""Pose and expression of every frame, as the track gave them and as the pictures correct them.

The corrections are parametrised so that head and torso do not pull at each other: the head's place in the world has
its own six numbers, and turning root or neck moves what hangs on them but never the head.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.models.motion import HEAD_CHAIN
from avatar3d.models.rig import pose_rig
from avatar3d.types import Motion, Rig

SIGMA = {"head": 0.02, "place": 0.004, "expression": 0.1, "torso": 0.15}
"""How far the pictures may pull a frame from its track: radians, metres, coefficients, radians."""


@dataclass
class Poses:
    """Corrections `[t, ...]` to a motion, and the frames they belong to."""

    rig: Rig
    motion: Motion
    corrections: dict[str, Tensor]

    @classmethod
    def of(cls, rig: Rig, motion: Motion) -> "Poses":
        """No corrections yet. The rig is the one that is posed, with its anchors."""
        t = motion.frames
        shapes = {"head": 3, "place": 3, "expression": motion.expression.shape[1]}
        shapes |= {name: 3 for name in _chain(rig)[:-1]}
        return cls(rig, motion, {name: torch.zeros(t, size) for name, size in shapes.items()})

    def __post_init__(self) -> None:
        chain = _chain(self.rig)
        rotations = [self.motion.rotations.get(name, torch.zeros(self.motion.frames, 3)) for name in chain]
        self._local = [rotvec_to_matrix(r.float()) for r in rotations]
        self._joints = torch.stack([self.rig.joint_positions[self.rig.joint_names.index(n)] for n in chain]).float()
        translation = self.motion.translation
        self._translation = torch.zeros(self.motion.frames, 3) if translation is None else translation.float()
        R = torch.eye(3).expand(self.motion.frames, 3, 3)
        place = self._translation + self._joints[0]
        for i, local in enumerate(self._local):
            R = R @ local
            if i + 1 < len(chain):
                place = place + R @ (self._joints[i + 1] - self._joints[i])
        self._head, self._place = R, place
        self.use(torch.arange(self.motion.frames))

    def head_rotation(self, rows: Tensor) -> Tensor:
        """R_world_head `[n, 3, 3]` of some frames as the track has it."""
        return self._head[rows]

    def use(self, frames: Tensor) -> None:
        """Says which frames (ascending) are corrected: the others follow by `spread`."""
        self._used = frames
        at = torch.arange(self.motion.frames)
        position = torch.searchsorted(frames, at)
        self._neighbours = torch.stack(
            [frames[(position - 1).clamp_min(0)], frames[(position + 1).clamp_max(len(frames) - 1)]]
        )

    @torch.no_grad()
    def spread(self) -> None:
        """Corrections of frames that were not looked at: linear in time between those that were."""
        at, used = torch.arange(self.motion.frames), self._used
        high = torch.searchsorted(used, at).clamp_max(len(used) - 1)
        low = (high - 1).clamp_min(0)
        low = torch.where(used[high] <= at, high, low)
        span = (used[high] - used[low]).clamp_min(1)
        t = ((at - used[low]) / span).clamp(0, 1)[:, None]
        for value in self.corrections.values():
            value.copy_(value[used[low]] * (1 - t) + value[used[high]] * t)
        self.admit()

    def corrected(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Coefficients, joint rotations, translation, and the head's rotation `[n, 3, 3]` of some frames."""
        chain = _chain(self.rig)
        d = {name: value[rows] for name, value in self.corrections.items()}
        R_head = rotvec_to_matrix(d["head"]) @ self._head[rows]
        place = self._place[rows] + d["place"]
        R, rotations = torch.eye(3).expand(len(rows), 3, 3), {}
        root = place - self._joints[0]
        for i, name in enumerate(chain[:-1]):
            local = self._local[i][rows] @ rotvec_to_matrix(d[name])
            R = R @ local
            rotations[name] = matrix_to_rotvec(local)
            root = root - R @ (self._joints[i + 1] - self._joints[i])
        rotations[chain[-1]] = matrix_to_rotvec(R.mT @ R_head)
        for name, value in self.motion.rotations.items():
            if name not in rotations:
                rotations[name] = value[rows].float()
        expression = self.motion.expression[rows] + d["expression"]
        return expression, rotations, root, R_head

    def vertices(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Posed vertices `[n, v, 3]`, coefficients `[n, s]`, and the head's rotation `[n, 3, 3]` of some frames."""
        expression, rotations, translation, R_head = self.corrected(rows)
        return pose_rig(self.rig, expression, rotations, translation), expression, R_head

    def penalty(self, rows: Tensor) -> Tensor:
        """How far some frames lie from their track and from their neighbours, in standard deviations squared."""
        total = torch.zeros(())
        before, after = self._neighbours[:, rows]
        for name, value in self.corrections.items():
            sigma = SIGMA.get(name, SIGMA["torso"])
            d = value[rows]
            middle = (value[before] + value[after]).detach() / 2
            total = total + (d / sigma).square().mean() + 4 * ((d - middle) / sigma).square().mean()
        return total

    @torch.no_grad()
    def admit(self) -> None:
        """Keeps coefficients within 0 and 1, or where the track had them."""
        e = self.motion.expression
        low, high = e.clamp_max(0.0), e.clamp_min(1.0)
        d = self.corrections["expression"]
        d.copy_(torch.minimum(torch.maximum(d, low - e), high - e))

    @torch.no_grad()
    def corrected_motion(self) -> Motion:
        """The motion as the pictures have it."""
        expression, rotations, translation, _ = self.corrected(torch.arange(self.motion.frames))
        return replace(self.motion, expression=expression, rotations=rotations, translation=translation)


def _chain(rig: Rig) -> list[str]:
    return [name for name in HEAD_CHAIN if name in rig.joint_names]
