"""Head motion out of meshes that move: one person, one topology."""

from avatar3d.stabilize.align import robust_procrustes
from avatar3d.stabilize.head_motion import head_motion, mesh_units
from avatar3d.stabilize.learned import Compared, View, compare, compare_many, view
from avatar3d.stabilize.model_fit import fit_model
from avatar3d.stabilize.picture import motion_picture
from avatar3d.stabilize.sequence import METHODS, Method, Stabilized, stabilize_meshes

__all__ = [
    "METHODS",
    "Compared",
    "Method",
    "Stabilized",
    "View",
    "compare",
    "compare_many",
    "fit_model",
    "head_motion",
    "mesh_units",
    "motion_picture",
    "robust_procrustes",
    "stabilize_meshes",
    "view",
]
