"""Detail that comes and goes with expressions, told from detail that stays, by scans of one person in several.

DECA (Feng et al. 2021) splits detail so with a network; here both parts are measured: what the neutral scan shows
stays, and by how much others differ from it is shared out among the coefficients that they show.
"""

import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from avatar3d.appearance.detail import STEEPEST, Detail
from avatar3d.models.personal import shares
from avatar3d.types import Wrinkles
from avatar3d.typing import typed

MOST = 6
"""Maps that are kept: more scans are brought to their principal differences."""
FADE = 0.003
"""Of the texture's side: over which differences fade where a scan ends."""


@typed
def find_wrinkles(still: Detail, others: list[Detail], coefficients: Float[Tensor, "t s"]) -> Wrinkles | None:
    """Maps of what expressions add to a neutral normal map; None where that is nothing.

    Args:
        still: Of the neutral scan.
        others: Of the scans with expressions, images of the same size.
        coefficients: That these show.
    """
    if not others:
        return None
    size = still.slopes.shape[0]
    rows = []
    for detail in others:
        both = (still.known & detail.known).numpy().astype("float32")
        edge = torch.from_numpy(gaussian_filter(both, max(1.0, FADE * size))) * torch.from_numpy(both)
        rows.append((detail.slopes - still.slopes) * (2 * edge - 1).clamp_min(0)[..., None])
    maps, mixing = torch.stack(rows).clamp(-STEEPEST, STEEPEST), shares(coefficients).T
    if not bool((maps != 0).any()):
        return None
    if len(maps) > MOST:
        flat = maps.flatten(1)
        directions = torch.linalg.eigh((flat @ flat.T).double()).eigenvectors[:, -MOST:].to(flat)
        maps, mixing = (directions.T @ flat).view(MOST, *maps.shape[1:]), directions.T @ mixing
        reach = (mixing @ coefficients.T).abs().amax(1).clamp_min(1e-6)
        maps, mixing = maps * reach[:, None, None, None], mixing / reach[:, None]
    most = maps.abs().flatten(1).amax(1).clamp(min=1e-6)
    slopes = (127 * maps / most[:, None, None, None]).round().to(torch.int8)
    return Wrinkles(slopes=slopes, scales=most, mixing=mixing)
