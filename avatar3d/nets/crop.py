"""Square, rotated windows of an image: what the networks see, and the way back to image pixels."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

ANTIALIAS_FROM = 2.0
"""Source pixels per crop pixel from which a crop is low-pass filtered before it is sampled."""


@dataclass(frozen=True)
class Square:
    """A rotated square window in an image; pixel centres lie at (i + 0.5, j + 0.5)."""

    x: float
    """Centre, pixels."""
    y: float
    """Centre, pixels."""
    size: float
    """Side, pixels."""
    angle: float = 0.0
    """From the image's x axis to the window's, towards the image's y axis (clockwise as seen), radians."""

    def to_image(self, uv: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Window coordinates, (0, 0) to (1, 1), to image pixels."""
        c, s = self.size * math.cos(self.angle), self.size * math.sin(self.angle)
        d = uv - 0.5
        return np.stack([self.x + c * d[..., 0] - s * d[..., 1], self.y + s * d[..., 0] + c * d[..., 1]], -1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch from spreading work of a millisecond over threads: where cores are busy, that takes five times as
    long as it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def crop(image: UInt8[np.ndarray, "h w 3"], square: Square, side: int, *, extend: bool) -> Float[Tensor, "side side 3"]:
    """Samples a window bilinearly, low-pass filtered where it is much reduced.

    Args:
        image: Picture.
        square: Window. It may reach beyond the picture.
        side: Side of the crop, pixels.
        extend: Beyond the picture, repeat its edge (True) or draw black (False).

    Returns:
        Crop with values 0 to 255, float32, not contiguous.
    """
    h, w = image.shape[:2]
    c, s = math.cos(square.angle), math.sin(square.angle)
    reach = 0.5 * square.size * (abs(c) + abs(s)) + 2
    x0, x1 = (min(max(math.floor(square.x + d * reach), 0), w) for d in (-1, 1))
    y0, y1 = (min(max(math.floor(square.y + d * reach), 0), h) for d in (-1, 1))
    if extend:  # a window outside the picture still sees its nearest edge
        x0, y0 = min(x0, w - 1), min(y0, h - 1)
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    if x1 <= x0 or y1 <= y0:
        return torch.zeros(side, side, 3)
    pixels = np.ascontiguousarray(image[y0:y1, x0:x1])
    if not pixels.flags.writeable:  # torch takes no read-only memory, though nothing here writes
        pixels = pixels.copy()
    part = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    part_w, part_h = x1 - x0, y1 - y0
    scale = square.size / side
    if scale > ANTIALIAS_FROM:
        reduced = max(1, round(part_h / scale)), max(1, round(part_w / scale))
        part = functional.interpolate(part, size=reduced, mode="bilinear", antialias=True)
    # grid_sample's coordinates: -1 and 1 are the outer edges of the part, in either axis
    steps = torch.from_numpy((np.arange(side) + 0.5) / side - 0.5).float() * (2 * float(square.size))
    grid = torch.empty(1, side, side, 2)
    for axis, (along, down, origin, length) in enumerate(
        ((c, -s, square.x - x0, part_w), (s, c, square.y - y0, part_h))
    ):
        torch.add(steps * (along / length), (steps * (down / length) + (2 * origin / length - 1))[:, None],
                  out=grid[0, :, :, axis])  # fmt: skip
    padding = "border" if extend else "zeros"
    sampled = functional.grid_sample(part.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return sampled[0].permute(1, 2, 0)
