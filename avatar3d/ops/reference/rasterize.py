"""Rasterisation in plain torch: tile by tile, every pixel against every triangle whose box reaches the tile."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

TILE = 64
"""Edge functions are evaluated relative to the corner of a square of this many pixels, as the kernels do."""


def rasterize_pixels(
    pixels: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], width: int, height: int, *, near: float, cull: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `ops.rasterize`; `pixels` are homogeneous: K p = (x z, y z, z).

    Slow: seconds for what the kernels do in milliseconds.
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
    triangle = torch.full((height, width), -1, dtype=torch.int32, device=q.device)
    if not len(faces):
        return triangle
    n, det, sign = _edges(q, faces)
    corners = q[faces.long()]
    usable = (corners.abs() < 1e15).all(-1).all(-1) & (det > 0)
    if cull:
        usable &= sign < 0
    lower, upper = _boxes(corners, near)
    for y0 in range(0, height, TILE):
        for x0 in range(0, width, TILE):
            tile = triangle[y0 : y0 + TILE, x0 : x0 + TILE]
            here = usable & (upper[:, 0] >= x0) & (upper[:, 1] >= y0)
            here &= (lower[:, 0] <= x0 + tile.shape[1]) & (lower[:, 1] <= y0 + tile.shape[0])
            ids = here.nonzero()[:, 0]
            if len(ids):
                tile.copy_(_visible_in_tile(n[ids], det[ids], sign[ids], ids, x0, y0, tile.shape, q.dtype, near))
    return triangle


def _boxes(corners: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Bounds in pixels, a pixel too large; everywhere for triangles that are not wholly in front."""
    in_front = (corners[..., 2] >= near).all(-1)[:, None]
    xy = corners[..., :2] / corners[..., 2:].clamp_min(near)
    lower, upper = xy.amin(1) - 1, xy.amax(1) + 1
    return torch.where(in_front, lower, -torch.inf), torch.where(in_front, upper, torch.inf)


def _visible_in_tile(n, det, sign, ids, x0: int, y0: int, shape, dtype, near: float) -> Tensor:
    """Which of some triangles the pixels of one tile see."""
    ys, xs = (torch.arange(size, device=n.device) + start for size, start in zip(shape, (y0, x0), strict=True))
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    best = torch.zeros(shape, dtype=dtype, device=n.device)
    rank = torch.zeros(shape, dtype=torch.int64, device=n.device)
    behind = 2**31  # of equals the one that faces the camera wins, then the lower index
    for some in torch.arange(len(ids), device=n.device).split(512):
        E = _evaluate(n[some][:, None, None], x, y, dtype)  # [some, h, w, 3]
        closed = (n[some][..., 0] > 0) | ((n[some][..., 0] == 0) & (n[some][..., 1] > 0))
        inside = ((E > 0) | ((E == 0) & closed[:, None, None])).all(-1)
        parts = E * (1 / det[some]).to(dtype)[:, None, None, None]
        inverse = (parts[..., 0] + parts[..., 1]) + parts[..., 2]
        inverse = torch.where(inside & (inverse > 0) & (inverse <= 1 / near), inverse, 0)
        nearest = inverse.amax(0)
        ranks = torch.where(sign[some] > 0, ids[some] + behind, ids[some])[:, None, None]
        lowest = torch.where(inverse == nearest, ranks, 2 * behind).amin(0)
        closer = (nearest > best) | ((nearest == best) & (nearest > 0) & (lowest < rank))
        best, rank = torch.where(closer, nearest, best), torch.where(closer, lowest, rank)
    return torch.where(best > 0, rank % behind, -1).int()


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
