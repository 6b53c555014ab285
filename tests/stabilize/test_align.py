"""Rigid alignment: plain, robust, and one linearised step."""

import torch

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import apply, make_transform, procrustes
from avatar3d.nets.stabilizer import rigid_step
from avatar3d.stabilize.align import moved, robust_procrustes, robust_steps


def motion(rng, angle, shift):
    w, t = torch.randn(2, 3, generator=rng, dtype=torch.float64)
    return make_transform(rotvec_to_matrix(angle * w), shift * t)


def test_robust_finds_the_motion_that_most_points_share(rng):
    x = torch.randn(200, 3, generator=rng, dtype=torch.float64)
    T = motion(rng, 0.8, 2.0)
    y = apply(T, x)
    y[:70] += torch.tensor([0.3, 0.1, 0.0]) * torch.rand(70, 1, generator=rng, dtype=torch.float64)
    assert (robust_procrustes(x, y, iterations=100) - T).abs().max() < 1e-4
    assert (procrustes(x, y) - T).abs().max() > 1e-2


def test_robust_needs_no_noise_to_stay_finite(rng):
    x = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    T = motion(rng, 0.5, 1.0)
    assert (robust_procrustes(x, apply(T, x)) - T).abs().max() < 1e-12


def test_a_mirrored_cloud_gives_a_rotation_all_the_same(rng):
    x = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    T = robust_procrustes(x, x * torch.tensor([-1.0, 1, 1]))
    assert abs(torch.linalg.det(T[:3, :3]) - 1) < 1e-9


def test_one_step_is_procrustes_for_small_motions(rng):
    x = torch.randn(60, 3, generator=rng, dtype=torch.float64) + 3
    w = torch.rand(60, generator=rng, dtype=torch.float64)
    y = apply(motion(rng, 1e-5, 0.3), x) + 1e-6 * torch.randn(60, 3, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(rigid_step(x[None], (y - x)[None], w[None])[0], procrustes(x, y, w), atol=1e-8, rtol=0)


def test_steps_ignore_points_of_no_weight(rng):
    x = torch.randn(2, 50, 3, generator=rng, dtype=torch.float64)
    T = torch.stack([motion(rng, 0.02, 0.01) for _ in range(2)])
    y = moved(T, x)
    y[:, 40:] = 1e3
    w = torch.ones(2, 50, dtype=torch.float64)
    w[:, 40:] = 0
    assert (robust_steps(x, y, w, steps=8) - T).abs().max() < 1e-9
