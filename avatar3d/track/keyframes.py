"""Which frames tell most about a face: spread in pose and expression, clear, and not neighbours."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.track.observe import Observations, State, project, unit_pixels
from avatar3d.track.problem import Problem

CANDIDATES = 1500
DIRECTIONS = 24
POSE_UNIT = 0.15
"""Radians that count as much as the usual change of shape."""


def choose_keyframes(
    problem: Problem, obs: Observations, state: State, usable: Int[Tensor, "u"], count: int
) -> Int[Tensor, "k"]:
    """Farthest-point sampling over head rotation and what expression does to the landmarks; ascending."""
    if len(usable) <= count:
        return usable
    usable = usable[torch.linspace(0, len(usable) - 1, min(len(usable), CANDIDATES)).round().long().unique()]
    features = _features(problem, obs.at(usable), state.at(usable))
    middle = features.median(0).values
    chosen = [int((features - middle).square().sum(1).argmin())]
    distance = (features - features[chosen[0]]).square().sum(1)
    while len(chosen) < min(count, len(usable)):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).square().sum(1))
    return usable[torch.tensor(sorted(chosen))]


def _features(problem: Problem, obs: Observations, state: State) -> Float[Tensor, "t f"]:
    first = torch.unique(obs.frame, return_inverse=False)
    picture = torch.searchsorted(obs.frame, first)  # one camera tells
    away = (obs.detections - project(problem, obs, state)) / unit_pixels(problem, obs, state)[:, None, None]
    shape = away[picture].flatten(1)
    # distances survive a random projection (Johnson and Lindenstrauss), and this one is the same every time
    rng = torch.Generator().manual_seed(0)
    scores = (shape - shape.mean(0)) @ torch.randn(shape.shape[1], DIRECTIONS, generator=rng, dtype=shape.dtype)
    scores = scores / scores.square().sum(1).mean().sqrt().clamp_min(1e-6)
    rotvec = matrix_to_rotvec(state.R @ state.R[:1].mT)
    return torch.cat([scores, rotvec / POSE_UNIT], 1)
