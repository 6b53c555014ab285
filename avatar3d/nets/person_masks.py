"""Masks of one person through a video: the network's word, corrected by the tracked head, steady over time."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatar3d.nets.person_segmenter import PersonSegmenter
from avatar3d.typing import typed

STEADINESS = 0.65
"""Share of the mask before in a pixel that does not change colour."""
NOISE = 5.0
"""Change of colour that a still pixel of compressed footage may have, of 255."""
BLOCK = 4
"""Side of the blocks over which change of colour is averaged, pixels."""


class PersonMasks:
    """Masks of pictures in their order in time.

    A pixel that keeps its colour keeps what it shows: there the masks are averaged over time. Where something moves
    the colour changes, and the newest mask counts alone.
    """

    def __init__(self, segmenter: PersonSegmenter | None = None) -> None:
        """Starts with no picture seen.

        Args:
            segmenter: The network; loaded when left out.

        Raises:
            AssetError: the network's file is missing or damaged.
        """
        self._segmenter = segmenter or PersonSegmenter()
        self._image: np.ndarray | None = None
        self._mask: np.ndarray | None = None

    def forget(self) -> None:
        """Before a picture that does not follow the last one: a cut, another camera."""
        self._image = self._mask = None

    @typed
    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        head: Float[np.ndarray, "n 2"] | None = None,
        inside: Bool[np.ndarray, "h w"] | None = None,
    ) -> Float[np.ndarray, "h w"]:
        """How much of each pixel the person covers.

        Args:
            image: The next picture.
            head: Points of the tracked head, pixels; see `PersonSegmenter`.
            inside: Pixels that certainly show the person: the tracked face.

        Returns:
            float32, 0..1.
        """
        mask = self._segmenter(image, head)
        if self._mask is not None and self._image is not None and self._mask.shape == mask.shape:
            mask += stillness(image, self._image) * STEADINESS * (self._mask - mask)
        if inside is not None:
            mask[inside] = 1
        self._image, self._mask = image, mask.copy()
        return mask


@typed
def stillness(a: UInt8[np.ndarray, "h w 3"], b: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """1 where two pictures agree in colour, falling to 0 where they differ by more than noise does."""
    height, width = a.shape[:2]
    red, green, blue = np.moveaxis(np.maximum(a, b) - np.minimum(a, b), -1, 0)
    change = np.maximum(np.maximum(red, green), blue)
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    change = np.pad(change, ((0, rows * BLOCK - height), (0, columns * BLOCK - width)), mode="edge")
    blocks = change.reshape(rows, BLOCK, columns, BLOCK).mean((1, 3), dtype=np.float32)
    still = np.exp(-np.square(blocks / np.float32(NOISE)))
    return np.repeat(np.repeat(still, BLOCK, 0), BLOCK, 1)[:height, :width]
