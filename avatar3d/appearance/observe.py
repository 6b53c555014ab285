"""The footage's side of a bake: which frames to look at, and what each of them shows of the head's surface."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, normalize

from avatar3d.appearance.chart import Chart
from avatar3d.geometry.colour import srgb_to_linear
from avatar3d.geometry.projection import project
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import face_normals, vertex_normals
from avatar3d.models.linear import LinearModel
from avatar3d.ops import rasterize, sample_texture
from avatar3d.types import Camera, Track
from avatar3d.typing import typed

_TO_LINEAR = srgb_to_linear(torch.arange(256) / 255.0)
_EXPRESSIVE = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight", "browInnerUp",
               "mouthPucker", "eyeLookUpLeft", "eyeLookInLeft", "eyeLookOutLeft")  # fmt: skip
DEPTH_SIZE = 320  # longer side of the depth buffer that decides visibility
LEAST_COSINE = 0.15
AROUND = 0.3  # of the head's size: what is kept of a frame on either side of the head
RING = 0.12  # of the head's size: how much of its surroundings is looked at
OUTLINE = 0.07  # of the head's size: how far inside the outline the backdrop may show
NEAR = 4e-3  # metres: surfaces closer together than this are one for occlusion


@typed
def posed_vertices(model: LinearModel, track: Track, frames: Int[Tensor, "n"]) -> Float[Tensor, "n v 3"]:
    """World positions of the tracked head in some of its frames, metres."""
    if track.offsets is not None:
        model = replace(model, template=model.template + track.offsets.to(model.template))
    identity = track.identity.float()[None].expand(len(frames), -1)
    rotations = None
    if track.joints:
        rotations = torch.zeros(len(frames), len(model.joint_names), 3)
        for name, values in track.joints.items():
            rotations[:, model.joint_index(name)] = values[frames].float()
    posed = model.forward(identity, track.expression[frames].float(), rotations).vertices
    R = rotvec_to_matrix(track.rotation[frames].float())
    return posed @ R.transpose(1, 2) + track.translation[frames, None].float()


@typed
def choose_frames(track: Track, names: tuple[str, ...], count: int, usable: Bool[Tensor, "t"]) -> Int[Tensor, "n"]:
    """At most `count` tracked frames that differ in head pose and expression and were tracked well, ascending.

    Greedy farthest points in yaw, pitch, roll and telling expression coefficients, discounted by quality.

    Args:
        track: The track.
        names: Names of its expression coefficients.
        count: How many.
        usable: Frames that may be taken, besides having to be tracked.
    """
    candidates = (track.tracked & usable).nonzero()[:, 0]
    if len(candidates) <= count:
        return candidates
    R = rotvec_to_matrix(track.rotation[candidates].double())
    view = torch.stack([T.T_camera_world[:3, :3] for T in track.cameras])[track.camera_of_frame[candidates].long()]
    R = view.double() @ R
    angles = torch.stack([torch.atan2(R[:, 0, 2], -R[:, 2, 2]), torch.asin(R[:, 1, 2].clamp(-1, 1)),
                          torch.atan2(R[:, 0, 1], -R[:, 1, 1])], 1)  # fmt: skip
    columns = [names.index(n) for n in _EXPRESSIVE if n in names] or list(range(min(10, track.expression.shape[1])))
    feature = torch.cat([angles / 0.2, track.expression[candidates][:, columns].double() * 1.2], 1)
    residual = track.residual[candidates].double()
    residual = residual / residual.nanmedian().clamp_min(1e-6)
    speed = torch.zeros(len(track.rotation), dtype=torch.float64)
    if len(speed) > 2:
        move = (track.rotation[2:] - track.rotation[:-2]).norm(dim=1) / 0.05
        speed[1:-1] = (move + (track.translation[2:] - track.translation[:-2]).norm(dim=1) / 0.01).double()
    quality = track.confidence[candidates].double().clamp_min(0.05) / (1 + residual.nan_to_num(1.0) ** 2)
    quality = quality / (1 + speed[candidates])
    chosen = [int((quality / (1 + feature.norm(dim=1))).argmax())]
    distance = (feature - feature[chosen[0]]).norm(dim=1)
    for _ in range(count - 1):
        best = int(((distance + 0.05) * quality.sqrt()).index_fill(0, torch.tensor(chosen), 0.0).argmax())
        chosen.append(best)
        distance = torch.minimum(distance, (feature - feature[best]).norm(dim=1))
    return candidates[torch.tensor(sorted(chosen))]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The part of a frame around the head."""

    frame: int
    """Index in the track."""
    image: UInt8[np.ndarray, "h w 3"]
    """sRGB."""
    origin: tuple[int, int]
    """Column and row of the frame where this part begins."""
    camera: Camera
    """The camera of this part."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The head in one frame."""

    frame: int
    """Index in the track."""
    image: Float[Tensor, "h w 3"]
    """The part of the frame around the head, linear RGB."""
    origin: tuple[int, int]
    """Column and row of the frame where that part begins."""
    camera: Camera
    """The camera of that part."""
    vertices: Float[Tensor, "v 3"]
    """World positions."""
    normals: Float[Tensor, "v 3"]
    towards: Float[Tensor, "3"]
    """Position of the camera in the world."""
    front: Bool[Tensor, "f"]
    """Faces turned to the camera."""
    pixels: Float[Tensor, "v 2"]
    """Where the vertices lie in the image."""
    vertex_depth: Float[Tensor, "v"]
    depths: Float[Tensor, "y x 3"]
    """Depth at every pixel of a (smaller) buffer, and the least and the greatest around it, metres; 1e3 is empty."""
    backdrop: Float[Tensor, "i j 4"]
    """On a grid of half the buffer's: root of the colour behind the head nearby, and how near its outline is, 0..1."""
    quality: float
    """Weight of the frame as a whole: confidence and sharpness."""


@typed
def depth_buffer(
    pixels: Float[Tensor, "v 2"], depth: Float[Tensor, "v"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> Float[Tensor, "h w"]:
    """Depth of the nearest surface at every pixel, infinite where there is none; pixels may carry lens distortion."""
    points = torch.cat([pixels, torch.ones(len(pixels), 1)], 1) * depth[:, None]
    out = rasterize(points[None], faces, torch.eye(3)[None], width, height).depth[0]
    return torch.where(out > 0, out, torch.inf)


@typed
def cut_out(
    frame: int, image: UInt8[np.ndarray, "h w 3"], camera: Camera, vertices: Float[Tensor, "v 3"]
) -> Picture | None:
    """The part of a frame around a posed head, as big again as the head; None where the head is not in the picture."""
    T = camera.T_camera_world.to(vertices)
    depth = vertices @ T[2, :3] + T[2, 3]
    if float(depth.min()) <= 0.01:
        return None
    pixels = project(vertices, camera)
    low, high = pixels.amin(0), pixels.amax(0)
    around = AROUND * float((high - low).max())
    x0, y0 = (max(0, math.floor(float(c) - around)) for c in low)
    x1, y1 = (min(size, math.ceil(float(c) + around)) for c, size in zip(high, image.shape[1::-1], strict=True))
    seen = ((pixels > 0) & (pixels < torch.tensor([image.shape[1], image.shape[0]]))).all(1)
    if x1 - x0 < 16 or y1 - y0 < 16 or not seen.any():
        return None
    part = np.ascontiguousarray(image[y0:y1, x0:x1])
    return Picture(frame=frame, image=part, origin=(x0, y0), camera=_shifted(camera, x0, y0, x1 - x0, y1 - y0))


def _shifted(camera: Camera, x: int, y: int, width: int, height: int) -> Camera:
    shift = torch.tensor([[1.0, 0, -x], [0, 1, -y], [0, 0, 1]], dtype=torch.float64)
    return replace(camera, K=shift @ camera.K, width=width, height=height)


def observe(
    picture: Picture, vertices: Tensor, faces: Tensor, *, quality: float = 1.0, margin: float = 0.012
) -> Observation:
    """Prepares one frame for sampling.

    Args:
        picture: The frame around the head.
        vertices: World positions of the head `[v, 3]`, metres.
        faces: Triangles `[f, 3]`.
        quality: Weight of the frame.
        margin: Distance from outlines within which nothing is trusted, as a fraction of the head's size in pixels.
    """
    vertices, camera = vertices.float(), picture.camera
    T = camera.T_camera_world.float()
    depth = (vertices @ T[2, :3] + T[2, 3]).clamp_min(0.01)
    pixels = project(vertices, camera)
    low, high = pixels.amin(0), pixels.amax(0)
    extent = float((high - low).max())
    ring = RING * extent
    x0, y0 = (max(0, math.floor(float(c) - ring)) for c in low)
    x1, y1 = (
        max(start + 8, min(size, math.ceil(float(c) + ring)))
        for c, size, start in zip(high, (camera.width, camera.height), (x0, y0), strict=True)
    )
    crop = _TO_LINEAR[torch.from_numpy(picture.image[y0:y1, x0:x1]).int()]
    y1, x1 = y0 + crop.shape[0], x0 + crop.shape[1]
    camera = _shifted(camera, x0, y0, x1 - x0, y1 - y0)

    scale = min(1.0, DEPTH_SIZE / max(x1 - x0, y1 - y0))
    h, w = round((y1 - y0) * scale), round((x1 - x0) * scale)
    at = (pixels - torch.tensor([x0, y0])) * torch.tensor([w / (x1 - x0), h / (y1 - y0)])
    buffer = depth_buffer(at, depth, faces, h, w)
    radius = max(1, round(margin * scale * extent))
    window = dict(kernel_size=2 * radius + 1, stride=1, padding=radius)
    finite = buffer.clamp_max(1e3)[None]
    nearest = -max_pool2d(-finite, **window)[0]
    return Observation(
        frame=picture.frame,
        image=crop,
        origin=(picture.origin[0] + x0, picture.origin[1] + y0),
        camera=camera,
        vertices=vertices,
        normals=vertex_normals(vertices, faces),
        towards=-T[:3, :3].T @ T[:3, 3],
        front=_front(vertices, faces, -T[:3, :3].T @ T[:3, 3]),
        pixels=pixels - torch.tensor([x0, y0]),
        vertex_depth=depth,
        depths=torch.stack([finite[0], nearest, max_pool2d(finite, **window)[0]], -1),
        backdrop=_backdrop(crop, nearest[::2, ::2] > 100, max(1, round(0.5 * OUTLINE * scale * extent))),
        quality=quality,
    )


def _backdrop(image: Tensor, outside: Tensor, reach: int) -> Tensor:
    """Colours around the head, carried inwards over `reach` pixels of the smaller grid of `outside`."""
    small = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None], outside.shape, mode="area")[0]
    free = outside.float()[None]
    total = torch.cat([small.sqrt() * free, free])
    carried = sum(_box(total, reach * (i + 1) // 2 + 1) * 1e-2**i for i in range(3))  # the nearest count most
    near = _box(free, reach)
    colour = carried[:3] / carried[3:].clamp_min(1e-9)
    return torch.cat([colour, (3 * near).clamp(0, 1)]).permute(1, 2, 0).contiguous()


def _box(planes: Tensor, radius: int) -> Tensor:
    """Mean over squares of `[c, h, w]`, zero outside."""
    size = 2 * radius + 1
    sums = torch.nn.functional.pad(planes.double(), (radius + 1, radius, radius + 1, radius)).cumsum(1).cumsum(2)
    out = sums[:, size:, size:] - sums[:, :-size, size:] - sums[:, size:, :-size] + sums[:, :-size, :-size]
    return (out / size**2).float()


def _front(vertices: Tensor, faces: Tensor, towards: Tensor) -> Tensor:
    normals = face_normals(vertices, faces)
    return (normals * (towards - vertices[faces[:, 0].long()])).sum(1) > 0


def bilinear(image: Tensor, xy: Tensor) -> Tensor:
    """Samples `[h, w, c]` at pixel coordinates `[n, 2]` (centres at i + 0.5), clamped at the border."""
    h, w = image.shape[:2]
    uv = xy * torch.tensor([1 / w, -1 / h]) + torch.tensor([0.0, 1.0])
    return sample_texture(image[None].contiguous(), uv[None, None])[0, 0]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What one frame shows of some texels."""

    texel: Int[Tensor, "m"]
    """Index into the chart."""
    colour: Float[Tensor, "m 3"]
    """Linear RGB."""
    weight: Float[Tensor, "m"]
    """0..1: facing, visible, away from outlines, in a good frame."""
    normal: Float[Tensor, "m 3"] | None
    """World normals, where they were asked for."""


def sample(
    seen: Observation,
    chart: Chart,
    faces: Tensor,
    wanted: Tensor,
    *,
    power: float = 2.0,
    prefilter: int = 1,
    normals: bool = False,
    doubtful: Tensor | None = None,
) -> Samples:
    """Looks up every wanted texel that the frame shows.

    Args:
        seen: The frame.
        chart: The texels.
        faces: Triangles of the mesh.
        wanted: Mask of faces to sample `[f]`.
        power: Exponent of the cosine between normal and view.
        prefilter: Average this many pixels squared first, where texels are coarser than pixels.
        normals: Give normals too.
        doubtful: Mask of faces `[f]` that keep a tenth of their weight where they have the backdrop's colour: dark
            hair before a dark wall.
    """
    pick = chart.of_faces(seen.front & wanted)
    cosines = (seen.normals * normalize(seen.towards - seen.vertices, dim=1)).sum(1)
    attributes = [seen.pixels, seen.vertex_depth[:, None], cosines[:, None], *([seen.normals] if normals else [])]
    # within a small triangle, perspective is as good as linear
    at = chart.interpolate(torch.cat(attributes, 1), faces, pick)
    good = (at[:, 3] > LEAST_COSINE).nonzero()[:, 0]
    pick, at = pick[good], at[good]
    xy, z, cosine = at[:, :2], at[:, 2], at[:, 3]
    width, height = seen.camera.width, seen.camera.height
    inside = ((xy > 1) & (xy < torch.tensor([width - 1.0, height - 1.0]))).all(1)

    h, w = seen.depths.shape[:2]
    cell = (xy * torch.tensor([w / width, h / height])).int()
    index = cell[:, 1].clamp(0, h - 1) * w + cell[:, 0].clamp(0, w - 1)
    first, nearest, farthest = seen.depths.view(-1, 3)[index].unbind(1)
    slope = (1 - cosine.square()).clamp_min(0).sqrt() / cosine
    slack = NEAR + 1.5 * (width / w / seen.camera.focal) * z * slope  # depth across a cell of the buffer
    hidden = z > first + slack
    crowded = z > nearest + slack + 2 * NEAR
    outline = farthest > z + slack + 4 * NEAR
    keep = inside & ~hidden & ~outline
    weight = ((cosine - LEAST_COSINE) / (1 - LEAST_COSINE)) ** power * seen.quality
    weight = weight * torch.where(crowded, 0.05, 1.0)
    keep = keep.nonzero()[:, 0]
    image, xy = seen.image, xy[keep]
    if prefilter > 1:
        image, xy = _pooled(seen, prefilter), xy / prefilter
    normal = normalize(at[keep, 4:], dim=1) if normals else None
    colour, weight = bilinear(image, xy), weight[keep]
    # near the outline, what has the colour of the backdrop is the backdrop: the head's shape is never exact
    near = torch.div(cell[keep], 2, rounding_mode="floor")
    rows, columns = seen.backdrop.shape[:2]
    near = near[:, 1].clamp(0, rows - 1) * columns + near[:, 0].clamp(0, columns - 1)
    back = seen.backdrop.view(-1, 4)[near]
    same = torch.exp(-(colour.clamp_min(0).sqrt() - back[:, :3]).square().sum(1) / 0.12**2)
    if doubtful is not None:
        same = torch.where(doubtful[chart.face.long()[pick[keep]]], 0.9 * same, same)
    weight = weight * (1 - back[:, 3] * same)
    return Samples(texel=pick[keep], colour=colour, weight=weight, normal=normal)


def _pooled(seen: Observation, size: int) -> Tensor:
    """Averages of squares of pixels, of those that lie well inside the head's outline."""
    inner = (seen.depths[..., 2] < 100).float()[None, None]
    inner = torch.nn.functional.interpolate(inner, seen.image.shape[:2], mode="nearest")[0]
    planes = torch.cat([seen.image.permute(2, 0, 1) * inner, inner])[None]
    out = avg_pool2d(planes, size, ceil_mode=True, count_include_pad=False)[0].permute(1, 2, 0)
    return (out[..., :3] / out[..., 3:].clamp_min(1e-6)).contiguous()


@typed
def sharpness(image: Float[Tensor, "h w 3"]) -> float:
    """Relative strength of the finest detail: mean absolute Laplacian over mean brightness, at two pixels."""
    grey = avg_pool2d(image.mean(2)[None, None].sqrt(), 2)
    return float((grey - avg_pool2d(grey, 3, 1, 1, count_include_pad=False)).abs().mean() / grey.mean().clamp_min(1e-3))
