import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from tests.mesh_cases import intrinsics, soup


def scene(rng, device, f=60, width=40, height=30):
    points, faces = soup(rng, 2, 40, f)
    points, faces, K = points.to(device), faces.to(device), intrinsics(2, width, height).to(device)
    return ops.rasterize(points, faces, K, width, height), points, faces, K


@pytest.mark.parametrize("f", [60, 0])
def test_native_equals_reference(rng, device, f):
    inputs = scene(rng, device, f)
    actual, expected = (ops.screen_derivatives(*inputs, backend=k) for k in ("native", "reference"))
    assert f == 0 or float(expected[0].abs().max()) > 0
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-10)


def test_equals_finite_differences_of_the_barycentrics(device):
    """Moving the principal point moves the picture under the pixels."""
    points = torch.tensor([[[-40.0, -30, 20], [50, -20, 60], [5, 60, 30]]], dtype=torch.float64, device=device)
    faces, K = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), intrinsics(1, 20, 16).to(device)
    raster = ops.rasterize(points, faces, K, 20, 16)
    derivatives = ops.screen_derivatives(raster, points, faces, K)
    inside = torch.zeros_like(raster.triangle, dtype=torch.bool)
    inside[:, 5:11, 6:14] = True
    assert (raster.triangle[inside] == 0).all()
    for axis, actual in enumerate(derivatives):
        shifted = []
        for h in (1e-4, -1e-4):
            moved = K.clone()
            moved[:, axis, 2] -= h
            shifted.append(ops.rasterize(points, faces, moved, 20, 16).barycentrics)
        expected = (shifted[0] - shifted[1]) / 2e-4
        torch.testing.assert_close(actual[inside], expected[inside], rtol=1e-6, atol=1e-9)


def test_opcheck(rng, device):
    from avatar3d.ops.screen_derivatives import _screen_derivatives

    raster, points, faces, K = scene(rng, device)
    torch.library.opcheck(_screen_derivatives, ((points @ K.transpose(1, 2)).contiguous(), faces, *raster))


def test_bad_calls(rng):
    raster, points, faces, K = scene(rng, torch.device("cpu"))
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.screen_derivatives(raster, points.float(), faces, K)
    with pytest.raises(ValueError, match="does not exist"):
        ops.screen_derivatives(raster, points, faces[:2], K, backend="native")
    half = ops.Raster(raster.triangle, raster.barycentrics.half(), raster.depth.half())
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.screen_derivatives(half, points.half(), faces, K.half(), backend="native")
