"""Whether a surface has the relief of a face: what a ball of a head's proportions has not."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree

from avatar3d.models.registry import load
from avatar3d.typing import typed

WIDE, LOW, HIGH, FRONT = 0.05, -0.005, 0.075, 0.03
"""Nose and eyes on the mean head, metres: |x|, y, z."""
CELL, FINE = 0.007, 0.002
FEWEST = 60
"""Cells that must be seen for a judgement; the mean head fills 182."""
FACE = 0.305
"""Least relief of a face, as a share of the mean head's. Faces have 0.42 and more, also narrow, with holes, 1 mm of
noise, or located centimetres off; 0.32 one of thirty ICT heads with lashes and eyes; balls and ellipsoids, 0.29 at
most."""
SHIFTS, SIZES = np.arange(-0.048, 0.049, 0.006), (1.0, 0.9, 1.1)


@typed
def relief(points: Float[np.ndarray, "v 3"]) -> float:
    """How strong the nose and the eye sockets stand out from a smooth surface, as a share of how they do on the mean
    head; the best of several heights and sizes, as faces are not located to the centimetre.

    Depth is compared after the quadratic that fits best has been taken from both. 1 where too little of that part of
    the face is seen.

    Args:
        points: In the mean head's frame, metres.
    """
    best = None
    for shift in sorted(SHIFTS, key=abs):
        for size in SIZES:
            share = _share((points - (0, 0.04, 0)) * size + (0, 0.04 + shift, 0))
            if share is not None:
                best = share if best is None else max(best, share)
                if best > 2 * FACE:
                    return best
    return 1.0 if best is None else best


def _share(points: np.ndarray) -> float | None:
    """Regression of the points' depth on the mean head's; None where little is seen."""
    seen = outermost(points[window(points)], CELL)
    if len(seen) < FEWEST:
        return None
    tree, depth = _mean_depth()
    _, near = tree.query(seen[:, :2], k=6)
    u, v = (seen[:, :2] / WIDE).T
    smooth = np.linalg.qr(np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], 1))[0]
    both = np.stack([seen[:, 2], depth[near].mean(1)], 1)
    here, mean = (both - smooth @ (smooth.T @ both)).T
    return float(here @ mean / (mean @ mean))


def window(points: np.ndarray) -> np.ndarray:
    """[v] which points lie about nose and eyes."""
    x, y, z = points.T
    return (np.abs(x) < WIDE) & (y > LOW) & (y < HIGH) & (z > FRONT)


def outermost(points: np.ndarray, cell: float) -> np.ndarray:
    """The foremost point (+z) of every cell in x and y."""
    column = np.floor(points[:, :2] / cell).astype(np.int64) @ (4096, 1)
    order = np.lexsort((-points[:, 2], column))
    column = column[order]
    first = np.ones(len(column), bool)
    first[1:] = column[1:] != column[:-1]
    return points[order[first]]


@lru_cache(maxsize=1)
def _mean_depth() -> tuple[KDTree, np.ndarray]:
    """Depth of the mean head over x and y."""
    model = load("head")
    inside = torch.stack([model.regions[n] for n in model.regions if n.startswith(("teeth", "gums", "tongue"))]).any(0)
    corners = model.template[model.faces[~inside[model.faces].any(1)]].double().numpy()
    steps = 6
    shares = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    points = np.einsum("sk,fkc->fsc", shares, corners).reshape(-1, 3)
    points = outermost(points[window(points)], FINE)
    return KDTree(points[:, :2]), points[:, 2]
