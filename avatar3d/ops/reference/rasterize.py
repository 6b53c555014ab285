"""Rasterisation in plain torch: every pixel against every triangle."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

TILE = 64
"""Edge functions are evaluated relative to the corner of a square of this many pixels, as the kernels do."""


def rasterize_pixels(
    pixels: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], width: int, height: int, *, near: float, cull: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `ops.rasterize`; `pixels` are homogeneous: K p = (x z, y z, z).

    Time and memory grow with pixels times triangles.
    """
    if faces.numel() and not (0 <= int(faces.min()) and int(faces.max()) < pixels.shape[1]):
        raise ValueError("rasterize: faces name a vertex that does not exist.")
    triangle = torch.stack([_visible(q, faces, width, height, near, cull) for q in pixels.detach()])
    barycentrics, depth = _resolve(pixels, faces, triangle)
    return triangle, barycentrics, depth


def _edges(q: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edge planes [..., 3 edges, 3], positive inside; absolute determinant, 0 without area; its sign."""
    corners = q[faces.long()].double()
    u, w = corners.roll(-1, -2), corners.roll(-2, -2)
    n = torch.linalg.cross(u, w)
    n = 0.5 * (n - torch.linalg.cross(w, u))  # exactly the negative when the ends are swapped
    det = (corners[..., 0, :] * n[..., 0, :]).sum(-1)
    det = torch.where((u != w).any(-1).all(-1), det, 0)  # two corners in one place
    sign = torch.where(det < 0, -1.0, 1.0).to(n)
    return n * sign[..., None, None], det.abs(), sign


def _evaluate(n: Tensor, x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """Edge functions at whole pixels x, y (their centres are half a pixel further)."""
    tile_x, tile_y = x // TILE * TILE, y // TILE * TILE
    corner = n[..., 0] * (tile_x + 0.5)[..., None] + (n[..., 1] * (tile_y + 0.5)[..., None] + n[..., 2])
    a, b, e = n[..., 0].to(dtype), n[..., 1].to(dtype), corner.to(dtype)
    return a * (x - tile_x).to(dtype)[..., None] + (b * (y - tile_y).to(dtype)[..., None] + e)


def _visible(q: Tensor, faces: Tensor, width: int, height: int, near: float, cull: bool) -> Tensor:
    dtype, device = q.dtype, q.device
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    best = torch.zeros(height, width, dtype=dtype, device=device)
    rank = torch.zeros(height, width, dtype=torch.int64, device=device)
    if not len(faces):
        return torch.full_like(rank, -1, dtype=torch.int32)
    ids = torch.arange(len(faces), device=device)
    for some in ids.split(max(1, 2**22 // (height * width))):
        n, det, sign = _edges(q, faces[some])
        usable = (q[faces[some].long()].abs() < 1e15).all(-1).all(-1) & (det > 0)
        if cull:
            usable &= sign < 0
        E = _evaluate(n[:, None, None], x, y, dtype)  # [some, h, w, 3]
        closed = (n[..., 0] > 0) | ((n[..., 0] == 0) & (n[..., 1] > 0))
        inside = ((E > 0) | ((E == 0) & closed[:, None, None])).all(-1) & usable[:, None, None]
        parts = E * (1 / det).to(dtype)[:, None, None, None]
        inverse = (parts[..., 0] + parts[..., 1]) + parts[..., 2]
        inverse = torch.where(inside & (inverse > 0) & (inverse <= 1 / near), inverse, 0)
        nearest = inverse.amax(0)
        # Of equals the one that faces the camera wins, then the lower index.
        ranks = torch.where((sign > 0)[:, None, None], some[:, None, None] + len(faces), some[:, None, None])
        lowest = torch.where(inverse == nearest, ranks, 2 * len(faces)).amin(0)
        closer = (nearest > best) | ((nearest == best) & (nearest > 0) & (lowest < rank))
        best, rank = torch.where(closer, nearest, best), torch.where(closer, lowest, rank)
    return torch.where(best > 0, rank % len(faces), -1).int()


def _resolve(pixels: Tensor, faces: Tensor, triangle: Tensor) -> tuple[Tensor, Tensor]:
    image, y, x = torch.nonzero(triangle >= 0, as_tuple=True)
    corners = faces.long()[triangle[image, y, x].long()]
    q = pixels[image[:, None], corners]
    n = torch.linalg.cross(q.roll(-1, -2), q.roll(-2, -2))
    centre = torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], -1).to(q)
    E = (n * centre[:, None]).sum(-1)
    total = E.sum(-1)
    barycentrics = pixels.new_zeros(*triangle.shape, 3).index_put((image, y, x), E / total[:, None])
    depth = (q[:, 0] * n[:, 0]).sum(-1) / total
    return barycentrics, pixels.new_zeros(triangle.shape).index_put((image, y, x), depth)
