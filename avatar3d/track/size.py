"""How large a head is. One camera cannot see it: a small head that is near looks like a large one that is far.

Two things follow. First, the size must not be found like the other unknowns, by the largest posterior density. At any
size the other directions of the identity are as well determined relative to the head, so the volume of what fits the
footage grows with the size to the power of their number n, while the prior, which likes coefficients near zero, always
prefers the smaller of two similar heads. Integrating over those directions (Laplace's method) adds n log(size) to the
log posterior, and heads come out as large as the prior draws them; without that they are 12 to 20% too small.

Second, with the shape known up to size, what is left is regression: children's heads are small and have a child's
proportions. How far proportions can be trusted depends on how well the model explains what is seen, so the regression
is told their error; where they tell nothing the size is that of the mean adult, whose eyes are 63 mm apart (Dodgson:
Variation and extrema of human interpupillary distance, SPIE 5291, 2004).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.track import observe
from avatar3d.track.joint import JointFit
from avatar3d.track.observe import Observations, State
from avatar3d.track.problem import Problem
from avatar3d.track.scheme import IRISES

EYE_DISTANCE = 0.063
"""Distance of the pupils of the mean adult, metres."""
CORRELATED = 5.0
"""Error of proportions over what landmarks have left unexplained on average over the footage. Neighbouring landmarks
err alike, and most of what they err in common has gone into the shape."""
LEAST = 1e-4
"""Smallest error of proportions, metres."""
UNTOLD = 1e-3
"""Landmarks may be this far from where exact scaling would put them, metres."""


def is_size_unknown(obs: Observations) -> bool:
    """Whether no instant is seen by two cameras, whose distance would tell lengths."""
    return len(obs.frame.unique()) == len(obs.frame)


def volume(joint: JointFit) -> float:
    """Number of directions of the identity that the footage determines."""
    return float((1 - joint.identity_sigma.square()).clamp_min(0).sum())


def with_likely_size(problem: Problem, obs: Observations, state: State) -> State:
    """The same head and very nearly the same pictures, with the size that its proportions make likely."""
    by = likely_size(problem, state.identity, proportions_error(problem, obs, state))
    by = by / observe.size(problem, state.identity)
    return replace(state, identity=by * state.identity + (by - 1) * _mean_head(problem), t=by * state.t)


def proportions_error(problem: Problem, obs: Observations, state: State) -> float:
    """Error of the head's proportions, metres at the size of the mean head: from what landmarks leave unexplained."""
    away = observe.project(problem, obs, state) - obs.detections
    away = away / observe.unit_pixels(problem, obs, state)[:, None, None]
    weight = obs.confidence * torch.isfinite(problem.sigma)
    mean = (weight[..., None] * away).sum(0) / weight.sum(0)[:, None].clamp_min(1e-9)
    error = mean[weight.sum(0) > 0].norm(dim=1).median()
    return max(CORRELATED * problem.interocular * float(error), LEAST)


def likely_size(problem: Problem, identity: Float[Tensor, "k"], error: float) -> Float[Tensor, ""]:
    """Expected size of a head over that of the mean head, from its proportions alone.

    Linear regression of the logarithm of the size on the landmarks of the head scaled to the mean size, over people
    as the prior draws them, with the mean moved to that of adults.
    """
    usable = torch.isfinite(problem.sigma)
    points, basis, growth = problem.rows.points[usable], problem.rows.identity_basis[usable], problem.growth
    points, basis = points - points.mean(0), basis - basis.mean(0)
    scaled = (points + basis @ identity) / observe.size(problem, identity)
    shape = (basis - points[..., None] * growth).flatten(0, 1)
    mean = _adult(problem) * growth / growth.square().sum().clamp_min(1e-12)
    told = (scaled - points).flatten() - shape @ mean
    normal = shape.mT @ shape + error**2 * torch.eye(len(growth), dtype=shape.dtype)
    return (growth @ (mean + torch.linalg.solve(normal, shape.mT @ told))).exp()


def _adult(problem: Problem) -> float:
    """Logarithm of the mean adult's size over that of the model's mean head."""
    pupils = problem.rows.points[[IRISES[0], IRISES[5]]]
    if not bool(torch.isfinite(problem.sigma[[IRISES[0], IRISES[5]]]).all()):
        return 0.0
    return float(torch.log(EYE_DISTANCE / (pupils[0] - pupils[1]).norm()).clamp(-0.1, 0.1))


def _mean_head(problem: Problem) -> Float[Tensor, "k"]:
    """Coefficients whose displacement is the mean head itself: adding them scales a head."""
    usable = torch.isfinite(problem.sigma)
    points, basis = problem.rows.points[usable], problem.rows.identity_basis[usable].flatten(0, 1)
    normal = basis.mT @ basis + UNTOLD**2 * torch.eye(basis.shape[1], dtype=basis.dtype)
    return torch.linalg.solve(normal, basis.mT @ points.flatten())
