"""Blending of two-dimensional Gaussians in plain torch: tile by tile, every pixel of a tile with every splat of it."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

MIN_ALPHA, MAX_ALPHA, MIN_TRANSMITTANCE = 1 / 255, 0.99, 1e-4
TILE = 16


def blend_splats(
    pixels: Float[Tensor, "b n 2"],
    conics: Float[Tensor, "b n 3"],
    opacities: Float[Tensor, "b n"],
    depths: Float[Tensor, "b n"],
    attributes: Float[Tensor, "#b n c"],
    background: Float[Tensor, "#b c"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "b h w c"], Float[Tensor, "b h w"]]:
    """See `ops.blend_splats`."""
    b = len(pixels)
    attributes, background = attributes.expand(b, -1, -1), background.expand(b, -1)
    images = [pixels.new_zeros(0, height, width, attributes.shape[2] + 1)]
    for i in range(b):
        values = torch.cat([attributes[i], torch.ones_like(attributes[i, :, :1])], -1)
        rows: dict[int, list[Tensor]] = {}
        for _, y, index, weights in tile_weights(pixels[i], conics[i], opacities[i], depths[i], values, width, height):
            rows.setdefault(y, []).append(weights @ values[index])
        image = torch.cat([torch.cat(row, 1) for row in rows.values()])
        color, alpha = image[..., :-1], image[..., -1:]
        images.append(torch.cat([color + (1 - alpha) * background[i], alpha], -1)[None])
    image = torch.cat(images)
    return image[..., :-1], image[..., -1]


def tile_weights(
    pixels: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    depths: Float[Tensor, "n"],
    attributes: Float[Tensor, "n c"],
    width: int,
    height: int,
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Left, top, splats by depth and their weights `[h, w, k]` for the tiles of one image, row by row."""
    shape, index, box = _drawn(pixels, conics, opacities, depths, attributes)
    for y in range(0, height, TILE):
        bottom = min(y + TILE, height)
        in_row = ((box[:, 1] <= bottom) & (box[:, 3] >= y)).nonzero()[:, 0]
        for x in range(0, width, TILE):
            right = min(x + TILE, width)
            inside = in_row[(box[in_row, 0] <= right) & (box[in_row, 2] >= x)]
            yield x, y, index[inside], _weights(shape[inside], x, y, right, bottom)


def _drawn(pixels: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, attributes: Tensor):
    """The splats that are drawn, by depth: x, y, p, q, r, opacity of each (exp(-(p dx + q dy)^2 - (r dy)^2) times
    opacity is its alpha), which they are, and their boxes: smallest x and y, largest x and y."""
    with torch.no_grad():
        a, b, c = conics.double().unbind(-1)
        finite = [t.isfinite().all(-1) for t in (pixels, conics, opacities[:, None], depths[:, None], attributes)]
        drawn = torch.stack([*finite, opacities >= MIN_ALPHA, a > 0, a * c - b * b > 0]).all(0)
        index = drawn.nonzero()[:, 0]
        index = index[torch.argsort(depths[index], stable=True)]
    a, b, c = conics[index].double().unbind(-1)
    det = a * c - b * b
    p = (a / 2).sqrt()
    shape = torch.stack([p, b / a * p, (det / a / 2).sqrt()], -1).to(conics.dtype)
    shape = torch.cat([pixels[index], shape, opacities[index, None]], -1)
    with torch.no_grad():
        reach = 2 * torch.log(opacities[index].double() / MIN_ALPHA).clamp_min(0)
        half = torch.stack([reach * c / det, reach * a / det], -1).sqrt() * 1.001 + 0.01
        box = torch.cat([pixels[index] - half, pixels[index] + half], -1)
    return shape, index, box


def _weights(shape: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Share of every splat in every pixel of one tile."""
    x, y, p, q, r, opacity = shape.unbind(-1)
    dx = torch.arange(left, right, dtype=x.dtype, device=x.device)[:, None] + 0.5 - x
    dy = torch.arange(top, bottom, dtype=x.dtype, device=x.device)[:, None] + 0.5 - y
    u, v = (p * dx) + (q * dy)[:, None], (r * dy)[:, None]
    alpha = (opacity * torch.exp(-u.square() - v.square())).clamp_max(MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0)
    after = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(alpha[..., :1]), after[..., :-1]], -1) if len(shape) else after
    return torch.where(after >= MIN_TRANSMITTANCE, alpha * before, 0)
