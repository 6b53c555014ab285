"""Texture look-up in plain torch."""

import torch
from jaxtyping import Float
from torch import Tensor


def sample_pyramid(
    levels: list[Tensor], uv: Float[Tensor, "b h w 2"], level: Float[Tensor, "b h w"] | None
) -> Float[Tensor, "b h w c"]:
    """See `ops.sample_texture`; `levels` is the texture, finest first."""
    if level is None:
        return _bilinear(levels[0], uv)
    level = level.clamp(0, len(levels) - 1)
    out = torch.zeros(*uv.shape[:3], levels[0].shape[3], dtype=uv.dtype, device=uv.device)
    for i, texture in enumerate(levels):
        share = (1 - (level - i).abs()).clamp_min(0)
        out = out + share[..., None] * _bilinear(texture, uv)
    return out


def _bilinear(texture: Tensor, uv: Tensor) -> Tensor:
    h, w = texture.shape[1:3]
    b = uv.shape[0]
    x = (uv[..., 0] * w - 0.5).clamp(0, w - 1)
    y = ((1 - uv[..., 1]) * h - 0.5).clamp(0, h - 1)
    x0, y0 = x.detach().floor().long(), y.detach().floor().long()
    x1, y1 = (x0 + 1).clamp_max(w - 1), (y0 + 1).clamp_max(h - 1)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    flat = texture.flatten(1, 2).expand(b, -1, -1)

    def texel(row: Tensor, column: Tensor) -> Tensor:
        index = (row * w + column).flatten(1)[..., None].expand(-1, -1, flat.shape[2])
        return flat.gather(1, index).view(*uv.shape[:3], flat.shape[2])

    top = texel(y0, x0) * (1 - fx) + texel(y0, x1) * fx
    bottom = texel(y1, x0) * (1 - fx) + texel(y1, x1) * fx
    return top * (1 - fy) + bottom * fy
