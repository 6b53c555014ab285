import pytest
import torch

from avatar3d import ops
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import make_transform
from avatar3d.ops import LandmarkRows


def make_inputs(rng, device, *, o, l, k, e, p):
    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    rows = LandmarkRows(
        points=(0.05 * randn(l, 3)).to(device),
        identity_basis=(0.002 * randn(l, 3, k)).to(device),
        expression_basis=(0.005 * randn(l, 3, e)).to(device),
        expression_scale=(0.05 * randn(k)).to(device),
        pairs=torch.randint(0, l, (p, 2), generator=rng).to(device),
    )
    T = make_transform(rotvec_to_matrix(randn(o, 3)), 0.02 * randn(o, 3) + torch.tensor([0, 0, 0.6]))
    intrinsics = torch.tensor([900.0, 950, 320, 240], dtype=torch.float64).expand(o, 4)
    detections = torch.tensor([320.0, 240], dtype=torch.float64) + 60 * randn(o, l, 2)
    weights = torch.rand(o, l, generator=rng, dtype=torch.float64)
    weights[:, ::5] = 0
    pair_weights = torch.rand(o, p, generator=rng, dtype=torch.float64)
    state = (randn(k), torch.rand(o, e, generator=rng, dtype=torch.float64), T, intrinsics)
    return rows, tuple(t.to(device) for t in (*state, detections, weights, pair_weights))


SIZES = [(1, 1, 0, 1, 0), (3, 7, 2, 3, 2), (2, 478, 120, 52, 20), (5, 70, 30, 41, 9), (0, 4, 2, 3, 1)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("o, l, k, e, p", SIZES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_native_equals_reference(rng, device, o, l, k, e, p, shared, dtype, tolerance):
    rows, inputs = make_inputs(rng, device, o=o, l=l, k=k, e=e, p=p)
    rows, inputs = rows.to(dtype), tuple(t.to(dtype) for t in inputs)
    settings = dict(cauchy=15.0, discount=0.15, shared=shared)
    actual, expected = (ops.landmark_equations(rows, *inputs, **settings, backend=b) for b in ("native", "reference"))
    for a, b in zip(actual, expected, strict=True):
        size = float(b.abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("o, l, k, e, p", [*SIZES, (4, 9, 40, 60, 12)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_summed_identity_equals_the_sum(rng, device, o, l, k, e, p, dtype, tolerance):
    rows, inputs = make_inputs(rng, device, o=o, l=l, k=k, e=e, p=p)
    rows, inputs = rows.to(dtype), tuple(t.to(dtype) for t in inputs)
    settings = dict(cauchy=15.0, discount=0.15, shared=True)
    each = ops.landmark_equations(rows, *inputs, **settings, backend="native")
    for backend in ("native", "reference"):
        actual = ops.landmark_equations(rows, *inputs, **settings, summed=True, backend=backend)
        expected = each.H.clone()
        block = expected[:, e + 7 :, e + 7 :]
        total = block.sum(0)
        block[:] = 0
        block[:1] = total
        size = float(expected.abs().max()) if o else 0.0
        torch.testing.assert_close(actual.H, expected, rtol=10 * tolerance, atol=tolerance * size)
        torch.testing.assert_close(actual.g, each.g, rtol=2e-4, atol=tolerance * 1e2)
        torch.testing.assert_close(actual.cost, each.cost, rtol=1e-5, atol=1e-5)


def test_gradient_is_that_of_the_cost(rng, device):
    """The reference is right as well: finite differences of the cost in every unknown."""
    rows, (identity, expression, T, intrinsics, *seen) = make_inputs(rng, device, o=2, l=9, k=3, e=4, p=3)
    settings = dict(cauchy=30.0, discount=0.3)
    g = ops.landmark_equations(rows, identity, expression, T, intrinsics, *seen, **settings, shared=True).g

    def cost(o, step):
        d = step.to(device)
        moved = T.clone()
        moved[o, :3, :3] = rotvec_to_matrix(d[4:7]) @ T[o, :3, :3]
        moved[o, :3, 3] += d[7:10]
        focal = intrinsics.clone()
        focal[o, :2] *= d[10].exp()
        e = expression.clone()
        e[o] += d[:4]
        return ops.landmark_equations(rows, identity + d[11:], e, moved, focal, *seen, **settings, shared=False).cost[o]

    for o in range(2):
        for i in range(14):
            step = torch.zeros(14, dtype=torch.float64)
            step[i] = 1e-6
            slope = (cost(o, step) - cost(o, -step)) / 2e-6
            assert abs(float(slope - g[o, i])) <= 1e-6 * float(g[o].abs().max())


def test_unseen_landmarks_do_not_count(rng, device):
    rows, inputs = make_inputs(rng, device, o=2, l=20, k=3, e=4, p=0)
    *state, detections, weights, pair_weights = inputs
    settings = dict(cauchy=3.0, discount=1.0, shared=True, backend="native")
    expected = ops.landmark_equations(rows, *state, detections, weights, pair_weights, **settings)
    wild = torch.where(weights[..., None] > 0, detections, 1e6)
    for a, b in zip(
        ops.landmark_equations(rows, *state, wild, weights, pair_weights, **settings), expected, strict=True
    ):
        assert torch.equal(a, b)


def test_bad_calls(rng):
    rows, inputs = make_inputs(rng, torch.device("cpu"), o=2, l=6, k=3, e=4, p=2)
    with pytest.raises(Exception, match="Type-check"):
        ops.landmark_equations(rows, inputs[0], inputs[1][:1], *inputs[2:], cauchy=3.0, discount=1.0, shared=True)
    with pytest.raises(ValueError, match="sizes of the unknowns disagree"):
        ops.landmark_equations(rows, inputs[0][:2], *inputs[1:], cauchy=3.0, discount=1.0, shared=True)
