"""Vertices as engines and pages want them: one texture coordinate each."""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from avatar3d.types import Rig
from avatar3d.typing import typed


@typed
def split_at_seams(rig: Rig) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"], Int[np.ndarray, "n"]]:
    """One vertex per distinct (vertex, uv) pair: its rig vertex, its uv, and the triangles' indices, flat."""
    pairs = torch.stack([rig.faces.flatten().long(), rig.uv_faces.flatten().long()], 1)
    unique, inverse = torch.unique(pairs, dim=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], inverse.numpy()
