"""Capture and track to an avatar."""

from avatar3d.appearance.reconstruct import reconstruct

__all__ = ["reconstruct"]
