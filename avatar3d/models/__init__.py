"""Parametric head models behind one class, and what is computed on them."""

from avatar3d.models.convert import Conversion, convert
from avatar3d.models.linear import LandmarkEmbedding, LinearModel, Posed
from avatar3d.models.registry import NAMES, load
from avatar3d.models.rig import build_rig, pose_rig

__all__ = [
    "NAMES",
    "Conversion",
    "LandmarkEmbedding",
    "LinearModel",
    "Posed",
    "build_rig",
    "convert",
    "load",
    "pose_rig",
]
