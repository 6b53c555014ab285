"""Footage that cuts to another person: shots are compared by face shape, and one person is kept.

Two faces are of two people if their neutral landmarks, seen squarely and brought to one place and size, are further
apart than those of one person are found to be. Of 34 pairs of shots of one person and 34 pairs of photos of one with
strong expressions none were; of 912 pairs of shots of two people 86% were.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.track.detections import Detections
from avatar3d.track.problem import Problem

KEYFRAMES = 16
"""Of every shot."""
DIFFERENT = 0.038
"""Root mean square distance of two faces' landmarks, relative to that from their middle."""

Face = Float[Tensor, "l 3"]
"""Neutral landmarks of a shot in model space."""


def distance(problem: Problem, a: Face, b: Face) -> float:
    """How far apart two faces are; see `DIFFERENT`."""
    usable = torch.isfinite(problem.sigma)

    def normal(points: Tensor) -> Tensor:
        points = points[usable, :2] - points[usable, :2].mean(0)
        return points / points.square().sum(1).mean().sqrt()

    return float((normal(a) - normal(b)).square().sum(1).mean().sqrt())


def one_person(
    problem: Problem, detections: Detections, face_of: Callable[[Detections], Face], *, minimum: float
) -> tuple[Detections, Bool[Tensor, "t"]]:
    """Leaves out the shots that show another person than the longest one does.

    Frames of less than the minimum presence do not count. Photos, synchronised cameras and clips without a cut are
    taken to be of one person, as their owner says.

    Returns:
        The detections that are left, and which frames showed somebody else.
    """
    another = torch.zeros(len(detections.camera), dtype=torch.bool)
    if detections.instant is not None or detections.fps == 0:
        return detections, another
    begins = torch.zeros_like(another)
    begins[list(detections.cuts)] = True
    begins[1:] |= detections.camera[1:] != detections.camera[:-1]
    shot, seen = torch.cumsum(begins.long(), 0), detections.seen
    seen &= detections.presence >= minimum
    lengths = torch.bincount(shot[seen], minlength=int(shot[-1]) + 1)
    if int((lengths > 0).sum()) < 2 or not detections.cuts:
        return detections, another
    faces = {s: face_of(_part(detections, seen & (shot == s))) for s in torch.nonzero(lengths)[:, 0].tolist()}
    longest = faces[int(lengths.argmax())]
    for s, face in faces.items():
        if distance(problem, face, longest) > DIFFERENT:
            another |= seen & (shot == s)
    landmarks = torch.where(another[:, None, None], torch.nan, detections.landmarks)
    presence = torch.where(another, 0, detections.presence)
    return replace(detections, landmarks=landmarks, presence=presence), another


def _part(detections: Detections, frames: Bool[Tensor, "t"]) -> Detections:
    return replace(
        detections, landmarks=detections.landmarks[frames], presence=detections.presence[frames],
        camera=detections.camera[frames], time=detections.time[frames], cuts=(),
        spread=None if detections.spread is None else detections.spread[frames],
        scores=None if detections.scores is None else detections.scores[frames],
    )  # fmt: skip
