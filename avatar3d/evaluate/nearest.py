"""The nearest point of a triangle mesh, exactly: trees of triangle centroids, then projection onto triangles."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d.typing import typed

FIRST = 8
"""Triangles that are looked at first; the number doubles until no other can be nearer."""


class MeshSearch:
    """Searches one mesh many times. Triangles are kept by size, each size in a tree of its own, because the reach of a
    search grows with the largest triangle in it."""

    @typed
    def __init__(self, vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> None:
        """Builds the trees.

        Args:
            vertices: Positions.
            faces: Corners of every triangle.

        Raises:
            ValueError: no faces, or vertices that are not finite.
        """
        if len(faces) == 0 or not bool(torch.isfinite(vertices).all()):
            raise ValueError(f"MeshSearch: {len(faces)} faces; expected at least one, and finite vertices.")
        self.corners = vertices.detach().double().numpy()[faces.numpy()]  # [f, 3, 3]
        centroids = self.corners.mean(1)
        reach = np.linalg.norm(self.corners - centroids[:, None], axis=2).max(1)
        octave = np.floor(np.log2(np.maximum(reach, 1e-9 + 1e-6 * reach.max()))).astype(int)
        self._groups = []
        for value in np.unique(octave):
            index = np.nonzero(octave == value)[0]
            self._groups.append((index, KDTree(centroids[index]), float(reach[index].max())))

    @typed
    def __call__(
        self, points: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "n"], Float[Tensor, "n"]]:
        """The nearest surface point of each point, the triangle that it lies on, and its distance. Float64."""
        p = points.detach().double().numpy()
        nearest, face = np.zeros_like(p), np.zeros(len(p), dtype=np.int64)
        best = np.full(len(p), np.inf)
        for index, tree, reach in self._groups:
            self._search(p, index, tree, reach, nearest, face, best)
        return torch.from_numpy(nearest), torch.from_numpy(face), torch.from_numpy(best)

    def _search(self, p, index, tree, reach, nearest, face, best) -> None:
        open_, done, count = np.arange(len(p)), 0, min(FIRST, len(index))
        while len(open_):
            distance, order = tree.query(p[open_], k=np.arange(done + 1, count + 1))
            # from the first centroid on that is farther than the best point plus the triangles' reach, none helps
            useful = distance <= best[open_, None] + reach
            rows, columns = np.nonzero(useful)
            candidates = index[order[rows, columns]]
            q = closest_on_triangles(p[open_[rows]], self.corners[candidates])
            d = np.linalg.norm(q - p[open_[rows]], axis=1)
            by_distance = np.lexsort((d, rows))
            first = by_distance[np.r_[True, rows[by_distance][1:] != rows[by_distance][:-1]]] if len(rows) else []
            for_rows = open_[rows[first]] if len(rows) else np.zeros(0, dtype=int)
            better = d[first] < best[for_rows] if len(rows) else np.zeros(0, dtype=bool)
            target, source = for_rows[better], np.asarray(first, dtype=int)[better]
            best[target], nearest[target], face[target] = d[source], q[source], candidates[source]
            if count == len(index):
                return
            open_ = open_[distance[:, -1] <= best[open_] + reach]
            done, count = count, min(2 * count, len(index))


def closest_on_triangles(p: Float[np.ndarray, "n 3"], corners: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """The nearest point of triangle i to point i: inside the triangle, or on the nearest of its edges."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, p - a
    normal = np.cross(ab, ac)
    square = (normal * normal).sum(1)
    safe = np.maximum(square, 1e-60)
    v = (np.cross(ap, ac) * normal).sum(1) / safe
    w = (np.cross(ab, ap) * normal).sum(1) / safe
    inside = (v >= 0) & (w >= 0) & (v + w <= 1) & (square > 1e-60)
    best = a + v[:, None] * ab + w[:, None] * ac
    out = ~inside
    if out.any():
        options = [_closest_on_segment(p[out], s[out], e[out]) for s, e in ((a, b), (b, c), (c, a))]
        distance = np.stack([np.linalg.norm(q - p[out], axis=1) for q in options])
        best[out] = np.stack(options)[distance.argmin(0), np.arange(out.sum())]
    return best


def _closest_on_segment(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = b - a
    t = ((p - a) * d).sum(1) / np.maximum((d * d).sum(1), 1e-60)
    return a + np.clip(t, 0, 1)[:, None] * d
