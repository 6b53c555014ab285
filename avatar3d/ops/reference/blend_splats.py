"""Blending of two-dimensional Gaussians in plain torch: tile by tile, every pixel of a tile with every splat of it."""

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
    b, n = opacities.shape
    attributes = attributes.expand(b, -1, -1)
    background = background.expand(b, -1)
    images, alphas = [], []
    for i in range(b):
        ellipse = pixels[i], conics[i], opacities[i]
        index, box = _drawn(*ellipse, depths[i], attributes[i])
        rows = [
            torch.cat([_tile(*ellipse, attributes[i], background[i], index, box, x, y, width, height)
                       for x in range(0, width, TILE)], 1)
            for y in range(0, height, TILE)
        ]  # fmt: skip
        image = torch.cat(rows)
        images.append(image[..., :-1])
        alphas.append(image[..., -1])
    shape = (0, height, width)
    if not images:
        return pixels.new_zeros(*shape, attributes.shape[2]), pixels.new_zeros(shape)
    return torch.stack(images), torch.stack(alphas)


@torch.no_grad()
def _drawn(pixels: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, attributes: Tensor):
    """The splats that are drawn, by depth, and their boxes: smallest and largest x, y."""
    a, b, c = conics.double().unbind(-1)
    det = a * c - b * b
    finite = [t.isfinite().all(-1) for t in (pixels, conics, opacities[:, None], depths[:, None], attributes)]
    drawn = torch.stack([*finite, opacities >= MIN_ALPHA, a > 0, det > 0]).all(0)
    index = drawn.nonzero()[:, 0]
    index = index[torch.argsort(depths[index], stable=True)]
    reach = 2 * torch.log(opacities[index].double() / MIN_ALPHA).clamp_min(0)
    half = torch.stack([reach * c[index] / det[index], reach * a[index] / det[index]], -1).sqrt() * 1.001 + 0.01
    return index, torch.cat([pixels[index] - half, pixels[index] + half], -1)


def _tile(pixels, conics, opacities, attributes, background, index, box, x0, y0, width, height) -> Tensor:
    """Attributes and alpha of one tile."""
    h, w = min(TILE, height - y0), min(TILE, width - x0)
    inside = (box[:, 0] <= x0 + w) & (box[:, 2] >= x0) & (box[:, 1] <= y0 + h) & (box[:, 3] >= y0)
    index = index[inside]
    x = torch.arange(x0, x0 + w, dtype=pixels.dtype, device=pixels.device) + 0.5
    y = torch.arange(y0, y0 + h, dtype=pixels.dtype, device=pixels.device) + 0.5
    dx = (x.expand(h, w).reshape(-1, 1) - pixels[index, 0]).double()
    dy = (y[:, None].expand(h, w).reshape(-1, 1) - pixels[index, 1]).double()
    a, b, c = conics[index].double().unbind(-1)
    power = (-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy).clamp_max(0).to(pixels.dtype)
    alpha = (opacities[index] * power.exp()).clamp_max(MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0)
    after = torch.cumprod(1 - alpha, 1)
    alpha = torch.where(after >= MIN_TRANSMITTANCE, alpha, 0)
    after = torch.cumprod(1 - alpha, 1)
    before = torch.cat([after.new_ones(len(after), 1), after], 1)
    left = before[:, -1:]
    image = (alpha * before[:, :-1]) @ attributes[index] + left * background
    return torch.cat([image, 1 - left], 1).view(h, w, -1)
