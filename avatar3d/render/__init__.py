"""Pictures of avatars."""

from avatar3d.render.mesh import RenderedMesh, render_mesh
from avatar3d.render.preview import look_at, render_rig
from avatar3d.render.shading import ambient_light, directional_light, shade, studio_light

__all__ = [
    "RenderedMesh",
    "ambient_light",
    "directional_light",
    "look_at",
    "render_mesh",
    "render_rig",
    "shade",
    "studio_light",
]
