"""The operations in plain torch: their definition, and the fallback where no compiler was."""

from avatar3d.ops.reference.antialias import antialias_pixels
from avatar3d.ops.reference.blend_splats import blend_splats
from avatar3d.ops.reference.interpolate import interpolate
from avatar3d.ops.reference.landmark_equations import landmark_equations
from avatar3d.ops.reference.nearest_on_mesh import nearest_on_mesh
from avatar3d.ops.reference.pose_joints import pose_joints
from avatar3d.ops.reference.project_splats import project_splats
from avatar3d.ops.reference.rasterize import rasterize_pixels
from avatar3d.ops.reference.rig_splats import rig_splats
from avatar3d.ops.reference.sample_texture import sample_pyramid
from avatar3d.ops.reference.screen_derivatives import screen_derivatives_pixels
from avatar3d.ops.reference.skin import skin
from avatar3d.ops.reference.solve_chain import solve_chain
from avatar3d.ops.reference.solve_normal_equations import solve_normal_equations
from avatar3d.ops.reference.ssim import photometric_loss, ssim

__all__ = [
    "antialias_pixels",
    "blend_splats",
    "interpolate",
    "landmark_equations",
    "nearest_on_mesh",
    "photometric_loss",
    "pose_joints",
    "project_splats",
    "rasterize_pixels",
    "rig_splats",
    "sample_pyramid",
    "screen_derivatives_pixels",
    "skin",
    "solve_chain",
    "solve_normal_equations",
    "ssim",
]
