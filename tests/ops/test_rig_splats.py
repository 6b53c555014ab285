import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from avatar3d.geometry.rotation import quat_to_matrix
from tests.mesh_cases import sphere
from tests.splat_cases import rigid


def make_inputs(rng, device, *, b, n, v=60, f=100):
    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    vertices = randn(b, v, 3)
    faces = torch.stack([torch.randperm(v, generator=rng)[:3] for _ in range(f)]) if f else torch.zeros(0, 3).long()
    face = torch.randint(f, (n,), generator=rng) if n else torch.zeros(0).long()
    weights = torch.rand(n, 3, generator=rng, dtype=torch.float64)
    splats = [weights / weights.sum(1, keepdim=True), 0.3 * randn(n, 3), randn(n, 4), torch.exp(randn(n, 3) - 2)]
    floats = [t.to(device).requires_grad_() for t in (vertices, *splats)]
    return floats, faces.to(device), face.to(device)


def rig(inputs, backend="native"):
    (vertices, *splats), faces, face = inputs
    return ops.rig_splats(vertices, faces, face, *splats, backend=backend)


def compare(rng, inputs):
    actual, expected = rig(inputs), rig(inputs, "reference")
    torch.testing.assert_close(tuple(actual), tuple(expected), rtol=1e-11, atol=1e-11)
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(t.device) for t in actual]
    grads = [torch.autograd.grad(tuple(out), inputs[0], cotangents) for out in (actual, expected)]
    for a, e in zip(*grads, strict=True):
        assert bool(torch.isfinite(a).all())
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9 * float(e.abs().max()) if e.numel() else 0)
    return actual


@pytest.mark.parametrize("b, n", [(1, 1), (2, 7), (1, 3000), (3, 333), (2, 0), (0, 5)])
def test_native_equals_reference(rng, device, b, n):
    compare(rng, make_inputs(rng, device, b=b, n=n))


def test_every_branch_of_the_quaternion(rng, device):
    """Triangles turned half round each axis, so that each component is the largest somewhere."""
    turns = torch.tensor([[1, 0.1, 0.2, 0.1], [0.1, 1, 0.2, -0.1], [0.2, 0.1, -1, 0.1], [-0.1, 0.2, 0.1, 1]]).double()
    triangle = torch.tensor([[0.1, 0, 0], [1.2, 0.1, 0], [0.2, 0.9, 0]], dtype=torch.float64)
    vertices = torch.einsum("kij,vj->kvi", quat_to_matrix(turns), triangle).reshape(1, 12, 3)
    (_, *splats), *_ = make_inputs(rng, device, b=1, n=8)
    faces, face = torch.arange(12).view(4, 3).to(device), (torch.arange(8) % 4).to(device)
    inputs = [vertices.to(device).requires_grad_(), *splats], faces, face
    compare(rng, inputs)


@pytest.mark.parametrize("n", [1, 15, 16, 1003])
def test_float_is_close_to_double(rng, device, n):
    double, faces, face = make_inputs(rng, device, b=2, n=n)
    single = [t.detach().float().requires_grad_() for t in double]
    outs = [tuple(rig((x, faces, face))) for x in (double, single)]
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(device) for t in outs[0]]
    grads = [
        torch.autograd.grad(o, x, [g.to(x[0].dtype) for g in cotangents])
        for o, x in zip(outs, (double, single), strict=True)
    ]
    for expected, actual in zip((*outs[0], *grads[0]), (*outs[1], *grads[1]), strict=True):
        assert (actual.double() - expected).norm() <= 5e-5 * expected.norm()


def test_gradcheck(rng, device):
    floats, faces, face = make_inputs(rng, device, b=2, n=5, v=8, f=4)
    f = lambda *floats: tuple(rig((floats, faces, face)))  # noqa: E731
    assert torch.autograd.gradcheck(f, floats, eps=1e-7, atol=1e-5, rtol=1e-4)


def test_opcheck(rng, device):
    from avatar3d.ops.rig_splats import _rig_splats

    (vertices, *splats), faces, face = make_inputs(rng, device, b=2, n=9)
    torch.library.opcheck(_rig_splats.custom_op, (vertices, faces.int(), face.int(), *splats))


def test_rides_rigidly_and_grows_with_the_mesh(rng, device):
    inputs = make_inputs(rng, device, b=1, n=200)
    (vertices, *splats), faces, face = inputs
    still = rig(inputs)
    T = rigid(rng).to(device)
    moved = rig(([vertices @ (2 * T[:3, :3].T) + T[:3, 3], *splats], faces, face))
    torch.testing.assert_close(moved.means, still.means @ (2 * T[:3, :3].T) + T[:3, 3], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved.scales, 2 * still.scales, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        quat_to_matrix(moved.quats), T[:3, :3] @ quat_to_matrix(still.quats), rtol=1e-8, atol=1e-8
    )


def test_right_triangle_by_hand(device):
    """Area 1/2: size 1, frame = world axes; the offset goes along them as it is."""
    vertices = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]], dtype=torch.float64, device=device)
    third = torch.full((1, 3), 1 / 3, dtype=torch.float64, device=device)
    offset = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64, device=device)
    quat = torch.tensor([[0.0, 0, 3, 0]], dtype=torch.float64, device=device)
    ids = torch.zeros(1, dtype=torch.int32, device=device)
    out = ops.rig_splats(vertices, torch.tensor([[0, 1, 2]], device=device), ids, third, offset, quat, third)
    torch.testing.assert_close(out.means[0], vertices.mean(1) + offset)
    torch.testing.assert_close(out.quats[0], quat / 3)
    torch.testing.assert_close(out.scales[0], third)


def test_triangles_without_area(rng, device):
    floats, faces, face = make_inputs(rng, device, b=2, n=30)
    faces[3] = faces[3, 0]  # a point
    with torch.no_grad():
        floats[0][:, faces[5, 2]] = floats[0][:, faces[5, 0]]  # a line
    face[:10], face[10:20] = 3, 5
    out = compare(rng, (floats, faces, face))
    assert bool((out.scales[:, :20] == 0).all())
    torch.testing.assert_close(
        out.quats[:, :20], torch.nn.functional.normalize(floats[2 + 1][None, :20], dim=-1).expand(2, 20, 4)
    )


@pytest.mark.parametrize("which", range(5))
def test_what_is_not_finite_moves_nothing_else(rng, device, which):
    floats, faces, face = make_inputs(rng, device, b=1, n=50, v=300)
    with torch.no_grad():
        row = int(faces[face[7], 1]) if which == 0 else 7
        (floats[0][0] if which == 0 else floats[which])[row, 1] = float("nan")
    compare_grads = []
    for backend in ("native", "reference"):
        out = rig((floats, faces, face), backend)
        assert not all(bool(torch.isfinite(t[:, 7]).all()) for t in out) or which == 3
        keep = torch.stack([torch.isfinite(t).all(-1) for t in out]).all(0)
        assert int(keep.sum()) > 40
        compare_grads.append(torch.autograd.grad([t[keep].square().sum() for t in out], floats))
    for a, e in zip(*compare_grads, strict=True):
        assert bool(torch.isfinite(a).all())
        torch.testing.assert_close(a, e, rtol=1e-8, atol=1e-8)


def test_threads_do_not_matter(rng):
    points, faces = sphere(24, 60)
    face = torch.randint(len(faces), (20000,), generator=rng)
    floats, *_ = make_inputs(rng, torch.device("cpu"), b=2, n=20000)
    floats[0] = (points * torch.tensor([[[1.0]], [[1.3]]])).requires_grad_()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = rig((floats, faces, face))
        results.append((*out, *torch.autograd.grad([t.square().sum() for t in out], floats)))
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.gpu
def test_cuda_is_deterministic(rng):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    inputs = make_inputs(rng, torch.device("cuda"), b=2, n=20000)
    runs = [torch.autograd.grad([t.square().sum() for t in rig(inputs)], inputs[0]) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_bad_calls(rng):
    floats, faces, face = make_inputs(rng, torch.device("cpu"), b=1, n=4)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        rig(([floats[0].float(), *floats[1:]], faces, face))
    with pytest.raises(ValueError, match="face does not exist"):
        rig((floats, faces, face + 1000))
    with pytest.raises(ValueError, match="vertex that does not exist"):
        rig((floats, faces - 1000, face))
    with pytest.raises(BackendError, match="no compiled kernel"):
        rig(([t.half() for t in floats], faces, face))
    with pytest.raises(Exception, match="Type-check"):
        rig(([floats[0][0], *floats[1:]], faces, face))
