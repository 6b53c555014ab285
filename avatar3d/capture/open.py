"""What `open_capture` makes of its inputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from avatar3d.capture.cameras import assign_cameras, fit_to_image, read_cameras
from avatar3d.capture.stills import SUFFIXES, image_files, is_sequence, open_array, open_photo, open_sequence
from avatar3d.capture.video import open_video
from avatar3d.errors import CaptureError, FormatError
from avatar3d.types.camera import Camera
from avatar3d.types.capture import Capture, Kind, View
from avatar3d.typing import typed

_CLIPS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
Source = str | Path | np.ndarray | Tensor


@typed
def open_capture(
    *inputs: Source | Sequence[Source],
    cameras: str | Path | Mapping[str, Camera] | Sequence[Camera] | None = None,
    fps: float | int = 30.0,
) -> Capture:
    """Opens footage of one person. Reads headers only (and the first frame of a video).

    A video file, a photo, an array or a folder of numbered frames is one view. Several photos, or a folder of
    them, are one person with a camera each. Several clips are more footage of one person; with `cameras` they
    are synchronised views, and so are several photos.

    Args:
        inputs: Files, folders, uint8 arrays [t, h, w, 3] (a photo: [h, w, 3]), or lists of them.
        cameras: Calibration file (`read_cameras`), or cameras by view name, or one per view in order.
        fps: Rate of folders and arrays, which carry none.

    Raises:
        CaptureError: an input that is missing, empty, damaged beyond use, or neither video nor image.
        DependencyError: HEIC photos without `pillow-heif`.
        FormatError: a camera file that cannot be read, or does not fit the views.
        ValueError: no input, or an array of another shape or type.
    """
    flat = list(_flatten(inputs))
    if not flat:
        raise ValueError("open_capture: nothing given; expected a video, photos, a folder of images or an array.")
    if fps <= 0:
        raise ValueError(f"open_capture: fps={fps}; expected frames per second above 0.")
    notes: list[str] = []
    views = [view for item in flat for view in _open(item, fps, cameras is not None, notes)]
    if cameras is not None:
        views = _with_cameras(views, cameras, notes)
    kinds: set[Kind] = {view.kind for view in views}
    return Capture(
        views=tuple(views),
        kind=kinds.pop() if len(kinds) == 1 else "video",
        synchronised=cameras is not None and len(views) > 1,
        notes=tuple(notes),
    )


def _flatten(inputs: Sequence[Source | Sequence[Source]]) -> Iterator[Source]:
    for item in inputs:
        if isinstance(item, (str, Path, np.ndarray, Tensor)):
            yield item
        else:
            yield from _flatten(item)


def _open(item: Source, fps: float, calibrated: bool, notes: list[str]) -> list[View]:
    if isinstance(item, (np.ndarray, Tensor)):
        return [open_array(item.cpu().numpy() if isinstance(item, Tensor) else item, fps)]
    if item == "":
        raise CaptureError("an empty name was given; expected a video, a photo or a folder of images.")
    path = Path(item).expanduser()
    if path.is_dir():
        return _open_folder(path, fps, calibrated, notes)
    if not path.exists():
        raise CaptureError(f"{path} does not exist; expected a video, a photo or a folder of images.")
    if not path.is_file():
        raise CaptureError(f"{path} is not a file; expected a video, a photo or a folder of images.")
    if path.stat().st_size == 0:
        raise CaptureError(f"{path} is empty (0 bytes).")
    return [open_photo(path) if path.suffix.lower() in SUFFIXES else open_video(path)]


def _open_folder(folder: Path, fps: float, calibrated: bool, notes: list[str]) -> list[View]:
    paths = image_files(folder)
    if not paths:
        raise CaptureError(f"{folder} has no image files; expected a folder of frames or photos (or name its videos).")
    clips = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _CLIPS and not p.name.startswith("."))
    if clips:
        notes.append(f"{folder.name}: its images are taken; left out: {', '.join(clips)}. Name a clip to take it.")
    if not calibrated and is_sequence(paths):
        notes.append(f"{folder.name}: {len(paths)} numbered images, taken as one clip at {fps:g} frames per second.")
        return [open_sequence(folder, paths, fps)]
    return [open_photo(path) for path in paths]


def _with_cameras(
    views: list[View], cameras: str | Path | Mapping[str, Camera] | Sequence[Camera], notes: list[str]
) -> list[View]:
    names = [view.path.name if view.path else view.name for view in views]
    if isinstance(cameras, Sequence) and not isinstance(cameras, str):
        if len(cameras) != len(views):
            raise FormatError(f"{len(cameras)} cameras were given for {len(views)} views; expected one per view.")
        assigned = list(cameras)
    else:
        by_name = dict(cameras) if isinstance(cameras, Mapping) else read_cameras(cameras)
        assigned = assign_cameras(by_name, names)
    rates = [view.fps for view in views]
    if max(rates) > 1.01 * min(rates):
        notes.append(f"The views run at {min(rates):.4g} to {max(rates):.4g} frames per second.")
    return [
        replace(view, camera=fit_to_image(camera, name, view.width, view.height))
        for view, camera, name in zip(views, assigned, names, strict=True)
    ]
