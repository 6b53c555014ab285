"""Averaging of pairwise motions."""

import torch

from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.transform import invert_rigid, make_transform
from avatar3d.stabilize.graph import Edges, average


def poses(rng, n, angle=0.3, shift=0.1):
    w, t = torch.randn(2, n, 3, generator=rng, dtype=torch.float64)
    T = make_transform(rotvec_to_matrix(angle * w), shift * t)
    T[0] = torch.eye(4)
    return T


def measured(rng, T, noise, pairs):
    i, j = torch.tensor(pairs).unbind(1)
    w, t = torch.randn(2, len(pairs), 3, generator=rng, dtype=torch.float64)
    error = make_transform(rotvec_to_matrix(noise / 0.08 * w), noise * t)
    return Edges(start=i, end=j, T_end_start=T[j] @ error @ invert_rigid(T[i]),
                 error=torch.full((len(pairs),), noise + 1e-6, dtype=torch.float64))  # fmt: skip


def off(a, b):
    d = invert_rigid(a) @ b
    return float((matrix_to_rotvec(d[:, :3, :3]).norm(dim=1) * 0.08 + d[:, :3, 3].norm(dim=1)).mean())


def test_exact_edges_give_exact_poses(rng):
    T = poses(rng, 6)
    edges = measured(rng, T, 0.0, [(i, j) for i in range(6) for j in range(6) if i != j])
    start = T @ measured(rng, T, 1e-3, [(0, i) for i in range(6)]).T_end_start @ invert_rigid(T)
    start[0] = torch.eye(4)
    found, _ = average(edges, start)
    assert off(T, found) < 1e-9


def test_all_pairs_are_better_than_pairs_with_the_anchor(rng):
    T = poses(rng, 10)
    edges = measured(rng, T, 1e-3, [(i, j) for i in range(10) for j in range(10) if i != j])
    alone = torch.cat([torch.eye(4, dtype=torch.float64)[None], edges.T_end_start[:9]])
    found, doubt = average(edges, alone)
    assert off(T, found) < 0.6 * off(T, alone)
    assert doubt[0] == 0 and (doubt[1:] > 0).all()


def test_a_wrong_edge_is_outvoted(rng):
    T = poses(rng, 8)
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    edges = measured(rng, T, 1e-5, pairs)
    edges.T_end_start[pairs.index((3, 5)), :3, 3] += 0.02
    start = torch.cat([torch.eye(4, dtype=torch.float64)[None], edges.T_end_start[:7]])
    found, _ = average(edges, start)
    assert off(T, found) < 3e-5


def test_smoothness_leaves_jumps_alone_and_calms_noise(rng):
    n = 40
    t = torch.arange(n, dtype=torch.float64)[:, None] / n
    w = torch.cat([0.3 * torch.sin(3 * t), 0.2 * t, 0 * t], 1)
    w[20:] += 0.2  # a jump
    T = make_transform(rotvec_to_matrix(w), 0.1 * w)
    T = T @ invert_rigid(T[:1])
    edges = measured(rng, T, 5e-4, [(0, i) for i in range(1, n)])
    start = torch.cat([torch.eye(4, dtype=torch.float64)[None], edges.T_end_start])
    rough, smooth = average(edges, start)[0], average(edges, start, smooth=True)[0]
    assert off(T, smooth) < 0.7 * off(T, rough)
    d = invert_rigid(T[19:21]) @ smooth[19:21]
    assert d[:, :3, 3].norm(dim=1).max() < 2e-3
