"""Pictures of avatars."""

from avatar3d.render.mesh import RenderedMesh, render_mesh
from avatar3d.render.shading import ambient_light, directional_light, shade, studio_light

__all__ = [
    "RenderedMesh",
    "ambient_light",
    "directional_light",
    "render_mesh",
    "shade",
    "studio_light",
]
