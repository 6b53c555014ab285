"""Texture coordinates for head meshes that come without: a sphere unrolled from behind, and islands for the eyes."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatar3d.typing import typed

ISLAND = 0.16
MARGIN = 0.01
FRONT_SHARE = 1.6


@typed
def connected_parts(faces: Int[Tensor, "f 3"], count: int) -> Int[Tensor, "v"]:
    """Number of the connected part of every vertex; the largest part is 0."""
    f = faces.numpy()
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    order = np.argsort(-np.bincount(label), kind="stable")
    return torch.from_numpy(np.argsort(order)[label])


@typed
def unwrap_head(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]
) -> tuple[Float[Tensor, "u 2"], Int[Tensor, "f 3"]]:
    """Texture coordinates in 0..1 and their index for every corner, for a head that looks along +z.

    The largest connected part is projected from within, with the seam at the back and more room for the front; every
    other part (an eyeball) gets a round island, front pole in the middle, along the lower edge.
    """
    points, f = vertices.double().numpy(), faces.numpy().astype(np.int64)
    part = connected_parts(faces, len(points)).numpy()
    islands = int(part.max())
    uvs, uv_faces = np.zeros((len(points), 2)), f.copy()
    floor = (ISLAND + MARGIN) if islands else 0.0

    body = part == 0
    centre = 0.5 * (points[body].min(0) + points[body].max(0))
    d = points[body] - centre
    angle = np.arctan2(d[:, 0], d[:, 2]) / np.pi  # -1..1, 0 in front, the seam at the back
    u = np.sign(angle) * (1 - (1 - np.abs(angle)) ** FRONT_SHARE)
    elevation = np.arctan2(d[:, 1], np.hypot(d[:, 0], d[:, 2]))
    v = (elevation - elevation.min()) / np.ptp(elevation)
    uvs[body] = np.stack([u, floor + MARGIN + v * (1 - floor - 2 * MARGIN)], 1)

    # corners beyond the seam are repeated on the other side
    own = part[f[:, 0]] == 0
    crossing = own & (np.ptp(uvs[f, 0], axis=1) > 1)
    again = crossing[:, None] & (uvs[f, 0] < 0)
    repeated = np.unique(f[again])
    number = np.full(len(points), -1)
    number[repeated] = len(points) + np.arange(len(repeated))
    uv_faces[again] = number[f[again]]
    uvs = np.concatenate([uvs, uvs[repeated] + [2.0, 0]])
    body = np.concatenate([body, np.ones(len(repeated), bool)])
    low, high = uvs[body, 0].min(), uvs[body, 0].max()
    uvs[body, 0] = MARGIN + (uvs[body, 0] - low) / (high - low) * (1 - 2 * MARGIN)

    width = min(ISLAND, (1 - MARGIN) / max(islands, 1) - MARGIN)
    for k in range(1, islands + 1):
        which = np.flatnonzero(part == k)
        d = points[which] - 0.5 * (points[which].min(0) + points[which].max(0))
        polar = np.arccos(np.clip(d[:, 2] / np.linalg.norm(d, axis=1).clip(1e-12), -1, 1)) / np.pi
        around = np.hypot(d[:, 0], d[:, 1]).clip(1e-12)
        middle = [MARGIN + width / 2 + (k - 1) * (width + MARGIN), MARGIN + width / 2]
        uvs[which] = middle + (width / 2) * polar[:, None] * np.stack([d[:, 0] / around, d[:, 1] / around], 1)
    return torch.from_numpy(uvs).float(), torch.from_numpy(uv_faces)
