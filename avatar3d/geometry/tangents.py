"""Tangent frames of textured meshes: what a normal map's directions are relative to.

As MikkTSpace (Mikkelsen 2008), which glTF asks for: per triangle the direction in which u grows, brought into the plane
of the vertex' normal, averaged by the triangle's angle there; the fourth number says on which side v grows.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.typing import typed

SMALLEST = 1e-12
"""Areas of the texture below that have no direction."""


@typed
def split_corners(
    faces: Int[Tensor, "f 3"], uvs: Float[Tensor, "u 2"], uv_faces: Int[Tensor, "f 3"]
) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"], Int[Tensor, "f 3"]]:
    """One vertex for every distinct (vertex, uv, handedness of the texture) that corners have.

    Returns:
        Of each such vertex: its vertex and its uv; and the triangles' corners among them.
    """
    mirrored = (_uv_area(uvs, uv_faces) < 0).long()[:, None]
    keys = 2 * (faces.long() * len(uvs) + uv_faces.long()) + mirrored
    unique, inverse = torch.unique(keys, return_inverse=True)
    pairs = unique // 2
    return pairs // max(1, len(uvs)), pairs % max(1, len(uvs)), inverse


@typed
def vertex_tangents(
    points: Float[Tensor, "m 3"], normals: Float[Tensor, "m 3"], uvs: Float[Tensor, "m 2"], corners: Int[Tensor, "f 3"]
) -> Float[Tensor, "m 4"]:
    """Unit tangents, perpendicular to the normals, and 1 or -1: the bitangent, along which v (up) grows, is that times
    normal x tangent.

    Args:
        points: Of vertices split by `split_corners`, metres.
        normals: Theirs, unit.
        uvs: Theirs, origin at the lower left.
        corners: The triangles.
    """
    corners = corners.long()
    p, n = points[corners], normals[corners]
    area = _uv_area(uvs, corners)
    d1, d2 = uvs[corners[:, 1]] - uvs[corners[:, 0]], uvs[corners[:, 2]] - uvs[corners[:, 0]]
    along = (p[:, 1] - p[:, 0]) * d2[:, 1:] - (p[:, 2] - p[:, 0]) * d1[:, 1:]
    along = normalize(along * area.sign()[:, None], dim=1, eps=1e-30)
    along = torch.where((area.abs() > SMALLEST)[:, None], along, torch.zeros_like(along))[:, None].expand_as(p)

    def flat(v: Tensor) -> Tensor:
        return normalize(v - (v * n).sum(2, keepdim=True) * n, dim=2, eps=1e-20)

    ahead, behind = flat(p.roll(-1, 1) - p), flat(p.roll(1, 1) - p)
    angle = (ahead * behind).sum(2, keepdim=True).clamp(-1, 1).acos()
    total = torch.zeros_like(points).index_add(0, corners.view(-1), (flat(along) * angle).view(-1, 3))
    tangents = normalize(total - (total * normals).sum(1, keepdim=True) * normals, dim=1, eps=1e-20)
    lost = tangents.norm(dim=1, keepdim=True) < 0.5
    side = torch.ones_like(points[:, 0])
    side[corners[area < 0].view(-1)] = -1
    return torch.cat([torch.where(lost, _any_across(normals), tangents), side[:, None]], 1)


@typed
def bent_normals(
    normals: Float[Tensor, "*b 3"], tangents: Float[Tensor, "*b 4"], bend: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3"]:
    """Unit normals that a normal map makes of interpolated ones.

    Args:
        normals: Interpolated normals.
        tangents: Interpolated tangents, with the side.
        bend: The normal map's directions: x along the tangent, y along the bitangent, z out.
    """
    n, t = normalize(normals, dim=-1), normalize(tangents[..., :3], dim=-1)
    across = torch.linalg.cross(n, t) * tangents[..., 3:]
    return normalize(bend[..., :1] * t + bend[..., 1:2] * across + bend[..., 2:] * n, dim=-1)


@typed
def bend_of(
    normals: Float[Tensor, "*b 3"], tangents: Float[Tensor, "*b 4"], wanted: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3"]:
    """The normal map's unit directions with which `bent_normals` gives the wanted normals."""
    n, t = normalize(normals, dim=-1), normalize(tangents[..., :3], dim=-1)
    across = torch.linalg.cross(n, t) * tangents[..., 3:]
    # interpolated tangents are not quite perpendicular to interpolated normals
    lean = (n * t).sum(-1, keepdim=True)
    room = (1 - lean.square()).clamp_min(1e-6)
    a, c = (wanted * t).sum(-1, keepdim=True), (wanted * n).sum(-1, keepdim=True)
    x, z = (a - lean * c) / room, (c - lean * a) / room
    y = (wanted * across).sum(-1, keepdim=True) / room
    return normalize(torch.cat([x, y, z], -1), dim=-1)


def _uv_area(uvs: Tensor, corners: Tensor) -> Tensor:
    """Twice the signed area of triangles in the texture."""
    a, b, c = uvs[corners.long()].unbind(1)
    d1, d2 = b - a, c - a
    return d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]


def _any_across(normals: Tensor) -> Tensor:
    """Some unit vector perpendicular to each."""
    axis = torch.nn.functional.one_hot(normals.abs().argmin(1), 3).to(normals)
    return normalize(torch.linalg.cross(normals, axis), dim=1, eps=1e-20)
