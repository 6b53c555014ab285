"""Expression and pose of every frame with identity and focal length known: each by itself, then all together."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_quat, quat_to_matrix, slerp
from avatar3d.ops import NormalEquations, solve_normal_equations
from avatar3d.track.config import TrackConfig
from avatar3d.track.observe import Observations, State, equations, expression_prior, measurement_weights, per_frame
from avatar3d.track.problem import Problem
from avatar3d.track.smooth import expected_differences, second_differences, solve_smooth

STRIDE = 8
"""Frames between those that are fitted from nothing; the others start from between them."""


def _priors(problem: Problem, obs: Observations, eq: NormalEquations, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """H, g and cost in double precision with the priors on expressions."""
    e = problem.expressions
    H, g = eq.H.double(), eq.g.double()
    curvature, slope, value = expression_prior(problem, obs, state)
    H.diagonal(dim1=1, dim2=2)[:, :e] += curvature
    g[:, :e] += slope
    return H, g, eq.cost.double() + value


def _bounds(problem: Problem, state: State) -> tuple[Tensor, Tensor]:
    free = torch.full((len(state.t), 6), torch.inf, dtype=state.t.dtype)
    lower = torch.cat([problem.lower - state.expression, -free], 1)
    return lower, torch.cat([problem.upper - state.expression, free], 1)


def fit_independently(problem: Problem, obs: Observations, state: State, config: TrackConfig, iterations: int) -> State:
    """Levenberg-Marquardt of every frame by itself; frames that have arrived drop out.

    Every instant of `obs` must have been seen.
    """
    rows = problem.rows.to(torch.float32)
    active = torch.arange(obs.frames)
    part, own = obs, state
    weights = measurement_weights(problem, part, own, config)

    def evaluate(at: State) -> tuple[Tensor, Tensor, Tensor]:
        eq = equations(problem, part, at, weights, config, shared=False, dtype=torch.float32, rows=rows)
        return _priors(problem, part, per_frame(part, eq), at)

    H, g, cost = evaluate(own)
    damping = torch.full_like(cost, 1e-3)
    expression, R, t = state.expression.clone(), state.R.clone(), state.t.clone()
    for _ in range(iterations):
        lower, upper = _bounds(problem, own)
        lifted = H.clone()
        diagonal = lifted.diagonal(dim1=1, dim2=2)
        diagonal += damping[:, None] * diagonal + 1e-6
        step, _ = solve_normal_equations(lifted.float(), g.float(), lower.float(), upper.float())
        trial = own.moved(step.double(), problem)
        new_H, new_g, new_cost = evaluate(trial)
        better = new_cost <= cost
        pick = better[:, None]
        own = replace(
            own,
            expression=torch.where(pick, trial.expression, own.expression),
            R=torch.where(pick[..., None], trial.R, own.R),
            t=torch.where(pick, trial.t, own.t),
        )
        going = (cost - new_cost > 2e-3 * cost) | ~better
        worse = torch.nonzero(~better)[:, 0]
        new_H[worse], new_g[worse] = H[worse], g[worse]
        H, g = new_H, new_g
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, damping / 10, damping * 10)
        expression[active], R[active], t[active] = own.expression, own.R, own.t
        if not bool(going.any()):
            break
        if float(going.double().mean()) < 0.7:
            left = torch.nonzero(going)[:, 0]
            active, own, part = active[left], own.at(left), part.at(left)
            H, g, cost, damping = H[left], g[left], cost[left], damping[left]
            weights = measurement_weights(problem, part, own, config)
    return replace(state, expression=expression, R=R, t=t)


def fit_sequence(problem: Problem, obs: Observations, state: State, config: TrackConfig, links: Tensor) -> State:
    """Fits consecutive frames by themselves, most of them starting from between two that are done.

    Args:
        links: Whether each frame follows from the one before (no cut), [t].
    """
    t = obs.frames
    if t < 3 * STRIDE:
        return fit_independently(problem, obs, state, config, 3 * config.iterations)
    starts = torch.nonzero(~links)[:, 0]
    anchors = torch.unique(
        torch.cat([torch.arange(0, t, STRIDE), starts, (starts - 1).clamp_min(0), torch.tensor([t - 1])])
    )
    done = fit_independently(problem, obs.at(anchors), state.at(anchors), config, 3 * config.iterations)
    start = interpolate(done, anchors, torch.arange(t))
    rest = torch.ones(t, dtype=torch.bool)
    rest[anchors] = False
    others = torch.nonzero(rest)[:, 0]
    found = fit_independently(problem, obs.at(others), start.at(others), config, config.iterations)
    return scatter(start, others, found)


def scatter(state: State, index: Int[Tensor, "n"], part: State) -> State:
    """`state` with some frames replaced."""
    expression, R, t = state.expression.clone(), state.R.clone(), state.t.clone()
    expression[index], R[index], t[index] = part.expression, part.R, part.t
    return replace(state, expression=expression, R=R, t=t)


def interpolate(state: State, known: Int[Tensor, "n"], wanted: Int[Tensor, "m"]) -> State:
    """Frames between known ones: rotations along the shortest arc, the rest on a line; held beyond the ends.

    Args:
        state: The state of the `known` frames.
        known: Their numbers, ascending.
        wanted: Numbers of the frames to give.
    """
    after = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    before = torch.where(known[after] > wanted, after - 1, after).clamp_min(0)
    span = (known[after] - known[before]).clamp_min(1)
    u = ((wanted - known[before]).double() / span).clamp(0, 1)
    quats = matrix_to_quat(state.R)
    mix = torch.lerp
    return replace(
        state,
        expression=mix(state.expression[before], state.expression[after], u[:, None]),
        R=quat_to_matrix(slerp(quats[before], quats[after], u)),
        t=mix(state.t[before], state.t[after], u[:, None]),
    )


@dataclass(frozen=True, kw_only=True)
class Chain:
    """How frames hang together in time."""

    usable: Bool[Tensor, "t"]
    """Frames whose landmarks count."""
    linked: Bool[Tensor, "t"]
    """Whether each frame continues the one before: no cut and no long gap."""
    sigma: Float[Tensor, "n"]
    """Usual second difference of every unknown."""


def smooth_window(
    problem: Problem, obs: Observations, state: State, chain: Chain, fixed: Tensor, config: TrackConfig
) -> State:
    """Frames of a window, weighed together with their second differences. Usable frames alone count as evidence."""
    usable = chain.usable
    expected, weight = expected_differences(state, chain.linked, chain.sigma)
    rows = problem.rows.to(torch.float32)
    seen = torch.nonzero(usable)[:, 0]
    part = obs.at(seen)
    n = problem.expressions + 6
    for _ in range(config.smooth_iterations):
        own = state.at(seen)
        weights = measurement_weights(problem, part, own, config)
        eq = per_frame(
            part, equations(problem, part, own, weights, config, shared=False, dtype=torch.float32, rows=rows)
        )
        H, g = state.t.new_zeros(obs.frames, n, n), state.t.new_zeros(obs.frames, n)
        H[seen], g[seen], _ = _priors(problem, part, eq, own)
        lower, upper = _bounds(problem, state)
        step = solve_smooth(H, g, second_differences(state) - expected, weight, lower, upper, fixed)
        state = state.moved(step, problem)
    return state


def smooth_all(
    problem: Problem, obs: Observations, state: State, chain: Chain, config: TrackConfig,
    progress: Callable[[int], None] | None = None,
) -> State:  # fmt: skip
    """All frames, window by window; each window sees some frames of the next, and starts on two that are done."""
    frames = obs.frames
    if frames < 3 or config.smooth_iterations == 0:
        return state
    begin = 0
    while begin < frames:
        lead = min(2, begin)
        stop = min(frames, begin + config.window + config.overlap)
        keep = stop if stop == frames else begin + config.window
        index = torch.arange(begin - lead, stop)
        fixed = torch.arange(len(index)) < lead
        links = Chain(usable=chain.usable[index], linked=chain.linked[index], sigma=chain.sigma)
        part = smooth_window(problem, obs.at(index), state.at(index), links, fixed, config)
        inner = torch.arange(lead, keep - begin + lead)
        state = scatter(state, index[inner], part.at(inner))
        if progress:
            progress(keep)
        begin = keep
    return state
