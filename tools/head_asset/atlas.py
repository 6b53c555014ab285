"""The texture atlas: skin flattened with the face enlarged, the other parts in a strip below it.

Everything is mirror-symmetric about u = 0.5 within its island, and no two parts share texels.
"""

import numpy as np

from . import eyes, flatten, graph, teeth
from .source import Source
from .topology import Topology

SKIN_BOX = (0.008, 0.172, 0.992, 0.994)  # u0, v0, u1, v1
BOXES = {
    "eyeball_right": (0.006, 0.006, 0.162, 0.162),
    "eyeball_left": (0.170, 0.006, 0.326, 0.162),
    "mouth_cavity": (0.334, 0.006, 0.492, 0.162),
    "tongue": (0.500, 0.006, 0.592, 0.162),
    "eye_cavity.R": (0.600, 0.088, 0.674, 0.162),
    "eye_cavity.L": (0.600, 0.006, 0.674, 0.080),
    "teeth_upper": (0.682, 0.088, 0.994, 0.162),
    "teeth_lower": (0.682, 0.006, 0.994, 0.080),
}


def _smoothstep(x: np.ndarray, zero: float, one: float) -> np.ndarray:
    u = np.clip((x - zero) / (one - zero), 0, 1)
    return u * u * (3 - 2 * u)


def _into(uv: np.ndarray, box: tuple[float, float, float, float], keep_aspect: bool = False) -> np.ndarray:
    """Scales and centres an island into a box."""
    low, high = uv.min(0), uv.max(0)
    size = np.array([box[2] - box[0], box[3] - box[1]])
    scale = size / (high - low)
    if keep_aspect:
        scale = np.full(2, scale.min())
    return (uv - 0.5 * (low + high)) * scale + 0.5 * np.array([box[0] + box[2], box[1] + box[3]])


def _skin(topology: Topology, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Skin island: its face numbers, uvs and uv faces; cut along the back of the midline up to the crown."""
    numbers = np.flatnonzero(np.isin(topology.part, ("head", "neck")))
    faces = topology.faces[numbers]
    verts = np.unique(faces)
    middle = set(verts[topology.mirror[verts] == verts].tolist())
    rim = flatten.boundary_loops(faces)[0]
    start = min((v for v in rim if v in middle), key=lambda v: mean[v, 2])
    linked: dict[int, list[int]] = {}
    for a, b in np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist():
        if a in middle and b in middle and b not in linked.setdefault(a, []):
            linked[a].append(b)
            linked.setdefault(b, []).append(a)
    crown = max(middle, key=lambda v: mean[v, 1])
    path = [start]
    while path[-1] != crown:
        path.append(next(w for w in linked[path[-1]] if w not in path))

    local = np.full(len(mean), -1)
    local[verts] = np.arange(len(verts))
    cut = local[faces]
    right = mean[faces].mean(1)[:, 0] < 0
    for i, v in enumerate(path[:-1]):
        cut[right] = np.where(faces[right] == v, len(verts) + i, cut[right])
    own = np.concatenate([verts, path[:-1]])
    p = mean[own]

    partner = local[topology.mirror[own]]
    for i, v in enumerate(path[:-1]):
        partner[local[v]], partner[len(verts) + i] = len(verts) + i, local[v]
    filled, faces_filled = flatten.fill_holes(p, cut)
    hubs = filled[len(p) :]
    opposite = [int(np.linalg.norm(hubs - hub * [-1, 1, 1], axis=1).argmin()) for hub in hubs]
    partner_filled = np.concatenate([partner, len(p) + np.array(opposite)])

    # wanted scale: large on the face, small behind and below
    front = mean[topology.vertices_of("head")][:, 2].mean() - 0.02
    azimuth = np.degrees(np.arctan2(np.abs(filled[:, 0]), filled[:, 2] - front))
    above = filled[:, 1] - mean[topology.vertices_of("eyeball_left")].mean(0)[1]
    stretch = 0.75 + 1.35 * _smoothstep(azimuth, 95, 35) * _smoothstep(above, 0.085, 0.045) * _smoothstep(
        above, -0.15, -0.10
    )
    start_uv = flatten.tutte(filled, faces_filled, top=local[crown])
    uv = flatten.slim(filled, faces_filled, stretch[faces_filled].mean(1), start_uv, partner_filled, 150)[: len(p)]
    return numbers, _into(uv, SKIN_BOX), cut


def _ball(side: str) -> tuple[np.ndarray, np.ndarray]:
    """Disc around the pupil; three quarters of the radius show the front 70 degrees. The back pole is a ring."""
    theta, phi = np.degrees(eyes.ball_angles()), eyes.ball_azimuths()
    radius = np.interp(theta, [0, 70, 180], [0, 0.75, 1.0])
    uv = np.stack([radius * np.cos(phi), radius * np.sin(phi)], 1)[:-1]
    faces = eyes.ball_faces().copy()
    back = []
    for k, row in enumerate(np.flatnonzero((faces == eyes.BALL_VERTICES - 1).any(1))):
        angle = (k + 0.5) * 2 * np.pi / eyes.SEGMENTS
        faces[row, faces[row] == eyes.BALL_VERTICES - 1] = len(uv) + k
        back.append([np.cos(angle), np.sin(angle)])
    uv = np.concatenate([uv, back])
    if side == "right":
        uv, faces = uv * [-1, 1], faces[:, ::-1]
    return uv, faces


def _socket(source: Source, topology: Topology, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Annulus: the lid margin inside, the rings behind it outside, one spoke per margin vertex."""
    numbers = np.flatnonzero(topology.part == part)
    faces = topology.faces[numbers]
    margin = set(topology.vertices_of("head").tolist())
    loop = next(loop for loop in flatten.boundary_loops(faces) if loop[0] in margin)
    spoke, depth = graph.spokes(source, topology, part, loop)
    verts = np.unique(faces)
    # the loop runs clockwise seen from where the faces face
    angle = -2 * np.pi * spoke[verts] / len(loop)
    radius = 0.4 + 0.2 * depth[verts]
    local = np.full(topology.vertex_count, -1)
    local[verts] = np.arange(len(verts))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), local[faces]


def _row(row: str) -> tuple[np.ndarray, np.ndarray]:
    c, p = np.meshgrid(np.arange(teeth.COLUMNS), np.arange(teeth.PROFILE), indexing="ij")
    v = np.interp(p.ravel(), np.arange(teeth.PROFILE), [1.0, 0.76, 0.56, 0.36, 0.2, 0.0])
    uv = np.stack([c.ravel() / (teeth.COLUMNS - 1), v if row == "upper" else 1 - v], 1)
    return uv, teeth.split(teeth.row_quads(flip=row == "lower"))


def build(source: Source, topology: Topology, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns `uvs` `[u, 2]` (origin bottom left) and `uv_faces` `[f, 3]`."""
    uv_faces = np.full(topology.faces.shape, -1)
    uvs: list[np.ndarray] = []
    count = 0

    def add(numbers: np.ndarray, uv: np.ndarray, faces: np.ndarray) -> None:
        nonlocal count
        uv_faces[numbers] = faces + count
        uvs.append(uv)
        count += len(uv)

    add(*_skin(topology, mean))
    for part in ("mouth_cavity", "tongue"):
        numbers = np.flatnonzero(topology.part == part)
        quads = source.quads[topology.source_quad[numbers]]
        corners = topology.base[topology.faces[numbers]]
        at = (quads[:, None, :] == corners[:, :, None]).argmax(2)
        corner_uv = np.take_along_axis(source.uv_quads[topology.source_quad[numbers]], at, 1)
        used, faces = np.unique(corner_uv, return_inverse=True)
        add(numbers, _into(source.uv[used], BOXES[part]), faces.reshape(-1, 3))
    for side in ("left", "right"):
        uv, faces = _ball(side)
        add(np.flatnonzero(topology.part == f"eyeball_{side}"), _into(uv, BOXES[f"eyeball_{side}"]), faces)
    for part in ("eye_cavity.L", "eye_cavity.R"):
        uv, faces = _socket(source, topology, part)
        add(np.flatnonzero(topology.part == part), _into(uv, BOXES[part], keep_aspect=True), faces)
    for row in ("upper", "lower"):
        uv, faces = _row(row)
        add(np.flatnonzero(topology.part == f"teeth_{row}"), _into(uv, BOXES[f"teeth_{row}"]), faces)
    if (uv_faces < 0).any():
        raise RuntimeError("faces without texture coordinates")
    return np.concatenate(uvs), uv_faces


def check(uvs: np.ndarray, uv_faces: np.ndarray) -> dict[str, float]:
    """Flipped and overlapping triangles: pixel centres of a 2048 grid inside more than one triangle, and the fill."""
    size = 2048
    p = uvs[uv_faces] * size
    hits = np.zeros((size, size), np.int32)
    a, b, c = p[:, 0], p[:, 1], p[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    for i in range(len(p)):
        x0, y0 = np.floor(p[i].min(0)).astype(int)
        x1, y1 = np.ceil(p[i].max(0)).astype(int)
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        inside = np.ones_like(x, bool)
        for k in range(3):
            q, r = p[i, k], p[i, (k + 1) % 3]
            # strictly inside, so that shared edges are not counted
            inside &= ((r[0] - q[0]) * (y - q[1]) - (r[1] - q[1]) * (x - q[0])) * np.sign(area[i]) > 1e-9
        hits[y0:y1, x0:x1] += inside
    return {
        "flipped": int((area <= 0).sum()),
        "overlaps": int((hits > 1).sum()),
        "utilisation": float((hits > 0).mean()),
    }
