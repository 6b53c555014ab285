"""One texture for meshes whose layout has several: tiles beside 0..1 (UDIM), or parts that share texels."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatar3d.types import Rig
from avatar3d.typing import typed

CELLS = 96  # resolution at which islands are compared
MARGIN = 0.006
LARGE = 0.68  # side of the square for the part with the most faces


@typed
def in_one_texture(rig: Rig) -> Rig:
    """The rig with texture coordinates in 0..1 that no two islands share; the same rig where that holds already.

    Islands that lie side by side in a tile stay together. The group with the most faces gets most of the
    texture, the others a grid of squares around it.
    """
    uvs, corners = rig.uvs.double().numpy(), rig.uv_faces.long().numpy()
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(uvs), len(uvs)))
    island = connected_components(graph, directed=False)[1][corners[:, 0]]
    groups = _groups(uvs, corners, island)
    if len(groups) == 1 and uvs.min() >= 0 and uvs.max() <= 1:
        return rig
    group_of_face = np.empty(len(corners), dtype=int)
    for g, members in enumerate(groups):
        group_of_face[np.isin(island, members)] = g
    # what is finely meshed is what is looked at: the face
    order = np.bincount(group_of_face, minlength=len(groups)).argsort()[::-1]
    out, faces = [], np.empty_like(corners)
    count = 0
    for (x, y, side), g in zip(_squares(len(groups)), order, strict=True):
        mine = group_of_face == g
        used, inverse = np.unique(corners[mine], return_inverse=True)
        low, high = uvs[used].min(0), uvs[used].max(0)
        scale = (side - 2 * MARGIN) / max((high - low).max(), 1e-9)
        out.append((uvs[used] - low) * scale + [x + MARGIN, y + MARGIN])
        faces[mine] = inverse.reshape(-1, 3) + count
        count += len(used)
    return replace(rig, uvs=torch.from_numpy(np.concatenate(out)).float(), uv_faces=_like(faces, rig.uv_faces))


def _like(faces: np.ndarray, other: Int[Tensor, "f 3"]) -> Tensor:
    return torch.from_numpy(faces).to(other.dtype)


def _groups(uvs: np.ndarray, corners: np.ndarray, island: np.ndarray) -> list[list[int]]:
    """Islands that can stay as they lie: of one tile, and without common cells."""
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], dtype=float)
    weights /= weights.sum(1, keepdims=True)
    points = np.einsum("sk,fkc->fsc", weights, uvs[corners])
    tile = np.floor(points[:, 0]).astype(int)
    cells = np.floor((points - tile[:, None]) * CELLS).astype(int).clip(0, CELLS - 1)
    cells = cells[..., 0] * CELLS + cells[..., 1]
    groups: list[tuple[tuple, list[int], set[int]]] = []
    sizes = np.bincount(island)
    for i in np.argsort(sizes)[::-1].tolist():
        mine = island == i
        home = tuple(tile[mine][0].tolist())
        taken = set(cells[mine].ravel().tolist())
        for other, members, full in groups:
            if other == home and len(full & taken) <= 0.3 * len(taken):
                members.append(i)
                full |= taken
                break
        else:
            groups.append((home, [i], taken))
    return [members for _, members, _ in groups]


def _squares(count: int) -> list[tuple[float, float, float]]:
    """Lower-left corners and sides of `count` squares: a large one at the top left, small ones around it."""
    if count == 1:
        return [(0.0, 0.0, 1.0)]
    rest, per = 1 - LARGE, 1
    while True:
        small = rest / per
        column = [(LARGE + i * small, 1 - (j + 1) * small) for j in range(int(1 / small)) for i in range(per)]
        row = [(i * small, rest - (j + 1) * small) for j in range(per) for i in range(int(LARGE / small))]
        if len(column) + len(row) >= count - 1:
            return [(0.0, rest, LARGE)] + [(x, y, small) for x, y in (column + row)[: count - 1]]
        per += 1
