"""Photos, folders of image files and arrays as views."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from avatar3d.capture.exif import focal_pixels, is_camera_photo
from avatar3d.errors import CaptureError, DependencyError
from avatar3d.types.capture import Frame, View

SUFFIXES = frozenset(".jpg .jpeg .jpe .png .bmp .tif .tiff .webp .avif .heic .heif .jp2 .ppm .pgm .tga".split())
ANIMATED = ("WEBP", "PNG", "TIFF", "AVIF")
"""Formats of images in which several pictures are an animation or pages; in a phone's JPEG they are previews."""
_SWAPS_SIDES = (5, 6, 7, 8)
"""EXIF orientations that turn by a quarter."""


@dataclass(eq=False)
class ImageFiles:
    """One image file per frame, all of one size."""

    paths: tuple[Path, ...]
    fps: float
    size: tuple[int, int]
    """Upright width and height."""
    warnings: list[str] = field(default_factory=list)

    def count(self) -> int:
        return len(self.paths)

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            if index >= len(self.paths):
                return
            image, alpha = read_image(self.paths[index])
            if image.shape[1::-1] != self.size:
                raise CaptureError(
                    f"{self.paths[index]} is {image.shape[1]}x{image.shape[0]}; "
                    f"the sequence it belongs to is {self.size[0]}x{self.size[1]}."
                )
            yield Frame(index, index / self.fps if self.fps else 0.0, image, alpha)


@dataclass(eq=False)
class ArraySource:
    """Frames in memory."""

    images: np.ndarray
    """[t, h, w, 3 or 4] uint8."""
    fps: float
    warnings: list[str] = field(default_factory=list)

    def count(self) -> int:
        return len(self.images)

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            if index >= len(self.images):
                return
            image = self.images[index]
            alpha = np.ascontiguousarray(image[..., 3]) if image.shape[-1] == 4 else None
            yield Frame(index, index / self.fps, np.array(image[..., :3], order="C"), alpha)


def open_photo(path: Path) -> View:
    """One photo as a view of one frame.

    Raises:
        CaptureError: not an image, or damaged.
        DependencyError: HEIC without `pillow-heif`.
    """
    with _opened(path) as image:
        size, focal = _upright_size(image), focal_pixels(image)
        pictures = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    view = _view(path, (path,), size, 0.0, focal)
    if pictures > 1:
        view.source.warnings.append(
            f"{path.name} holds {pictures} pictures, and the first is taken. To take all, make a video or a folder of "
            "images of them."
        )
    return view


def open_sequence(folder: Path, paths: Sequence[Path], fps: float) -> View:
    """Image files of one size as the frames of one view."""
    with _opened(paths[0]) as image:
        size, focal = _upright_size(image), focal_pixels(image)
    return _view(folder, tuple(paths), size, fps, focal)


def open_array(images: Any, fps: float) -> View:
    """A uint8 array [t, h, w, 3 or 4] (a video) or [h, w, 3 or 4] (a photo) as a view.

    Raises:
        ValueError: another shape or type.
    """
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] not in (3, 4) or 0 in array.shape:
        raise ValueError(
            f"open_capture: the array is {array.dtype} {list(array.shape)}; "
            f"expected uint8 [t, h, w, 3], or [h, w, 3] for a photo (4 with alpha)."
        )
    photo = array.ndim == 3
    array = array[None] if photo else array
    count, height, width = array.shape[:3]
    return View(
        name="array",
        kind="photos" if photo else "video",
        width=width,
        height=height,
        fps=0.0 if photo else fps,
        frame_count=count,
        frame_count_exact=True,
        duration=0.0 if photo else count / fps,
        source=ArraySource(array, fps),
    )


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder, numbers in their names in numeric order."""
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."), key=_natural)


def is_sequence(paths: Sequence[Path]) -> bool:
    """Whether files are numbered frames of one size, and none is a camera's photo."""
    names = {re.sub(r"\d+(?=\D*$)", "#", path.stem) for path in paths}
    if len(paths) < 2 or len(names) != 1 or "#" not in next(iter(names)):
        return False
    sizes = set()
    for path in paths:
        with _opened(path) as image:
            if is_camera_photo(image):
                return False
            sizes.add(_upright_size(image))
    return len(sizes) == 1


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """An image file as upright sRGB uint8 [h, w, 3], and its alpha [h, w] if it has one that is not solid.

    Applies the EXIF orientation and the embedded ICC profile; takes 16-bit, grey, palette and CMYK images.

    Raises:
        CaptureError: not an image, or damaged.
        DependencyError: HEIC without `pillow-heif`.
    """
    with _opened(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(path, image)
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
        alpha = None if alpha.min() == 255 else alpha
    return np.array(_to_srgb(image)), alpha


def _to_8_bit(path: Path, image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise CaptureError(f"{path} holds floating-point values; expected an 8- or 16-bit image.")
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.clip(np.rint(values / 257), 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    icc = image.info.get("icc_profile")
    colours = image.convert("RGB") if image.mode in ("RGBA", "1", "HSV", "YCbCr", "LAB") else image
    if icc and colours.mode in ("RGB", "CMYK", "L"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            if "sRGB" not in ImageCms.getProfileDescription(profile):
                converted = ImageCms.profileToProfile(
                    colours, profile, ImageCms.createProfile("sRGB"), renderingIntent=intent, outputMode="RGB"
                )
                return converted if converted is not None else colours
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile, or one of another colour space: the values are taken as they are
    return colours.convert("RGB")


class _opened:
    """Context that gives an image whose header alone has been read; what Pillow raises in it means a damaged file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Image.Image:
        heic = self.path.suffix.lower() in (".heic", ".heif")
        if heic:
            try:
                from pillow_heif import register_heif_opener  # type: ignore[import-not-found]
            except ImportError:
                raise DependencyError("pillow-heif", "heic", f"Reading {self.path.name}") from None
            register_heif_opener()
        try:
            self.image = Image.open(self.path)
        except Image.DecompressionBombError:
            most = 2e-6 * (Image.MAX_IMAGE_PIXELS or 0)
            raise CaptureError(f"{self.path} is too large; expected up to {most:.0f} megapixels. Halve it.") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
            raise CaptureError(f"{self.path} cannot be read as an image ({reason}).") from None
        return self.image

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.image.close()
        if isinstance(error, (OSError, SyntaxError, ValueError)):
            raise CaptureError(f"{self.path} is damaged ({error}).") from None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    size = image.size
    return (size[1], size[0]) if image.getexif().get(0x0112) in _SWAPS_SIDES else size


def _view(path: Path, paths: tuple[Path, ...], size: tuple[int, int], fps: float, focal: float | None) -> View:
    photo = path == paths[0]
    return View(
        name=path.stem if photo else path.name,
        kind="photos" if photo else "images",
        width=size[0],
        height=size[1],
        fps=fps,
        frame_count=len(paths),
        frame_count_exact=True,
        duration=len(paths) / fps if fps else 0.0,
        source=ImageFiles(paths, fps, size),
        focal_pixels_hint=focal,
        path=path,
    )


def _natural(path: Path) -> list[tuple[int, int, str]]:
    return [(0, int(s), "") if s.isdigit() else (1, 0, s.lower()) for s in re.split(r"(\d+)", path.name) if s]
