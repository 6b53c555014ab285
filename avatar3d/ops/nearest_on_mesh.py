"""The nearest point of a triangle mesh: for scans, registration and metrics."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


class Nearest(NamedTuple):
    """For every point, where it is nearest to the mesh."""

    point: Float[Tensor, "*b n 3"]
    """On the surface."""
    face: Int[Tensor, "*b n"]
    """int32; -1 for points that are not finite, whose other values are NaN."""
    barycentrics: Float[Tensor, "*b n 3"]
    """Share of the face's corners."""
    distance: Float[Tensor, "*b n"]
    """To the surface, not squared, not signed."""


class FaceTree(NamedTuple):
    """A hierarchy of boxes about the faces of a mesh in one place; about 106 bytes a face in single precision."""

    boxes: Float[Tensor, "b nodes 6 16"]
    leaves: Float[Tensor, "b leaves 25 16"]
    faces: Int[Tensor, "b leaves 16"]


@typed
def nearest_on_mesh(
    points: Float[Tensor, "*b n 3"],
    vertices: Float[Tensor, "*b v 3"],
    faces: Int[Tensor, "f 3"],
    *,
    tree: FaceTree | None = None,
    backend: Backend = "auto",
) -> Nearest:
    """Finds the closest point of a surface to every point, exactly.

    `distance` is differentiable in points and vertices. So is `point` in vertices, moving with its face: its shares of
    the corners are held fixed, which is all that an objective of the distance sees (envelope theorem); derivatives
    along the surface are left out.

    Faces without area count as the segment or point that they are; faces with a corner that is not finite do not
    count. Of several faces at the same distance the lowest is named, as far as rounding can tell. The search runs in
    the points' precision, the result is computed in double.

    Args:
        points: Positions; with or without one batch axis.
        vertices: The surface's, in the same unit; a mesh for each item of the batch.
        faces: Corners of every triangle.
        tree: From `face_tree(vertices, faces)`, which is made when left out: worth keeping while a surface stays.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: no faces, faces beyond the vertices, differing dtypes, or a tree of another mesh.
    """
    _check(vertices, faces, points)
    batched = points.ndim == 3
    p, v = (points, vertices) if batched else (points[None], vertices[None])
    faces = faces.to(torch.int32).contiguous()
    if native.use_native(backend, "nearest_on_mesh", points):
        p, v = p.contiguous(), v.contiguous()
        found = tree or FaceTree(*_face_tree(v.detach(), faces))
        face, shares, point, distance = _nearest_on_mesh(p.detach(), v.detach(), faces, *found)
        if torch.is_grad_enabled() and (points.requires_grad or vertices.requires_grad):
            point, distance = _follow(p, v, faces, face, shares)
    else:
        if not 0 <= int(faces.min()) <= int(faces.max()) < v.shape[1]:
            raise ValueError("nearest_on_mesh: faces name a vertex that does not exist.")
        face, shares = reference.nearest_on_mesh(p, v, faces)
        point, distance = _follow(p, v, faces, face, shares)
    result = Nearest(point, face, shares, distance)
    return result if batched else Nearest(*(x[0] for x in result))


@typed
def face_tree(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], *, backend: Backend = "auto"
) -> FaceTree | None:
    """Builds what `nearest_on_mesh` searches, on the CPU whatever the vertices' device; None for the torch reference,
    which needs none.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: no faces, or faces beyond the vertices.
    """
    _check(vertices, faces, vertices)
    if not native.use_native(backend, "nearest_on_mesh", vertices):
        return None
    vertices = vertices.detach() if vertices.ndim == 3 else vertices.detach()[None]
    return FaceTree(*_face_tree(vertices.contiguous(), faces.to(torch.int32).contiguous()))


def _check(vertices: Tensor, faces: Tensor, points: Tensor) -> None:
    if points.dtype != vertices.dtype:
        raise ValueError(f"nearest_on_mesh: dtypes {points.dtype}, {vertices.dtype} differ; pass one dtype.")
    if points.ndim > 3:
        raise ValueError(f"nearest_on_mesh: points {tuple(points.shape)}; expected [n, 3] or [b, n, 3].")
    if len(faces) == 0:
        raise ValueError("nearest_on_mesh: the mesh has no faces.")


def _follow(p: Tensor, v: Tensor, faces: Tensor, face: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Points and distances as functions of points and vertices."""
    corners = faces[face.clamp_min(0).long()].long()  # [b, n, 3]
    b, n, _ = corners.shape
    flat = (corners + torch.arange(b, device=p.device)[:, None, None] * v.shape[1]).view(-1)
    at = v.reshape(-1, 3).index_select(0, flat).view(b, n, 3, 3)
    none = (face < 0)[..., None]
    # what is not finite stays out of the sums: zero times NaN would reach the gradients
    point = (shares.masked_fill(none, 0)[..., None] * at.masked_fill(none[..., None], 0)).sum(2)
    distance = torch.linalg.vector_norm(p.masked_fill(none, 0) - point, dim=2)
    return point.masked_fill(none, torch.nan), distance.masked_fill(none[..., 0], torch.nan)


@native.operation("avatar3d::face_tree")
def _face_tree(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    vertices, device = vertices.detach().cpu(), vertices.device
    tree = _empty_tree(vertices, faces)
    native.call("face_tree", vertices, vertices, faces.cpu(), *tree)
    boxes, leaves, ids = (t.to(device) for t in tree)
    return boxes, leaves, ids


def _empty_tree(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    b, leaves = vertices.shape[0], (faces.shape[0] + 15) // 16
    boxes, numbers = vertices.new_zeros(b, leaves // 15 + 8, 6, 16), vertices.new_empty(b, leaves, 25, 16)
    return boxes, numbers, faces.new_empty(b, leaves, 16)


@_face_tree.register_fake
def _(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_tree(vertices, faces)


@native.operation("avatar3d::nearest_on_mesh")
def _nearest_on_mesh(
    points: Tensor, vertices: Tensor, faces: Tensor, boxes: Tensor, leaves: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    face, shares, point, distance = out = _empty(points)
    inputs = (points.detach(), vertices.detach(), faces, boxes, leaves, ids)
    native.call("nearest_on_mesh_forward", points, *inputs, point, face, shares, distance)
    return out


def _empty(points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, n, _ = points.shape
    face, distance = points.new_empty(b, n, dtype=torch.int32), points.new_empty(b, n)
    return face, torch.empty_like(points), torch.empty_like(points), distance


@_nearest_on_mesh.register_fake
def _(
    points: Tensor, vertices: Tensor, faces: Tensor, boxes: Tensor, leaves: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty(points)
