from dataclasses import replace

import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from avatar3d.ops import SkinnedBasis

PARENTS = -1, 0, 1, 1


def make_basis(rng, device, *, v, k=5, e=3, correctives=True, dtype=torch.float64):
    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(device, dtype)

    j = len(PARENTS)
    weights = torch.rand(v, j, generator=rng, dtype=torch.float64)
    weights[: v // 2, 1] = 0  # a joint that moves nothing in the first blocks
    weights = (weights / weights.sum(1, keepdim=True)).to(device, dtype)
    return SkinnedBasis(
        parents=PARENTS, template=randn(v, 3), bases=(randn(k, v, 3), randn(e, v, 3)),
        pose_basis=0.1 * randn(9 * (j - 1), v, 3) if correctives else None,
        joint_template=randn(j, 3), joint_basis=randn(k + e, j, 3), weights=weights,
    )  # fmt: skip


def make_inputs(rng, device, basis, b):
    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(device).requires_grad_()

    return randn(b, len(basis.joint_basis)), randn(b, len(PARENTS), 3)


@pytest.mark.parametrize("correctives", [True, False])
@pytest.mark.parametrize(
    "b, v, k", [(1, 1, 5), (1, 200, 5), (3, 65, 6), (5, 130, 1), (8, 64, 2), (21, 70, 17), (37, 129, 5), (2, 0, 5)]
)
def test_native_equals_reference(rng, device, b, v, k, correctives):
    basis = make_basis(rng, device, v=v, k=k, correctives=correctives)
    inputs = make_inputs(rng, device, basis, b)
    actual, expected = (ops.pose_mesh(basis, *inputs, backend=kind) for kind in ("native", "reference"))
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)
    cotangents = [torch.randn(x.shape, generator=rng, dtype=torch.float64).to(device) for x in expected]
    for some in ([0], [1], [2], [0, 1, 2]):
        given = [cotangents[i] for i in some]
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        grads = (torch.autograd.grad([y[i] for i in some], inputs, given, **options) for y in (actual, expected))
        for x, y in zip(*grads, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def test_single_precision_is_as_good_as_a_matrix_product(rng, device):
    basis = make_basis(rng, device, v=300, k=40)
    inputs = make_inputs(rng, device, basis, 9)
    exact = ops.pose_mesh(basis, *inputs, backend="reference").vertices
    single = tuple(x.float() for x in inputs)
    errors = [
        (ops.pose_mesh(basis, *single, backend=kind).vertices - exact).abs().max().item()
        for kind in ("native", "reference")
    ]
    assert errors[0] < 2 * errors[1] < 1e-3


def test_gradcheck(rng, device):
    basis = make_basis(rng, device, v=5)
    inputs = make_inputs(rng, device, basis, 2)
    assert torch.autograd.gradcheck(lambda *x: tuple(ops.pose_mesh(basis, *x, backend="native")), inputs)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
@pytest.mark.parametrize("b", [1, 20])
def test_gradients_that_nobody_asks_for_change_nothing(rng, device, b, wanted):
    basis = make_basis(rng, device, v=70)
    inputs = make_inputs(rng, device, basis, b)
    both = torch.autograd.grad(ops.pose_mesh(basis, *inputs).vertices.square().sum(), inputs)
    some = [x.detach().requires_grad_(on) for x, on in zip(inputs, wanted, strict=True)]
    ops.pose_mesh(basis, *some).vertices.square().sum().backward()
    for x, grad, on in zip(some, both, wanted, strict=True):
        assert (x.grad is not None) == on
        if on:
            torch.testing.assert_close(x.grad, grad, rtol=1e-12, atol=1e-12)


def test_threads_do_not_change_the_result(rng):
    basis = make_basis(rng, torch.device("cpu"), v=1500)
    before = torch.get_num_threads()
    for b in (1, 20):
        inputs = make_inputs(rng, torch.device("cpu"), basis, b)
        runs = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = ops.pose_mesh(basis, *inputs, backend="native").vertices
            runs.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
        torch.set_num_threads(before)
        assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))


def test_opcheck(rng):
    from avatar3d.ops.pose_joints import parents_tensor
    from avatar3d.ops.pose_mesh import _pose_mesh

    basis = make_basis(rng, torch.device("cpu"), v=9)
    packed, weights = basis.packed(torch.float64)
    inputs = make_inputs(rng, torch.device("cpu"), basis, 2)
    arguments = *inputs, parents_tensor(PARENTS, torch.device("cpu")), weights, packed, True
    torch.library.opcheck(_pose_mesh.custom_op, arguments)


def test_an_empty_batch_and_nan(rng, device):
    basis = make_basis(rng, device, v=70)
    coefficients, rotvecs = make_inputs(rng, device, basis, 2)
    assert ops.pose_mesh(basis, coefficients[:0], rotvecs[:0]).vertices.shape == (0, 70, 3)
    with torch.no_grad():
        coefficients[1, 0] = torch.nan
        out = ops.pose_mesh(basis, coefficients, rotvecs).vertices
    assert bool(out[0].isfinite().all()) and bool(out[1].isnan().all())


def test_bad_calls(rng):
    basis = make_basis(rng, torch.device("cpu"), v=4)
    coefficients, rotvecs = make_inputs(rng, torch.device("cpu"), basis, 1)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.pose_mesh(basis, coefficients.float(), rotvecs)
    with pytest.raises(ValueError, match="7 coefficients, 4 joints; the model has 8 and 4"):
        ops.pose_mesh(basis, coefficients[:, 1:], rotvecs)
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.pose_mesh(basis, coefficients.half(), rotvecs.half(), backend="native")
    with pytest.raises(Exception, match="Type-check"):
        ops.pose_mesh(basis, coefficients[0], rotvecs)
    wrong = replace(basis, parents=(-1, 2, 1, 1), _packed={})
    with pytest.raises(ValueError, match="an earlier joint"):
        ops.pose_mesh(wrong, coefficients, rotvecs)
