"""Linear blend skinning in plain torch."""

import torch
from jaxtyping import Float
from torch import Tensor


def skin(
    points: Float[Tensor, "b v 3"], weights: Float[Tensor, "v j"], T_posed_rest: Float[Tensor, "b j 4 4"]
) -> Float[Tensor, "b v 3"]:
    """See `ops.skin`."""
    maps = torch.einsum("vj,bjrc->bvrc", weights, T_posed_rest[:, :, :3])
    return torch.einsum("bvrc,bvc->bvr", maps[..., :3], points) + maps[..., 3]
