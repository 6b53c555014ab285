"""Gaussian splats on a tracked head, optimised from its footage."""

from avatar3d.appearance.splats.config import QUALITY, SplatConfig
from avatar3d.appearance.splats.fit import on_background
from avatar3d.appearance.splats.reconstruct import add_splats, load_shots
from avatar3d.appearance.splats.shots import Shot

__all__ = ["QUALITY", "Shot", "SplatConfig", "add_splats", "load_shots", "on_background"]
