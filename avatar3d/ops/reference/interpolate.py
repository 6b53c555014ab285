"""Attribute interpolation in plain torch."""

from jaxtyping import Float, Int
from torch import Tensor


def interpolate(
    attributes: Float[Tensor, "n u c"],
    corners: Int[Tensor, "f 3"],
    triangle: Int[Tensor, "b h w"],
    barycentrics: Float[Tensor, "b h w 3"],
) -> Float[Tensor, "b h w c"]:
    """See `ops.interpolate`."""
    seen = triangle >= 0
    if corners.shape[0] == 0:
        return attributes.new_zeros(*triangle.shape, attributes.shape[2])
    rows = corners.long()[triangle.clamp_min(0).long()]
    b, c = triangle.shape[0], attributes.shape[2]
    picked = attributes.expand(b, -1, -1).gather(1, rows.flatten(1)[..., None].expand(-1, -1, c))
    picked = picked.view(*triangle.shape, 3, c)
    return (picked * (barycentrics * seen[..., None])[..., None]).sum(-2)
