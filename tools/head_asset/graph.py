"""Distances and smoothing along the mesh."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from .source import Source
from .topology import Topology


def _edges(faces: np.ndarray) -> np.ndarray:
    e = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    return np.unique(e, axis=0)


def distance(points: np.ndarray, faces: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Length of the shortest edge path to the nearest seed, metres; infinite where there is none."""
    e = _edges(faces)
    length = np.linalg.norm(points[e[:, 0]] - points[e[:, 1]], axis=1)
    graph = sparse.coo_matrix((length, (e[:, 0], e[:, 1])), (len(points),) * 2)
    return dijkstra(graph, directed=False, indices=seeds, min_only=True)


def _quads(source: Source, topology: Topology, part: str) -> np.ndarray:
    """Quads `[q, 4]` of a part of the base mesh, in the asset's numbers."""
    numbers = np.flatnonzero(topology.part[: len(topology.source_quad)] == part)
    new = np.full(len(source.template), -1)
    new[topology.base] = np.arange(len(topology.base))
    return new[source.quads[np.unique(topology.source_quad[numbers])]]


def spokes(
    source: Source, topology: Topology, part: str, loop: list[int], most: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Follows the quad rings around an opening, away from its boundary loop.

    Returns:
        Which loop vertex each vertex lies behind `[v]` (-1 where none) and its ring `[v]`, 0 on the loop.
    """
    quads = _quads(source, topology, part).tolist()
    spoke = np.full(topology.vertex_count, -1)
    depth = np.full(topology.vertex_count, -1)
    spoke[loop], depth[loop] = np.arange(len(loop)), 0
    for ring in range(1, most + 1):
        found = []
        for quad in quads:
            for i, v in enumerate(quad):
                # a quad with an edge on the last ring carries that edge's spokes across
                if depth[v] < 0 and depth[quad[(i + 2) % 4]] == ring - 1:
                    beside = [w for w in (quad[i - 1], quad[(i + 1) % 4]) if depth[w] == ring - 1]
                    found += [(v, spoke[beside[0]])] if len(beside) == 1 else []
        if not found:
            break
        for v, at in found:
            spoke[v], depth[v] = at, ring
    return spoke, depth


def rings(source: Source, topology: Topology, part: str, seeds: np.ndarray) -> np.ndarray:
    """Quad edges to the nearest seed within a part `[v]`; infinite outside."""
    quads = _quads(source, topology, part)
    e = np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)])
    graph = sparse.coo_matrix((np.ones(len(e)), (e[:, 0], e[:, 1])), (topology.vertex_count,) * 2)
    return dijkstra(graph, directed=False, indices=seeds, min_only=True, unweighted=True)


def smooth(values: np.ndarray, faces: np.ndarray, rounds: int, free: np.ndarray) -> np.ndarray:
    """Averages `values` `[v]` or `[v, c]` with their neighbours where `free` `[v]`."""
    e = _edges(faces)
    n = len(values)
    adjacency = sparse.coo_matrix((np.ones(2 * len(e)), (np.r_[e[:, 0], e[:, 1]], np.r_[e[:, 1], e[:, 0]])), (n, n))
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1)
    mean = (sparse.diags(1 / degree) @ adjacency).tocsr()
    shape = (n,) + (1,) * (values.ndim - 1)
    for _ in range(rounds):
        values = np.where(free.reshape(shape), 0.5 * values + 0.5 * (mean @ values), values)
    return values
