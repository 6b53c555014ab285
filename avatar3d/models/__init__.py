"""Parametric head models behind one class, and what is computed on them."""

from typing import TYPE_CHECKING

from avatar3d.lazy import look_up_later

if TYPE_CHECKING:
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

_WHERE = {
    "models.convert": ("Conversion", "convert"),
    "models.linear": ("LandmarkEmbedding", "LinearModel", "Posed"),
    "models.registry": ("NAMES", "load"),
    "models.rig": ("build_rig", "pose_rig"),
}

look_up_later(__name__, {name: f"avatar3d.{module}:{name}" for module, names in _WHERE.items() for name in names})
