"""Parametric head models behind one class, and what is computed on them."""

from avatar3d.models.linear import LandmarkEmbedding, LinearModel, Posed
from avatar3d.models.registry import NAMES, load
from avatar3d.models.rig import build_rig, pose_rig

__all__ = ["NAMES", "LandmarkEmbedding", "LinearModel", "Posed", "build_rig", "load", "pose_rig"]
