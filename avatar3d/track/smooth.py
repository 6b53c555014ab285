"""Second differences of a motion, and the solve that weighs them against what every frame says by itself.

A batch smoother: every frame is moved by what came before and by what comes after, so nothing lags.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.ops import solve_chain
from avatar3d.track.observe import State

SLOW, QUICK = 3.0, 1.0
"""Widths of the two running means, frames."""
NOISE_LEFT, NOISE_LEFT_POSE = 0.5, 1.0
"""Share of the noise of single frames that a difference of the two means must exceed to be taken for motion: of
expressions, and of the head, which is heavy."""
ROUNDS = 3
"""Solves at most, each with more coefficients held at their bounds."""


def second_differences(state: State) -> Float[Tensor, "t2 n"]:
    """Of expression, rotation (tangent at the middle frame) and translation, for frames 1 .. t - 2."""
    turn = matrix_to_rotvec(state.R[1:] @ state.R[:-1].mT)
    flat = torch.cat([state.expression, state.t], 1)
    bend = flat[2:] - 2 * flat[1:-1] + flat[:-2]
    e = state.expression.shape[1]
    return torch.cat([bend[:, :e], turn[1:] - turn[:-1], bend[:, e:]], 1)


def expected_differences(
    state: State, linked: Bool[Tensor, "t"], sigma: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "t2 n"], Float[Tensor, "t2 n"]]:
    """What second differences should be, and 1 / sigma^2 of the rest, from frames that were fitted by themselves.

    A head that turns fast accelerates for many frames, and a blink is over in five: neither is noise. So second
    differences are drawn to their own running mean instead of to zero, and where a gentler mean still differs
    from that mean by more than noise would, the pull is weaker (Cauchy's weight).

    Args:
        state: Frames by themselves.
        linked: Whether each frame follows from the one before.
        sigma: Usual second difference of every unknown.
    """
    bend = second_differences(state)
    joined = (linked[2:] & linked[1:-1]).double()[:, None]
    slow, quick = (_running_mean(bend, joined, width) for width in (SLOW, QUICK))
    noise = 1.48 * (bend - quick)[joined[:, 0] > 0].abs().median(0).values if bool(joined.any()) else 0 * sigma
    left = torch.full_like(noise, NOISE_LEFT)
    left[state.expression.shape[1] :] = NOISE_LEFT_POSE
    surprise = (quick - slow) / torch.maximum(sigma, left * noise)
    return slow, joined * sigma**-2 / (1 + surprise.square())


def _running_mean(x: Tensor, weight: Tensor, width: float) -> Tensor:
    """Gaussian mean over time of what has weight."""
    reach = int(3 * width) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype) / width) ** 2)
    filtered = torch.nn.functional.conv1d((x * weight).T[:, None], kernel[None, None], padding=reach)[:, 0].T
    total = torch.nn.functional.conv1d(weight.T[:, None], kernel[None, None], padding=reach)[:, 0].T
    return filtered / total.clamp_min(1e-6)


def solve_smooth(
    H: Float[Tensor, "t n n"],
    g: Float[Tensor, "t n"],
    bend: Float[Tensor, "t2 n"],
    weight: Float[Tensor, "t2 n"],
    lower: Float[Tensor, "t n"],
    upper: Float[Tensor, "t n"],
    fixed: Bool[Tensor, "t"],
) -> Float[Tensor, "t n"]:
    """Minimises the frames' quadratic costs plus the weighted squares of second differences, within bounds.

    Coefficients that would leave their bounds are held there and the rest is solved again.

    Args:
        H: Second derivatives of every frame's own cost; zero where a frame saw nothing.
        g: Gradients.
        bend: Second differences as they are, less what they should be.
        weight: 1 / sigma^2 of second differences; 0 across cuts.
        lower: Bounds of the step.
        upper: Bounds of the step.
        fixed: Frames that do not move.

    Returns:
        The step.
    """
    gradient = g + _spread(weight * bend)
    held = (lower >= 0) & (gradient > 0) | (upper <= 0) & (gradient < 0) | fixed[:, None]
    step = torch.zeros_like(g)
    for _ in range(ROUNDS):
        step = _solve_free(H, weight, -gradient, step, ~held)
        outside = ((step < lower) | (step > upper)) & ~held
        step = torch.where(fixed[:, None], 0, torch.minimum(torch.maximum(step, lower), upper))
        if not bool(outside.any()):
            break
        held = held | outside
    return step


def _spread(x: Float[Tensor, "t2 n"]) -> Float[Tensor, "t n"]:
    """D' x of second differences D."""
    out = x.new_zeros(len(x) + 2, x.shape[1])
    out[2:] += x
    out[1:-1] -= 2 * x
    out[:-2] += x
    return out


def _solve_free(
    H: Float[Tensor, "t n n"],
    weight: Float[Tensor, "t2 n"],
    rhs: Float[Tensor, "t n"],
    x: Float[Tensor, "t n"],
    free: Bool[Tensor, "t n"],
) -> Float[Tensor, "t n"]:
    """Solves (H + D' W D) x = rhs for the free unknowns, with the others as they are in x."""
    on = free.to(rhs)
    known = x * (1 - on)
    own = 1e-8 + 1e-7 * H.diagonal(dim1=1, dim2=2).mean(1, keepdim=True).expand(x.shape)
    moved = (H @ known[..., None])[..., 0] + own * known
    moved += _spread(weight * (known[2:] - 2 * known[1:-1] + known[:-2]))
    own = own.clone()
    own[2:] += weight
    own[1:-1] += 4 * weight
    own[:-2] += weight
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    first[1:-1] -= 2 * weight
    first[:-2] -= 2 * weight
    first[:-1] *= on[1:] * on[:-1]
    second[:-2] = weight * on[2:] * on[:-2]
    blocks = H * on[:, :, None] * on[:, None, :]
    blocks.diagonal(dim1=1, dim2=2).add_(own * on + 1 - on)
    right = (rhs - moved) * on
    return known + solve_chain(blocks[None], first[None], second[None], right[None])[0]
