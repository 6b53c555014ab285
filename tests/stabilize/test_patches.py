"""Surfaces as patches."""

import torch

from avatar3d.stabilize.patches import FRONT_CELL, cells, chosen, coarse, group, means


def test_means_are_those_of_the_points_in_each_cell(rng):
    points = 0.1 * torch.rand(2, 300, 3, generator=rng, dtype=torch.float64)
    cell = cells(points)
    number, patches = group(cell)
    mean, count = means(points, number, patches)
    for b in range(2):
        unique = cell[b].unique()
        assert int((count[b] > 0).sum()) == len(unique)
        for value in unique[:20]:
            inside = cell[b] == value
            at = number[b][inside].unique()
            assert len(at) == 1
            torch.testing.assert_close(mean[b, at[0]], points[b, inside].mean(0))
            assert count[b, at[0]] == inside.sum()
            assert (points[b, inside].amax(0) - points[b, inside].amin(0)).max() <= FRONT_CELL


def test_only_patches_with_points_are_chosen(rng):
    count = torch.tensor([[2.0, 0, 1, 0, 5], [1, 1, 1, 0, 0]])
    kept = chosen(count, 3, rng)
    assert kept.shape == (2, 3)
    assert (count.gather(1, kept) > 0).all()
    assert chosen(count, 2, rng).shape == (2, 2)


def test_coarse_patches_know_no_units(rng):
    points = torch.randn(1, 500, 3, generator=rng, dtype=torch.float64)
    normals = torch.nn.functional.normalize(points, dim=-1)
    a = coarse(points, normals, points, seed=0)
    b = coarse(1000 * points + 7, normals, points, seed=0)
    torch.testing.assert_close(a[0], b[0], atol=1e-9, rtol=0)
    x, _, own, mask, centre, radius = a
    torch.testing.assert_close((x * radius + centre)[mask], own[mask])  # the frame leads back
