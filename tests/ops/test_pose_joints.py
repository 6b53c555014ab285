import math

import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError

CHAINS = {1: (-1,), 2: (-1, -1), 5: (-1, 0, 1, 1, 1), 6: (-1, 0, 1, 2, -1, 4)}


def make_inputs(rng, device, *, b, j, size=1.0):
    rest = torch.randn(b, j, 3, generator=rng, dtype=torch.float64)
    rotvecs = size * torch.randn(b, j, 3, generator=rng, dtype=torch.float64)
    return CHAINS[j], rest.to(device).requires_grad_(), rotvecs.to(device).requires_grad_()


@pytest.mark.parametrize("b, j", [(1, 1), (3, 2), (700, 5), (4, 6), (0, 5)])
@pytest.mark.parametrize("size", [1.0, 0.02, 1e-5, 0.0])
def test_native_equals_reference(rng, device, b, j, size):
    inputs = make_inputs(rng, device, b=b, j=j, size=size)
    actual, expected = (ops.pose_joints(*inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(tuple(actual), tuple(expected), rtol=1e-12, atol=1e-12)
    cotangents = [torch.randn(y.shape, generator=rng, dtype=torch.float64).to(device) for y in actual]
    actual, expected = (torch.autograd.grad(tuple(y), inputs[1:], cotangents) for y in (actual, expected))
    # near zero the reference's (1 - cos) / angle^2 keeps ten digits, its derivative six
    close = {"rtol": 1e-10, "atol": 1e-10} if size in (1.0, 0.0) else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(actual, expected, **close)


def test_float32_keeps_its_digits(rng, device):
    angles = torch.logspace(-5, math.log10(6), 200, dtype=torch.float64)
    axes = torch.nn.functional.normalize(torch.randn(200, 3, generator=rng, dtype=torch.float64), dim=1)
    rotvecs = (angles[:, None] * axes)[:, None].to(device).requires_grad_()
    rest = torch.randn(200, 1, 3, generator=rng, dtype=torch.float64).to(device)
    cotangent = torch.randn(200, 1, 3, 3, generator=rng, dtype=torch.float64).to(device)
    expected = ops.pose_joints((-1,), rest, rotvecs).R
    single = rotvecs.detach().float().requires_grad_()
    actual = ops.pose_joints((-1,), rest.float(), single, backend="native").R
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=5e-7)
    (g,), (e,) = (torch.autograd.grad(y, x, c) for y, x, c in
                  ((actual, single, cotangent.float()), (expected, rotvecs, cotangent)))  # fmt: skip
    torch.testing.assert_close(g.double(), e, rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_gradcheck(rng, device, size):
    parents, rest, rotvecs = make_inputs(rng, device, b=2, j=5, size=size)
    f = lambda *x: tuple(ops.pose_joints(parents, *x, backend="native"))  # noqa: E731
    assert torch.autograd.gradcheck(f, (rest, rotvecs))


def test_opcheck(rng, device):
    from avatar3d.ops.pose_joints import _pose_joints, parents_tensor

    parents, rest, rotvecs = make_inputs(rng, device, b=2, j=5)
    torch.library.opcheck(_pose_joints.custom_op, (rest, rotvecs, parents_tensor(parents, rest.device)))


def test_joints_stay_attached(rng, device):
    """A joint is where its parent's map takes it, and distances to the parent stay."""
    parents, rest, rotvecs = make_inputs(rng, device, b=3, j=5)
    maps = ops.pose_joints(parents, rest, rotvecs, backend="native").T_posed_rest
    place = (maps[..., :3, :3] @ rest[..., None])[..., 0] + maps[..., :3, 3]
    torch.testing.assert_close(place[:, 0], rest[:, 0], rtol=0, atol=1e-12)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            by_parent = (maps[:, parent, :3, :3] @ rest[:, joint, :, None])[..., 0] + maps[:, parent, :3, 3]
            torch.testing.assert_close(place[:, joint], by_parent, rtol=0, atol=1e-12)
            length, before = ((x[:, joint] - x[:, parent]).norm(dim=1) for x in (place, rest))
            torch.testing.assert_close(length, before, rtol=1e-12, atol=0)


def test_nan_stays_in_its_item(rng, device):
    parents, rest, rotvecs = make_inputs(rng, device, b=3, j=5)
    with torch.no_grad():
        rotvecs[1, 0, 0] = torch.nan
        maps = ops.pose_joints(parents, rest, rotvecs, backend="native").T_posed_rest
    assert bool(maps[1, :, :3].isnan().any()) and bool(maps[[0, 2]].isfinite().all())


def test_bad_calls(rng):
    parents, rest, rotvecs = make_inputs(rng, torch.device("cpu"), b=1, j=5)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.pose_joints(parents, rest.float(), rotvecs)
    for wrong in ((-1, 0, 1, 1), (-1, 0, 3, 1, 1), (-2, 0, 1, 1, 1)):
        with pytest.raises(ValueError, match="-1 or an earlier joint"):
            ops.pose_joints(wrong, rest, rotvecs)
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.pose_joints(parents, rest.half(), rotvecs.half(), backend="native")
