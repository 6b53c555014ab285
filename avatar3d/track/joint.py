"""Identity and focal length from keyframes: all unknowns at once, frames eliminated by the Schur complement."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.ops import NormalEquations, solve_normal_equations
from avatar3d.track import observe
from avatar3d.track.config import TrackConfig
from avatar3d.track.observe import Observations, State, equations, measurement_weights
from avatar3d.track.problem import Problem

FOCAL_AFTER = 3
"""Steps before the focal length moves: by then the poses are about right."""
REACH = 0.1
"""Largest first step of the logarithm of the focal length."""
HELD = 1e-3
"""Change of the logarithm of a size that is held."""
CONVERGED = 5e-4
STILL = 0.01
"""The fit has converged when a step lowers the cost by less than this share, and zooms by less than that."""


@dataclass(frozen=True, kw_only=True)
class JointFit:
    """Keyframes, fitted together."""

    state: State
    focal_sigma: Float[Tensor, "c"]
    """Posterior standard deviation of the logarithm of every focal length; 0 where it was given."""
    identity_sigma: Float[Tensor, "k"]
    """Posterior standard deviation of every identity coefficient; the prior's is 1."""
    cost: float


def fit_jointly(
    problem: Problem,
    obs: Observations,
    start: State,
    log_focal: Float[Tensor, "c 2"],
    config: TrackConfig,
    *,
    around: Float[Tensor, "k"] | None = None,
    volume: float = 0.0,
    hold_size: bool = False,
    term: Callable[[State], NormalEquations] | None = None,
) -> JointFit:
    """Levenberg-Marquardt over expression, pose, identity and focal length.

    Args:
        problem: The model.
        obs: Keyframes.
        start: First guess.
        log_focal: Mean and standard deviation of the prior on every camera's log focal length; 0 where it is known.
        config: Settings.
        around: Mean of the prior on the identity; zero if None.
        volume: Determined directions of the identity, by which its volume grows with the size; see `size`.
        hold_size: Keeps the head as large as it starts.
        term: More equations of every picture, in the order of `landmark_equations` with `shared`.
    """
    around = torch.zeros_like(start.identity) if around is None else around
    size = _SizePrior(volume, float(observe.size(problem, start.identity).log()), HELD**-2 if hold_size else 0.0)
    free_focal = log_focal[:, 1] > 0
    state, damping, reach = start, 1e-6, REACH
    accepted = _linearise(problem, obs, state, log_focal, around, config, size, term)
    wait = FOCAL_AFTER if bool(free_focal.any()) else 0
    for step in range(config.joint_iterations):
        proposal = _step(problem, obs, state, accepted, free_focal & (step >= wait), damping, reach)
        trial = _linearise(problem, obs, proposal, log_focal, around, config, size, term)
        # weights follow the distance, so the costs of two estimates compare only at about the same weights
        if trial.cost <= accepted.cost * (1 + 1e-3) or step < wait:
            gain = accepted.cost - trial.cost
            zoom = float((proposal.focal / state.focal).log().abs().max())
            state, accepted, damping = proposal, trial, max(damping / 10, 1e-12)
            reach = min(2 * reach, 0.3) if step >= wait else reach
            if step > wait and abs(gain) < CONVERGED * trial.cost and zoom < STILL:
                break
        else:
            damping, reach = min(max(damping * 30, 1e-6), 1e3), reach / 4
    focal_sigma, identity_sigma = _posterior(problem, obs, state, accepted, free_focal)
    return JointFit(state=state, focal_sigma=focal_sigma, identity_sigma=identity_sigma, cost=accepted.cost)


@dataclass(frozen=True)
class _SizePrior:
    """What is known of the logarithm of the size."""

    volume: float
    mean: float
    precision: float

    def __call__(self, log_size: float) -> tuple[float, float, float]:
        """Slope, curvature and value of the cost."""
        away = self.precision * (log_size - self.mean)
        value = 0.5 * away * (log_size - self.mean) - self.volume * log_size
        return away - self.volume, self.precision + self.volume, value


@dataclass(frozen=True)
class _Linear:
    """Equations with the priors in them. Shared unknowns: log focal of every camera, then identity."""

    H: Tensor  # [t, n, n]
    g: Tensor  # [t, n]
    C: Tensor  # [t, n, s] per frame against shared
    S: Tensor  # [s, s]
    gs: Tensor  # [s]
    cost: float


def _linearise(
    problem: Problem,
    obs: Observations,
    state: State,
    log_focal: Tensor,
    around: Tensor,
    config: TrackConfig,
    size: _SizePrior,
    term: Callable[[State], NormalEquations] | None,
) -> _Linear:
    weights = measurement_weights(problem, obs, state, config)
    single = equations(problem, obs, state, weights, config, shared=True, summed=True, dtype=torch.float32)
    eq = NormalEquations(*(value.double() for value in single))
    if term is not None:
        eq = NormalEquations(*(a + b for a, b in zip(eq, term(state), strict=True)))
    e, cameras, k = problem.expressions, len(state.focal), len(state.identity)
    n, s = e + 6, cameras + k
    t = obs.frames
    H, g = eq.H.new_zeros(t, n, n), eq.g.new_zeros(t, n)
    H.index_add_(0, obs.frame, eq.H[:, :n, :n])
    g.index_add_(0, obs.frame, eq.g[:, :n])
    C = eq.H.new_zeros(t, n, s)
    C[:, :, cameras:].index_add_(0, obs.frame, eq.H[:, :n, n + 1 :])
    S, gs = eq.H.new_zeros(s, s), eq.g.new_zeros(s)
    S[cameras:, cameras:] = eq.H[:, n + 1 :, n + 1 :].sum(0) + torch.eye(k, dtype=S.dtype)
    gs[cameras:] = eq.g[:, n + 1 :].sum(0) + state.identity - around
    for c in range(cameras):
        own = obs.camera == c
        C[:, :, c].index_add_(0, obs.frame[own], eq.H[own, :n, n])
        S[c, c] = eq.H[own, n, n].sum()
        S[c, cameras:] = S[cameras:, c] = eq.H[own, n, n + 1 :].sum(0)
        gs[c] = eq.g[own, n].sum()
    cost = float(eq.cost.sum()) + 0.5 * float((state.identity - around).square().sum())
    growth = problem.growth / observe.size(problem, state.identity)
    slope, curvature, more = size(float(observe.size(problem, state.identity).log()))
    gs[cameras:] += slope * growth
    S[cameras:, cameras:] += curvature * torch.outer(growth, growth)
    cost += more
    known = log_focal[:, 1] <= 0
    precision = torch.where(known, 0, log_focal[:, 1].clamp_min(1e-6) ** -2)
    away = state.focal.log() - log_focal[:, 0]
    S.diagonal()[:cameras] += precision
    gs[:cameras] += precision * away
    cost += 0.5 * float((precision * away.square()).sum())
    curvature, slope, value = observe.expression_prior(problem, obs, state)
    H.diagonal(dim1=1, dim2=2)[:, :e] += curvature
    g[:, :e] += slope
    cost += float(value.sum())
    return _Linear(H, g, C, S, gs, cost)


def _bounds(problem: Problem, state: State) -> tuple[Tensor, Tensor]:
    free = torch.full((len(state.t), 6), torch.inf, dtype=state.t.dtype)
    lower = torch.cat([problem.lower - state.expression, -free], 1)
    return lower, torch.cat([problem.upper - state.expression, free], 1)


def _step(
    problem: Problem,
    obs: Observations,
    state: State,
    eq: _Linear,
    moving: Bool[Tensor, "c"],
    damping: float,
    reach: float,
) -> State:
    H = eq.H + torch.diag_embed(damping * eq.H.diagonal(dim1=1, dim2=2) + 1e-9)
    S = eq.S + torch.diag(damping * eq.S.diagonal())
    lower, upper = _bounds(problem, state)
    alone, _ = solve_normal_equations(H, eq.g, lower, upper)
    held = (alone <= lower) | (alone >= upper)
    ds = _shared_step(H, eq.g, eq.C, S, eq.gs, torch.where(held, alone, 0), held, moving, reach)
    step, _ = solve_normal_equations(H, eq.g + eq.C @ ds, lower, upper)
    cameras = len(state.focal)
    return _move(problem, obs, state, step, ds[:cameras], ds[cameras:])


def _move(problem: Problem, obs: Observations, state: State, step: Tensor, zoom: Tensor, identity: Tensor) -> State:
    """After a step. The head recedes by as much as the lens zooms in, exactly, whatever the linear step says: that
    keeps its size in the picture, and the step is as good far from where it was linearised.
    """
    farther = torch.zeros(obs.frames, dtype=step.dtype)
    farther[obs.frame] = zoom[obs.camera]
    step = step.clone()
    step[:, -1] -= state.t[:, 2] * farther
    moved = state.moved(step, problem)
    t = torch.cat([moved.t[:, :2], (moved.t[:, 2] * farther.exp())[:, None]], 1)
    return replace(moved, t=t, focal=state.focal * zoom.exp(), identity=state.identity + identity)


def _reduced(H: Tensor, C: Tensor, S: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Schur complement of the free per-frame unknowns, and H^-1 C."""
    free = (~held).to(H)
    A = H * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
    B = C * free[:, :, None]
    X = torch.cholesky_solve(B, torch.linalg.cholesky(A))
    return S - torch.einsum("tns,tnr->sr", B, X), X


def _shared_step(
    H: Tensor,
    g: Tensor,
    C: Tensor,
    S: Tensor,
    gs: Tensor,
    fixed: Tensor,
    held: Tensor,
    moving: Tensor,
    reach: float,
) -> Tensor:
    reduced, X = _reduced(H, C, S, held)
    g = (g + (H @ fixed[..., None])[..., 0]) * (~held)
    rhs = gs + torch.einsum("tns,tn->s", C, fixed) - torch.einsum("tns,tn->s", X, g)
    use = torch.cat([moving, torch.ones(len(gs) - len(moving), dtype=torch.bool)])
    out = torch.zeros_like(gs)
    out[use] = -torch.linalg.solve(reduced[use][:, use], rhs[use])
    far = (out.abs() > reach) & (torch.arange(len(out)) < len(moving))
    if bool(far.any()):  # as far as is allowed, and the rest as it is best with that
        out = torch.where(far, out.clamp(-reach, reach), 0)
        use &= ~far
        out[use] = -torch.linalg.solve(reduced[use][:, use], (rhs + reduced @ out)[use])
    return out


def _posterior(
    problem: Problem, obs: Observations, state: State, eq: _Linear, free_focal: Tensor
) -> tuple[Tensor, Tensor]:
    lower, upper = _bounds(problem, state)
    held = (lower >= -1e-9) & (eq.g > 0) | (upper <= 1e-9) & (eq.g < 0)
    reduced, _ = _reduced(eq.H + 1e-9 * torch.eye(eq.H.shape[1]).to(eq.H), eq.C, eq.S, held)
    use = torch.cat([free_focal, torch.ones(len(state.identity), dtype=torch.bool)])
    variance = torch.zeros_like(eq.gs)
    variance[use] = torch.linalg.inv(reduced[use][:, use]).diagonal()
    sigma = variance.clamp_min(0).sqrt()
    return sigma[: len(free_focal)], sigma[len(free_focal) :]
