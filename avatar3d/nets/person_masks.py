"""Masks of one person through a video: the network, steady over time, sharpened by colour, corrected by the head."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatar3d.nets.matte import refine_mask
from avatar3d.nets.person_segmenter import PersonSegmenter
from avatar3d.typing import typed

STEADINESS = 0.65
"""Share of the mask before in a pixel that does not change colour."""
NOISE = 5.0
"""Change of colour that a still pixel of compressed footage may have, of 255."""
STANDING = (0.6, 0.9)
"""Mean agreement of a pixel's colour with its mean over the clip, from which and up to which it is ever more certain
that it stands still."""
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
        self._raw: np.ndarray | None = None
        self._mask: np.ndarray | None = None
        self._scene: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @typed
    def study(
        self,
        images: list[UInt8[np.ndarray, "h w 3"]],
        heads: list[Float[np.ndarray, "n 2"]] | None = None,
    ) -> None:
        """Looks at pictures from all over a clip before the first one is asked for.

        What stands still in all of them, as a cloth on a chair does, is one thing throughout, and where the network
        wavers over it, it is not the person, who moves.

        Args:
            images: Of one size, in any order.
            heads: Points of the tracked head in each, pixels.
        """
        masks = [self._segmenter(image, None if heads is None else heads[i]) for i, image in enumerate(images)]
        mean = np.mean(images, 0, dtype=np.float32).round().astype(np.uint8)
        agreement = np.mean([stillness(image, mean) for image in images], 0, dtype=np.float32)
        low, high = STANDING
        person = np.clip(2 * np.mean(masks, 0, dtype=np.float32) - 1, 0, 1)
        self._scene = mean, np.clip((agreement - low) / (high - low), 0, 1), person

    def forget(self) -> None:
        """Before a picture that does not follow the last one: a cut, another camera."""
        self._image = self._raw = self._mask = None

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
        raw = self._segmenter(image, head)
        if self._scene is not None and self._scene[0].shape == image.shape:
            mean, standing, person = self._scene
            raw += standing * stillness(image, mean) * (person - raw)
        still = None
        if self._raw is not None and self._image is not None and self._raw.shape == raw.shape:
            still = STEADINESS * stillness(image, self._image)
            raw += still * (self._raw - raw)
        mask = refine_mask(image, raw)
        if still is not None:
            mask = mask + still * (self._mask - mask)
        elif mask is raw:
            mask = raw.copy()
        if inside is not None:
            mask[inside] = 1
        self._image, self._raw, self._mask = image, raw, mask.copy()
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
