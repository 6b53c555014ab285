"""Focal length in pixels from a photo's EXIF."""

import math
import re

from PIL import Image

DIAGONAL_35MM = math.hypot(36, 24)
"""Millimetres; 35 mm equivalents are defined by the diagonal (CIPA DCG-001)."""

_EXIF_IFD = 0x8769
_FOCAL, _FOCAL35 = 0x920A, 0xA405
_RESOLUTION, _RESOLUTION_UNIT, _WIDTH, _HEIGHT = 0xA20E, 0xA210, 0xA002, 0xA003
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}

# Canon's interchangeable-lens cameras write neither the 35 mm equivalent nor, once edited, the original size.
_CANON_FULL_FRAME = re.compile(r"EOS(-1Ds| ?-1D X| 5D| 6D| R[PAa]?$| R[13568]\b)", re.IGNORECASE)


def focal_pixels(image: Image.Image) -> float | None:
    """Focal length of an opened photo in pixels of that photo, or None where its EXIF does not tell.

    From the 35 mm equivalent, or the focal length and the sensor's pixel pitch (scaled by the size that
    the camera took), or the focal length and the sensor of known cameras. Cropping is not known to EXIF.
    """
    exif = image.getexif()
    tags = exif.get_ifd(_EXIF_IFD)
    long_side, diagonal = max(image.size), math.hypot(*image.size)
    if (equivalent := _number(tags.get(_FOCAL35))) is not None:
        return equivalent * diagonal / DIAGONAL_35MM
    focal = _number(tags.get(_FOCAL))
    if focal is None:
        return None
    pitch, original = _number(tags.get(_RESOLUTION)), max(_number(tags.get(tag)) or 0 for tag in (_WIDTH, _HEIGHT))
    millimetres = _MM_PER_UNIT.get(int(tags.get(_RESOLUTION_UNIT, 2)))
    if pitch and millimetres and original:
        return focal * pitch / millimetres * long_side / original
    if _CANON_FULL_FRAME.search(str(exif.get(0x0110, ""))):
        return focal * long_side / 36.0
    return None


def is_camera_photo(image: Image.Image) -> bool:
    """Whether EXIF names the camera or lens that took it."""
    exif = image.getexif()
    return bool(exif.get(0x010F) or exif.get(0x0110) or _FOCAL in exif.get_ifd(_EXIF_IFD))


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
