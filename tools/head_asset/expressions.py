"""The 52 ARKit shapes: upstream deltas made symmetric, gaze as rotations, teeth moved by the jaw, lids closed."""

import numpy as np

from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES, mirrored_name

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


def _jaw_bones(data: Source, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rigid motion of the lower jaw in an upstream shape, from the helper teeth."""
    rest = data.template[source.TEETH_LOWER]
    return rigid_motion(rest, rest + own[source.TEETH_LOWER])


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
            rotation, shift = _jaw_bones(data, 0.5 * (own + other))
            # the same turn about the same place of the jaw, at the mean head's size
            centre_base = data.template[source.TEETH_LOWER].mean(0)
            lower = topology.blocks["teeth_lower"]
            centre = mean[lower].mean(0)
            shift = centre + scale * (rotation @ centre_base + shift - centre_base)
            full = (mean - centre) @ rotation.T + shift - mean
            out[i, lower] = full[lower]
            if name == "jawOpen":
                tongue = topology.vertices_of("tongue")
                out[i, tongue] = full[tongue] + np.array([0.0, -0.006, 0.0])  # lies flat in an open mouth
                gain = _stiff_chin(out[i, base], full[base])
                out[i, base] *= gain
        elif name.startswith("eyeLook"):
            side = "left" if name.endswith("Left") else "right"
            rotation = eyes.gaze_rotation(name.removeprefix("eyeLook").removesuffix(side.capitalize()), side)
            ball = topology.blocks[f"eyeball_{side}"]
            p = mean[ball] - eyes.fit_spheres(mean[None, ball])[0]
            out[i, ball] = p @ (rotation - np.eye(3)).T
    out[ARKIT_INDEX["mouthClose"], base] *= gain  # it undoes jawOpen at the lips
    return out


def _stiff_chin(delta: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Factors `[m, 1]` by which lower lip and chin follow the jaw bone more nearly.

    Upstream moves the middle of the lip 35 mm and the lip 12 mm beside it 28 mm, which makes an open mouth a V and the
    chin a beak. A vertex that makes a share s of the bone's motion is given s + 1.4 s^3 (1 - s): corners and cheeks
    stay, the lip's sides come along.
    """
    share = np.clip((delta * full).sum(1) / np.maximum((full**2).sum(1), 1e-8), 0, 1)
    return (1 + 1.4 * share**2 * (1 - share))[:, None]
