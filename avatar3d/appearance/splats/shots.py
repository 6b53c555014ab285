"""Frames of the footage as splats are optimised against: the person, cut out, at the size that is asked for."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.geometry.projection import project
from avatar3d.types import Camera

AROUND = 0.55  # of the head's size: what the closer picture shows on either side of it
BELOW = 0.3  # of the head's size: by how much more below


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of the person."""

    frame: int
    """Index in the track."""
    image: UInt8[Tensor, "h w 3"]
    """sRGB."""
    mask: UInt8[Tensor, "h w"]
    """Coverage of the person."""
    camera: Camera
    close: bool
    """Whether it shows the head and its surroundings only."""
    weight: float = 1.0


def take_shots(
    frame: int,
    image: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    camera: Camera,
    head: Float[Tensor, "v 3"],
    size: int,
) -> list[Shot]:
    """The whole picture with its longer side at most `size`, and the head with its surroundings at that size too, where
    the whole picture shows it smaller than it could be."""
    whole = (0, 0, camera.width, camera.height)
    box = _surroundings(head, camera)
    shots = [_shot(frame, image, mask, camera, whole, size, close=False)]
    if box is None:
        return shots
    longer = max(camera.width, camera.height)
    if longer > size and max(box[2] - box[0], box[3] - box[1]) < 0.8 * longer:
        shots.append(_shot(frame, image, mask, camera, box, size, close=True))
    return shots


def _surroundings(head: Tensor, camera: Camera) -> tuple[int, int, int, int] | None:
    pixels = project(head, camera)
    low, high = pixels.amin(0), pixels.amax(0)
    extent = float((high - low).max())
    x0, y0 = (max(0, math.floor(float(c) - AROUND * extent)) for c in low)
    x1 = min(camera.width, math.ceil(float(high[0]) + AROUND * extent))
    y1 = min(camera.height, math.ceil(float(high[1]) + (AROUND + BELOW) * extent))
    return (x0, y0, x1, y1) if x1 - x0 >= 32 and y1 - y0 >= 32 else None


def _shot(
    frame: int, image: np.ndarray, mask: np.ndarray, camera: Camera, box: tuple[int, int, int, int], size: int,
    *, close: bool,
) -> Shot:  # fmt: skip
    x0, y0, x1, y1 = box
    scale = min(1.0, size / max(x1 - x0, y1 - y0))
    w, h = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    part = torch.from_numpy(np.dstack([image, mask])[y0:y1, x0:x1]).permute(2, 0, 1)[None].float()
    if scale < 1:
        part = torch.nn.functional.interpolate(part, (h, w), mode="bilinear", antialias=True, align_corners=False)
    part = part[0].permute(1, 2, 0).round().clamp(0, 255).byte()
    K = camera.K.clone()
    K[0, 2] -= x0
    K[1, 2] -= y0
    shifted = replace(camera, K=K, width=x1 - x0, height=y1 - y0).resized(w, h)
    return Shot(
        frame=frame, image=part[..., :3].contiguous(), mask=part[..., 3].contiguous(), camera=shifted, close=close
    )


def halved(shot: Shot) -> Shot:
    """The picture in half its size."""
    width, height = max(1, shot.camera.width // 2), max(1, shot.camera.height // 2)
    planes = torch.cat([shot.image, shot.mask[..., None]], -1).permute(2, 0, 1)[None].float()
    planes = torch.nn.functional.interpolate(planes, (height, width), mode="area")[0].permute(1, 2, 0).round().byte()
    camera = shot.camera.resized(width, height)
    return replace(shot, image=planes[..., :3].contiguous(), mask=planes[..., 3].contiguous(), camera=camera)
