import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError
from tests.mesh_cases import in_front, intrinsics, soup, sphere


def scene(rng, device, kind, width=48, height=40):
    """Camera-space points, faces and K of random triangles, or of a sphere finer or coarser than the pixels."""
    if kind == "soup":
        points, faces = soup(rng, 2, 40, 30)
    else:
        vertices, faces = sphere(*{"coarse": (5, 7), "fine": (60, 90)}[kind])
        points = torch.stack([in_front(vertices), in_front(vertices * 0.3) + 0.1])
    K = intrinsics(2, width, height).to(device).requires_grad_()
    return points.to(device).requires_grad_(), faces.to(device), K


@pytest.mark.parametrize("kind", ["soup", "coarse", "fine"])
def test_native_equals_reference(rng, device, kind):
    points, faces, K = scene(rng, device, kind)
    image = torch.randn(2, 40, 48, 3, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    raster = ops.rasterize(points, faces, K, 48, 40)
    actual, expected = (ops.antialias(image, raster, points, faces, K, backend=k) for k in ("native", "reference"))
    assert 30 < int((actual != image).any(-1).sum())
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)
    cotangent = torch.randn(actual.shape, generator=rng, dtype=torch.float64).to(device)
    actual, expected = (torch.autograd.grad(y, (image, points, K), cotangent) for y in (actual, expected))
    for a, e in zip(actual, expected, strict=True):
        assert float(e.abs().max()) > 0
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-9 * float(e.abs().max()))


def test_gradcheck(rng, device):
    vertices, faces = sphere(3, 5)
    points = in_front(vertices)[None].to(device).requires_grad_()
    faces, K = faces.to(device), intrinsics(1, 9, 8).to(device).requires_grad_()
    image = torch.randn(1, 8, 9, 2, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    raster = ops.Raster(*(t.detach() for t in ops.rasterize(points, faces, K, 9, 8)))

    def f(image, points, K):
        return ops.antialias(image, raster, points, faces, K, backend="native")

    assert torch.autograd.gradcheck(f, (image, points, K), eps=1e-6)


def test_opcheck(rng, device):
    from avatar3d.ops.antialias import _antialias

    points, faces, K = (t.detach() for t in scene(rng, device, "coarse"))
    raster = ops.rasterize(points, faces, K, 48, 40)
    image = torch.randn(2, 40, 48, 3, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    pixels = (points @ K.transpose(1, 2)).requires_grad_()
    torch.library.opcheck(
        _antialias.custom_op, (image, raster.triangle, raster.depth, pixels, faces, ops.face_neighbours(faces), 0.01)
    )


@pytest.mark.parametrize("rings, segments", [(6, 9), (40, 64), (150, 220)])
def test_coverage_is_the_outlines_area(device, rings, segments):
    """The antialiased mask sums to the area of the outline polygon, and its gradient is that area's."""
    vertices, faces = sphere(rings, segments)
    points, faces = in_front(vertices)[None].to(device), faces.to(device)
    K = intrinsics(1, 128, 128, 110.0).to(device)
    scale = torch.tensor(1.0, dtype=torch.float64, device=device, requires_grad=True)
    centre = torch.tensor([0.0, 0, 3], dtype=torch.float64, device=device)

    def area(scale):
        moved = (points - centre) * scale + centre
        raster = ops.rasterize(moved, faces, K, 128, 128, backend="native")
        mask = (raster.triangle >= 0).to(points)[..., None]
        return ops.antialias(mask, raster, moved, faces, K, backend="native").sum()

    def area_by_supersampling(s):
        moved = (points - centre) * s + centre
        fine = K * 8
        fine[:, 2, 2] = 1
        return (ops.rasterize(moved, faces, fine, 1024, 1024).triangle >= 0).double().sum() / 64

    smooth = area(scale)
    exact = area_by_supersampling(1.0)
    assert abs(float(smooth.detach() - exact)) < 2e-4 * float(exact)
    (slope,) = torch.autograd.grad(smooth, scale)
    expected = (area_by_supersampling(1.02) - area_by_supersampling(0.98)) / 0.04
    torch.testing.assert_close(slope, expected, rtol=0.01, atol=0)


def test_interior_edges_are_left_alone(rng, device):
    """Where one surface goes on from triangle to triangle, nothing is blended."""
    vertices, faces = sphere(30, 40)
    points, faces, K = in_front(vertices)[None].to(device), faces.to(device), intrinsics(1, 80, 80).to(device)
    raster = ops.rasterize(points, faces, K, 80, 80)
    image = torch.rand(1, 80, 80, 3, generator=rng, dtype=torch.float64).to(device)
    changed = (ops.antialias(image, raster, points, faces, K) != image).any(-1)[0]
    inside = raster.triangle[0] >= 0
    border = torch.nn.functional.max_pool2d((~inside)[None].double(), 3, 1, 1)[0] > 0
    assert not changed[inside & ~border].any() and int(changed.sum()) > 100


def test_neighbours():
    vertices, faces = sphere(6, 9)
    neighbours = ops.face_neighbours(faces)
    assert int(neighbours.min()) >= 0  # closed
    for face in range(len(faces)):
        for i in range(3):
            edge = {int(faces[face, (i + 1) % 3]), int(faces[face, (i + 2) % 3])}
            other = int(neighbours[face, i])
            assert other != face and edge < set(faces[other].tolist())
    open_mesh = ops.face_neighbours(torch.tensor([[0, 1, 2], [2, 1, 3], [0, 2, 4], [2, 0, 5]]))
    assert open_mesh.tolist() == [[1, -1, -1], [-1, -1, 0], [-1, -1, -1], [-1, -1, -1]]
    assert ops.face_neighbours(faces[:0]).shape == (0, 3)


def test_threads_change_nothing(rng):
    points, faces, K = scene(rng, torch.device("cpu"), "fine", 100, 90)
    image = torch.randn(2, 90, 100, 3, generator=rng, dtype=torch.float64).requires_grad_()
    raster = ops.rasterize(points, faces, K, 100, 90)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        out = ops.antialias(image, raster, points, faces, K, backend="native")
        results.append((out, *torch.autograd.grad(out.sin().sum(), (image, points))))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_nothing_to_see(device):
    points = torch.zeros(1, 0, 3, dtype=torch.float64, device=device)
    faces = torch.zeros(0, 3, dtype=torch.int32, device=device)
    K = intrinsics(1, 7, 5).to(device)
    raster = ops.rasterize(points, faces, K, 7, 5)
    image = torch.rand(1, 5, 7, 3, dtype=torch.float64, device=device)
    for backend in ("native", "reference"):
        assert torch.equal(ops.antialias(image, raster, points, faces, K, backend=backend), image)


def test_bad_calls(rng):
    points, faces, K = (t.detach() for t in scene(rng, torch.device("cpu"), "coarse"))
    raster = ops.rasterize(points, faces, K, 48, 40)
    image = torch.rand(2, 40, 48, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.antialias(image.float(), raster, points, faces, K)
    with pytest.raises(ValueError, match="disagree"):
        ops.antialias(image[:, 1:], raster, points, faces, K)
    with pytest.raises(ValueError, match="does not exist"):
        ops.antialias(image, raster, points, faces[:10], K, backend="native")
    half = ops.Raster(raster.triangle, raster.barycentrics.half(), raster.depth.half())
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.antialias(image.half(), half, points.half(), faces, K.half(), backend="native")
