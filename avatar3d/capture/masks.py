"""Masks of one's own: a folder of images that say where the person is, as the alpha of a capture's frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from avatar3d.capture.stills import image_files, read_image
from avatar3d.errors import CaptureError
from avatar3d.types.capture import Capture, Frame, FrameSource, View
from avatar3d.typing import typed


@dataclass(eq=False)
class MaskedFrames:
    """Frames of another source, with their alpha read from image files."""

    source: FrameSource
    paths: tuple[Path, ...]
    """One for each frame."""

    @property
    def warnings(self) -> list[str]:
        return self.source.warnings

    def count(self) -> int:
        return self.source.count()

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for frame in self.source.read(indices):
            path = self.paths[frame.index]
            mask = read_mask(path)
            if mask.shape != frame.image.shape[:2]:
                raise CaptureError(
                    f"{path} is {mask.shape[1]}x{mask.shape[0]}; the frame that it is the mask of is "
                    f"{frame.image.shape[1]}x{frame.image.shape[0]}."
                )
            yield replace(frame, alpha=mask)


@typed
def with_masks(capture: Capture, folder: str | Path) -> Capture:
    """The capture with masks from a folder in place of whatever alpha its frames have.

    For one clip the folder holds an image for each of its frames, in the order of the numbers in their names. For
    several clips it holds a folder for each, named as the clip is; for photos, an image for each, named as the photo.

    Args:
        capture: What `open_capture` opened.
        folder: Images that are white where the person is and black elsewhere, or that have such an alpha channel.

    Raises:
        CaptureError: no such folder, a clip or photo without masks, more or fewer masks than frames, or masks of
            another size. What is wrong with a later mask shows when its frame is read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CaptureError(f"{folder} is not a folder; expected one with a mask image for every frame.")
    views = [_masked(view, _of_view(view, folder, len(capture.views))) for view in capture.views]
    return replace(capture, views=tuple(views))


@typed
def read_mask(path: str | Path) -> UInt8[np.ndarray, "h w"]:
    """An image file as coverage: its alpha channel where it has one, else its grey values.

    Raises:
        CaptureError: it cannot be read, or is coloured and has no alpha channel.
    """
    image, alpha = read_image(Path(path))
    if alpha is not None:
        return alpha
    if np.ptp(image.astype(np.int16), axis=-1).max() > 8:
        raise CaptureError(f"{path} is coloured; expected a mask: white where the person is, black elsewhere.")
    return np.ascontiguousarray(image[..., 1])


def _of_view(view: View, folder: Path, views: int) -> list[Path]:
    if view.kind == "photos":
        return [path for path in image_files(folder) if path.stem == view.name]
    if views == 1:
        return image_files(folder)
    own = folder / view.name
    if not own.is_dir():
        raise CaptureError(f"{folder} has no folder {view.name}; with several clips each has its masks in its own.")
    return image_files(own)


def _masked(view: View, paths: list[Path]) -> View:
    frames = view.count_frames()
    if len(paths) != frames:
        what = f"named {view.name}" if view.kind == "photos" else f"for the {frames} frames of {view.name}"
        raise CaptureError(f"There are {len(paths)} masks {what}; expected one for each.")
    size = read_mask(paths[0]).shape
    if size != (view.height, view.width):
        raise CaptureError(f"{paths[0]} is {size[1]}x{size[0]}; {view.name} is {view.width}x{view.height}.")
    return replace(view, source=MaskedFrames(view.source, tuple(paths)))
