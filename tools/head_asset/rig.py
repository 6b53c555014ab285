"""Joints and skinning weights: root, neck, head, jaw and the two eyes."""

import numpy as np

from avatar3d.types.arkit import ARKIT_INDEX

from . import flatten, graph
from .expressions import rigid_motion
from .topology import Topology

JOINTS = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 2, 2, 2)
BONES = ["neck01", "neck02", "head", "jaw"]  # upstream joints; the eyes' are the balls' centres


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def jaw_share(topology: Topology, mean: np.ndarray, shapes: np.ndarray, joint: np.ndarray) -> tuple[np.ndarray, float]:
    """How much of a turn about the jaw joint each vertex makes in jawOpen `[v]`, and that turn, radians.

    The turn about the joint's x axis is the one that best gives the lower teeth's motion.
    """
    lower = topology.blocks["teeth_lower"]
    rest, delta = mean - joint, shapes[ARKIT_INDEX["jawOpen"]]
    rotation, _ = rigid_motion(mean[lower], mean[lower] + delta[lower])
    angle = np.arctan2(rotation[2, 1], rotation[1, 1])
    candidates = np.linspace(0.5 * angle, 2.5 * angle, 201)

    def turned(a: float) -> np.ndarray:
        c, s = np.cos(a), np.sin(a)
        return rest @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T - rest

    errors = [np.square(turned(a)[lower] - delta[lower]).sum() for a in candidates]
    best = candidates[int(np.argmin(errors))]
    full = turned(best)
    share = (delta * full).sum(1) / np.maximum((full**2).sum(1), 1e-8)
    return np.clip(share, 0, 1), float(best)


def weights(
    topology: Topology, mean: np.ndarray, shapes: np.ndarray, regions: dict[str, np.ndarray], joints: np.ndarray
) -> tuple[np.ndarray, float]:
    """Skinning weights `[v, 6]` that sum to 1, and the jaw joint's turn at jawOpen 1, radians."""
    skin = topology.faces[np.isin(topology.part, ("head", "neck"))]
    on_skin = np.zeros(len(mean), bool)
    on_skin[np.unique(skin)] = True
    rim = np.array(flatten.boundary_loops(skin)[0])
    solid = regions["face"] | regions["scalp"] | regions["ears"]
    to_rim = graph.distance(mean, skin, rim)
    to_head = graph.distance(mean, skin, np.flatnonzero(solid & on_skin))
    t = np.ones(len(mean))
    t[on_skin] = to_rim[on_skin] / np.maximum(to_rim + to_head, 1e-9)[on_skin]
    head, root = _smoothstep((t - 0.35) / 0.65), 1 - _smoothstep(t / 0.45)
    free = on_skin & ~solid
    free[rim] = False
    head, root = (graph.smooth(w, skin, 6, free) for w in (head, root))

    share, angle = jaw_share(topology, mean, shapes, joints[JOINTS.index("jaw")])
    soft = on_skin | regions["mouth_cavity"]
    soft &= ~(regions["lips_inner"] | regions["lips_outer"])
    share = np.where(share < 0.04, 0, share)
    share = graph.smooth(share, topology.faces, 4, soft)
    share[regions["teeth_lower"] | regions["tongue"]] = 1
    share[regions["teeth_upper"] | regions["eyeball_left"] | regions["eyeball_right"]] = 0
    share[regions["scalp"] | regions["ears"]] = 0
    jaw = share * head
    out = np.stack([root, np.clip(1 - root - head, 0, 1), head - jaw, jaw, 0 * jaw, 0 * jaw], 1)
    for side in ("left", "right"):
        out[regions[f"eyeball_{side}"]] = np.eye(6)[JOINTS.index(f"eye_{side}")]
    out[out < 1e-3] = 0
    out = 0.5 * (out + out[topology.mirror][:, [0, 1, 2, 3, 5, 4]])
    return out / out.sum(1, keepdims=True), angle
