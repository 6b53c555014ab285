"""The 52 ARKit shapes: upstream deltas made symmetric, gaze redone as rotations, teeth moved by the jaw, lids closed."""

import numpy as np

from avatar3d.types.arkit import ARKIT_NAMES, mirrored_name

from . import eyes, source
from .source import Source
from .topology import Topology


def rigid_motion(rest: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares rotation `[3, 3]` and translation with `moved = rest @ R.T + t` (Kabsch)."""
    a, b = rest.mean(0), moved.mean(0)
    u, _, vt = np.linalg.svd((rest - a).T @ (moved - b))
    d = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u @ d @ vt).T
    return rotation, b - rotation @ a


def deltas(data: Source, topology: Topology, mean: np.ndarray, scale: float) -> np.ndarray:
    """Expression basis `[52, v, 3]` on the mean head.

    Args:
        data: Upstream data.
        topology: The asset's mesh.
        mean: Mean head `[v, 3]`.
        scale: Size of the mean head over that of the upstream base head, for which the deltas are made.
    """
    out = np.zeros((len(ARKIT_NAMES), topology.vertex_count, 3))
    base = topology.blocks["base"]
    for i, name in enumerate(ARKIT_NAMES):
        own = data.actions[name]
        other = data.actions[mirrored_name(name)][data.mirror] * [-1, 1, 1]
        out[i, base] = (0.5 * (own + other) * scale)[topology.base]
        if name in ("jawOpen", "jawForward", "jawLeft", "jawRight"):
            span = source.TEETH_LOWER
            rest = data.template[span]
            rotation, shift = rigid_motion(rest, rest + (0.5 * (own + other))[span])
            lower = topology.blocks["teeth_lower"]
            # the same rotation about the same place of the jaw, at the mean head's size
            centre, centre_base = mean[lower].mean(0), rest.mean(0)
            moved = (
                (mean[lower] - centre) @ rotation.T + centre + scale * (rotation @ centre_base + shift - centre_base)
            )
            out[i, lower] = moved - mean[lower]
        elif name.startswith("eyeLook"):
            side = "left" if name.endswith("Left") else "right"
            rotation = eyes.gaze_rotation(name.removeprefix("eyeLook").removesuffix(side.capitalize()), side)
            ball = topology.blocks[f"eyeball_{side}"]
            p = mean[ball] - eyes.fit_spheres(mean[None, ball])[0]
            out[i, ball] = p @ (rotation - np.eye(3)).T
    return out
