"""Named vertex masks, from parts, rings around the openings and the support of upstream shapes; all symmetric."""

import numpy as np

from avatar3d.types.arkit import ARKIT_INDEX

from . import eyes, graph, teeth
from .source import Source
from .topology import Topology

LIP_INNER_RINGS = 2  # rings 0..2 from the mouth cavity touch or hide; 3..7 are the visible vermilion
LIP_RINGS = 7
LID_RINGS = 9
LID_MARGIN_RING = 3  # where the lids touch when they close


def _support(source: Source, topology: Topology, targets: tuple[str, ...], share: float) -> np.ndarray:
    """Where any of the targets moves a vertex by more than `share` of the most it moves one."""
    mask = np.zeros(topology.vertex_count, bool)
    for target in targets:
        length = np.linalg.norm(source.shapes[source.labels.index(f"local_change:{target}")][topology.base], axis=1)
        mask[topology.blocks["base"]] |= length > share * length.max()
    return mask


def build(source: Source, topology: Topology, mean: np.ndarray, shapes: np.ndarray) -> dict[str, np.ndarray]:
    """Masks `[v]` by name.

    Args:
        source: Upstream data.
        topology: The asset's mesh.
        mean: Mean head `[v, 3]`.
        shapes: ARKit displacements `[52, v, 3]`.
    """
    v, mirror = topology.vertex_count, topology.mirror
    out: dict[str, np.ndarray] = {}

    def mask(vertices: np.ndarray) -> np.ndarray:
        m = np.zeros(v, bool)
        m[vertices] = True
        return m

    skin = mask(topology.vertices_of("head", "neck"))
    head = topology.vertices_of("head")
    left = mean[:, 0] > 0
    x, y, z = mean.T
    eye = mean[topology.blocks["eyeball_left"]].mean(0)
    motion = np.linalg.norm(shapes, axis=2)

    for side in ("left", "right"):
        ball = topology.blocks[f"eyeball_{side}"]
        out[f"eyeball_{side}"] = mask(np.r_[ball])
        for name, count in (("iris", eyes.IRIS_RINGS), ("pupil", eyes.PUPIL_RINGS)):
            out[f"{name}_{side}"] = mask(np.r_[ball.start : ball.start + 1 + count * eyes.SEGMENTS])
    gaps = {}
    for row in ("upper", "lower"):
        block = topology.blocks[f"teeth_{row}"]
        out[f"teeth_{row}"] = mask(np.r_[block])
        gaps[row] = block.start + np.flatnonzero(teeth.borders())
        out[f"gums_{row}"] = mask(block.start + np.flatnonzero(np.arange(teeth.ROW_VERTICES) % teeth.PROFILE < 2))
    out["teeth_gaps"] = mask(np.r_[gaps["upper"], gaps["lower"]])
    out["tongue"] = mask(topology.vertices_of("tongue"))
    out["mouth_cavity"] = mask(topology.vertices_of("mouth_cavity"))

    # lips: rings around the mouth; with the jaw open the lower one hangs below the corners
    seam = np.intersect1d(topology.vertices_of("mouth_cavity"), head)
    ring = graph.rings(source, topology, "head", seam)
    jaw_down = -shapes[ARKIT_INDEX["jawOpen"], :, 1]
    touching = np.flatnonzero(ring == LIP_INNER_RINGS)
    corner = touching[np.abs(x[touching]).argmax()]
    lower = y - jaw_down < y[corner] - jaw_down[corner]
    inner = ring <= LIP_INNER_RINGS
    for name, where in (("lips_inner", inner), ("lips_outer", ~inner & (ring <= LIP_RINGS))):
        out[f"{name}_upper"], out[f"{name}_lower"] = where & ~lower, where & lower
        out[name] = where

    # lids: rings around each eye opening, split by the line through its corners
    for side, letter in (("left", "L"), ("right", "R")):
        socket = topology.vertices_of(f"eye_cavity.{letter}")
        ring = graph.rings(source, topology, "head", np.intersect1d(socket, head))
        lids = ring <= LID_RINGS
        margin = np.flatnonzero(ring <= 3)
        nasal, temporal = margin[np.abs(x[margin]).argmin()], margin[np.abs(x[margin]).argmax()]
        rim = ring == LID_MARGIN_RING
        t = (x - x[nasal]) / (x[temporal] - x[nasal])
        above = y > y[nasal] + t * (y[temporal] - y[nasal])
        out[f"eyelid_upper_{side}"], out[f"eyelid_lower_{side}"] = lids & above, lids & ~above
        out[f"lid_margin_upper_{side}"], out[f"lid_margin_lower_{side}"] = rim & above, rim & ~above
        out[f"eyelids_{side}"] = lids
        out[f"eye_socket_{side}"] = mask(socket)
        out[f"lacrimal_{side}"] = lids & (np.linalg.norm(mean - mean[nasal], axis=1) < 0.0045)
    lids = out["eyelids_left"] | out["eyelids_right"]
    lips = out["lips_inner"] | out["lips_outer"]
    out["eyelids"] = lids

    ears = _support(source, topology, ("l-ear-wing-incr", "r-ear-wing-incr"), 0.04)
    out["ears"], out["ear_left"], out["ear_right"] = ears, ears & left, ears & ~left
    ear_middle = mean[out["ear_left"]].mean(0)
    ear_low = y[out["ear_left"]].min()

    # hair line: forehead top to temple to sideburn; below it behind the ear, down to the nape
    neck = np.zeros(v)
    neck[topology.blocks["base"]] = source.neck_weight[topology.base]
    line = np.interp(
        y - eye[1], [-0.02, 0.03, 0.062, 0.075], [ear_middle[2] + 0.008, ear_middle[2] + 0.03, eye[2] - 0.02, 1.0]
    )
    behind = z < line
    nape = np.interp(
        z - ear_middle[2], [-0.09, -0.01, 0.012, 0.02], [ear_low - 0.03, ear_low + 0.01, eye[1] - 0.02, eye[1] - 0.01]
    )
    scalp = skin & ~ears & behind & (y > nape)
    out["scalp"] = scalp
    below_jaw = (neck > 0.5) | mask(topology.vertices_of("neck"))
    face = skin & ~scalp & ~ears & ~below_jaw & ~behind
    out["face"] = face
    out["neck"] = skin & ~scalp & ~ears & ~face

    out["nose"] = face & _support(source, topology, ("nose-trans-forward",), 0.65) & ~lids
    brow = sum(motion[ARKIT_INDEX[n]] for n in ("browDownLeft", "browDownRight", "browOuterUpLeft", "browOuterUpRight"))
    high = y - eye[1]
    out["brows"] = face & ~lids & (brow > 0.35 * brow[face].max()) & (high > 0.013) & (high < 0.027)
    brow_low = y[out["brows"]].min()
    out["forehead"] = face & ~lids & ~out["nose"] & (y > brow_low)
    jaw = face & ~lips & (jaw_down > 0.35 * jaw_down[face].max())
    out["jaw"] = jaw
    out["chin"] = jaw & (np.abs(x) < 0.022) & (y < y[out["lips_outer_lower"]].min() + 0.004)
    out["cheeks"] = face & ~(jaw | lids | lips | out["nose"] | out["forehead"]) & (np.abs(x) > 0.018) & (y < eye[1])
    still = motion.max(0) < 0.0015
    bridge = out["nose"] & (y > eye[1] - 0.012) & still
    out["skull_attached"] = scalp | (out["forehead"] & still) | bridge | out["teeth_upper"]

    for name, m in out.items():
        other = name.replace("left", "#").replace("right", "left").replace("#", "right")
        if not np.array_equal(m[mirror], out[other]):
            # a vertex on the edge of a threshold: take both
            out[name] = m | out[other][mirror]
    return out
