"""Motions as FLAME's parameters in an .npz."""

from pathlib import Path

import torch

from avatar3d.errors import ExportError
from avatar3d.models.flame_params import motion_to_flame, read_flame_parameters, write_flame_parameters
from avatar3d.models.registry import load
from avatar3d.types import Motion
from avatar3d.typing import typed


@typed
def write_flame_npz(motion: Motion, path: str | Path, model: str | Path = "flame") -> None:
    """Writes expr, jaw_pose, leye_pose, reye_pose, neck_pose, global_orient, transl, fps and residual_mm.

    Args:
        motion: What is converted.
        path: The .npz.
        model: The user's FLAME file.

    Raises:
        AssetError: no FLAME file.
        ExportError: the file read back differs.
        FileError: it cannot be written.
    """
    parameters, lost = motion_to_flame(motion, load(model))
    write_flame_parameters(parameters, path, lost)
    back = read_flame_parameters(path)
    if not torch.equal(back.expression, parameters.expression.float()):
        Path(path).unlink(missing_ok=True)
        raise ExportError(f"{path} read back differs from what was written; it was removed.")
