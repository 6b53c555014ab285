"""sRGB and linear light."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed


@typed
def srgb_to_linear(colour: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """IEC 61966-2-1 decoding; 0..1."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp_min(0) + 0.055) / 1.055) ** 2.4)


@typed
def linear_to_srgb(colour: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """IEC 61966-2-1 encoding; 0..1."""
    return torch.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
