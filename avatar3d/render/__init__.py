"""Pictures of avatars."""

from avatar3d.render.camera import look_at
from avatar3d.render.gaussians import PosedGaussians, head_rotation_of, pose_gaussians
from avatar3d.render.mesh import RenderedMesh, render_mesh
from avatar3d.render.shading import ambient_light, directional_light, shade, studio_light
from avatar3d.render.splats import RenderedSplats, render_gaussians

__all__ = [
    "PosedGaussians",
    "RenderedMesh",
    "RenderedSplats",
    "ambient_light",
    "directional_light",
    "head_rotation_of",
    "look_at",
    "pose_gaussians",
    "render_gaussians",
    "render_mesh",
    "shade",
    "studio_light",
]
