"""Motion -> Live Link Face CSV, column for column as the app writes it."""

import csv
from pathlib import Path

import torch
from jaxtyping import Float

from avatar3d.errors import ExportError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.livelink import (
    COLUMNS,
    GAZE_PITCH,
    GAZE_YAW,
    SHAPE_NAMES,
    TIMECODE_BASE,
    eye_angles,
    head_angles,
)
from avatar3d.models.motion import head_rotation
from avatar3d.storage import replacing
from avatar3d.types import ARKIT_INDEX, Motion
from avatar3d.typing import typed


@typed
def write_livelink_csv(motion: Motion, path: str | Path) -> None:
    """Writes one row per frame, timecodes from 00:00:00:00 in the app's 60 frames per second.

    Head angles are those of root, neck and head together. Eye angles restate the eyeLook coefficients, as the app's
    do, and add the motion's own eye rotations.

    Raises:
        ExportError: the file read back differs.
        FileError: it cannot be written.
    """
    values = livelink_channels(motion)
    values = torch.cat([values[:, [ARKIT_INDEX[name] for name in SHAPE_NAMES]], values[:, len(SHAPE_NAMES) :]], 1)
    with replacing(Path(path)) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for i, row in enumerate(values.tolist()):
                writer.writerow([timecode(i / motion.fps), len(row), *(f"{x:.10f}" for x in row)])
        _check(temporary, values)


def timecode(seconds: float) -> str:
    """HH:MM:SS:FF.fff, FF in 60ths of a second."""
    thousandths = round(seconds * TIMECODE_BASE * 1000)
    whole, frame = divmod(thousandths, TIMECODE_BASE * 1000)
    return f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frame // 1000:02d}.{frame % 1000:03d}"


@typed
def livelink_channels(motion: Motion) -> Float[torch.Tensor, "t 61"]:
    """61 channels: the 52 shapes in Apple's order, then yaw, pitch and roll of head, left and right eye."""
    shapes = motion.expression.double()
    columns = [shapes, head_angles(head_rotation(motion))]
    for side, inwards in (("Left", 1.0), ("Right", -1.0)):
        part = {name: shapes[:, ARKIT_INDEX[f"eyeLook{name}{side}"]] for name in ("In", "Out", "Up", "Down")}
        yaw, pitch = inwards * GAZE_YAW * (part["In"] - part["Out"]), GAZE_PITCH * (part["Down"] - part["Up"])
        angles = torch.stack([yaw, pitch, torch.zeros_like(yaw)], 1)
        own = motion.rotations.get(f"eye_{side.lower()}")
        columns.append(angles if own is None else angles + eye_angles(rotvec_to_matrix(own.double())))
    return torch.cat(columns, 1)


def _check(path: Path, values: torch.Tensor) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    back = torch.tensor([[float(x) for x in row[2:]] for row in rows], dtype=torch.float64)
    if tuple(header) != COLUMNS or back.shape != values.shape or not torch.allclose(back, values, rtol=0, atol=1e-9):
        raise ExportError(f"{path.name} read back differs from the motion; it was not kept.")
