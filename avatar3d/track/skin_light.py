"""Albedo and light from what many pictures show of the same skin: log colour = log albedo + log irradiance(normal).

The irradiance is a second-order spherical-harmonics function in the camera's axes (Ramamoorthi and Hanrahan 2001),
nearly the same in every picture but for a gain. The albedo of every point is eliminated exactly: alternating between
albedo and light hardly moves, since what a head that barely turns cannot tell apart drifts ever so slowly.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.harmonics import sh_basis

DARKEST = 0.05
"""Least irradiance, of its mean."""
STEPS = 5
CHANGE = 0.15
"""How strongly every picture's light is held to that of all, relative to its evidence."""


def irradiance(normals: Float[Tensor, "t n 3"], light: Float[Tensor, "t 9"]) -> Float[Tensor, "t n"]:
    """What a white surface reflects."""
    return torch.einsum("tna,ta->tn", sh_basis(normals), light).clamp_min(DARKEST)


def robust_mean(
    values: Float[Tensor, "t n"], weights: Float[Tensor, "t n"], sigma: Float[Tensor, "*s"], rounds: int = 2
) -> tuple[Float[Tensor, "n"], Float[Tensor, "t n"]]:
    """Mean over the pictures, with weights that fall off beyond two sigmas; and those weights."""
    mean, out = _mean(values, weights), weights
    for _ in range(rounds):
        out = weights / (1 + ((values - mean) / (2 * sigma)).square())
        mean = _mean(values, out)
    return mean, out


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(0) / weights.sum(0).clamp_min(1e-9)


def solve_light(
    colour: Float[Tensor, "t n"],
    normals: Float[Tensor, "t n 3"],
    weights: Float[Tensor, "t n"],
    seen: Bool[Tensor, "t n"],
) -> Float[Tensor, "t 9"]:
    """The light in every picture, of mean irradiance about 1.

    Args:
        colour: Logarithm of the linear brightness.
        normals: Unit, in the camera's axes.
        weights: How far each sample counts.
        seen: Whether there is one.
    """
    shared = seen.sum(0) > 1
    L, Y, ok = colour[:, shared], sh_basis(normals[:, shared]), seen[:, shared]
    weights = weights[:, shared] * ok
    t, n, a = Y.shape
    light = torch.zeros(t, a)
    light[:, 0] = 1 / 0.282095
    if n < 3 * a or not bool(ok.any()):
        return light
    for _ in range(STEPS):
        value = torch.einsum("tna,ta->tn", Y, light).clamp_min(DARKEST)
        free = L - value.log()
        away = (free - _mean(free, weights))[ok].abs()
        sigma = (1.5 * away.median()).clamp_min(1e-3)
        albedo, W = robust_mean(free, weights, sigma, 1)
        W = W / sigma.square()
        error = (free - albedo) * ok
        J = Y / value[..., None]
        WJ = J * W[..., None]
        own = WJ.transpose(1, 2) @ J
        through = (WJ / W.sum(0).clamp_min(1e-6).sqrt()[:, None]).transpose(0, 1).reshape(n, t * a)
        H = torch.block_diag(*own) - through.T @ through
        g = torch.einsum("tna,tn->ta", WJ, error).flatten()
        hold = CHANGE * own.diagonal(dim1=1, dim2=2).mean()
        H, g = _held(H, g, light, hold)
        H.diagonal().add_(1e-4 * H.diagonal().mean())
        light = light + torch.linalg.solve(H.double(), g.double()).view(t, a).float()
        light = light / (0.282095 * light[:, 0].mean())
    return light


def _held(H: Tensor, g: Tensor, light: Tensor, hold: Tensor) -> tuple[Tensor, Tensor]:
    """With a penalty on what differs from the mean light by more than a gain."""
    t, a = light.shape
    mean = light.mean(0)
    shape = torch.eye(a) - torch.outer(mean, mean) / mean.square().sum()
    apart = torch.eye(t) - 1 / t
    C = torch.einsum("ts,bc->tbsc", apart, shape).reshape(t * a, t * a)
    return H + hold * (C.T @ C), g - hold * (C.T @ (C @ light.flatten()))
