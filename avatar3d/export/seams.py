"""Vertices as engines and pages want them: one texture coordinate each."""

import numpy as np
from jaxtyping import Int
from torch import Tensor

from avatar3d.geometry.tangents import split_corners
from avatar3d.types import Rig
from avatar3d.typing import typed


@typed
def split_at_seams(rig: Rig) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"], Int[np.ndarray, "n"]]:
    """One vertex per distinct (vertex, uv, handedness): its rig vertex, its uv, and the triangles' indices, flat."""
    vertex, uv, corners = split_corners(rig.faces, rig.uvs, rig.uv_faces)
    return vertex, uv, corners.flatten().numpy()
