"""Random splats and cameras for the tests of the splat operations."""

import torch

from avatar3d.geometry.rotation import quat_to_matrix


def splats(rng, n, *, spread=1.0, size=0.08, dtype=torch.float64):
    """Means, quats, scales and opacities of n splats around the origin."""

    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=dtype)

    means = randn(n, 3) * 0.4 * spread
    scales = size * torch.exp(0.6 * randn(n, 3))
    return [means, randn(n, 4), scales, torch.sigmoid(1.5 * randn(n))]


def cameras(rng, b, width, height, *, dtype=torch.float64):
    """Intrinsics and poses of b cameras about 3 m from the origin, which they look at, each turned a little."""
    focal = 1.1 * max(width, height)
    K = torch.zeros(b, 3, 3, dtype=dtype)
    K[:, 0, 0] = focal * (1 + 0.1 * torch.rand(b, generator=rng, dtype=dtype))
    K[:, 1, 1] = focal * (1 + 0.1 * torch.rand(b, generator=rng, dtype=dtype))
    K[:, 0, 1] = 0.02 * focal
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = 0.48 * width, 0.53 * height, 1
    T = torch.eye(4, dtype=dtype).repeat(b, 1, 1)
    turn = torch.cat([torch.ones(b, 1, dtype=dtype), 0.3 * torch.randn(b, 3, generator=rng, dtype=dtype)], 1)
    T[:, :3, :3] = quat_to_matrix(turn)
    T[:, :3, 3] = torch.tensor([0.1, -0.05, 3.0], dtype=dtype)
    return [K, T]


def rigid(rng, dtype=torch.float64):
    """A random rotation and translation, [4, 4]."""
    T = torch.eye(4, dtype=dtype)
    T[:3, :3] = quat_to_matrix(torch.randn(4, generator=rng, dtype=dtype))
    T[:3, 3] = torch.randn(3, generator=rng, dtype=dtype)
    return T
