import pytest
import torch
from mesh_cases import soup, sphere

from avatar3d import ops
from avatar3d.errors import BackendError
from avatar3d.geometry.surface import points_on_faces


def mesh(rng, device, kind):
    """Meshes on either side of the tree's sizes: 16 faces a leaf, 16 children a node."""
    if kind == "sphere":
        vertices, faces = sphere(20, 30)
    elif kind == "mixed":  # triangles of very different sizes, in no order
        vertices, faces = soup(rng, 1, 300, 700)
        vertices = vertices[0] * torch.logspace(-3, 1, 300, dtype=torch.float64)[:, None]
    elif kind == "degenerate":  # segments, points, slivers and copies
        vertices = torch.randn(40, 3, generator=rng, dtype=torch.float64)
        vertices[1] = vertices[0]
        vertices[2] = (vertices[3] + vertices[4]) / 2
        vertices[5] = (vertices[6] + vertices[7]) / 2 + 1e-9
        faces = torch.randint(0, 40, (60, 3), generator=rng, dtype=torch.int32)
        faces[:6] = torch.tensor([[0, 1, 8], [2, 3, 4], [5, 6, 7], [9, 9, 9], [9, 10, 10], [11, 12, 13]])
        faces[6:12] = faces[:6]
    else:
        vertices, faces = soup(rng, 1, 2 * kind + 3, kind)
        vertices = vertices[0]
    return vertices.to(device), faces.to(device)


KINDS = ["sphere", "mixed", "degenerate", 1, 2, 16, 17, 256, 257]


def query(rng, device, vertices, faces, n=200):
    """Points about the mesh, on it, at its corners, and far away."""
    around = torch.randn(n, 3, generator=rng, dtype=torch.float64).to(device)
    faces = faces[torch.randint(0, len(faces), (50,), generator=rng).to(device)]
    weights = torch.rand(50, 3, generator=rng, dtype=torch.float64).to(device)
    on = points_on_faces(vertices, faces, torch.arange(50, device=device), weights / weights.sum(1, keepdim=True))
    return torch.cat([around, 0.01 * around, 1e4 * around, on, vertices[faces[:, 0].long()]])


@pytest.mark.parametrize("kind", KINDS)
def test_native_equals_reference(rng, device, kind):
    vertices, faces = mesh(rng, device, kind)
    points = query(rng, device, vertices, faces)
    points.requires_grad_(), vertices.requires_grad_()
    actual, expected = (ops.nearest_on_mesh(points, vertices, faces, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual.distance, expected.distance, rtol=1e-9, atol=1e-12)
    # where several faces are equally near, rounding may choose another, and another point
    same = actual.face == expected.face
    assert same.double().mean() > (0.6 if kind == "degenerate" else 0.7)
    torch.testing.assert_close(actual.point[same], expected.point[same], rtol=1e-6, atol=1e-9)
    cotangent = torch.randn(len(points), generator=rng, dtype=torch.float64).to(device)
    cotangent = cotangent * (expected.distance > 1e-6) * same  # on the surface the distance has a kink
    wrt = (points,) if kind == "degenerate" else (points, vertices)  # corners in one place share as they like
    actual, expected = (torch.autograd.grad((x.distance * cotangent).sum(), wrt) for x in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_result_is_of_its_face_and_no_vertex_is_nearer(rng, device, kind):
    vertices, faces = mesh(rng, device, kind)
    points = query(rng, device, vertices, faces)
    found = ops.nearest_on_mesh(points, vertices, faces, backend="native")
    assert found.face.dtype == torch.int32 and (found.barycentrics >= 0).all()
    torch.testing.assert_close(found.barycentrics.sum(1), torch.ones_like(found.distance))
    torch.testing.assert_close(found.point, points_on_faces(vertices, faces, found.face, found.barycentrics))
    torch.testing.assert_close(found.distance, (points - found.point).norm(dim=1))
    to_corners = torch.cdist(points, vertices[faces.unique().long()]).amin(1)
    assert (found.distance <= to_corners * (1 + 1e-12) + 1e-12).all()
    assert (found.distance[-100:] < 1e-9).all()  # those on the surface


def test_single_precision_is_as_exact_as_its_numbers(rng, device):
    vertices, faces = mesh(rng, device, "mixed")
    points = query(rng, device, vertices, faces)[:400]
    actual = ops.nearest_on_mesh(points.float(), vertices.float(), faces, backend="native")
    expected = ops.nearest_on_mesh(points.float().double(), vertices.float().double(), faces, backend="reference")
    torch.testing.assert_close(actual.distance.double(), expected.distance, rtol=2e-6, atol=2e-6)


def test_the_lowest_of_equal_faces_is_named(rng, device):
    vertices, faces = mesh(rng, device, "sphere")
    many = torch.cat([faces, faces, faces])
    points = query(rng, device, vertices, faces)[:200]
    assert (ops.nearest_on_mesh(points, vertices, many, backend="native").face < len(faces)).all()
    top = torch.tensor([[0.0, 2, 0]], dtype=torch.float64, device=device)  # above a corner of 30 faces
    expected = torch.nonzero((faces == 0).any(1))[0, 0]
    for backend in ("native", "reference"):
        assert ops.nearest_on_mesh(top, vertices, faces, backend=backend).face[0] == expected


def test_on_a_triangle_its_edges_and_its_corners(device):
    triangle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64, device=device)
    faces = torch.tensor([[0, 1, 2]], device=device)
    points = triangle.new_tensor([[0.2, 0.2, 3], [0.5, -1, 0], [2, 2, 1], [-1, -1, 5], [3, -1, 0], [0.25, 0.25, 0]])
    nearest = triangle.new_tensor([[0.2, 0.2, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0, 0, 0], [1, 0, 0], [0.25, 0.25, 0]])
    for backend in ("native", "reference"):
        found = ops.nearest_on_mesh(points, triangle, faces, backend=backend)
        torch.testing.assert_close(found.point, nearest)
        torch.testing.assert_close(found.distance, (points - nearest).norm(dim=1))
        torch.testing.assert_close(found.barycentrics[0], triangle.new_tensor([0.6, 0.2, 0.2]))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_what_is_not_finite(rng, device, backend):
    vertices, faces = mesh(rng, device, "sphere")
    points = torch.randn(6, 3, generator=rng, dtype=torch.float64).to(device)
    expected = ops.nearest_on_mesh(points, vertices, faces[5:], backend=backend)
    points[1, 2], points[4, 0] = torch.nan, torch.inf
    broken = torch.cat([vertices, torch.full_like(vertices[:1], torch.nan)])
    more = torch.cat([faces[5:], torch.full_like(faces[:1], len(vertices))])  # a face of NaN
    points.requires_grad_(), broken.requires_grad_()
    found = ops.nearest_on_mesh(points, broken, more, backend=backend)
    bad = torch.tensor([False, True, False, False, True, False], device=device)
    assert (found.face[bad] == -1).all() and found.distance[bad].isnan().all() and found.point[bad].isnan().all()
    assert torch.equal(found.face[~bad], expected.face[~bad])
    torch.testing.assert_close(found.distance[~bad], expected.distance[~bad])
    for grad in torch.autograd.grad(found.distance[~bad].sum(), (points, broken)):
        assert grad.isfinite().all() and (grad != 0).any()
    nothing = ops.nearest_on_mesh(points.detach(), torch.full_like(vertices, torch.nan), faces, backend=backend)
    assert (nothing.face == -1).all() and nothing.distance.isnan().all()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_empty_inputs(rng, device, backend):
    vertices, faces = mesh(rng, device, 17)
    found = ops.nearest_on_mesh(vertices[:0], vertices, faces, backend=backend)
    assert found.point.shape == (0, 3) and found.face.shape == (0,) and found.distance.shape == (0,)
    none = vertices[None][:0]
    assert ops.nearest_on_mesh(none, none, faces, backend=backend).face.shape == (0, len(vertices))


def test_batch_is_one_mesh_after_the_other(rng, device):
    vertices, faces = mesh(rng, device, "sphere")
    meshes = torch.stack([vertices, 2 * vertices, vertices + 0.5])
    points = torch.randn(3, 40, 3, generator=rng, dtype=torch.float64).to(device)
    together = ops.nearest_on_mesh(points, meshes, faces, backend="native")
    for i in range(3):
        alone = ops.nearest_on_mesh(points[i], meshes[i], faces, backend="native")
        torch.testing.assert_close([x[i] for x in together], list(alone), rtol=0, atol=0)


def test_a_tree_that_is_kept_gives_the_same(rng, device):
    vertices, faces = mesh(rng, device, "mixed")
    points = query(rng, device, vertices, faces)
    tree = ops.face_tree(vertices, faces)
    expected = ops.nearest_on_mesh(points, vertices, faces, backend="native")
    actual = ops.nearest_on_mesh(points, vertices, faces, tree=tree, backend="native")
    torch.testing.assert_close(list(actual), list(expected), rtol=0, atol=0)


def test_gradcheck(rng, device):
    vertices, faces = mesh(rng, device, 17)
    points = 2 * torch.randn(10, 3, generator=rng, dtype=torch.float64).to(device)
    points.requires_grad_(), vertices.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, v: ops.nearest_on_mesh(p, v, faces, backend="native").distance, (points, vertices)
    )


def test_the_point_moves_with_its_face(rng, device):
    vertices, faces = mesh(rng, device, "sphere")
    points = torch.randn(30, 3, generator=rng, dtype=torch.float64).to(device)
    vertices.requires_grad_()
    found = ops.nearest_on_mesh(points, vertices, faces, backend="native")
    (grad,) = torch.autograd.grad(found.point[:, 1].sum(), vertices)
    torch.testing.assert_close(grad.sum(0), grad.new_tensor([0.0, 30, 0]))  # a shift of all moves all points by it


def test_rigid_motion_of_both_changes_nothing(rng, device):
    vertices, faces = mesh(rng, device, "mixed")
    points = query(rng, device, vertices, faces)[:400]
    R, _ = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64).to(device))
    before = ops.nearest_on_mesh(points, vertices, faces, backend="native")
    after = ops.nearest_on_mesh(points @ R.T + 1, vertices @ R.T + 1, faces, backend="native")
    torch.testing.assert_close(after.distance, before.distance, rtol=1e-9, atol=1e-9)


def test_opcheck(rng, device):
    from avatar3d.ops.nearest_on_mesh import _face_tree, _nearest_on_mesh

    vertices, faces = mesh(rng, device, 17)
    tree = _face_tree(vertices[None], faces)
    torch.library.opcheck(_face_tree.custom_op, (vertices[None], faces))
    torch.library.opcheck(_nearest_on_mesh.custom_op, (vertices[None] + 0.1, vertices[None], faces, *tree))


def test_bad_calls(rng):
    vertices, faces = mesh(rng, torch.device("cpu"), 17)
    for backend in ("native", "reference"):
        with pytest.raises(ValueError, match="no faces"):
            ops.nearest_on_mesh(vertices, vertices, faces[:0], backend=backend)
        with pytest.raises(ValueError, match="a vertex that does not exist"):
            ops.nearest_on_mesh(vertices, vertices[:3], faces, backend=backend)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.nearest_on_mesh(vertices.float(), vertices, faces)
    with pytest.raises(ValueError, match="another mesh"):
        ops.nearest_on_mesh(vertices, vertices, faces, tree=ops.face_tree(vertices, faces[:16]))
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.nearest_on_mesh(vertices.half(), vertices.half(), faces, backend="native")
    with pytest.raises(Exception, match="Type-check"):
        ops.nearest_on_mesh(vertices[:, :2], vertices, faces)
