"""Pictures of an avatar: one posed mesh through one camera, antialiased, over a background."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear
from avatar3d.geometry.projection import project
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.tangents import bent_normals, split_corners, vertex_tangents
from avatar3d.geometry.transform import make_transform
from avatar3d.models.rig import pose_rig
from avatar3d.render.mesh import camera_points
from avatar3d.render.shading import CLAY, irradiance, studio_light
from avatar3d.types import Avatar, Camera, Motion, Rig, TextureSet
from avatar3d.typing import typed

SUPERSAMPLING = 2
FRONT_FIELD_OF_VIEW = math.radians(24)


@typed
def posed_vertices(rig: Rig, motion: Motion | None, frame: int) -> Float[Tensor, "v 3"]:
    """Vertices of one frame of a motion, world space, metres; the neutral mesh without one."""
    if motion is None or motion.frames == 0:
        return rig.neutral
    frame = min(max(frame, 0), motion.frames - 1)
    one = slice(frame, frame + 1)
    rotations = {name: values[one] for name, values in motion.rotations.items()}
    translation = None if motion.translation is None else motion.translation[one]
    return pose_rig(rig, motion.expression[one], rotations, translation)[0]


@typed
def front_camera(rig: Rig, size: int, *, turn: float = 0.0, centre: Tensor | None = None) -> Camera:
    """A square picture of the head from the front.

    Args:
        rig: Whose head fills about three quarters of the picture.
        size: Pixels.
        turn: Angle by which the camera goes round to the subject's left, radians.
        centre: Moves the point that is looked at, metres.
    """
    target, distance = front_view(rig)
    return look_at(target + (0 if centre is None else centre.double()), turn, distance, size)


@typed
def front_view(rig: Rig) -> tuple[Float[Tensor, "3"], float]:
    """What the front camera looks at, and from how far, metres."""
    head = rig.neutral[:, 1] > rig.joint_positions[_joint(rig, "neck"), 1]
    lower, upper = rig.neutral[head].amin(0).double(), rig.neutral[head].amax(0).double()
    distance = float(upper[1] - lower[1]) / 0.74 / (2 * math.tan(FRONT_FIELD_OF_VIEW / 2)) + 0.08
    return (lower + upper) / 2, distance


@typed
def picture_light() -> Float[Tensor, "9 3"]:
    """The light of pictures that are not taken in the footage's own."""
    return 1.25 * studio_light()


@typed
def look_at(target: Float[Tensor, "3"], turn: float, distance: float, size: int) -> Camera:
    """A square camera at the height of `target`, looking at it from the front or turned about +y."""
    forward = torch.tensor([-math.sin(turn), 0.0, -math.cos(turn)], dtype=torch.float64)
    down = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    R = torch.stack([torch.linalg.cross(down, forward), down, forward])
    eye = target.double() - forward * distance
    focal = size / 2 / math.tan(FRONT_FIELD_OF_VIEW / 2)
    return Camera.from_focal(focal, size, size, make_transform(R, -R @ eye))


@typed
def draw(
    avatar: Avatar,
    vertices: Float[Tensor, "v 3"],
    camera: Camera,
    background: UInt8[np.ndarray, "h w 3"],
    *,
    light: Float[Tensor, "9 3"] | None = None,
    textured: bool = True,
    opacity: float = 1.0,
    expression: Float[Tensor, "s"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a posed avatar over a background of the camera's size.

    Args:
        avatar: Its rig and texture.
        vertices: World space, metres.
        camera: Where from.
        background: sRGB.
        light: Irradiance in world space; the studio's when left out.
        textured: False draws clay: the shape alone, with its normal map.
        opacity: 1 hides the background.
        expression: Coefficients of the pose, for the wrinkles that they make.

    Raises:
        ValueError: the background is not of the camera's size.
    """
    if background.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"draw: background {background.shape[1::-1]}, camera {camera.width, camera.height}.")
    box = _bounding_box(vertices, camera)
    out = background.copy()
    if box is None:
        return out
    left, top, right, bottom = box
    light = picture_light() if light is None else light
    linear, covered = _lit(avatar, vertices, _crop(camera, box), light, textured, expression)
    colour, covered = _shrink(linear), _shrink(covered[..., None])
    # Blended in sRGB, as every image program does; `linear` is black where there is nothing, so un-multiply first.
    colour = linear_to_srgb((colour / covered.clamp_min(1e-6)).clamp(0, 1))
    behind = torch.from_numpy(out[top:bottom, left:right]).float() / 255
    mixed = torch.lerp(behind, colour, covered * opacity)
    out[top:bottom, left:right] = (mixed * 255 + 0.5).byte().numpy()
    return out


def _lit(
    avatar: Avatar, vertices: Tensor, camera: Camera, light: Tensor, textured: bool, expression: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Linear RGB [h, w, 3], black where there is nothing, and coverage [h, w]. Light is evaluated at vertices, or
    where there is a normal map at every sample."""
    rig, looks = avatar.rig, avatar.appearance
    points = camera_points(vertices[None].float(), [camera])
    raster = ops.rasterize(points, rig.faces, camera.K[None].float(), camera.width, camera.height)

    def spread(values: Tensor, corners: Tensor) -> Tensor:
        return ops.interpolate(values[None], corners, raster.triangle, raster.barycentrics)

    covered = raster.triangle >= 0
    normals = vertex_normals(vertices.float(), rig.faces)
    uv = None if looks is None else spread(rig.uvs.float(), rig.uv_faces)
    if looks is None or uv is None or looks.normals is None:
        picture = spread(irradiance(normals, light.float()), rig.faces)
    else:
        vertex, at, corners = split_corners(rig.faces, rig.uvs, rig.uv_faces)
        tangents = vertex_tangents(vertices[vertex].float(), normals[vertex], rig.uvs[at].float(), corners)
        here, bend = covered[..., None], ops.sample_texture(_bends(looks, expression), uv)
        bent = bent_normals(spread(normals, rig.faces)[covered], spread(tangents, corners)[covered], bend[covered])
        picture = torch.zeros_like(bend).masked_scatter(here, irradiance(bent, light.float()))
    if textured and looks is not None and uv is not None:
        picture = picture * ops.sample_texture(_linear_texture(looks.albedo), uv)
    else:
        picture = picture * srgb_to_linear(torch.tensor(CLAY))
    return picture[0], covered[0].float()


_kept: dict[str, tuple[Tensor, Tensor]] = {}


def _once(name: str, source: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What was made of an image; the last one is kept, since films draw one avatar many times."""
    if name not in _kept or _kept[name][0] is not source:
        _kept[name] = (source, make(source.float() / 255)[None])
    return _kept[name][1]


def _linear_texture(albedo: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "1 h w 3"]:
    return _once("albedo", albedo, srgb_to_linear)


def _bends(looks: TextureSet, expression: Tensor | None) -> Float[Tensor, "1 h w 3"]:
    """The normal map's directions (128 is nought), with the expression's wrinkles."""
    assert looks.normals is not None
    still = _once("normals", looks.normals, lambda x: (255 * x - 128) / 127.5)
    if looks.wrinkles is None or expression is None:
        return still
    weights = looks.wrinkles.weights(expression.float())
    if not weights.any():
        return still
    added = torch.zeros_like(still)
    for slopes, weight in zip(looks.wrinkles.slopes, (weights / 127).tolist(), strict=True):
        if weight:
            added[0, ..., :2].add_(slopes, alpha=weight)
    return torch.cat([still[..., :2] / still[..., 2:].clamp_min(0.1), torch.ones_like(still[..., :1])], -1) + added


def _joint(rig: Rig, name: str) -> int:
    return rig.joint_names.index(name) if name in rig.joint_names else 0


def _bounding_box(vertices: Tensor, camera: Camera) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the mesh in the picture, or None where it is not in it."""
    T = camera.T_camera_world.to(vertices)
    depth = vertices @ T[2, :3] + T[2, 3]
    if not bool((depth > 0.01).any()):
        return None
    if bool((depth <= 0.01).any()):
        return 0, 0, camera.width, camera.height
    pixels = project(vertices[None], camera)[0]
    low, high = pixels.amin(0), pixels.amax(0)
    left, top = (max(0, int(x) - 2) for x in low.tolist())
    right, bottom = min(camera.width, int(high[0]) + 3), min(camera.height, int(high[1]) + 3)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _crop(camera: Camera, box: tuple[int, int, int, int]) -> Camera:
    """The camera of that part of the picture, supersampled."""
    left, top, right, bottom = box
    K = camera.K.clone()
    K[0, 2] -= left
    K[1, 2] -= top
    part = replace(camera, K=K, width=right - left, height=bottom - top)
    return part.resized(part.width * SUPERSAMPLING, part.height * SUPERSAMPLING)


def _shrink(image: Tensor) -> Tensor:
    """Means of blocks of the supersampled picture."""
    s = SUPERSAMPLING
    h, w, c = image.shape
    rows = image.reshape(h // s, s, w * c).sum(1)
    return rows.view(h // s, w // s, s, c).sum(2) / (s * s)
