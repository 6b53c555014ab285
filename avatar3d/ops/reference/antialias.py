"""Outline antialiasing in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

STEPS = 64
"""Faces that are followed from a pixel to the outline, as in the kernels."""


def antialias_pixels(
    image: Float[Tensor, "b h w c"],
    triangle: Int[Tensor, "b h w"],
    depth: Float[Tensor, "b h w"],
    pixels: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    neighbours: Int[Tensor, "f 3"],
) -> Float[Tensor, "b h w c"]:
    """See `ops.antialias`; `pixels` are homogeneous: K p = (x z, y z, z)."""
    if not len(faces):
        return image.clone()
    faces, neighbours, triangle = faces.long(), neighbours.long(), triangle.long()
    outline = _outline_edges(pixels.detach(), faces, neighbours)
    out = image
    for step in ((0, 1), (1, 0)):
        out = out + _blend(image, triangle, depth, pixels, faces, neighbours, outline, step)
    return out


def _outline_edges(q: Tensor, faces: Tensor, neighbours: Tensor) -> Tensor:
    """Which edges [b, f, 3] belong to one face, or to two that face differently."""
    corners = q.double()[:, faces]
    facing = torch.linalg.det(corners).sign()
    return (neighbours < 0) | (facing[..., None] != facing[:, neighbours.clamp_min(0)])


def _blend(image, triangle, depth, pixels, faces, neighbours, outline, step) -> Tensor:
    """What the crossings between pixels and their right (0, 1) or lower (1, 0) neighbours add to the image."""
    dy, dx = step
    h, w = triangle.shape[1:]
    a, b = triangle[:, : h - dy, : w - dx], triangle[:, dy:, dx:]
    image_of, y, x = torch.nonzero(a != b, as_tuple=True)
    first, second = torch.stack([y, x]), torch.stack([y + dy, x + dx])
    t_first, t_second = (triangle[image_of, p[0], p[1]] for p in (first, second))
    z_first, z_second = (depth[image_of, p[0], p[1]] for p in (first, second))
    first_nearer = (t_first >= 0) & ((t_second < 0) | (z_first <= z_second))
    near, far = torch.where(first_nearer, first, second), torch.where(first_nearer, second, first)
    face, far_face = torch.where(first_nearer, t_first, t_second), torch.where(first_nearer, t_second, t_first)
    alive = torch.ones_like(face, dtype=torch.bool)
    came_from = torch.full_like(face, -2)
    found = torch.zeros_like(alive)
    found_face, found_edge = face.clone(), torch.zeros_like(face)
    rows = torch.arange(len(face), device=face.device)
    for _ in range(STEPS):
        if not alive.any():
            break
        E_near, E_far = (_edge_values(pixels.detach(), faces[face], image_of, p) for p in (near, far))
        usable = (E_far < 0) & (E_near >= 0) & (neighbours[face] != came_from[:, None])
        at = torch.where(usable, E_near / (E_near - E_far), torch.inf)
        edge = at.argmin(-1)
        alive &= at.amin(-1) < torch.inf
        ends = alive & outline[image_of, face, edge]
        found_face, found_edge = torch.where(ends, face, found_face), torch.where(ends, edge, found_edge)
        found |= ends
        following = neighbours[face, edge]
        alive = alive & ~ends & (following != far_face)
        came_from, face = torch.where(alive, face, came_from), torch.where(alive, following, face)
    # A crossing counts in rows where the outline is steep and in columns where it is flat, not twice.
    corners = pixels.detach()[image_of[:, None], faces[found_face]].double()
    ends = [corners[rows, (found_edge + i) % 3] for i in (1, 2)]
    n = torch.linalg.cross(*ends).abs()
    keep = rows[found & ((n[:, 0] < n[:, 1]) == bool(dy))]
    image_of, near, far, face, edge = image_of[keep], near[:, keep], far[:, keep], found_face[keep], found_edge[keep]
    E_near, E_far = (_edge_values(pixels, faces[face], image_of, p).gather(1, edge[:, None])[:, 0] for p in (near, far))
    d = E_near / (E_near - E_far)
    receives = d < 0.5
    to, other = torch.where(receives, near, far), torch.where(receives, far, near)
    difference = image[image_of, other[0], other[1]] - image[image_of, to[0], to[1]]
    add = (d - 0.5).abs().to(image.dtype)[:, None] * difference
    return torch.zeros_like(image).index_put((image_of, to[0], to[1]), add, accumulate=True)


def _edge_values(q: Tensor, corners: Tensor, image_of: Tensor, pixel: Tensor) -> Tensor:
    """The three edge functions of triangles [n, 3] at pixels [2, n], positive inside."""
    c = q[image_of[:, None], corners].double()
    n = torch.linalg.cross(c.roll(-1, 1), c.roll(-2, 1))
    sign = (c[:, 0] * n[:, 0]).sum(-1).detach().sign()
    P = torch.stack([pixel[1] + 0.5, pixel[0] + 0.5, torch.ones_like(pixel[0])], -1).to(n)
    return (n * P[:, None]).sum(-1) * sign[:, None]
