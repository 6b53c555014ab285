"""Capture and track to an avatar."""

from avatar3d.appearance.reconstruct import TOLD, frame_places, reconstruct
from avatar3d.appearance.splats import QUALITY as SPLAT_QUALITY
from avatar3d.appearance.splats import Shot, SplatConfig, add_splats, load_shots, on_background

__all__ = [
    "SPLAT_QUALITY",
    "Shot",
    "SplatConfig",
    "TOLD",
    "add_splats",
    "frame_places",
    "load_shots",
    "on_background",
    "reconstruct",
]
