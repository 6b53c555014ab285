import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from tests.mesh_cases import intrinsics, soup


def make_inputs(rng, device, *, b=2, n=2, u=40, c=3, f=60, height=23, width=31):
    """A random picture of triangles with corners into an attribute table of its own."""
    attributes = torch.randn(n, u, c, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    corners = torch.randint(0, u, (f, 3), generator=rng, dtype=torch.int32).to(device)
    triangle = torch.randint(-1, f, (b, height, width), generator=rng, dtype=torch.int32).to(device)
    barycentrics = torch.rand(b, height, width, 3, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    return attributes, corners, triangle, barycentrics


SIZES = [
    dict(),
    dict(n=1),
    dict(b=1, n=1, c=1),
    dict(b=9, n=9, c=7),
    dict(b=9, n=1, height=70),
    dict(c=0),
    dict(height=0),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_native_equals_reference(rng, device, sizes):
    inputs = make_inputs(rng, device, **sizes)
    actual, expected = (ops.interpolate(*inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(actual.shape, generator=rng, dtype=torch.float64).to(device)
    wrt = (inputs[0], inputs[3])
    actual, expected = (torch.autograd.grad(y, wrt, cotangent) for y in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_gradcheck(rng, device):
    attributes, corners, triangle, barycentrics = make_inputs(rng, device, u=5, f=4, height=3, width=4)
    assert torch.autograd.gradcheck(
        lambda a, b: ops.interpolate(a, corners, triangle, b, backend="native"), (attributes, barycentrics)
    )


def test_opcheck(rng, device):
    from avatar3d.ops.interpolate import _interpolate

    torch.library.opcheck(_interpolate.custom_op, make_inputs(rng, device, height=5, width=4))


def test_positions_come_back(rng, device):
    """Interpolated positions are where the pixel's ray meets the surface, at the raster's depth."""
    points, faces = soup(rng, 2, 50, 40)
    points, faces, K = points.to(device), faces.to(device), intrinsics(2, 60, 50).to(device)
    raster = ops.rasterize(points, faces, K, 60, 50)
    seen = raster.triangle >= 0
    position = ops.interpolate(points, faces, raster.triangle, raster.barycentrics)
    y, x = torch.meshgrid(torch.arange(50) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    pixel = torch.stack([x, y, torch.ones_like(x)], -1).double().to(device) * raster.depth[..., None]
    back = torch.einsum("bij,bhwj->bhwi", K, position)
    assert int(seen.sum()) > 500
    torch.testing.assert_close(back[seen], pixel[seen], rtol=1e-8, atol=1e-7)
    assert (position[~seen] == 0).all()


def test_threads_change_nothing(rng):
    inputs = make_inputs(rng, torch.device("cpu"), height=200)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        out = ops.interpolate(*inputs, backend="native")
        results.append((out, *torch.autograd.grad(out.sin().sum(), (inputs[0], inputs[3]))))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_bad_calls(rng):
    attributes, corners, triangle, barycentrics = make_inputs(rng, torch.device("cpu"))
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.interpolate(attributes.float(), corners, triangle, barycentrics)
    with pytest.raises(ValueError, match="2 sets of attributes for 1 images"):
        ops.interpolate(attributes, corners, triangle[:1], barycentrics[:1])
    with pytest.raises(ValueError, match="an attribute that does not exist"):
        ops.interpolate(attributes[:, :3], corners, triangle, barycentrics, backend="native")
    with pytest.raises(ValueError, match="a face that does not exist"):
        ops.interpolate(attributes, corners[:9], triangle, barycentrics, backend="native")
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.interpolate(attributes.half(), corners, triangle, barycentrics.half(), backend="native")
