"""Second differences of a motion, and the solve that weighs them against what every frame says by itself.

A batch smoother: every frame is moved by what came before and by what comes after, so nothing lags.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.track.observe import State

SLOW, QUICK = 3.0, 1.0
"""Widths of the two running means, frames."""
NOISE_LEFT = 0.5
"""Share of the noise of single frames that a difference of the two means must exceed to be taken for motion."""


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
    surprise = (quick - slow) / torch.maximum(sigma, NOISE_LEFT * noise)
    return slow, joined * sigma**-2 / (1 + surprise.square())


def _running_mean(x: Tensor, weight: Tensor, width: float) -> Tensor:
    """Gaussian mean over time of what has weight."""
    reach = int(3 * width) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype) / width) ** 2)
    filtered = torch.nn.functional.conv1d((x * weight).T[:, None], kernel[None, None], padding=reach)[:, 0].T
    total = torch.nn.functional.conv1d(weight.T[:, None], kernel[None, None], padding=reach)[:, 0].T
    return filtered / total.clamp_min(1e-6)


def _apply(x: Tensor, weight: Tensor) -> Tensor:
    """D' W D x of second differences D."""
    bend = weight * (x[2:] - 2 * x[1:-1] + x[:-2])
    out = torch.zeros_like(x)
    out[2:] += bend
    out[1:-1] -= 2 * bend
    out[:-2] += bend
    return out


def _diagonal(weight: Tensor, frames: int) -> Tensor:
    out = weight.new_zeros(frames, weight.shape[1])
    out[2:] += weight
    out[1:-1] += 4 * weight
    out[:-2] += weight
    return out


def solve_smooth(
    H: Float[Tensor, "t n n"],
    g: Float[Tensor, "t n"],
    bend: Float[Tensor, "t2 n"],
    weight: Float[Tensor, "t2 n"],
    lower: Float[Tensor, "t n"],
    upper: Float[Tensor, "t n"],
    fixed: Bool[Tensor, "t"],
    *,
    tolerance: float = 1e-3,
    iterations: int = 80,
) -> Float[Tensor, "t n"]:
    """Minimises the frames' quadratic costs plus the weighted squares of second differences, within bounds.

    Conjugate gradients with every frame's own block as preconditioner; coefficients that would leave their bounds are
    held there and the rest is solved again.

    Args:
        H: Second derivatives of every frame's own cost; zero where a frame saw nothing.
        g: Gradients.
        bend: Second differences as they are, less what they should be.
        weight: 1 / sigma^2 of second differences; 0 across cuts.
        lower: Bounds of the step.
        upper: Bounds of the step.
        fixed: Frames that do not move.
        tolerance: Where to stop, relative to the first residual.
        iterations: At most so many per solve.

    Returns:
        The step.
    """
    frames = len(g)
    pull = torch.zeros_like(g)
    pull[2:] += weight * bend
    pull[1:-1] -= 2 * weight * bend
    pull[:-2] += weight * bend
    gradient = g + pull
    diagonal = _diagonal(weight, frames)
    floor = 1e-8 + 1e-7 * H.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
    blocks = H + torch.diag_embed(diagonal + floor)

    def product(x: Tensor) -> Tensor:
        return (H @ x[..., None])[..., 0] + _apply(x, weight) + floor * x

    held = (lower >= 0) & (gradient > 0) | (upper <= 0) & (gradient < 0) | fixed[:, None]
    step = torch.zeros_like(g)
    for _ in range(3):
        free = (~held).to(g)
        A = blocks * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(A))
        step = _conjugate_gradients(product, inverse, free, -gradient, step, tolerance, iterations)
        low, high = (step < lower) & ~held, (step > upper) & ~held
        step = torch.minimum(torch.maximum(step, lower), upper)
        if not bool((low | high).any()):
            break
        held = held | low | high
    return torch.where(fixed[:, None], 0, step)


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    inverse: Tensor,
    free: Tensor,
    rhs: Tensor,
    x: Tensor,
    tolerance: float,
    iterations: int,
) -> Tensor:
    residual = free * (rhs - product(x))
    z = free * (inverse @ residual[..., None])[..., 0]
    direction, rho = z, (residual * z).sum()
    stop = tolerance**2 * float((rhs * free * (inverse @ (rhs * free)[..., None])[..., 0]).sum())
    for _ in range(iterations):
        if float(rho) <= stop or float(rho) <= 0:
            break
        moved = free * product(direction)
        alpha = rho / (direction * moved).sum()
        x = x + alpha * direction
        residual = residual - alpha * moved
        z = free * (inverse @ residual[..., None])[..., 0]
        rho, before = (residual * z).sum(), rho
        direction = z + rho / before * direction
    return x
