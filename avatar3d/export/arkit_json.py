"""Motion -> ARKit coefficients in JSON."""

import json
from pathlib import Path

import torch

from avatar3d.errors import ExportError
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.motion import head_rotation
from avatar3d.storage import replacing
from avatar3d.types import ARKIT_NAMES, Motion
from avatar3d.typing import typed


@typed
def write_arkit_json(motion: Motion, path: str | Path) -> None:
    """Writes `{"names": [...], "fps": ..., "frames": [{"time": s, "weights": [...], "rotation": [x, y, z]}]}`.

    The rotation is the head's (root, neck and head together), axis-angle in radians, +y up, face along +z.

    Raises:
        ExportError: the file read back differs.
        FileError: it cannot be written.
    """
    head = matrix_to_rotvec(head_rotation(motion))
    frames = [
        {"time": i / motion.fps, "weights": [round(x, 6) for x in weights], "rotation": [round(x, 6) for x in rotvec]}
        for i, (weights, rotvec) in enumerate(zip(motion.expression.tolist(), head.tolist(), strict=True))
    ]
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps({"names": ARKIT_NAMES, "fps": motion.fps, "frames": frames}))
        back = json.loads(temporary.read_text())
        weights = torch.tensor([frame["weights"] for frame in back["frames"]]).reshape(-1, len(ARKIT_NAMES))
        if not torch.allclose(weights, motion.expression, rtol=0, atol=1e-5):
            raise ExportError(f"{Path(path).name} read back differs from the motion; it was not kept.")
