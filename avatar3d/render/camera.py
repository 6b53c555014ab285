"""Cameras that are put somewhere by hand."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.types import Camera
from avatar3d.typing import typed


@typed
def look_at(
    target: Float[Tensor, "3"], eye: Float[Tensor, "3"], width: int, height: int, *, field_of_view: float = 0.42
) -> Camera:
    """A camera at `eye` that looks at `target` with +y up.

    Args:
        target: World space, metres.
        eye: World space, metres; not straight above or below the target.
        width: Pixels.
        height: Pixels.
        field_of_view: Over the height, radians.

    Raises:
        ValueError: the two points are one, or one above the other.
    """
    forward = (target - eye).double()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    if float(right.norm()) < 1e-9:
        raise ValueError(f"look_at: eye {eye.tolist()} lies above, below or in the target {target.tolist()}.")
    forward, right = forward / forward.norm(), right / right.norm()
    R = torch.stack([right, torch.linalg.cross(forward, right), forward])
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = R, -R @ eye.double()
    focal = height / 2 / float(torch.tan(torch.tensor(field_of_view / 2)))
    return replace(Camera.from_focal(focal, width, height), T_camera_world=T)
