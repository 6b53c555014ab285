"""Footage: lazy, seekable views of a person, as `capture` opens them and every later stage reads them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from jaxtyping import UInt8

from avatar3d.types.camera import Camera

Kind = Literal["video", "images", "photos"]


@dataclass(frozen=True)
class Frame:
    """One upright picture with square pixels."""

    index: int
    """Position in the view, from 0. The same frame has the same index however it was reached."""
    time: float
    """Seconds since the view's first frame; true presentation times where the rate varies."""
    image: UInt8[np.ndarray, "h w 3"]
    """sRGB. With `alpha`, not multiplied by it."""
    alpha: UInt8[np.ndarray, "h w"] | None = None
    """Coverage of the subject, 255 inside, where the footage has an alpha channel."""


class FrameSource(Protocol):
    """Where a view's frames come from: a video file, a list of image files, an array."""

    warnings: list[str]
    """What a person should know about this footage; grows while it is read (a damaged tail, say)."""

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Frames at increasing indices; ends without an error where the footage ends."""
        ...

    def count(self) -> int:
        """Exact number of frames; may read the whole file, but decodes nothing."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one camera saw. Nothing is decoded before a frame is asked for; frames are never kept."""

    name: str
    """File or folder name, without its folders and suffix."""
    kind: Kind
    """A video, a sequence of image files, or a single photo."""
    width: int
    """Pixels, after rotation and with square pixels: the size of every frame."""
    height: int
    fps: float
    """Nominal frames per second: the average where the rate varies. 0 for a photo."""
    frame_count: int
    """As the file's header states it; a damaged file may hold fewer (`count_frames` is exact)."""
    frame_count_exact: bool
    """False where no header states it, and it was estimated from duration and rate."""
    duration: float
    """Seconds."""
    source: FrameSource
    camera: Camera | None = None
    """Calibrated camera of this view, for its upright frames."""
    focal_pixels_hint: float | None = None
    """Focal length in pixels as the file's metadata gives it: good to a few percent, or wrong if it was cropped."""
    path: Path | None = None
    """The file or folder; None for arrays in memory."""
    audio: Path | None = None
    """File whose sound belongs to this view."""
    audio_start: float = 0.0
    """Time of the first frame on the audio file's clock, seconds."""

    @property
    def has_audio(self) -> bool:
        return self.audio is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know about this footage, so far."""
        return tuple(self.source.warnings)

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Frame]:
        """Frames `start, start + step, ...` below `stop`, or to the end."""
        if start < 0 or step < 1 or (stop is not None and stop < 0):
            raise ValueError(f"frames({start}, {stop}, {step}): start and stop count from 0, step from 1.")
        return self.source.read(count(start, step) if stop is None else range(start, stop, step))

    def frames_at(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Frames at these increasing indices, seeking over large gaps.

        Raises:
            ValueError: the indices do not increase.
        """
        return self.source.read(_increasing(indices))

    def frame(self, index: int) -> Frame:
        """One frame; the same pixels that iterating gives.

        Raises:
            IndexError: the view has no such frame.
        """
        for frame in self.frames(index, index + 1):
            return frame
        raise IndexError(f"{self.name} has no frame {index}; it has {self.count_frames()}, counted from 0.")

    def count_frames(self) -> int:
        """Exact number of frames (reads a video file through once, without decoding)."""
        return self.source.count()


def _increasing(indices: Iterable[int]) -> Iterator[int]:
    last = -1
    for index in indices:
        if index <= last:
            raise ValueError(f"frames_at: index {index} follows {last}; indices must increase, from 0.")
        last = index
        yield index


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """All footage of one person."""

    views: tuple[View, ...]
    kind: Kind
    """"photos" when every view is a single photo, "images" when every view is image files, else "video"."""
    synchronised: bool = False
    """True when the views show the same instants from calibrated cameras; else they are more footage of one person."""
    notes: tuple[str, ...] = ()
    """What a person should know about how the inputs were taken."""

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("Capture: no views.")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes on the capture and on each of its views, so far."""
        return self.notes + tuple(warning for view in self.views for warning in view.warnings)

    @property
    def frame_count(self) -> int:
        """Frames of all views together, as their headers state it."""
        return sum(view.frame_count for view in self.views)
