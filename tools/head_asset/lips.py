"""Closes the lips of every sampled head, so that a neutral mouth is a closed one and the gap is expression alone.

Upstream's people open their lips by a millimetre or so either way, which shows teeth as specks between closed lips.
Where upper and lower lip come nearest, each gives way by half of what parts them; the correction is linear in the
vertices, so the basis of sealed heads spans sealed heads.
"""

import numpy as np

from . import flatten, graph
from .source import Source
from .topology import Topology

OVERLAP = 0.0004  # metres by which the lips press into each other
CONTACT_RINGS = 4  # the touching vertex of a spoke is looked for in rings 0..4 from the mouth cavity
FADE = np.array([1, 1, 1, 1, 1, 0.7, 0.35, 0.1])  # by ring on the lips
FADE_INSIDE = np.array([1, 0.8, 0.5, 0.2])  # by ring in the cavity


class LipSeal:
    """Seals lips of heads on the asset's mesh; built on the upstream base head."""

    def __init__(self, source: Source, topology: Topology, reference: np.ndarray) -> None:
        head = topology.faces[topology.part == "head"]
        seam = set(np.intersect1d(topology.vertices_of("mouth_cavity"), topology.vertices_of("head")).tolist())
        loop = next(loop for loop in flatten.boundary_loops(head) if loop[0] in seam)
        spoke, ring = graph.spokes(source, topology, "head", loop, len(FADE) - 1)
        inside, inner_ring = graph.spokes(source, topology, "mouth_cavity", loop, len(FADE_INSIDE) - 1)
        x, y, _ = reference.T
        rim = np.array(loop)
        corners = [int(x[rim].argmax()), int(x[rim].argmin())]
        between = lambda a, b: np.arange(a + 1, b if b > a else b + len(loop)) % len(loop)  # noqa: E731
        sides = [between(corners[0], corners[1]), between(corners[1], corners[0])]
        if y[rim[sides[0]]].mean() < y[rim[sides[1]]].mean():
            sides.reverse()
        touch = np.full(len(loop), -1)
        for up, spokes in zip((True, False), sides, strict=True):
            for i in spokes:
                column = np.flatnonzero((spoke == i) & (ring <= CONTACT_RINGS))
                touch[i] = column[y[column].argmin() if up else y[column].argmax()]
        self.fade = np.zeros(topology.vertex_count)
        self.spoke = np.where(spoke >= 0, spoke, inside)
        on = spoke >= 0
        self.fade[on] = FADE[ring[on]]
        within = (inside >= 0) & ~on
        self.fade[within] = FADE_INSIDE[inner_ring[within]]
        # rows: by how much each spoke's touching vertex lies beyond the opposite lip, from the vertices' heights
        self.gap = np.zeros((len(loop), len(loop)))
        self.touch, self.sign = touch, np.zeros(len(loop))
        for own, other, sign in ((sides[0], sides[1], -1.0), (sides[1], sides[0], 1.0)):
            order = other[np.argsort(x[touch[other]])]
            for i in own:
                at = np.clip(np.interp(x[touch[i]], x[touch[order]], np.arange(len(order))), 0, len(order) - 1 - 1e-9)
                a, u = int(at), at - int(at)
                self.gap[i, i] -= sign
                self.gap[i, order[a]] += sign * (1 - u)
                self.gap[i, order[a + 1]] += sign * u
                self.sign[i] = sign

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Sealed copies of heads `[n, v, 3]`."""
        heights = points[:, np.maximum(self.touch, 0), 1]
        parted = heights @ self.gap.T + OVERLAP * (self.sign != 0)
        move = 0.5 * parted * self.sign
        out = points.copy()
        lips = np.flatnonzero(self.fade)
        out[:, lips, 1] += (move[:, self.spoke[lips]] * self.fade[lips]).astype(points.dtype)
        return out
