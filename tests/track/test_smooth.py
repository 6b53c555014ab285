"""The smoother's quadratic problem is solved exactly, within bounds."""

import pytest
import torch

from avatar3d.track.smooth import solve_smooth


def make_problem(seed, frames=40, n=9):
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *s: torch.randn(*s, generator=rng, dtype=torch.float64)  # noqa: E731
    J = normal(frames, n, n)
    H, g, bend = J.mT @ J, 5 * normal(frames, n), 0.3 * normal(frames - 2, n)
    H[7], g[7] = 0, 0  # saw nothing
    weight = torch.rand(frames - 2, n, generator=rng, dtype=torch.float64) * 30
    weight[19:21] = 0  # a cut
    fixed = torch.arange(frames) < 2
    return H, g, bend, weight, fixed


def slope(H, g, bend, weight, x):
    x = x.clone().requires_grad_()
    after = bend + x[2:] - 2 * x[1:-1] + x[:-2]
    cost = (g * x).sum() + 0.5 * torch.einsum("ti,tij,tj->", x, H, x) + 0.5 * (weight * after.square()).sum()
    return torch.autograd.grad(cost, x)[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_without_bounds_the_gradient_vanishes(seed):
    H, g, bend, weight, fixed = make_problem(seed)
    far = torch.full_like(g, torch.inf)
    x = solve_smooth(H, g, bend, weight, -far, far, fixed)
    assert bool((x[:2] == 0).all()) and float(x.abs().max()) > 0.1
    rest = slope(H, g, bend, weight, x)[2:]
    assert float(rest.abs().max()) < 1e-5 * float(slope(H, g, bend, weight, 0 * x).abs().max())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bounds_hold_and_what_is_free_is_at_rest(seed):
    H, g, bend, weight, fixed = make_problem(seed)
    lower, upper = torch.full_like(g, -0.2), torch.full_like(g, 0.25)
    x = solve_smooth(H, g, bend, weight, lower, upper, fixed)
    assert bool(((x >= lower) & (x <= upper)).all())
    free = (x > lower) & (x < upper) & ~fixed[:, None]
    held = ((x == lower) | (x == upper)) & ~fixed[:, None]
    assert bool(free.any()) and bool(held.any())
    far = torch.full_like(g, torch.inf)
    clamped = solve_smooth(H, g, bend, weight, -far, far, fixed).clamp(-0.2, 0.25)

    def cost(x):
        after = bend + x[2:] - 2 * x[1:-1] + x[:-2]
        quadratic = 0.5 * torch.einsum("ti,tij,tj->", x, H, x)
        return float((g * x).sum() + quadratic + 0.5 * (weight * after.square()).sum())

    assert cost(x) < cost(clamped)
