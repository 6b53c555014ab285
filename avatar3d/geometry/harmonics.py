"""Real spherical harmonics of the second order, for light."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed


@typed
def sh_basis(normals: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 9"]:
    """The nine basis functions in the direction of unit normals, order (0,0) (1,-1) (1,0) (1,1) (2,-2) ... (2,2).

    Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment Maps" (2001).
    """
    x, y, z = normals.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x,
            1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )  # fmt: skip
