"""A picture of an unfinished optimisation, for whoever waits."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from avatar3d import storage
from avatar3d.appearance.splats.fit import Fitting, draw, on_background
from avatar3d.appearance.splats.shots import Shot

COLUMNS = 3


@torch.no_grad()
def save_preview(path: Path, fitting: Fitting) -> None:
    """Writes a PNG: some pictures of the footage, the person on white, and below them the splats as they are now.

    Raises:
        FileError: the file cannot be written.
    """
    whole = [shot for shot in fitting.shots if not shot.close] or fitting.shots
    at = torch.linspace(0, len(whole) - 1, min(COLUMNS, len(whole))).round().long().tolist()
    columns = [torch.cat([on_background(whole[i], torch.ones(3)), _drawn(fitting, whole[i])]) for i in at]
    height = max(len(c) for c in columns)
    columns = [torch.nn.functional.pad(c, (0, 0, 0, 0, 0, height - len(c)), value=1.0) for c in columns]
    picture = (torch.cat(columns, 1).clamp(0, 1) * 255).round().byte().numpy()
    with storage.replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")


def _drawn(fitting: Fitting, shot: Shot) -> torch.Tensor:
    vertices, coefficients, R_head = fitting.poses.vertices(torch.tensor([shot.frame]))
    splats = fitting.cloud.gaussians()
    return draw(splats, fitting.poses, vertices, coefficients, R_head, shot, torch.ones(3))[0]
