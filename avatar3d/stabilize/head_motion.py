"""Head motion found in meshes as a `Motion`: metres, and axes with +y up and the face towards +z."""

import torch
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.stabilize.sequence import Stabilized
from avatar3d.types import ARKIT_NAMES, Motion
from avatar3d.typing import typed

UNITS = {"metres": 1.0, "decimetres": 0.1, "centimetres": 0.01, "millimetres": 0.001}


@typed
def mesh_units(found: Stabilized) -> tuple[str, float]:
    """The unit in which a head has about a head's size, and its length in metres."""
    scale = float(torch.linalg.det(found.T_head_mesh[:3, :3]).pow(1 / 3))
    name = min(UNITS, key=lambda u: abs(torch.log(torch.tensor(UNITS[u] / scale)).item()))
    ratio = scale / UNITS[name]
    return (name, UNITS[name]) if 0.6 < ratio < 1.6 else (f"units of {1000 * scale:.3g} mm", scale)


@typed
def mesh_axes(found: Stabilized) -> Tensor:
    """[3, 3] the rotation of the mesh's axes to +y up, face towards +z: one that exchanges axes, no more."""
    R = found.T_head_mesh[:3, :3] / torch.linalg.det(found.T_head_mesh[:3, :3]).pow(1 / 3)
    left, best = R.clone(), torch.zeros_like(R)
    for _ in range(3):  # the largest entry, then the largest beside it
        at = int(left.abs().argmax())
        i, j = divmod(at, 3)
        best[i, j] = torch.sign(R[i, j])
        left[i, :] = 0
        left[:, j] = 0
    if torch.linalg.det(best) < 0:  # the frame lies between two: take the other sign where it matters least
        i, j = divmod(int((R.abs() + 10 * (best == 0)).argmin()), 3)
        best[i, j] = -best[i, j]
    return best


@typed
def head_motion(found: Stabilized, *, fps: float, source: str = "") -> Motion:
    """Rotation of the joint `head` and translation of the root, such that the skull moves as it did in the meshes.

    The anchor is at rest. For a rig whose head joint lies where it does in the anchor's mesh, points x of the head go
    to R (x - joint) + joint + translation, which is T_frame_anchor x; axes as `mesh_axes` says.
    """
    axes, (_, metres) = mesh_axes(found), mesh_units(found)
    T = found.T_frame_anchor
    joint = torch.linalg.inv(found.T_head_mesh)[:3, 3]
    move = T[:, :3, :3] @ joint + T[:, :3, 3] - joint
    return Motion(
        fps=fps,
        expression=torch.zeros(len(T), len(ARKIT_NAMES)),
        rotations={"head": matrix_to_rotvec(axes @ T[:, :3, :3] @ axes.mT).float()},
        translation=(metres * move @ axes.mT).float(),
        confidence=found.confidence.float(),
        source=source,
    )
