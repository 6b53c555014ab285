"""Differentiable operations, each with a torch reference, a C++ kernel and a CUDA kernel."""

from avatar3d.ops.antialias import antialias, face_neighbours
from avatar3d.ops.blend_splats import blend_splats
from avatar3d.ops.interpolate import interpolate
from avatar3d.ops.landmark_equations import LandmarkRows, NormalEquations, landmark_equations
from avatar3d.ops.nearest_on_mesh import FaceTree, Nearest, face_tree, nearest_on_mesh
from avatar3d.ops.photometric_loss import photometric_loss
from avatar3d.ops.pose_joints import JointPoses, pose_joints
from avatar3d.ops.pose_mesh import PosedMesh, SkinnedBasis, pose_mesh
from avatar3d.ops.project_splats import ProjectedSplats, project_splats
from avatar3d.ops.rasterize import Raster, rasterize
from avatar3d.ops.render_splats import SplatImage, render_splats
from avatar3d.ops.rig_splats import RiggedSplats, rig_splats
from avatar3d.ops.sample_texture import sample_texture, texture_level
from avatar3d.ops.screen_derivatives import screen_derivatives
from avatar3d.ops.skin import skin
from avatar3d.ops.solve_chain import solve_chain
from avatar3d.ops.solve_normal_equations import solve_normal_equations
from avatar3d.ops.ssim import ssim

__all__ = [
    "FaceTree",
    "JointPoses",
    "LandmarkRows",
    "Nearest",
    "NormalEquations",
    "PosedMesh",
    "ProjectedSplats",
    "Raster",
    "SplatImage",
    "RiggedSplats",
    "SkinnedBasis",
    "antialias",
    "blend_splats",
    "face_neighbours",
    "face_tree",
    "interpolate",
    "landmark_equations",
    "nearest_on_mesh",
    "photometric_loss",
    "pose_joints",
    "pose_mesh",
    "project_splats",
    "rasterize",
    "rig_splats",
    "render_splats",
    "sample_texture",
    "screen_derivatives",
    "skin",
    "solve_chain",
    "solve_normal_equations",
    "ssim",
    "texture_level",
]
