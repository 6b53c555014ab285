import numpy as np
import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError


def make_inputs(rng, device, *, b, t, n):
    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    J = randn(b, t, n + 2, n)
    first, second = randn(b, t, n), randn(b, t, n)
    blocks = J.mT @ J + 8 * torch.eye(n, dtype=torch.float64)
    return tuple(x.to(device) for x in (blocks, first, second, randn(b, t, n)))


def dense(blocks, first, second):
    """The whole matrices, [b, t n, t n]."""
    b, t, n = first.shape
    A = blocks.new_zeros(b, t, n, t, n)
    for f in range(t):
        A[:, f, :, f] = blocks[:, f]
        for couplings, after in ((first, f + 1), (second, f + 2)):
            if after < t:
                A[:, f, :, after] = A[:, after, :, f] = torch.diag_embed(couplings[:, f])
    return A.reshape(b, t * n, t * n)


SIZES = [(1, 1, 1), (2, 2, 3), (1, 3, 5), (3, 9, 4), (1, 7, 58), (2, 40, 7), (0, 3, 2), (1, 0, 2)]


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("b, t, n", SIZES)
def test_solves_the_whole_system(rng, device, backend, b, t, n):
    blocks, first, second, rhs = make_inputs(rng, device, b=b, t=t, n=n)
    x = ops.solve_chain(blocks, first, second, rhs, backend=backend)
    # numpy's solver: torch's may wait for ever after other tests have changed its number of threads
    A, y = dense(blocks, first, second).cpu().numpy(), rhs.reshape(b, t * n, 1).cpu().numpy()
    expected = torch.from_numpy(np.linalg.solve(A, y)).view(b, t, n).to(device)
    torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-12)


def test_native_equals_reference(rng, device):
    inputs = make_inputs(rng, device, b=2, t=30, n=21)
    x, expected = (ops.solve_chain(*inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(x, expected, rtol=1e-11, atol=1e-13)
    single = ops.solve_chain(*(t.float() for t in inputs), backend="native")
    torch.testing.assert_close(single.double(), x, rtol=1e-3, atol=1e-5)


def test_not_positive_definite_is_not_finite(rng, device):
    blocks, first, second, rhs = make_inputs(rng, device, b=2, t=4, n=3)
    blocks[1, 2] = -blocks[1, 2]
    for backend in ("native", "reference"):
        x = ops.solve_chain(blocks, first, second, rhs, backend=backend)
        assert bool(x[0].isfinite().all()) and not bool(x[1].isfinite().any())


def test_what_lies_beyond_the_end_is_not_read(rng, device):
    blocks, first, second, rhs = make_inputs(rng, device, b=1, t=5, n=4)
    expected = ops.solve_chain(blocks, first, second, rhs, backend="native")
    first[:, -1], second[:, -2:] = torch.inf, torch.inf
    x = ops.solve_chain(blocks, first, second, rhs, backend="native")
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


def test_bad_calls(rng):
    inputs = make_inputs(rng, torch.device("cpu"), b=1, t=3, n=2)
    with pytest.raises(ValueError, match="pass one dtype"):
        ops.solve_chain(inputs[0].float(), *inputs[1:])
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.solve_chain(*(t.half() for t in inputs), backend="native")
