"""A surface as a few hundred small patches: what density, topology and noise leave alike."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.typing import typed

FRONT_CELL, BACK_CELL = 0.010, 0.024
BACK = -0.005
"""Behind this z of the mean head, metres, patches are larger."""
MOST = 448
COARSE = 0.16
"""Side of a patch in an unknown frame, over the RMS radius of the whole."""


@typed
def cells(points: Float[Tensor, "b v 3"]) -> Int[Tensor, "b v"]:
    """A number for the cell of a grid that each point of the mean head's frame lies in."""
    size = torch.where(points[..., 2:] > BACK, FRONT_CELL, BACK_CELL)
    grid = (points / size).floor().long().clamp(-255, 255) + 256
    side = (points[..., 2] > BACK).long()
    return ((grid[..., 0] * 512 + grid[..., 1]) * 512 + grid[..., 2]) * 2 + side


@typed
def group(cell: Int[Tensor, "b v"]) -> tuple[Int[Tensor, "b v"], int]:
    """Consecutive patch numbers for cells, each item for itself, and the largest number of patches."""
    order = cell.argsort(1)
    ordered = cell.gather(1, order)
    first = torch.ones_like(ordered)
    first[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()
    number = torch.empty_like(cell).scatter_(1, order, first.cumsum(1) - 1)
    return number, int(number.max()) + 1 if number.numel() else 0


@typed
def means(
    values: Float[Tensor, "b v c"], number: Int[Tensor, "b v"], patches: int
) -> tuple[Float[Tensor, "b p c"], Float[Tensor, "b p"]]:
    """Mean of the values in each patch, and how many there are."""
    b, v, c = values.shape
    flat = (number + torch.arange(b)[:, None] * patches).reshape(-1)
    count = torch.bincount(flat, minlength=b * patches).to(values)
    total = values.new_zeros(b * patches, c).index_add_(0, flat, values.reshape(-1, c))
    return (total / count.clamp_min(1)[:, None]).view(b, patches, c), count.view(b, patches)


@typed
def coarse(
    points: Float[Tensor, "b v 3"], normals: Float[Tensor, "b v 3"], extra: Float[Tensor, "b v c"], *, seed: int
) -> tuple[
    Float[Tensor, "b p 3"],
    Float[Tensor, "b p 3"],
    Float[Tensor, "b p c"],
    Bool[Tensor, "b p"],
    Float[Tensor, "b 1 3"],
    Float[Tensor, "b 1 1"],
]:
    """Patches of a surface in an unknown frame: centred, at unit RMS radius, at most 256 of them.

    Returns:
        Centres, unit normals, means of `extra`, which rows are patches; the centre and the radius that were taken out.
    """  # fmt: skip
    centre = points.mean(1, keepdim=True)
    scale = (points - centre).square().sum(-1).mean(1).sqrt()[:, None, None]
    points = (points - centre) / scale
    grid = (points / COARSE).floor().long().clamp(-500, 500) + 512
    number, count = group((grid[..., 0] * 1024 + grid[..., 1]) * 1024 + grid[..., 2])
    both, counts = means(torch.cat([points, normals, extra], -1), number, count)
    kept = chosen(counts, 256, torch.Generator().manual_seed(seed))
    both, counts = both.gather(1, kept[..., None].expand(-1, -1, both.shape[-1])), counts.gather(1, kept)
    mask = counts > 0
    x, n, extra = both[..., :3], torch.nn.functional.normalize(both[..., 3:6], dim=-1), both[..., 6:]
    m = mask[..., None].to(x)
    shift = (x * m).sum(1, keepdim=True) / m.sum(1, keepdim=True)
    x = (x - shift) * m
    stretch = (x.square().sum((1, 2), keepdim=True) / m.sum((1, 2), keepdim=True)).sqrt()
    return x / stretch, n, extra, mask, centre + shift * scale, scale * stretch


@typed
def chosen(counts: Float[Tensor, "b p"], most: int, rng: torch.Generator) -> Int[Tensor, "b _"]:
    """At most so many patches that are not empty, any of them."""
    order = (torch.rand(counts.shape, generator=rng) + 10 * (counts < 1)).argsort(1)[:, :most]
    return order[:, : int((counts > 0).sum(1).max())]
