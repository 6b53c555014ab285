"""Finds faces in a picture: BlazeFace (short range) on windows from the whole frame down to small tiles.

The network sees 128 x 128 pixels and faces that are roughly upright and at least a tenth of that. Phone footage has
smaller ones and sideways ones, so `FaceDetector.search` goes on, from coarse to fine and turned, until its caller
has seen enough.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from avatar3d.nets.crop import Square, crop
from avatar3d.nets.runtime import LiteNetwork
from avatar3d.typing import typed

SIDE = 128
KEYPOINTS = ("right eye", "left eye", "nose tip", "mouth", "right ear", "left ear")
"""The subject's right and left."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One face found by the detector."""

    box: Float[Tensor, "4"]
    """x0, y0, x1, y1 in pixels: brow to chin, narrower than the head."""
    keypoints: Float[Tensor, "6 2"]
    """Pixels, in the order of `KEYPOINTS`."""
    score: float
    """0 to 1."""

    @property
    def size(self) -> float:
        """Mean side of the box, pixels."""
        return float((self.box[2:] - self.box[:2]).mean())

    @property
    def roll(self) -> float:
        """Angle of the line from right to left eye to the image's x axis, clockwise as seen, radians."""
        dx, dy = (self.keypoints[1] - self.keypoints[0]).tolist()
        return math.atan2(dy, dx)


def anchors() -> Float32[np.ndarray, "896 2"]:
    """Centres of the network's anchors, 0 to 1: 2 per cell of a 16 x 16 grid, then 6 per cell of an 8 x 8 grid.

    Source: Bazarevsky et al., BlazeFace (2019), section 3.2; sizes are 1, so the network regresses boxes directly.
    """
    grids = []
    for cells, count in ((16, 2), (8, 6)):
        centres = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), count, axis=0))
    return np.concatenate(grids)


def overlap(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """Intersection over union of one box with each of several."""
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    intersection = np.prod(np.clip(inner, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return intersection / np.maximum(np.prod(box[2:] - box[:2]) + areas - intersection, 1e-9)


def merge(
    points: Float[np.ndarray, "n 8 2"], scores: Float[np.ndarray, "n"], *, iou: float = 0.3
) -> list[tuple[np.ndarray, float]]:
    """Weighted non-maximum suppression: overlapping candidates become their score-weighted mean.

    Args:
        points: Two box corners, then six keypoints.
        scores: Their scores.
        iou: Overlap from which two candidates are the same face.

    Returns:
        Merged points and the best score of each group, best first.
    """
    merged = []
    left = np.argsort(-scores, kind="stable")
    while left.size:
        same = overlap(points[left[0], :2].ravel(), points[left, :2].reshape(-1, 4)) > iou
        same[0] = True
        group = left[same]
        weight = scores[group] / scores[group].sum()
        merged.append((np.tensordot(weight, points[group], 1), float(scores[left[0]])))
        left = left[~same]
    return merged


def tiles(width: int, height: int, side: float, angle: float = 0.0) -> list[Square]:
    """Windows of one size that cover a frame and overlap by 40%."""

    def centres(length: int) -> list[float]:
        if length <= side:
            return [length / 2]
        count = math.ceil((length - side) / (0.6 * side)) + 1
        return np.linspace(side / 2, length - side / 2, count).tolist()

    return [Square(x, y, side, angle) for y in centres(height) for x in centres(width)]


def levels(width: int, height: int, *, min_face: float) -> Iterator[list[Square]]:
    """Windows to search, from coarse to fine: each item is a set that covers the frame once.

    The whole frame, then tiles of falling size that overlap by 40%, then the coarse sets again turned by 90, -90,
    180 and ±45 degrees, then finer tiles, down to where a face of `min_face` pixels fills 15% of a tile.
    """

    long, short = max(width, height), min(width, height)
    sides = [float(long)]
    side = float(short) if short < 0.8 * long else short / 1.6
    while side >= max(min_face / 0.15, SIDE):
        sides.append(side)
        side /= 1.6
    coarse, fine = sides[:3], sides[3:]
    for side in coarse:
        yield tiles(width, height, side)
    for degrees in (90, -90, 180, 45, -45):
        for side in coarse[:2]:
            yield tiles(width, height, side, math.radians(degrees))
    for side in fine:
        yield tiles(width, height, side)


class FaceDetector:
    """Face boxes, six keypoints and scores."""

    def __init__(self, *, min_score: float = 0.5, min_face: float | None = None, threads: int = 1) -> None:
        """Loads the network.

        Args:
            min_score: Detections below are dropped, 0 to 1.
            min_face: Smallest face that a thorough search looks for, pixels; None for 2% of the frame's long
                side, and at least 24.
            threads: Threads of the network.

        Raises:
            AssetError: the network's file is missing or damaged.
        """
        if not 0 < min_score < 1:
            raise ValueError(f"min_score is {min_score}; expected between 0 and 1.")
        self._network = LiteNetwork("face_detector", threads=threads)
        self._anchors = anchors()
        self._min_logit = math.log(min_score / (1 - min_score))
        self._min_face = min_face

    def _candidates(self, image: np.ndarray, windows: Sequence[Square]) -> tuple[np.ndarray, np.ndarray]:
        """Unmerged points (box corners, keypoints; pixels) and scores of everything above the threshold."""
        points, scores = [np.zeros((0, 8, 2))], [np.zeros(0)]
        for window in windows:
            regressed, logits = self._network(crop(image, window, SIDE, extend=False), scale=1 / 127.5, offset=-1.0)
            logit = logits[0, :, 0]
            keep = np.flatnonzero(logit > self._min_logit)
            if not keep.size:
                continue
            raw = regressed[0, keep].reshape(-1, 8, 2).astype(np.float64) / SIDE
            centre = window.to_image(raw[:, 0] + self._anchors[keep])
            half = 0.5 * raw[:, 1] * window.size  # turned windows give a box of the same size about the centre
            keypoints = window.to_image(raw[:, 2:] + self._anchors[keep, None])
            points.append(np.concatenate([np.stack([centre - half, centre + half], 1), keypoints], 1))
            scores.append(1 / (1 + np.exp(-np.clip(logit[keep], -80, 80).astype(np.float64))))
        return np.concatenate(points), np.concatenate(scores)

    def detect_in(self, image: UInt8[np.ndarray, "h w 3"], windows: Sequence[Square]) -> list[Detection]:
        """Faces that any of these windows shows, best first."""
        return self._merged(*self._candidates(image, windows))

    def search(self, image: UInt8[np.ndarray, "h w 3"]) -> Iterator[list[Detection]]:
        """Detections of one set of windows after the other, from coarse to fine, computed as they are asked for.

        Sets are independent: the same face may come again, and a false one may come at any of them.
        """
        height, width = image.shape[:2]
        min_face = self._min_face if self._min_face is not None else max(24.0, 0.02 * max(height, width))
        for windows in levels(width, height, min_face=min_face):
            yield self.detect_in(image, windows)

    @typed
    def detect(self, image: UInt8[np.ndarray, "h w 3"], *, thorough: bool = True) -> list[Detection]:
        """Faces of one picture, best first.

        Args:
            image: RGB.
            thorough: Where the whole frame shows no face, go on with tiles and turned windows until one does.
                False looks at the whole frame alone (about 2 ms).

        Returns:
            Detections; empty where there is none.
        """
        for found in self.search(image):
            if found or not thorough:
                return found
        return []

    def _merged(self, points: np.ndarray, scores: np.ndarray) -> list[Detection]:
        return [
            Detection(
                box=torch.from_numpy(p[:2].reshape(4).astype(np.float32)),
                keypoints=torch.from_numpy(p[2:].astype(np.float32)),
                score=score,
            )
            for p, score in merge(points, scores)
        ]
