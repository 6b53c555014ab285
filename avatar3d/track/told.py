"""What the detector's own coefficients tell of an expression.

Landmarks of a face that smiles through most of its clip fit a smiling person at rest as well: pursed lips and an
opened jaw then make the moment without a smile. A network that has seen many people's faces at rest knows better. Only
coefficients that follow it on real footage are asked for, and loosely: where landmarks tell, they decide.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES

SLOPES = {
    "jawOpen": 0.85, "mouthPucker": 0.6, "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "mouthUpperUpLeft": 1.1,
    "mouthUpperUpRight": 1.1, "mouthLeft": 1.2, "mouthRight": 1.2,
}  # fmt: skip
"""What a coefficient is where the network says 1: by how both vary within six clips (correlation 0.7 to 0.9). Brows
follow it as well, but it takes high brows for raised ones."""
PROFILE, FRONT = 0.25, 0.6
"""Nose to the nearer side of the face over nose to the farther one, up to which the network is not believed, and from
which it is."""
NOSE, SIDES = 1, (234, 454)


def believed(landmarks: Float[Tensor, "t l 2"]) -> Float[Tensor, "t"]:
    """How far the network is believed, 0..1: not in profile."""
    sides = [(landmarks[:, NOSE] - landmarks[:, s]).norm(dim=-1) for s in SIDES]
    near, far = torch.minimum(*sides), torch.maximum(*sides).clamp_min(1e-6)
    return ((near / far - PROFILE) / (FRONT - PROFILE)).clamp(0, 1)


def slopes(names: tuple[str, ...]) -> Float[Tensor, "52 e"]:
    """A model's coefficients over the network's; zero for those that are not asked for."""
    out = torch.zeros(len(ARKIT_NAMES), len(names), dtype=torch.float64)
    for name, slope in SLOPES.items():
        if name in names:
            out[ARKIT_INDEX[name], names.index(name)] = slope
    return out
