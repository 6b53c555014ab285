import math

import pytest
import torch

from avatar3d.geometry import rotation, transform


def random_rotvecs(rng, n=200):
    v = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    angle = torch.rand(n, 1, generator=rng, dtype=torch.float64) * (math.pi - 1e-3)
    return v / v.norm(dim=1, keepdim=True) * angle


def test_round_trips(rng):
    r = torch.cat([random_rotvecs(rng), torch.zeros(1, 3, dtype=torch.float64), 1e-9 * torch.ones(1, 3).double()])
    R = rotation.rotvec_to_matrix(r)
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand_as(R), rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation.matrix_to_rotvec(R), r, rtol=0, atol=1e-7)
    torch.testing.assert_close(rotation.quat_to_matrix(rotation.rotvec_to_quat(r)), R, rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation.quat_to_matrix(rotation.matrix_to_quat(R)), R, rtol=0, atol=1e-12)


def test_against_the_matrix_exponential(rng):
    r = random_rotvecs(rng, 20)
    torch.testing.assert_close(rotation.rotvec_to_matrix(r), torch.linalg.matrix_exp(rotation.skew(r)))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0])
def test_gradients_are_finite_and_right(rng, scale):
    r = (scale * torch.randn(3, 3, generator=rng, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(rotation.rotvec_to_matrix, (r,))


def test_slerp_ends_and_middle(rng):
    a, b = rotation.rotvec_to_quat(random_rotvecs(rng, 9)), rotation.rotvec_to_quat(random_rotvecs(rng, 9))
    ones = torch.ones(9, dtype=torch.float64)
    same = rotation.quat_to_matrix
    torch.testing.assert_close(same(rotation.slerp(a, b, 0 * ones)), same(a))
    torch.testing.assert_close(same(rotation.slerp(a, b, ones)), same(b))
    half = rotation.slerp(a, b, 0.5 * ones)
    torch.testing.assert_close((half * a).sum(1).abs(), (half * b).sum(1).abs())


def test_procrustes_recovers_a_similarity(rng):
    points = torch.randn(30, 3, generator=rng, dtype=torch.float64)
    R = rotation.rotvec_to_matrix(torch.tensor([0.3, -1.2, 0.5], dtype=torch.float64))
    T = transform.make_transform(1.7 * R, torch.tensor([1.0, 2, 3], dtype=torch.float64))
    found = transform.procrustes(points, transform.apply(T, points), with_scale=True)
    torch.testing.assert_close(found, T)


def test_posed_rest_moves_children_with_their_parents():
    rest = torch.tensor([[[0.0, 0, 0], [0, 1, 0], [0, 2, 0]]], dtype=torch.float64)
    R = rotation.rotvec_to_matrix(torch.tensor([[[0, 0, 0], [0, 0, math.pi / 2], [0, 0, 0]]], dtype=torch.float64))
    maps = transform.posed_rest_transforms((-1, 0, 1), rest, R)
    tip = transform.apply(maps[:, 2], torch.tensor([[[0.0, 3, 0]]], dtype=torch.float64))
    torch.testing.assert_close(tip, torch.tensor([[[-2.0, 1, 0]]], dtype=torch.float64))
