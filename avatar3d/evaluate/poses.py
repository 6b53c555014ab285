"""Errors of estimated head poses against known truth."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.typing import typed


@typed
def rotation_errors(R: Float[Tensor, "t 3 3"], truth: Float[Tensor, "t 3 3"]) -> Float[Tensor, "t"]:
    """Angle between two rotations, degrees."""
    return torch.rad2deg(matrix_to_rotvec(R.mT @ truth).norm(dim=-1))


@typed
def depth_errors(depth: Float[Tensor, "t"], truth: Float[Tensor, "t"]) -> Float[Tensor, "t"]:
    """Relative error of depths, as a fraction."""
    return (depth / truth - 1).abs()
