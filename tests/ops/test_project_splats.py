import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from avatar3d.geometry.rotation import matrix_to_quat, quat_to_matrix
from avatar3d.ops.reference.project_splats import sh_basis
from tests.splat_cases import cameras, rigid, splats

WIDTH, HEIGHT = 64, 48


def make_inputs(rng, device, *, b, n, k=0, spread=1.0, size=0.08):
    inputs = splats(rng, n, spread=spread, size=size) + cameras(rng, b, WIDTH, HEIGHT)
    if k:
        inputs.append(0.5 * torch.randn(n, k, 3, generator=rng, dtype=torch.float64))
    return [t.to(device).requires_grad_() for t in inputs]


def project(inputs, backend="native", **settings):
    sh = inputs[6] if len(inputs) > 6 else None
    return ops.project_splats(*inputs[:6], WIDTH, HEIGHT, sh=sh, backend=backend, **settings)


def compare(rng, inputs, *, rtol=1e-9, **settings):
    out = [project(inputs, backend, **settings) for backend in ("native", "reference")]
    used = [[t for t in o if t is not None] for o in out]
    torch.testing.assert_close(used[0], used[1], rtol=1e-11, atol=1e-11)
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(t.device) for t in used[0]]
    actual, expected = (torch.autograd.grad(u, inputs, cotangents) for u in used)
    for a, e in zip(actual, expected, strict=True):
        assert bool(torch.isfinite(a).all())
        torch.testing.assert_close(a, e, rtol=rtol, atol=rtol * float(e.abs().max()) if e.numel() else 0)
    return out[0], actual


@pytest.mark.parametrize(
    "b, n, k", [(1, 1, 1), (2, 7, 4), (3, 300, 9), (1, 1100, 16), (2, 0, 4), (2, 50, 0), (0, 5, 4)]
)
@pytest.mark.parametrize("antialiased, normals", [(False, False), (True, True)])
def test_native_equals_reference(rng, device, b, n, k, antialiased, normals):
    inputs = make_inputs(rng, device, b=b, n=n, k=k)
    out, _ = compare(rng, inputs, antialiased=antialiased, normals=normals)
    assert b * n < 100 or 0.5 < (out.opacities > 0).double().mean()
    assert (out.colors is None) == (k == 0) and (out.normals is None) == (not normals)


def test_gradients_where_the_linearisation_is_clamped(rng, device):
    inputs = make_inputs(rng, device, b=2, n=400, k=4, spread=4.0, size=0.5)
    out, _ = compare(rng, inputs, antialiased=True)
    outside = ((out.pixels < -0.15 * WIDTH) | (out.pixels > 1.15 * WIDTH)).any(-1) & (out.opacities > 0)
    assert int(outside.sum()) > 20 and int((out.opacities == 0).sum()) > 20


@pytest.mark.parametrize("k, spread", [(0, 1.0), (1, 1.0), (16, 1.0), (4, 3.0)])
def test_gradcheck(rng, device, k, spread):
    inputs = make_inputs(rng, device, b=2, n=4, k=k, spread=spread, size=0.3)
    keep = project(inputs, normals=True).opacities > 0

    def f(*inputs):
        K = torch.cat([inputs[4][:, :2], make_last_row(inputs[4], 3)], 1)
        T = torch.cat([inputs[5][:, :3], make_last_row(inputs[5], 4)], 1)
        out = project([*inputs[:4], K, T, *inputs[6:]], antialiased=True, normals=True)
        assert torch.equal(out.opacities > 0, keep)
        return tuple(t for t in out if t is not None)

    assert torch.autograd.gradcheck(f, inputs, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n, k", [(1, 1), (15, 9), (16, 16), (1003, 4)])
def test_float_is_close_to_double(rng, device, n, k):
    double = make_inputs(rng, device, b=2, n=n, k=k)
    single = [t.detach().float().requires_grad_() for t in double]
    outs = [project(x, antialiased=True, normals=True) for x in (double, single)]
    assert torch.equal(outs[0].opacities > 0, outs[1].opacities > 0)
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(device) for t in outs[0]]
    grads = [
        torch.autograd.grad(o, x, [g.to(x[0].dtype) for g in cotangents])
        for o, x in zip(outs, (double, single), strict=True)
    ]
    for expected, actual in zip((*outs[0], *grads[0]), (*outs[1], *grads[1]), strict=True):
        assert (actual.double() - expected).norm() <= 5e-6 * expected.norm()


def make_last_row(matrix, size):
    return torch.eye(size, dtype=matrix.dtype, device=matrix.device)[-1:].expand(len(matrix), 1, size)


def test_opcheck(rng, device):
    from avatar3d.ops.project_splats import _project_splats

    inputs = make_inputs(rng, device, b=2, n=9, k=4)
    torch.library.opcheck(_project_splats.custom_op, (*inputs, WIDTH, HEIGHT, 0.01, True, True))


def test_moving_camera_and_scene_together_changes_nothing(rng, device):
    inputs = [t.detach() for t in make_inputs(rng, device, b=2, n=200)]
    still = project(inputs, antialiased=True)
    T = rigid(rng).to(device)
    moved = list(inputs)
    moved[0] = inputs[0] @ T[:3, :3].T + T[:3, 3]
    moved[1] = matrix_to_quat(T[:3, :3] @ quat_to_matrix(inputs[1]))
    moved[5] = inputs[5] @ torch.linalg.inv(T)
    turned = project(moved, antialiased=True)
    torch.testing.assert_close(turned[:4], still[:4], rtol=1e-9, atol=1e-9)


def test_a_ball_on_the_axis_is_a_circle(device):
    f, z, s = 100.0, 4.0, 0.1
    K = torch.tensor([[[f, 0, 32], [0, f, 24], [0, 0, 1]]], dtype=torch.float64, device=device)
    T = torch.eye(4, dtype=torch.float64, device=device)[None]
    means = torch.tensor([[0, 0, z]], dtype=torch.float64, device=device)
    quats = torch.tensor([[0.3, -2, 0.5, 1]], dtype=torch.float64, device=device)
    scales = torch.full((1, 3), s, dtype=torch.float64, device=device)
    opacities = torch.tensor([0.8], dtype=torch.float64, device=device)
    variance = (f * s / z) ** 2
    for antialiased, fade in ((False, 1.0), (True, variance / (variance + 0.3))):
        out = project([means, quats, scales, opacities, K, T], antialiased=antialiased)
        round_one = torch.tensor([1, 0, 1], dtype=torch.float64, device=device) / (variance + 0.3)
        torch.testing.assert_close(out.conics[0, 0], round_one, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(out.pixels[0, 0], means.new_tensor([32, 24]))
        assert abs(float(out.opacities) - 0.8 * fade) < 1e-12 and float(out.depths) == z


def test_harmonics_are_orthonormal(rng):
    directions = torch.nn.functional.normalize(torch.randn(400000, 3, generator=rng, dtype=torch.float64), dim=1)
    basis = sh_basis(directions, 16)
    gram = basis.T @ basis / len(basis) * 4 * torch.pi
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=0.02)


def test_signs_of_the_harmonics(device):
    """3D Gaussian splatting: degree 1 is -y, z, -x."""
    K = torch.tensor([[[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]], dtype=torch.float64, device=device)
    T = torch.eye(4, dtype=torch.float64, device=device)[None]
    means = torch.tensor([[0.6, 0.8, 2.0]], dtype=torch.float64, device=device)
    rest = [torch.ones(1, 4, device=device).double(), 0.1 * torch.ones_like(means), torch.ones_like(means[:, 0])]
    direction = torch.nn.functional.normalize(means[0], dim=0)
    for coefficient, expected in ((0, 0.28209479), (1, -0.48860251 * direction[1]), (2, 0.48860251 * direction[2])):
        sh = torch.zeros(1, 4, 3, dtype=torch.float64, device=device)
        sh[0, coefficient] = 0.5
        colors = project([means, *rest, K, T, sh]).colors
        torch.testing.assert_close(colors, torch.full_like(colors, 0.5 + 0.5 * float(expected)), rtol=1e-7, atol=1e-7)


def test_normals_face_the_camera(rng, device):
    inputs = make_inputs(rng, device, b=3, n=200)
    out = project(inputs, normals=True)
    seen = out.opacities > 0
    centre = -torch.einsum("bji,bj->bi", inputs[5][:, :3, :3], inputs[5][:, :3, 3])
    away = inputs[0][None] - centre[:, None]
    assert bool(((out.normals * away).sum(-1)[seen] < 0).all())
    torch.testing.assert_close(out.normals.norm(dim=-1), seen.double(), rtol=1e-12, atol=1e-12)


BAD = {
    "behind": (0, [0.0, 0, -9]),
    "at the near plane": (0, [-0.1, 0.05, -2.991]),
    "not a number": (0, [float("nan"), 0, 0]),
    "infinitely far": (0, [0, 0, float("inf")]),
    "no orientation": (1, [0.0, 0, 0, 0]),
    "orientation not a number": (1, [1.0, float("nan"), 0, 0]),
    "scale not a number": (2, [0.1, float("nan"), 0.1]),
    "infinite scale": (2, [0.1, float("inf"), 0.1]),
    "invisible": (3, 0.0039),
    "opacity not a number": (3, float("nan")),
    "colour not a number": (6, float("nan")),
    "beside the image": (0, [9.0, 0, 0]),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_drawn_is_zero_and_moves_nothing(rng, device, name, dtype):
    inputs = [t.detach().to(dtype) for t in make_inputs(rng, device, b=2, n=40, k=4, spread=0.3)]
    inputs[5][:, :3, :3] = torch.eye(3, dtype=dtype)
    if name == "infinitely far":
        inputs[5][:, :3, 3] = 0
    which, value = BAD[name]
    good = [t.clone() for t in inputs]
    inputs[which][17] = torch.tensor(value, dtype=dtype, device=device)
    inputs = [t.requires_grad_() for t in inputs]
    for backend in ("native", "reference"):
        out = project(inputs, backend, antialiased=True, normals=True)
        for t in out:
            assert bool((t[:, 17] == 0).all()) and bool(torch.isfinite(t).all())
        grads = torch.autograd.grad([t.sum() for t in out], inputs)
        assert all(bool(torch.isfinite(g).all()) for g in grads)
        assert all(bool((g[17] == 0).all()) for g in (*grads[:4], grads[6]))
        others = torch.arange(40, device=device) != 17
        without = project([t[others] if len(t) == 40 else t for t in good], backend, antialiased=True)
        torch.testing.assert_close(out.pixels[:, others], without.pixels)
        torch.testing.assert_close(out.opacities[:, others], without.opacities)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_splats_stay_finite(rng, device, dtype):
    inputs = [t.detach().to(dtype) for t in make_inputs(rng, device, b=1, n=4, k=4, spread=0.2)]
    inputs[2][0] = 3e4  # about a million pixels wide
    inputs[2][1] = torch.tensor([3e4, 1e-9, 1e-9], dtype=dtype)  # and a thin one
    inputs[2][2] = 0  # a point
    inputs[1][3] *= 1e-9
    inputs = [t.requires_grad_() for t in inputs]
    for antialiased in (False, True):
        out = project(inputs, antialiased=antialiased)
        seen = [0, 3] if antialiased else [0, 1, 2, 3]  # a point or a thread fades away
        assert bool((out.opacities[0, seen] > 0).all())
        a, b, c = out.conics[0, seen].detach().double().unbind(-1)
        assert bool((a > 0).all() and (c > 0).all() and (a * c - b * b >= -1e-6 * a * c).all())
        grads = torch.autograd.grad([t.sum() for t in out[:5]], inputs)
        assert all(bool(torch.isfinite(g).all()) for g in grads)


def test_threads_and_order_do_not_matter(rng):
    inputs = make_inputs(rng, torch.device("cpu"), b=2, n=3000, k=4)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = project(inputs)
        results.append((*out[:5], *torch.autograd.grad([(t * t).sum() for t in out[:5]], inputs)))
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    order = torch.randperm(3000, generator=rng)
    shuffled = project([t[order] if len(t) == 3000 else t for t in inputs])
    assert torch.equal(shuffled.conics, results[0][1][:, order])


@pytest.mark.gpu
def test_cuda_is_deterministic(rng):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    inputs = make_inputs(rng, torch.device("cuda"), b=3, n=5000, k=16)
    runs = []
    for _ in range(2):
        out = project(inputs)
        runs.append(torch.autograd.grad([(t * t).sum() for t in out[:5]], inputs))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_bad_calls(rng):
    inputs = make_inputs(rng, torch.device("cpu"), b=1, n=4, k=4)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        project([inputs[0].float(), *inputs[1:]])
    with pytest.raises(ValueError, match="1, 4, 9 or 16"):
        project([*inputs[:6], inputs[6][:, :3]])
    with pytest.raises(ValueError, match="near -1"):
        project(inputs, near=-1.0)
    with pytest.raises(BackendError, match="no compiled kernel"):
        project([t.half() for t in inputs])
    with pytest.raises(Exception, match="Type-check"):
        project([inputs[0][None], *inputs[1:]])
