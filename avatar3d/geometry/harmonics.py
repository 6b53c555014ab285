"""Real spherical harmonics up to the second order, for light and for splats."""

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


@typed
def sh_slope(normals: Float[Tensor, "*b 3"], light: Float[Tensor, "*b 9"]) -> Float[Tensor, "*b 3"]:
    """Gradient of `(sh_basis(normals) * light).sum(-1)` with respect to the normals, as if they were free of length."""
    x, y, z = normals.unbind(-1)
    c = light.unbind(-1)
    return torch.stack(
        [
            0.488603 * c[3] + 1.092548 * (c[4] * y + c[7] * z + c[8] * x),
            0.488603 * c[1] + 1.092548 * (c[4] * x + c[5] * z - c[8] * y),
            0.488603 * c[2] + 1.092548 * (c[5] * y + c[7] * x) + 1.892352 * c[6] * z,
        ],
        -1,
    )


SPLAT_SIGNS = (1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0)
"""What `sh_basis` is multiplied by to give the basis of 3D Gaussian splatting (Kerbl et al. 2023): the Condon-Shortley
phase."""


@typed
def rotate_splat_sh(sh: Float[Tensor, "*b n k 3"], R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b n k 3"]:
    """Coefficients that give in direction R d what the old ones gave in direction d; 3DGS's order and sign.

    Args:
        sh: 1, 4 or 9 coefficients per colour.
        R: Rotations.

    Raises:
        ValueError: another number of coefficients.
    """
    k = sh.shape[-2]
    if k not in (1, 4, 9):
        raise ValueError(f"rotate_splat_sh: {k} coefficients; expected 1, 4 or 9.")
    bands = [sh[..., :1, :]]
    signs = sh.new_tensor(SPLAT_SIGNS)
    if k >= 4:
        order = [1, 2, 0]  # the first band is linear in y, z, x
        M = R[..., order, :][..., :, order] * signs[1:4, None] * signs[1:4]
        bands.append(M[..., None, :, :] @ sh[..., 1:4, :])
    if k == 9:
        E = _second_band().to(sh)
        turned = torch.einsum("...ij,ajk,...lk->...ail", R, E, R)
        M = torch.einsum("bil,...ail->...ba", E, turned) / (E[0] * E[0]).sum() * signs[4:, None] * signs[4:]
        bands.append(M[..., None, :, :] @ sh[..., 4:9, :])
    return torch.cat(bands, -2)


def _second_band() -> Float[Tensor, "5 3 3"]:
    """The second band's functions as quadratic forms d^T E d of the direction: traceless, orthogonal, of one norm."""
    E = torch.zeros(5, 3, 3, dtype=torch.float64)
    for a, (i, j) in ((0, (0, 1)), (1, (1, 2)), (3, (0, 2))):
        E[a, i, j] = E[a, j, i] = 0.5
    E[2] = torch.diag(torch.tensor([-1.0, -1, 2])) / (2 * 3**0.5)
    E[4] = torch.diag(torch.tensor([0.5, -0.5, 0]))
    return E
