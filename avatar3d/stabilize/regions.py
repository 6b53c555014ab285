"""Regions that a person would align faces by, found where a located mesh lies on the mean head."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d.models.registry import load
from avatar3d.typing import typed

NOSE_TIP = 0.005
"""Height of the tip of the nose in the head model, metres."""
REACH = 0.02
"""Metres within which a point belongs to the mean head."""


@typed
def upper_face(points: Float[Tensor, "v 3"]) -> Bool[Tensor, "v"]:
    """Points (mean head's frame, metres) above the tip of the nose."""
    return points[:, 1] > NOSE_TIP


@typed
def skull_attached(points: Float[Tensor, "v 3"]) -> Bool[Tensor, "v"]:
    """Points (mean head's frame, metres) whose skin is attached to the skull: forehead, cranium, bridge of the nose."""
    tree, attached = _head()
    distance, nearest = tree.query(points.numpy())
    return torch.from_numpy(attached[nearest] & (np.asarray(distance) < REACH))


@lru_cache(maxsize=1)
def _head() -> tuple[KDTree, np.ndarray]:
    model = load("head")
    return KDTree(model.template.numpy()), model.regions["skull_attached"].numpy()
