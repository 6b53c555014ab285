import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError


def make_inputs(rng, device, *, b, v, j):
    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(device).requires_grad_()

    weights = torch.rand(v, j, generator=rng, dtype=torch.float64)
    weights = (weights / weights.sum(1, keepdim=True)).to(device).requires_grad_()
    maps = torch.randn(b, j, 4, 4, generator=rng, dtype=torch.float64)
    maps[:, :, 3] = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    return randn(b, v, 3), weights, maps.to(device).requires_grad_()


@pytest.mark.parametrize("b, v, j", [(1, 1, 1), (2, 7, 3), (3, 257, 5), (2, 5000, 6), (2, 0, 3)])
def test_native_equals_reference(rng, device, b, v, j):
    inputs = make_inputs(rng, device, b=b, v=v, j=j)
    actual, expected = (ops.skin(*inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(b, v, 3, generator=rng, dtype=torch.float64).to(device)
    actual, expected = (torch.autograd.grad(y, inputs, cotangent) for y in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_gradcheck(rng, device):
    inputs = make_inputs(rng, device, b=2, v=5, j=3)

    def f(points, weights, rows):
        maps = torch.cat([rows, inputs[2][:, :, 3:].detach()], dim=2)
        return ops.skin(points, weights, maps, backend="native")

    assert torch.autograd.gradcheck(f, (inputs[0], inputs[1], inputs[2][:, :, :3].detach().requires_grad_()))


def test_opcheck(rng, device):
    from avatar3d.ops.skin import _skin

    torch.library.opcheck(_skin.custom_op, make_inputs(rng, device, b=2, v=9, j=4))


def test_same_rigid_motion_for_all_joints_moves_rigidly(rng, device):
    points, weights, _ = make_inputs(rng, device, b=1, v=50, j=4)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64).to(device))
    T = torch.eye(4, dtype=torch.float64, device=device)
    T[:3, :3], T[:3, 3] = q, torch.tensor([1.0, 2, 3], device=device)
    moved = ops.skin(points, weights, T.expand(1, 4, 4, 4), backend="native")
    torch.testing.assert_close(moved, points @ q.T + T[:3, 3], rtol=1e-12, atol=1e-12)


def test_bad_calls(rng):
    points, weights, maps = make_inputs(rng, torch.device("cpu"), b=1, v=4, j=2)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.skin(points.float(), weights, maps)
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.skin(points.half(), weights.half(), maps.half(), backend="native")
    with pytest.raises(Exception, match="Type-check"):
        ops.skin(points[0], weights, maps)
