"""Which vertex is whose mirror image."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d.typing import typed

FEW = 50
"""Vertices that may be contended for and are matched one by one."""


@typed
def mirror_map(
    vertices: Float[Tensor, "v 3"],
    tolerance: float = 1e-4,
    part: Int[Tensor, "v"] | None = None,
    mirrored_part: Int[Tensor, "v"] | None = None,
) -> Int[Tensor, "v"] | None:
    """Index of every vertex's mirror image across x = 0, or None where the vertices do not pair up.

    Args:
        vertices: A symmetric shape.
        tolerance: Largest distance of a vertex from its partner's mirror image, as a fraction of the shape's size.
        part: Number of the part that each vertex belongs to, where parts touch.
        mirrored_part: Number of the part in which its partner must lie.
    """
    points = vertices.double().numpy()
    size = np.ptp(points, axis=0).max()
    own, other = points, points * [-1, 1, 1]
    if part is not None and mirrored_part is not None:  # parts lie far apart in a fourth dimension
        own = np.column_stack([own, 10 * size * part.numpy()])
        other = np.column_stack([other, 10 * size * mirrored_part.numpy()])
    distance, partner = KDTree(own).query(other)
    contended = np.flatnonzero(partner[partner] != np.arange(len(points)))
    if distance.max() > tolerance * size or len(contended) > FEW:
        return None
    if len(contended):
        cost = np.linalg.norm(own[contended][:, None] - other[contended][None], axis=2)
        row, column = linear_sum_assignment(cost + cost.T)
        partner[contended[row]] = contended[column]
    return torch.from_numpy(partner) if (partner[partner] == np.arange(len(points))).all() else None
