"""Footage in: files to a `Capture` of lazy views, hard cuts, sound."""

from typing import TYPE_CHECKING

from avatar3d.lazy import look_up_later

if TYPE_CHECKING:
    from avatar3d.capture.cameras import read_cameras, write_cameras
    from avatar3d.capture.cuts import CutDetector, find_cuts
    from avatar3d.capture.masks import read_mask, with_masks
    from avatar3d.capture.open import open_capture
    from avatar3d.capture.stills import read_image
    from avatar3d.sound import load_audio

__all__ = [
    "CutDetector",
    "find_cuts",
    "load_audio",
    "open_capture",
    "read_cameras",
    "read_image",
    "read_mask",
    "with_masks",
    "write_cameras",
]

_WHERE = {
    "capture.cameras": ("read_cameras", "write_cameras"),
    "capture.cuts": ("CutDetector", "find_cuts"),
    "capture.masks": ("read_mask", "with_masks"),
    "capture.open": ("open_capture",),
    "capture.stills": ("read_image",),
    "sound": ("load_audio",),
}

look_up_later(__name__, {name: f"avatar3d.{module}:{name}" for module, names in _WHERE.items() for name in names})
