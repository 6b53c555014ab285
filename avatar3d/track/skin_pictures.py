"""The face in a picture as the photometric refinement looks at it: small, of one channel, logarithmic."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatar3d.geometry.colour import srgb_to_linear
from avatar3d.ops import sample_texture
from avatar3d.types.capture import Capture

Pictures = Callable[[Int[Tensor, "o"]], Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]]
"""Reads the pictures of these indices among all detections, in any order, each with its place in what was asked for."""
CELL = 1.5e-3
"""Metres of the face that a pixel of a patch shows at least, about."""
AROUND = 0.45
"""Of the landmarks' extent: how much farther a patch reaches on every side."""
DARK = 0.01
"""Added to linear brightness before the logarithm: darker is noise."""
_TO_LINEAR = srgb_to_linear(torch.arange(256) / 255.0)


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Part of a picture."""

    colour: Float[Tensor, "h w"]
    """Logarithm of the mean of linear red, green and blue."""
    origin: tuple[int, int]
    """Column and row of the picture where it begins."""
    factor: int
    """Pixels of the picture per pixel."""
    per_cell: float
    """Own pixels per CELL."""


NOTHING = Patch(colour=torch.zeros(8, 8), origin=(-(10**6), -(10**6)), factor=1, per_cell=1.0)
"""Of a picture that does not show the face."""


def cut_patch(image: UInt8[np.ndarray, "h w 3"], landmarks: Float[Tensor, "l 2"], per_metre: float) -> Patch:
    """The surroundings of a face; `NOTHING` where it is not in the picture.

    Args:
        image: sRGB.
        landmarks: Of the face, pixels.
        per_metre: Pixels per metre at the face's distance.
    """
    low, high = landmarks.amin(0), landmarks.amax(0)
    reach = AROUND * (high - low)
    x0, y0 = (max(0, int(c)) for c in (low - reach).tolist())
    x1, y1 = (min(n, int(c)) for c, n in zip((high + reach).tolist(), image.shape[1::-1], strict=True))
    if min(x1 - x0, y1 - y0) < 24:
        return NOTHING
    factor = max(1, round(per_metre * CELL))
    bright = _TO_LINEAR[torch.from_numpy(np.ascontiguousarray(image[y0:y1, x0:x1])).int()].mean(-1)
    small = torch.nn.functional.avg_pool2d(bright[None, None], factor)[0, 0]
    return Patch(colour=(small + DARK).log(), origin=(x0, y0), factor=factor, per_cell=per_metre * CELL / factor)


def blurred(patch: Patch, sigma: float) -> Float[Tensor, "h w 3"]:
    """A patch after a Gaussian of this many metres, and its slopes to the right and down per pixel of the picture."""
    own = sigma / CELL * patch.per_cell
    x = patch.colour[None, None]
    if own > 0.3:
        radius = max(1, int(3 * own))
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / own).square())
        kernel = kernel / kernel.sum()
        pad = torch.nn.functional.pad
        x = torch.nn.functional.conv2d(pad(x, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
        x = torch.nn.functional.conv2d(pad(x, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))
    right, down = torch.zeros_like(x), torch.zeros_like(x)
    right[..., 1:-1] = (x[..., 2:] - x[..., :-2]) / (2 * patch.factor)
    down[..., 1:-1, :] = (x[..., 2:, :] - x[..., :-2, :]) / (2 * patch.factor)
    return torch.cat([x, right, down], 1)[0].permute(1, 2, 0).contiguous()


def sample(planes: Float[Tensor, "h w c"], patch: Patch, pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n c"]:
    """Reads a blurred patch at pixels of the picture."""
    h, w = planes.shape[:2]
    at = (pixels - torch.tensor(patch.origin)) / patch.factor
    uv = at * torch.tensor([1 / w, -1 / h]) + torch.tensor([0.0, 1.0])
    return sample_texture(planes[None], uv[None, None].contiguous())[0, 0]


def inside(patch: Patch, pixels: Float[Tensor, "n 2"]) -> Tensor:
    """Which pixels of the picture a patch shows, away from its border."""
    h, w = patch.colour.shape
    at = (pixels - torch.tensor(patch.origin)) / patch.factor
    return ((at > 2) & (at < torch.tensor([w - 2, h - 2]))).all(-1)


def pictures_of(capture: Capture, camera: Int[Tensor, "t"]) -> Pictures:
    """The pictures of a capture by their place in its detections.

    Args:
        capture: The footage.
        camera: View of every picture; the pictures of a view are in its own order.
    """
    within = torch.zeros_like(camera)
    for view in camera.unique().tolist():
        own = camera == view
        within[own] = torch.arange(int(own.sum()))

    def read(indices: Int[Tensor, "o"]) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        for view in camera[indices].unique().tolist():
            places = torch.nonzero(camera[indices] == view)[:, 0]
            wanted = within[indices[places]]
            place = dict(zip(wanted.tolist(), places.tolist(), strict=True))
            for frame in capture.views[view].frames_at(sorted(place)):
                yield place[frame.index], frame.image

    return read
