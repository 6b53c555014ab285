"""Fits a coarse map to the edges of the picture it was made from.

He, Sun and Tang, "Guided Image Filtering" (2013), with a colour guide; computed small and applied large as in He and
Sun, "Fast Guided Filter" (2015).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from avatar3d.typing import typed


@typed
def guided_coefficients(
    guide: Float[Tensor, "3 h w"], value: Float[Tensor, "h w"], *, radius: int, epsilon: float
) -> Float[Tensor, "4 h w"]:
    """The locally affine map from colour to value: value ~ a . guide + b, smoothed over all windows that see a pixel.

    Args:
        guide: Picture, 0..1.
        value: What to fit.
        radius: Of the square windows, pixels.
        epsilon: Variance of colour below which a window counts as flat, so that it is only smoothed.

    Returns:
        a (three channels) and b.
    """
    r, g, b = guide
    sums = _box_mean(torch.stack([r, g, b, value, r * value, g * value, b * value,
                                  r * r, r * g, r * b, g * g, g * b, b * b]), radius)  # fmt: skip
    mean, mean_value = sums[:3], sums[3]
    cross = sums[4:7] - mean * mean_value
    mr, mg, mb = mean
    rr, rg, rb, gg, gb, bb = sums[7:] - torch.stack([mr * mr, mr * mg, mr * mb, mg * mg, mg * mb, mb * mb])
    rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
    # inverse of the symmetric 3 x 3 covariance by its adjugate
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    inverse = 1 / (i_rr * rr + i_rg * rg + i_rb * rb)
    cr, cg, cb = cross * inverse
    a = torch.stack([i_rr * cr + i_rg * cg + i_rb * cb, i_rg * cr + i_gg * cg + i_gb * cb,
                     i_rb * cr + i_gb * cg + i_bb * cb])  # fmt: skip
    offset = mean_value - (a * mean).sum(0)
    return _box_mean(torch.cat([a, offset[None]]), radius)


@typed
def guided_apply(coefficients: Float[Tensor, "4 h w"], guide: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """The map of `guided_coefficients` on the same picture at another size, 0..1."""
    large = functional.interpolate(coefficients[None], size=guide.shape[1:], mode="bilinear", align_corners=False)[0]
    return torch.addcmul(large[3], large[0], guide[0]).addcmul_(large[1], guide[1]).addcmul_(
        large[2], guide[2]
    ).clamp_(0, 1)  # fmt: skip


def _box_mean(maps: Float[Tensor, "c h w"], radius: int) -> Float[Tensor, "c h w"]:
    """Means over square windows, cut off at the border. Sums of shifted copies, doubled as often as fits: faster than
    pooling, and without the rounding of running sums."""
    for axis in (1, 2):
        n = maps.shape[axis]
        padded = functional.pad(maps, (0, 0, radius, radius) if axis == 1 else (radius, radius))
        power, width, at, total = padded, 1, 0, None
        left = 2 * radius + 1
        while left:
            if left & 1:
                part = power.narrow(axis, at, n)
                total = part if total is None else total + part
                at += width
            left >>= 1
            if left:
                length = power.shape[axis] - width
                power, width = power.narrow(axis, 0, length) + power.narrow(axis, width, length), 2 * width
        index = torch.arange(n)
        count = (index + radius + 1).clamp_max(n) - (index - radius).clamp_min(0)
        assert total is not None
        maps = total / count.view((-1, 1) if axis == 1 else (1, -1))
    return maps
