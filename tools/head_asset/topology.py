"""Which vertices and faces the head has: base mesh cut at the collar, own eyeballs and teeth, all mirror-symmetric.

Vertex order of the asset: base vertices kept (ascending base number), left eyeball, right eyeball, upper teeth,
lower teeth.
"""

from dataclasses import dataclass, field

import numpy as np

from . import eyes, teeth
from .source import Source

NECK_RINGS = 4  # quad rings of the body kept below the head part
SOCKET_RINGS = 3  # quad rings kept behind each lid margin; the rest of the socket is never seen


@dataclass
class Topology:
    """Index tables of the asset's mesh."""

    base: np.ndarray  # [m] base numbers of the first m vertices
    faces: np.ndarray  # [f, 3]
    part: np.ndarray  # [f] name of the part each face belongs to
    mirror: np.ndarray  # [v]
    vertex_count: int
    source_quad: np.ndarray  # [g] quad of the source that each of the first g faces comes from
    blocks: dict[str, slice] = field(default_factory=dict)

    def vertices_of(self, *parts: str) -> np.ndarray:
        """Sorted vertices of all faces of the named parts."""
        return np.unique(self.faces[np.isin(self.part, parts)])


def _edges(quads: np.ndarray) -> np.ndarray:
    return np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], -1).reshape(-1, 2), 1)


def _grow(quads: np.ndarray, chosen: np.ndarray, allowed: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Quads of `allowed` that share an edge (a pair of `seed` vertices) with the chosen region's rim."""
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], -1), -1)
    key = edges[..., 0].astype(np.int64) * 100_000 + edges[..., 1]
    counts = dict(zip(*np.unique(key[chosen], return_counts=True), strict=True))
    rim = {k for k, c in counts.items() if c == 1 and k // 100_000 in seed and k % 100_000 in seed}
    return np.array([i for i in np.flatnonzero(allowed & ~chosen) if any(k in rim for k in key[i])], dtype=int)


def _select(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the quads kept and their part names."""
    quads, part = source.quads, source.part
    names = np.array([*source.parts, ""], dtype=object)[part]
    body = quads.max(1) < 13380
    chosen = body & (part >= 0)
    for _ in range(NECK_RINGS):
        everything = set(range(13380))
        ring = _grow(quads, chosen, body & (part < 0), everything)
        chosen[ring] = True
        names[ring] = "neck"
    kept = chosen.copy()
    for side in ("L", "R"):
        socket = names == f"eye_cavity.{side}"
        kept[socket] = False
        margin = np.intersect1d(quads[socket], quads[names == "head"])
        reached = set(margin.tolist())
        for _ in range(SOCKET_RINGS):
            ring = [i for i in np.flatnonzero(socket & ~kept) if len(reached & set(quads[i].tolist())) >= 2]
            kept[ring] = True
            reached |= set(quads[ring].ravel().tolist())
    kept |= names == "tongue"
    return np.flatnonzero(kept), names[kept]


def _split(quads: np.ndarray, points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Triangles of quads, cut along the shorter diagonal as seen on the left half, so that both halves match."""
    out = np.empty((len(quads), 2, 3), dtype=int)
    left = points[quads].mean(1)[:, 0] >= 0
    for i, quad in enumerate(quads):
        seen = quad if left[i] else mirror[quad]
        p = points[seen]
        ac, bd = np.linalg.norm(p[0] - p[2]), np.linalg.norm(p[1] - p[3])
        # ties are cut along the diagonal that leaves the smallest vertex, whichever way the quad is listed
        along_ac = ac < bd - 1e-7 or (abs(ac - bd) <= 1e-7 and seen.argmin() % 2 == 0)
        a, b, c, d = quad
        out[i] = [[a, b, c], [a, c, d]] if along_ac else [[a, b, d], [b, c, d]]
    return out.reshape(-1, 3)


def build(source: Source, mean_base: np.ndarray) -> Topology:
    """Selects and triangulates; `mean_base` `[n, 3]` decides the diagonals."""
    kept, names = _select(source)
    quads = source.quads[kept]
    base = np.unique(quads)
    new = np.full(len(source.template), -1)
    new[base] = np.arange(len(base))
    mirror = new[source.mirror[base]]
    if (mirror < 0).any():
        raise RuntimeError("the kept part of the mesh is not symmetric")
    faces = [_split(new[quads], mean_base[base], mirror)]
    part = [np.repeat(names, 2)]
    count = len(base)
    blocks = {"base": slice(0, count)}
    mirrors = [mirror]

    ball = eyes.ball_faces()
    for side in ("left", "right"):
        # the right ball is the left one mirrored, hence the flipped winding
        faces.append((ball if side == "left" else ball[:, ::-1]) + count)
        part.append(np.full(len(ball), f"eyeball_{side}", dtype=object))
        blocks[f"eyeball_{side}"] = slice(count, count + eyes.BALL_VERTICES)
        count += eyes.BALL_VERTICES
    left, right = blocks["eyeball_left"], blocks["eyeball_right"]
    mirrors += [np.arange(right.start, right.stop), np.arange(left.start, left.stop)]

    for row in ("upper", "lower"):
        row_quads, row_mirror = teeth.row_quads(flip=row == "lower"), teeth.row_mirror()
        triangles = teeth.split(row_quads)
        faces.append(triangles + count)
        part.append(np.full(len(triangles), f"teeth_{row}", dtype=object))
        mirrors.append(row_mirror + count)
        blocks[f"teeth_{row}"] = slice(count, count + teeth.ROW_VERTICES)
        count += teeth.ROW_VERTICES
    return Topology(
        base, np.concatenate(faces), np.concatenate(part), np.concatenate(mirrors), count, np.repeat(kept, 2), blocks
    )
