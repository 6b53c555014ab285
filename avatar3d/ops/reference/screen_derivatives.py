"""Screen derivatives of barycentrics in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def screen_derivatives_pixels(
    triangle: Int[Tensor, "b h w"],
    barycentrics: Float[Tensor, "b h w 3"],
    depth: Float[Tensor, "b h w"],
    pixels: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
) -> tuple[Float[Tensor, "b h w 3"], Float[Tensor, "b h w 3"]]:
    """See `ops.screen_derivatives`; `pixels` are homogeneous: K p = (x z, y z, z)."""
    image, y, x = torch.nonzero(triangle >= 0, as_tuple=True)
    q = pixels[image[:, None], faces.long()[triangle[image, y, x].long()]].double()
    n = torch.linalg.cross(q.roll(-1, 1), q.roll(-2, 1))
    scale = depth[image, y, x].double() / (q[:, 0] * n[:, 0]).sum(-1)
    b = barycentrics[image, y, x]
    change = ((n - b[..., None] * n.sum(1, keepdim=True)) * scale[:, None, None]).to(b)
    dx, dy = (torch.zeros_like(barycentrics).index_put((image, y, x), change[..., i]) for i in (0, 1))
    return dx, dy
