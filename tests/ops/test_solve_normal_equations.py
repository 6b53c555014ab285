import pytest
import torch

from avatar3d import ops


def make_inputs(rng, device, *, b, n, bounded=0.7):
    J = torch.randn(b, 2 * n, n, generator=rng, dtype=torch.float64)
    J[:, :, 1::3] = J[:, :, ::3][:, :, : J[:, :, 1::3].shape[2]] + 0.05 * J[:, :, 1::3]  # nearly dependent columns
    H = J.mT @ J + 1e-3 * torch.eye(n, dtype=torch.float64)
    g = 10 * torch.randn(b, n, generator=rng, dtype=torch.float64)
    free = torch.rand(b, n, generator=rng) > bounded
    lower = torch.where(free, -torch.inf, -torch.rand(b, n, generator=rng, dtype=torch.float64) * 0.1)
    upper = torch.where(free, torch.inf, torch.rand(b, n, generator=rng, dtype=torch.float64) * 0.1)
    return tuple(t.to(device) for t in (H, g, lower, upper))


@pytest.mark.parametrize("b, n", [(1, 1), (3, 5), (6, 58), (2, 80), (0, 4)])
def test_native_equals_reference(rng, device, b, n):
    inputs = make_inputs(rng, device, b=b, n=n)
    (x, rounds), (expected, _) = (ops.solve_normal_equations(*inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-11)
    assert (rounds > 0).all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_solution_meets_the_optimality_conditions(rng, device, dtype, tolerance):
    H, g, lower, upper = (t.to(dtype) for t in make_inputs(rng, device, b=20, n=40))
    x, _ = ops.solve_normal_equations(H, g, lower, upper, backend="native")
    slope = (H @ x[..., None])[..., 0] + g
    small = tolerance * g.abs().max()
    assert ((x >= lower) & (x <= upper)).all()
    inside = (x > lower) & (x < upper)
    assert (slope[inside].abs() <= small).all()
    assert (slope[x == lower] >= -small).all() and (slope[x == upper] <= small).all()
    assert inside.any() and (~inside).any()


def test_without_bounds_it_is_a_solve(rng, device):
    H, g, lower, upper = make_inputs(rng, device, b=4, n=30, bounded=0.0)
    x, rounds = ops.solve_normal_equations(H, g, lower, upper, backend="native")
    torch.testing.assert_close(x, -torch.linalg.solve(H, g), rtol=1e-8, atol=1e-10)
    assert (rounds == 1).all()


def test_not_positive_definite_is_told(rng, device):
    H, g, lower, upper = make_inputs(rng, device, b=2, n=6)
    H[1] = -H[1]
    for backend in ("native", "reference"):
        x, rounds = ops.solve_normal_equations(H, g, lower * torch.inf, upper + torch.inf, backend=backend)
        assert rounds[0] > 0 and rounds[1] == -1 and (x[1] == 0).all()
