"""The nearest point of a triangle mesh in plain torch: every point against every face."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST = 1 << 18
"""Pairs of a point and a face that are looked at together."""


def nearest_on_mesh(
    points: Float[Tensor, "b n 3"], vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"]
) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n 3"]]:
    """The nearest face, the lowest of several, -1 for none; and the shares of its corners."""
    points, vertices = points.detach(), vertices.detach()
    step = max(1, MOST // len(faces))
    found = [
        _nearest(p, v[faces.long()]) for ps, v in zip(points, vertices, strict=True) for p in ps.split(step)
    ]  # one chunk at least, maybe without points
    face = torch.cat([f for f, _ in found]) if found else points.new_empty(0, dtype=torch.int32)
    shares = torch.cat([w for _, w in found]) if found else points.new_empty(0, 3)
    return face.view(points.shape[:2]), shares.view(points.shape)


def _nearest(points: Float[Tensor, "n 3"], corners: Float[Tensor, "f 3 3"]) -> tuple[Tensor, Tensor]:
    f = len(corners)
    shares = closest_shares(points[:, None], corners)
    difference = points[:, None] - torch.einsum("nfk,fkc->nfc", shares, corners.nan_to_num())
    square = difference.square().sum(-1)
    usable = torch.isfinite(corners).all(-1).all(-1) & torch.isfinite(points).all(-1, keepdim=True)
    square = torch.where(usable, square, torch.inf)
    least = square.min(1, keepdim=True).values
    index = torch.arange(f, device=points.device)
    face = torch.where((square == least) & usable, index, f).min(1).values
    none = face == f
    chosen = shares[torch.arange(len(points), device=points.device), face.clamp_max(f - 1)]
    return torch.where(none, -1, face).int(), torch.where(none[:, None], torch.nan, chosen)


def closest_shares(points: Float[Tensor, "n 1 3"], corners: Float[Tensor, "f 3 3"]) -> Float[Tensor, "n f 3"]:
    """Barycentrics of the nearest point of each face: the best of the perpendicular's foot and the edges' points."""
    a, b, c = corners.unbind(1)
    candidates = [_on_edge(points, *ends) for ends in ((a, b), (a, c), (b, c))]
    zero = torch.zeros_like(candidates[0])
    ab, ac, bc = candidates
    normal = torch.linalg.cross(b - a, c - a)
    square = normal.square().sum(-1)
    inverse = torch.where(square > 0, 1 / square, 0)
    v = ((points - a) * torch.linalg.cross(c - a, normal)).sum(-1) * inverse
    w = ((points - a) * torch.linalg.cross(normal, b - a)).sum(-1) * inverse
    outside = ~((v >= 0) & (w >= 0) & (v + w <= 1))
    options = torch.stack([
        torch.stack([1 - ab, ab, zero], -1),
        torch.stack([1 - ac, zero, ac], -1),
        torch.stack([zero, 1 - bc, bc], -1),
        torch.stack([(1 - v - w).clamp_min(0), v, w], -1),
    ])  # fmt: skip
    distance = (points - torch.einsum("onfk,fkc->onfc", options, corners)).square().sum(-1)
    distance[3] = torch.where(outside, torch.inf, distance[3])
    best = distance.nan_to_num(torch.inf).argmin(0)
    return options.gather(0, best[None, ..., None].expand(1, *best.shape, 3))[0]


def _on_edge(points: Tensor, a: Tensor, b: Tensor) -> Float[Tensor, "n f"]:
    d = b - a
    square = d.square().sum(-1)
    t = ((points - a) * d).sum(-1) * torch.where(square > 0, 1 / square, 0)
    return t.clamp(0, 1)
