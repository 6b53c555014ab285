"""Who is in the picture and what is behind: person probability for every pixel, sharp along the picture's edges.

MediaPipe's selfie segmentation network sees 256 x 256 pixels. It is run on the frame and, where a head is known, once
more on a window around it, so that people who are small in the frame keep their resolution; a guided filter carries
its output to the frame's pixels.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from avatar3d.nets.crop import one_thread
from avatar3d.nets.guided_filter import guided_apply, guided_coefficients
from avatar3d.nets.runtime import LiteNetwork
from avatar3d.typing import typed

SIDE = 256
REACH = 1.8
"""Side of the window around a head in terms of the head's height: head and shoulders."""
SHIFT = 0.1
"""How far below the head's middle the window's middle lies, in terms of its side."""
WHOLE = 0.6
"""Share of the frame from which a window is not worth a second look."""
FEATHER = 0.08
"""Over how much of the window's side its result fades into the frame's."""
RADIUS, EPSILON = 2, 1e-4
"""Of the guided filter: of 1 to 8 and 1e-4 to 1e-2 the ones with the smallest mean error on annotated people."""
SURE = 1e-3
"""Probabilities this close to 0 or 1 are taken as such; numbers next to nothing would also slow the filter down."""
ATTACHED = 0.25
"""Probability above which pixels hang together as one person."""


class Window(NamedTuple):
    """A part of a picture, pixels; the right and lower ends are not part of it."""

    left: int
    top: int
    right: int
    bottom: int


@typed
def window_around_head(points: Float[np.ndarray, "n 2"], width: int, height: int) -> Window | None:
    """Head and shoulders, as much of them as the frame shows.

    Args:
        points: Of the head in the picture, pixels; where they are not finite they do not count.
        width: Of the frame.
        height: Of the frame.

    Returns:
        The window; None where no point is in the frame.
    """
    inside = np.isfinite(points).all(1) & (points >= 0).all(1) & (points < (width, height)).all(1)
    if not inside.any():
        return None
    points = points[np.isfinite(points).all(1)]
    low, high = points.min(0), points.max(0)
    side = REACH * float((high - low).max())
    x, y = ((low + high) / 2).tolist()
    y += SHIFT * side
    left, right = max(0, int(x - side / 2)), min(width, int(x + side / 2) + 1)
    top, bottom = max(0, int(y - side / 2)), min(height, int(y + side / 2) + 1)
    return Window(left, top, right, bottom) if right - left >= 8 and bottom - top >= 8 else None


class PersonSegmenter:
    """The segmentation network on one picture after the other. Not to be shared between threads."""

    def __init__(self, *, threads: int = 1) -> None:
        """Loads the network.

        Raises:
            AssetError: the network's file is missing or damaged.
        """
        self._network = LiteNetwork("person_segmenter", threads=threads)

    @one_thread()
    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], head: Float[np.ndarray, "n 2"] | None = None
    ) -> Float[np.ndarray, "h w"]:
        """Probability that a pixel shows a person.

        Args:
            image: Picture.
            head: Points of the head that counts, pixels: it is looked at closely, and people who do not touch it are
                background. Everyone counts where it is left out.

        Returns:
            float32, 0..1.
        """
        height, width = image.shape[:2]
        whole = Window(0, 0, width, height)
        window = None if head is None else window_around_head(head, width, height)
        if window is None:
            return self._look(image, whole, None)
        share = (window.right - window.left) * (window.bottom - window.top) / (width * height)
        if share > WHOLE:
            return self._look(image, whole, head)
        result = self._look(image, whole, head, side=SIDE // 2)
        close = self._look(image, window, head)
        part = result[window.top : window.bottom, window.left : window.right]
        part += (close - part) * _feather(window, width, height)
        return result

    def _look(
        self, image: np.ndarray, window: Window, head: np.ndarray | None, *, side: int = SIDE
    ) -> Float[np.ndarray, "h w"]:
        """What the network says of a window, at the picture's resolution; the filter is fitted at `side` pixels."""
        left, top, right, bottom = window
        part = np.ascontiguousarray(image[top:bottom, left:right])
        if not part.flags.writeable:
            part = part.copy()
        pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
        small = functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", antialias=True)[0].float()
        coarse = self._network(small.permute(1, 2, 0), scale=1 / 255)[0][0, ..., 0]
        coarse[coarse < SURE] = 0
        coarse[coarse > 1 - SURE] = 1
        if head is not None:
            spots = (head - (left, top)) / (right - left, bottom - top) * SIDE
            coarse = _of_one_person(coarse, spots)
        guide, value = small / 255, torch.from_numpy(coarse)
        if side < SIDE:
            guide = functional.avg_pool2d(guide, SIDE // side)
            value = functional.avg_pool2d(value[None], SIDE // side)[0]
        fit = guided_coefficients(guide.contiguous(), value, radius=RADIUS, epsilon=EPSILON)
        return guided_apply(fit, pixels[0].float() / 255).numpy()


def _of_one_person(probability: Float[np.ndarray, "s s"], head: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "s s"]:
    """Only what hangs together with the head; unchanged where the network sees nobody there."""
    spots = head[np.isfinite(head).all(1) & (head >= 0).all(1) & (head < SIDE).all(1)].astype(int)
    found: Any = ndimage.label(probability > ATTACHED)
    label = found[0]
    touched = np.unique(label[spots[:, 1], spots[:, 0]])
    touched = touched[touched > 0]
    if not len(touched):
        return probability
    return np.where((label == 0) | np.isin(label, touched), probability, np.float32(0))


def _feather(window: Window, width: int, height: int) -> Float[np.ndarray, "h w"]:
    """1 inside, falling to 0 along those sides that are not the frame's own."""

    def ramp(low: int, high: int, size: int) -> Tensor:
        n = high - low
        steps = (torch.arange(n) + 0.5) / max(1.0, FEATHER * n)
        rising = torch.ones(n) if low == 0 else steps.clamp(max=1)
        return rising if high == size else torch.minimum(rising, steps.flip(0).clamp_max(1))

    across, down = ramp(window.left, window.right, width), ramp(window.top, window.bottom, height)
    return (down[:, None] * across).numpy()
