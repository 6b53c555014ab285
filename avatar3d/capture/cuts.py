"""Hard cuts, found while footage streams by.

A new shot has other structure (correlation of a 12x12 luma grid), other colours (histograms) and a jump in
pixels well above what the footage was doing anyway. Fast motion keeps the colours, a flash keeps the structure
where it does not clip, and a black or white frame tells nothing: the next picture is compared across it.
"""

from collections import deque

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from avatar3d.types.capture import View
from avatar3d.typing import typed

# Measured on thumbnails of 23 clips: 503 of 506 cuts between pairs of them are found at the frame itself, no step
# within a clip at 1/4 or 1/8 of its frame rate passes the first two limits, and 6 of 690 flashes (1.3 to 8 times
# the light, 1 to 3 frames) are taken for cuts.
_CORRELATION = 0.75
_HISTOGRAM = 0.12
_STEP = 4.0
"""Mean absolute difference in levels of 255 that a cut at least makes."""
_STEP_RATIO = 2.0
"""And how many times the median of recent differences."""
_SIDE, _GRID = 48, 12
_CLIPPED = 12, 240
_VALID = 0.25
"""Share of the grid that must not be clipped in one picture alone."""
_FLASH_CORRELATION, _FLASH_BRIGHTER = 0.45, 0.95
"""A picture that is brighter all over and still alike tells nothing either."""
_PATIENCE = 8
"""So many pictures in a row that tell nothing are a shot of their own."""

_YUV = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32).T


class CutDetector:
    """Finds hard cuts in frames that are pushed in order; remembers one thumbnail."""

    def __init__(self) -> None:
        self._reference: np.ndarray | None = None
        self._recent: deque[float] = deque(maxlen=16)
        self._silent = 0

    @typed
    def push(self, image: UInt8[np.ndarray, "h w 3"]) -> bool:
        """Whether this frame is the first of a new shot. Never true for the first frame of all."""
        thumbnail = _thumbnail(image)
        if self._reference is None:
            self._reference = thumbnail
            return False
        verdict = self._compare(self._reference, thumbnail)
        if verdict is None:
            self._silent += 1
            if self._silent <= _PATIENCE:
                return False
            verdict = True
        self._silent = 0
        self._reference = thumbnail
        return verdict

    def state(self) -> dict[str, Tensor]:
        """What it remembers."""
        reference = torch.zeros(0) if self._reference is None else torch.from_numpy(self._reference.copy())
        recent = torch.tensor(list(self._recent), dtype=torch.float64)
        return {"reference": reference, "recent": recent, "silent": torch.tensor(self._silent)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on as after `state()`."""
        self._reference = state["reference"].numpy().copy() if state["reference"].numel() else None
        self._recent = deque(state["recent"].tolist(), maxlen=self._recent.maxlen)
        self._silent = int(state["silent"])

    def _compare(self, before: np.ndarray, after: np.ndarray) -> bool | None:
        a, b = _grid(before), _grid(after)
        valid = _is_clipped(a) == _is_clipped(b)
        flat = b.std() < 2.0 <= a.std()
        if flat or valid.mean() < _VALID:
            return None
        step = float(np.abs(after - before).mean())
        usual = float(np.median(self._recent)) if self._recent else 0.0
        self._recent.append(step)
        if step < max(_STEP, _STEP_RATIO * usual):
            return False
        correlation = _correlation(a[valid], b[valid])
        if correlation > _CORRELATION or _histogram_distance(before, after) < _HISTOGRAM:
            return False
        flash = correlation > _FLASH_CORRELATION and float((b > a).mean()) > _FLASH_BRIGHTER
        return None if flash else True


@typed
def find_cuts(view: View) -> list[int]:
    """Indices of the first frame of every shot but the first; decodes the whole view."""
    if view.kind == "photos":
        return []
    detector = CutDetector()
    return [frame.index for frame in view.frames() if detector.push(frame.image)]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    stride = max(1, min(image.shape[:2]) // 160)
    small = Image.fromarray(np.ascontiguousarray(image[::stride, ::stride])).resize(
        (_SIDE, _SIDE), Image.Resampling.BOX
    )
    return np.asarray(small, np.float32) @ _YUV


def _grid(thumbnail: np.ndarray) -> np.ndarray:
    cell = _SIDE // _GRID
    return thumbnail[..., 0].reshape(_GRID, cell, _GRID, cell).mean((1, 3)).ravel()


def _is_clipped(luma: np.ndarray) -> np.ndarray:
    return (luma < _CLIPPED[0]) * -1 + (luma > _CLIPPED[1]) * 1


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The larger of Pearson's and Spearman's: ranks survive what exposure does to values."""
    pairs = ((a, b), (a.argsort().argsort().astype(np.float32), b.argsort().argsort().astype(np.float32)))
    return max(_pearson(*pair) for pair in pairs)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6))


def _histogram_distance(a: np.ndarray, b: np.ndarray) -> float:
    """0 for the same distribution of luma and of chroma, 1 for disjoint ones."""
    return float(np.abs(_histogram(a) - _histogram(b)).sum()) / 4


def _histogram(thumbnail: np.ndarray) -> np.ndarray:
    luma = np.clip(thumbnail[..., 0] / 16, 0, 15).astype(np.int64).ravel()
    chroma = np.clip((thumbnail[..., 1:] + 96) / 16, 0, 11).astype(np.int64).reshape(-1, 2)
    counts = np.concatenate([np.bincount(luma, minlength=16), np.bincount(chroma @ [12, 1], minlength=144)])
    return counts / luma.size
