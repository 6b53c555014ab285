"""A person's mask made sharp by colour: what is unsure is decided by the colours that are surely person or behind it.

Two hints, both from the picture itself. The colours of the whole person against those of the whole background say
which of the two an unsure patch belongs to (a cloth or a shadow that the network took along). And between the colours
of the nearest sure person and the nearest sure background every pixel of the edge lies somewhere: so far is it covered
(strands of hair before a wall). Where the two sides look alike neither says anything, and the mask stays as it is.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d, grid_sample, interpolate, max_pool2d

from avatar3d.typing import typed

COARSE = 192
"""Longer side of the picture in which colours are gathered, pixels."""
SURE = 0.04
"""Masks this close to 0 or 1 are sure, if everything around is too."""
AROUND = 2
"""How far around, coarse pixels."""
BAND, DOUBT = 2, 0.35
"""Coarse pixels over which unsureness (0..1) is averaged, and the mean from which on the mask is free to change: along
a sharp edge it is less."""
MIXED = 8.0
"""How much the variance of either side's colours counts against their distance."""
BINS = 24
"""Of the colour histograms, along each of three axes."""
ENOUGH = 50
"""Coarse pixels that either side needs."""
RARE = 3e-5
"""Share of a side's pixels that every colour has at least: colours that neither side has say nothing."""
FIRM = 0.9
"""How much of the colours' verdict counts against the network's word, as logits."""
STRONG = 4.0
"""Largest verdict of a colour."""
CONTRAST, RESIDUAL = 0.15, 0.06
"""Distance of the two sides' colours at which the edge is believed, and distance from the line between them at which it
is no longer, both in 0..1 colours."""


@typed
def refine_mask(image: UInt8[np.ndarray, "h w 3"], mask: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The mask with its unsure parts decided by colour.

    Args:
        image: The picture.
        mask: How much of each pixel the person covers, as far as is known; 0..1.

    Returns:
        float32, 0..1.
    """
    height, width = mask.shape
    scale = min(1.0, COARSE / max(height, width))
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    picture = torch.from_numpy(image if image.flags.writeable else image.copy()).permute(2, 0, 1)[None]
    cover = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]
    small = interpolate(picture, size, mode="bilinear", antialias=True).float() / 255
    coarse = interpolate(cover, size, mode="bilinear", antialias=True).clamp(0, 1)
    person = -_grown(-(coarse > 1 - SURE).float(), AROUND)
    behind = -_grown(-(coarse < SURE).float(), AROUND)
    if min(float(person.sum()), float(behind.sum())) < ENOUGH:
        return mask
    unsure = avg_pool2d(4 * coarse * (1 - coarse), 2 * BAND + 1, 1, BAND)
    band = interpolate((unsure / DOUBT).clamp_max(1), (height, width), mode="bilinear")[0, 0]
    rows, columns = (band > 0.02).nonzero().unbind(1)
    pixels, old = picture[0][:, rows, columns].float() / 255, cover[0, 0, rows, columns]
    ratio = _likelihoods(small, person, behind)[_bin(pixels)]
    believed = torch.sigmoid(old.clamp(0.02, 0.98).logit() + FIRM * ratio)
    at = torch.stack([2 * (columns + 0.5) / width - 1, 2 * (rows + 0.5) / height - 1], -1)[None, None]
    sides = []
    for side in (person, behind):
        moments = _nearest(torch.cat([small, small.square()], 1), side)
        mean, square = grid_sample(moments, at, padding_mode="border", align_corners=False)[0, :, 0].split(3)
        sides.append((mean, (square - mean.square()).clamp_min(0).sum(0)))
    (front, spread), (back, texture) = sides
    line = front - back
    length = line.square().sum(0)
    share = (((pixels - back) * line).sum(0) / length.clamp_min(1e-6)).clamp(0, 1)
    off = (pixels - back - share * line).square().sum(0)
    trust = length / (length + CONTRAST**2 + MIXED * (spread + texture)) * torch.exp(-off / RESIDUAL**2)
    refined = believed + trust * (share - believed)
    cover = cover[0, 0].clone()
    cover[rows, columns] = (old + band[rows, columns] * (refined - old)).clamp(0, 1)
    return cover.numpy()


def _grown(plane: Tensor, by: int) -> Tensor:
    return max_pool2d(plane, 2 * by + 1, 1, by)


def _likelihoods(small: Tensor, person: Tensor, behind: Tensor) -> Tensor:
    """Logarithm `[BINS^3]` of how much likelier a colour is on the person than behind it."""
    index = _bin(small[0].flatten(1))
    shares = []
    for side in (person, behind):
        table = torch.zeros(BINS**3).index_add_(0, index, side.flatten())
        table = avg_pool3d(table.view(1, 1, BINS, BINS, BINS), 3, 1, 1).flatten()
        shares.append(table / table.sum() + RARE)
    return (shares[0] / shares[1]).log().clamp(-STRONG, STRONG)


def _bin(colours: Tensor) -> Tensor:
    """Bins `[n]` of colours `[3, n]`: the root of the brightness, and two differences of colour relative to it."""
    red, green, blue = colours
    total = (red + green + blue).clamp_min(0.12)
    axes = ((total / 3).sqrt(), 0.5 + 1.5 * (red - green) / total, 0.5 + 1.5 * (blue - green) / total)
    a, b, c = ((x.clamp(0, 1) * (BINS - 1)).round().long() for x in axes)
    return (a * BINS + b) * BINS + c


def _nearest(small: Tensor, side: Tensor) -> Tensor:
    """Colours of a side, and beyond it those of where it is nearest: means over ever larger blocks."""
    levels = [(small * side, side)]
    while max(levels[-1][1].shape[2:]) > 2:
        total, weight = levels[-1]
        levels.append((avg_pool2d(total, 2, 2, ceil_mode=True), avg_pool2d(weight, 2, 2, ceil_mode=True)))
    filled = torch.zeros_like(levels[-1][0])[..., :1, :1]
    for total, weight in reversed(levels):
        known = weight.clamp_max(0.25) * 4
        wider = interpolate(filled, total.shape[2:], mode="bilinear")
        filled = wider + known * (total / weight.clamp_min(1e-6) - wider)
    return filled
