"""A rig as one looks at it: textured or clay, lit, supersampled, with a glint in the eyes."""

from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear
from avatar3d.geometry.surface import vertex_normals
from avatar3d.render.mesh import camera_points
from avatar3d.render.shading import CLAY, irradiance, studio_light
from avatar3d.types import Camera, Rig
from avatar3d.typing import typed

GLINT_SHARPNESS = 500.0
"""Exponent of the highlight on the cornea: about 1 mm wide."""
GLINT_STRENGTH = 0.8
"""Linear light that the highlight adds at its middle."""
BROW = 0.4
"""Share of the light from above that reaches an eye under its brow and lid."""
SIDES = ("left", "right")


@typed
def render_rig(
    rig: Rig,
    vertices: Float[Tensor, "v 3"],
    camera: Camera,
    *,
    texture: UInt8[Tensor, "th tw 3"] | None = None,
    vertex_colours: Float[Tensor, "v 3"] | None = None,
    light: Float[Tensor, "9 3"] | None = None,
    background: Float[Tensor, "..."] | None = None,
    samples: int = 2,
) -> Float[Tensor, "h w 3"]:
    """Draws a posed rig.

    Args:
        rig: Faces, texture coordinates and regions; `eyeball_left` and `eyeball_right` get a highlight.
        vertices: World space, metres.
        camera: Where from.
        texture: sRGB base colour; clay without one, unless vertices have colours.
        vertex_colours: sRGB, 0..1, in place of a texture.
        light: Irradiance in world space; `studio_light` when left out.
        background: sRGB, three numbers or an image of the camera's size; white when left out.
        samples: Samples per pixel along each axis.

    Returns:
        sRGB, 0..1.
    """
    light = (studio_light() if light is None else light).float()
    faces = rig.faces.int()
    points = camera_points(vertices[None].float(), [camera])
    fine = camera.resized(camera.width * samples, camera.height * samples)
    raster = ops.rasterize(points, faces, fine.K[None].float(), fine.width, fine.height)
    # Light of such low order is as good at the vertices as at the pixels.
    lit = irradiance(vertex_normals(vertices.float(), rig.faces), light)
    if texture is None:
        albedo = torch.tensor(CLAY) if vertex_colours is None else vertex_colours.float()
        lit = lit * srgb_to_linear(albedo)
    linear = ops.interpolate(lit[None], faces, raster.triangle, raster.barycentrics)
    if texture is not None:
        uv = ops.interpolate(rig.uvs[None].float(), rig.uv_faces, raster.triangle, raster.barycentrics)
        decoded = srgb_to_linear(torch.arange(256) / 255)[texture.long()]
        linear = linear * ops.sample_texture(decoded[None], uv)
    _add_glint(linear, rig, vertices.float(), camera, light, raster)
    covered = (raster.triangle >= 0)[..., None].float()
    colour, alpha = (_block_means(t[0], samples) for t in (linear, covered))
    colour = linear_to_srgb((colour / alpha.clamp_min(1e-6)).clamp(0, 1))
    behind = torch.ones(3) if background is None else background.float()
    return torch.lerp(behind.expand_as(colour), colour, alpha)


def _block_means(image: Tensor, s: int) -> Tensor:
    h, w, c = image.shape
    return image.reshape(h // s, s, w * c).sum(1).view(h // s, w // s, s, c).sum(2) / (s * s)


def _add_glint(linear: Tensor, rig: Rig, vertices: Tensor, camera: Camera, light: Tensor, raster: ops.Raster) -> None:
    """Adds a Blinn-Phong highlight of the light's main direction to both corneas, in place."""
    L = light.mean(1)
    direction = L[[3, 1, 2]] * torch.tensor([1.0, BROW, 1.0]) + torch.tensor([0.0, 0, 1e-6])
    direction = torch.nn.functional.normalize(direction, dim=0)
    T = camera.T_camera_world.float()
    eye = -T[:3, :3].T @ T[:3, 3]
    for side in SIDES:
        region = rig.regions.get(f"eyeball_{side}")
        if region is None or not bool(region.any()):
            continue
        of_eye = region[rig.faces.long()].all(1)
        image, y, x = torch.nonzero(of_eye[raster.triangle.clamp_min(0).long()] & (raster.triangle >= 0), as_tuple=True)
        corners = vertices[rig.faces[raster.triangle[image, y, x].long()].long()]
        position = (corners * raster.barycentrics[image, y, x][..., None]).sum(1)
        normal = torch.nn.functional.normalize(position - _cornea_centre(rig, vertices, side), dim=-1)
        view = torch.nn.functional.normalize(eye - position, dim=-1)
        half = torch.nn.functional.normalize(view + direction, dim=-1)
        shine = GLINT_STRENGTH * (normal * half).sum(-1).clamp_min(0) ** GLINT_SHARPNESS
        linear[image, y, x] += shine[:, None]


def _cornea_centre(rig: Rig, vertices: Tensor, side: str) -> Float[Tensor, "3"]:
    """Middle of the sphere that the cornea is part of: 5.6 mm before that of a 12 mm eyeball (Gullstrand's eye)."""
    ball, iris = vertices[rig.regions[f"eyeball_{side}"]], rig.regions.get(f"iris_{side}")
    centre = (ball.amin(0) + ball.amax(0)) / 2
    if iris is None or not bool(iris.any()):
        return centre
    radius = (ball - centre).norm(dim=1).median()
    gaze = torch.nn.functional.normalize(vertices[iris].mean(0) - centre, dim=0)
    return centre + 0.467 * radius * gaze


@typed
def look_at(
    target: Float[Tensor, "3"], eye: Float[Tensor, "3"], width: int, height: int, *, field_of_view: float = 0.42
) -> Camera:
    """A camera at `eye` that looks at `target` with +y up.

    Args:
        target: World space, metres.
        eye: World space, metres; not straight above or below the target.
        width: Pixels.
        height: Pixels.
        field_of_view: Over the height, radians.

    Raises:
        ValueError: the two points are one, or one above the other.
    """
    forward = (target - eye).double()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    if float(right.norm()) < 1e-9:
        raise ValueError(f"look_at: eye {eye.tolist()} lies above, below or in the target {target.tolist()}.")
    forward, right = forward / forward.norm(), right / right.norm()
    R = torch.stack([right, torch.linalg.cross(forward, right), forward])
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = R, -R @ eye.double()
    focal = height / 2 / float(torch.tan(torch.tensor(field_of_view / 2)))
    return replace(Camera.from_focal(focal, width, height), T_camera_world=T)
