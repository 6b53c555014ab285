"""Which vertex is whose mirror image."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from avatar3d.typing import typed


@typed
def mirror_map(vertices: Float[Tensor, "v 3"], tolerance: float = 1e-4) -> Int[Tensor, "v"] | None:
    """Index of every vertex's mirror image across x = 0, or None where the vertices do not pair up.

    Args:
        vertices: A symmetric shape.
        tolerance: Largest distance of a vertex from its partner's mirror image, as a fraction of the shape's size.
    """
    points = vertices.double().numpy()
    distance, partner = cKDTree(points * [-1, 1, 1]).query(points)
    if distance.max() > tolerance * np.ptp(points, axis=0).max() or (partner[partner] != np.arange(len(points))).any():
        return None
    return torch.from_numpy(partner)
