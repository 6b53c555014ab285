"""Footage as the solvers see it: landmarks, weights and cameras, and the equations that follow from them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.ops import LandmarkRows, NormalEquations, landmark_equations
from avatar3d.track.config import TrackConfig
from avatar3d.track.problem import Problem
from avatar3d.track.threads import all_threads

SMALLEST = 0.2
"""Size of the smallest face that is thinkable, over that of the mean face."""
HIDDEN = 0.1
"""Weight of a landmark on the far side, which the detector only guesses."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Pictures of a face. Several may show one instant from several cameras."""

    detections: Float[Tensor, "o l 2"]
    """Pixels; zeros where there are none."""
    confidence: Float[Tensor, "o l"]
    """0..1; 0 where there is no detection."""
    camera: Int[Tensor, "o"]
    frame: Int[Tensor, "o"]
    """Instant of every picture; ascending from 0."""
    T_camera_world: Float[Tensor, "c 4 4"]
    principal: Float[Tensor, "c 2"]
    frames: int
    scores: Float[Tensor, "t 52"]
    """The detector's own coefficients at every instant."""
    trust: Float[Tensor, "t"]
    """How far they are believed, 0..1."""

    def at(self, frames: Int[Tensor, "t"]) -> "Observations":
        """The pictures of some instants, in that order."""
        place = torch.full((self.frames,), -1)
        place[frames] = torch.arange(len(frames))
        order = place[self.frame]
        keep = torch.nonzero(order >= 0)[:, 0]
        keep = keep[order[keep].argsort(stable=True)]
        return replace(
            self, detections=self.detections[keep], confidence=self.confidence[keep], camera=self.camera[keep],
            frame=order[keep], frames=len(frames), scores=self.scores[frames], trust=self.trust[frames],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class State:
    """Estimates. Poses are T_world_head with the head's origin at `Problem.origin`."""

    identity: Float[Tensor, "k"]
    focal: Float[Tensor, "c"]
    expression: Float[Tensor, "t e"]
    R: Float[Tensor, "t 3 3"]
    t: Float[Tensor, "t 3"]

    def at(self, frames: Int[Tensor, "n"] | slice) -> "State":
        """The state of some frames."""
        return replace(self, expression=self.expression[frames], R=self.R[frames], t=self.t[frames])

    def moved(self, step: Float[Tensor, "t n"], problem: Problem) -> "State":
        """After a step of the per-frame unknowns: expression, rotation, translation."""
        e = self.expression.shape[1]
        expression = torch.minimum(torch.maximum(self.expression + step[:, :e], problem.lower), problem.upper)
        R = rotvec_to_matrix(step[:, e : e + 3]) @ self.R
        return replace(self, expression=expression, R=R, t=self.t + step[:, e + 3 : e + 6])


def expression_prior(problem: Problem, obs: Observations, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Curvature [t, e], slope [t, e] and value [t] of the cost of expressions: small ones, and those that were told."""
    x = state.expression
    weight = obs.trust[:, None] * problem.told_precision
    away = x - obs.scores @ problem.told
    value = 0.5 * problem.ridge * x.square() + problem.l1 * x + 0.5 * weight * away.square()
    return problem.ridge + weight, problem.ridge * x + problem.l1 + weight * away, value.sum(1)


def camera_poses(obs: Observations, state: State) -> Float[Tensor, "o 4 4"]:
    """T_camera_head of every picture."""
    T = torch.zeros(len(obs.frame), 4, 4, dtype=state.t.dtype)
    T[:, :3, :3], T[:, :3, 3], T[:, 3, 3] = state.R[obs.frame], state.t[obs.frame], 1
    return obs.T_camera_world[obs.camera] @ T


def intrinsics(obs: Observations, state: State) -> Float[Tensor, "o 4"]:
    """fx, fy, cx, cy of every picture."""
    focal = state.focal[obs.camera, None]
    return torch.cat([focal, focal, obs.principal[obs.camera]], 1)


def project(problem: Problem, obs: Observations, state: State) -> Float[Tensor, "o l 2"]:
    """Landmarks of the model in every picture, pixels."""
    rows = problem.rows
    neutral = rows.points + rows.identity_basis @ state.identity
    moved = torch.einsum("lce,te->tlc", rows.expression_basis, state.expression)
    points = neutral + (1 + rows.expression_scale @ state.identity) * moved
    T, K = camera_poses(obs, state), intrinsics(obs, state)
    X = points[obs.frame] @ T[:, :3, :3].mT + T[:, None, :3, 3]
    return K[:, None, :2] * X[..., :2] / X[..., 2:].clamp_min(1e-3) + K[:, None, 2:]


def visibility(problem: Problem, obs: Observations, state: State) -> Float[Tensor, "o l"]:
    """HIDDEN..1: how squarely every landmark's skin faces the camera."""
    T = camera_poses(obs, state)
    towards = -(T[:, :3, :3].mT @ T[:, :3, 3:])[..., 0]  # the camera's place in the head's axes
    ray = towards[:, None] - problem.rows.points
    cosine = (torch.nn.functional.normalize(ray, dim=-1) * problem.normals).sum(-1)
    return ((cosine + 0.1) / 0.4).clamp(HIDDEN, 1)


def size(problem: Problem, identity: Float[Tensor, "k"]) -> Float[Tensor, ""]:
    """Size of a face over that of the mean face."""
    return (1 + problem.growth @ identity).clamp_min(SMALLEST)


def unit_pixels(problem: Problem, obs: Observations, state: State) -> Float[Tensor, "o"]:
    """Pixels of one inter-ocular distance at the head's distance, seen squarely: the same for a large head far away."""
    z = camera_poses(obs, state)[:, 2, 3].clamp_min(1e-2)
    return state.focal[obs.camera] * problem.interocular * size(problem, state.identity) / z


def measurement_weights(
    problem: Problem, obs: Observations, state: State, config: TrackConfig
) -> tuple[Float[Tensor, "o l"], Float[Tensor, "o p"]]:
    """1 / sigma^2 of every landmark and pair, 1 / px^2."""
    unit = unit_pixels(problem, obs, state)[:, None]
    seen = visibility(problem, obs, state) * obs.confidence
    weights = seen / (config.sigma * problem.sigma * unit).square()
    pairs = problem.rows.pairs
    both = torch.minimum(seen[:, pairs[:, 0]], seen[:, pairs[:, 1]])
    usable = torch.isfinite(problem.sigma[pairs]).all(1)
    return weights, both * usable / (problem.pair_sigma * unit).square()


def equations(
    problem: Problem,
    obs: Observations,
    state: State,
    weights: tuple[Tensor, Tensor],
    config: TrackConfig,
    *,
    shared: bool,
    summed: bool = False,
    dtype: torch.dtype = torch.float64,
    rows: LandmarkRows | None = None,
) -> NormalEquations:
    """Equations of every picture, with the pose's unknowns in world axes; `summed` as for `landmark_equations`."""

    def cast(x: Tensor) -> Tensor:
        return x.to(dtype)

    rows = problem.rows.to(dtype) if rows is None else rows
    with all_threads():
        eq = landmark_equations(
            rows, cast(state.identity), cast(state.expression[obs.frame]),
            cast(camera_poses(obs, state)), cast(intrinsics(obs, state)), cast(obs.detections),
            *(cast(w) for w in weights), cauchy=config.cauchy, discount=config.discount, shared=shared, summed=summed,
        )  # fmt: skip
    return in_world(problem, obs, eq)


def in_world(problem: Problem, obs: Observations, eq: NormalEquations) -> NormalEquations:
    """Equations whose pose is in the cameras' axes, with it in the world's."""
    if _is_identity(obs.T_camera_world):
        return eq
    e = problem.expressions
    turn = torch.eye(eq.g.shape[1], dtype=eq.g.dtype).repeat(len(obs.camera), 1, 1)
    R = obs.T_camera_world[obs.camera, :3, :3].to(eq.g.dtype)
    turn[:, e : e + 3, e : e + 3] = R
    turn[:, e + 3 : e + 6, e + 3 : e + 6] = R
    # rotating the head about its origin by w in the world is R_camera_world w in the camera
    return NormalEquations(turn.mT @ eq.H @ turn, (turn.mT @ eq.g[..., None])[..., 0], eq.cost)


def per_frame(obs: Observations, eq: NormalEquations) -> NormalEquations:
    """Adds up the pictures of every instant."""
    if len(obs.frame) == obs.frames and bool((obs.frame == torch.arange(obs.frames)).all()):
        return eq
    n = eq.g.shape[1]
    H, g, cost = eq.H.new_zeros(obs.frames, n, n), eq.g.new_zeros(obs.frames, n), eq.cost.new_zeros(obs.frames)
    return NormalEquations(
        H.index_add_(0, obs.frame, eq.H), g.index_add_(0, obs.frame, eq.g), cost.index_add_(0, obs.frame, eq.cost)
    )


def residuals(problem: Problem, obs: Observations, state: State) -> Float[Tensor, "o l"]:
    """Distance of every landmark from its detection, pixels; NaN where there is none."""
    distance = (project(problem, obs, state) - obs.detections).norm(dim=-1)
    usable = torch.isfinite(problem.sigma) & (obs.confidence > 0)
    return torch.where(usable, distance, torch.nan)


def _is_identity(T: Tensor) -> bool:
    return bool((T == torch.eye(4, dtype=T.dtype)).all())


Mask = Bool[Tensor, "t"]
