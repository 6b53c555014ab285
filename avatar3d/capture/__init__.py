"""Footage in: files to a `Capture` of lazy views, hard cuts, sound."""

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
