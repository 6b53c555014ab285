"""Motions from FLAME's (or SMPL-X's) parameters in an .npz."""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from avatar3d.models.flame_params import flame_to_motion, read_flame_parameters
from avatar3d.models.registry import load
from avatar3d.types import Motion
from avatar3d.typing import typed


@typed
def from_flame_npz(
    path: str | Path, *, model: str | Path = "flame", fps: float | None = None
) -> tuple[Motion, Float[Tensor, "t"]]:
    """A motion from FLAME's expression coefficients, jaw, eyes, neck and head, through the user's FLAME file.

    Args:
        path: The .npz.
        model: FLAME: the user's, or the file that the coefficients are of.
        fps: Frames per second; the file's own, or 30, when left out.

    Returns:
        The motion, and the distance in metres that ARKit's shapes lose in every frame.

    Raises:
        AssetError: no FLAME file.
        FileError, FormatError: the .npz is not what it should be.
    """
    parameters = read_flame_parameters(path)
    return flame_to_motion(parameters, load(model), fps=fps, source=Path(path).name)
