"""Finds one mesh within another by the way that triangles hang together: exact, whatever the vertices' order."""

from collections import deque

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d.geometry.surface import face_normals
from avatar3d.models.unwrap import connected_parts
from avatar3d.typing import typed

SEEDS = 24
"""Triangles of the larger mesh that are tried for one of the smaller, the nearest first."""
STARTS = 8
"""Triangles of a part of the smaller mesh from which it is tried."""


@typed
def find_within(
    part_points: Float[Tensor, "v 3"],
    part_faces: Int[Tensor, "f 3"],
    points: Float[Tensor, "w 3"],
    faces: Int[Tensor, "g 3"],
) -> Int[Tensor, "v"]:
    """For every vertex of a mesh, the same vertex in a larger one that contains it, triangle by triangle; -1 where the
    larger one lacks it.

    Every connected part is followed on its own: a triangle is guessed by its place, then its neighbours must be
    neighbours there. A guess from which all the part is found wins, else that from which most is.

    Args:
        part_points: Of the smaller mesh, about where the larger one has them, metres.
        part_faces: Its triangles.
        points: Of the larger mesh.
        faces: Its triangles, wound alike.
    """
    small, large = part_faces.numpy().astype(np.int64), faces.numpy().astype(np.int64)
    across, across_small = _opposite(large), _opposite(small)
    centres = points.double()[faces.long()].mean(1).numpy()
    tree = KDTree(centres)
    at = part_points.double()[part_faces.long()].mean(1).numpy()
    facing = [torch.nn.functional.normalize(face_normals(p.double(), f.long()), dim=1).numpy()
              for p, f in ((part_points, part_faces), (points, faces))]  # fmt: skip
    component = connected_parts(part_faces, len(part_points)).numpy()[small[:, 0]]
    out = np.full(len(part_points), -1)
    for number in np.unique(component):
        mine = np.flatnonzero(component == number)
        wanted = len(np.unique(small[mine]))
        best: dict[int, int] = {}
        for start in mine[np.linspace(0, len(mine) - 1, min(STARTS, len(mine))).astype(int)]:
            _, near = tree.query(at[start], min(SEEDS, len(large)))
            near = sorted(np.atleast_1d(near).tolist(), key=lambda g: -float(facing[1][g] @ facing[0][start]))
            for guess in near:
                for turn in range(3):
                    found = _walk(small[start], np.roll(large[guess], turn), across_small, across, len(best))
                    best = found if len(found) > len(best) else best
                if len(best) == wanted:
                    break
            if len(best) == wanted:
                break
        for a, b in best.items():
            out[a] = b
    return torch.from_numpy(out)


def _opposite(faces: np.ndarray) -> dict[tuple[int, int], int]:
    """The third corner of the triangle that has a directed edge."""
    out = {}
    for a, b, c in faces.tolist():
        out[a, b], out[b, c], out[c, a] = c, a, b
    return out


def _walk(start: np.ndarray, there: np.ndarray, small: dict, large: dict, least: int) -> dict[int, int]:
    """Vertices that are found from one triangle on; none where two ways contradict each other."""
    found = dict(zip(start.tolist(), there.tolist(), strict=True))
    taken = set(found.values())
    a, b, c = start.tolist()
    waiting = deque([(b, a), (c, b), (a, c)])
    done: set[tuple[int, int]] = set()
    while waiting:
        edge = waiting.popleft()
        if edge in done or edge not in small:
            continue
        done.add(edge)
        i, j = edge
        k, same = small[edge], large.get((found[i], found[j]))
        if same is None:  # the larger mesh was cut here
            continue
        if k in found:
            if found[k] != same:
                return {}
        elif same in taken:
            return {}
        else:
            found[k] = same
            taken.add(same)
        waiting += [(k, j), (i, k)]
    return found
