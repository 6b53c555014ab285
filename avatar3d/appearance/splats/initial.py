"""Where splats begin: on the textured mesh, and, for hair and clothes, where the person is seen beyond it."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate as resize
from torch.nn.functional import max_pool2d

from avatar3d import ops
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear
from avatar3d.geometry.surface import vertex_normals
from avatar3d.models.anchors import ANCHOR_SIZE
from avatar3d.render.mesh import camera_points
from avatar3d.render.shading import irradiance
from avatar3d.types import Rig, TextureSet
from avatar3d.types.gaussians import GROUP_NAMES, Gaussians

SH_C0 = 0.28209479177387814
THIN = 0.2
"""Thickness of a splat on the surface, relative to its radius."""
DENSITY = {"scalp": 0.5, "neck": 0.7, "ears": 1.2, "face": 1.6, "brows": 3.0, "eyelids": 3.0, "lips_outer": 3.0,
           "lips_inner": 3.0, "teeth_upper": 2.0, "teeth_lower": 2.0, "gums_upper": 0.6, "gums_lower": 0.6,
           "tongue": 0.8, "mouth_cavity": 0.8, "eye_socket_left": 0.3, "eye_socket_right": 0.3,
           "eyeball_left": 1.5, "eyeball_right": 1.5, "iris_left": 6.0, "iris_right": 6.0}  # fmt: skip
"""Splats per area, relative; the last region that holds a face decides."""
SHADE = {"teeth_upper": 0.55, "teeth_lower": 0.4, "gums_upper": 0.2, "gums_lower": 0.15, "tongue": 0.18,
         "mouth_cavity": 0.08}  # fmt: skip
"""Share of the light that reaches the inside of a mouth; pictures correct it where they show it."""
MOUTH = ("teeth_upper", "teeth_lower", "gums_upper", "gums_lower", "tongue", "mouth_cavity")
EYES = ("eyeball_left", "eyeball_right")
OVERLAP = 1.25
"""How much wider than elsewhere splats inside the mouth are: seen for moments only, they must close their own gaps."""
COARSE = 144
"""Longer side of the picture in which hair and clothes are looked for, pixels."""


def on_mesh(
    rig: Rig, looks: TextureSet, R_world_head: Float[Tensor, "3 3"], count: int, degree: int,
    generator: torch.Generator,
) -> Gaussians:  # fmt: skip
    """Flat splats that cover the mesh with its own colours, denser where the eye looks.

    Args:
        rig: The avatar's.
        looks: Its texture and light.
        R_world_head: A usual rotation of the head: the light is given in world space.
        count: How many.
        degree: Of the spherical harmonics.
        generator: Where on the triangles they lie.
    """
    corners = rig.neutral[rig.faces.long()]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2
    density = torch.ones(len(rig.faces))
    for name, value in DENSITY.items():
        if name in rig.regions:
            density[of_faces(rig, (name,))] = value
    share = (area * density).double()
    total = share.cumsum(0)
    at = (torch.arange(count, dtype=torch.float64) + 0.5) / count * total[-1]
    face = torch.searchsorted(total, at).clamp_max(len(share) - 1)
    u, v = torch.rand(2, count, generator=generator)
    u = u.sqrt()
    barycentrics = torch.stack([1 - u, u * (1 - v), u * v], 1)
    each = float(total[-1]) / count / density[face]  # area that a splat covers
    radius = 0.75 * each.sqrt() / (2 * area[face]).sqrt().clamp_min(1e-5)
    radius = torch.where(of_faces(rig, MOUTH)[face], OVERLAP * radius, radius)
    log_scales = radius.clamp(0.02, 20).log()[:, None] + torch.tensor([0.0, 0.0, math.log(THIN)])

    albedo = mesh_light(rig, looks, R_world_head, face, barycentrics)
    for name, share in SHADE.items():
        albedo = torch.where(of_faces(rig, (name,))[face, None], albedo * share, albedo)
    colour = linear_to_srgb(albedo.clamp(0, 1))
    group = torch.zeros(count, dtype=torch.uint8)
    group[of_faces(rig, MOUTH)[face]] = GROUP_NAMES.index("mouth")
    group[of_faces(rig, EYES)[face]] = GROUP_NAMES.index("eyes")
    return make(face, barycentrics, torch.zeros(count, 3), log_scales, colour, 0.9, group, degree)


def mesh_light(
    rig: Rig, looks: TextureSet, R_world_head: Float[Tensor, "3 3"], face: Tensor, barycentrics: Tensor
) -> Float[Tensor, "n 3"]:
    """Linear colours of some points of the textured mesh in its light; the inside of a mouth is not darkened."""
    uv = (rig.uvs[rig.uv_faces[face].long()] * barycentrics[..., None]).sum(1)
    albedo = ops.sample_texture(srgb_to_linear(looks.albedo.float() / 255)[None], uv[None, None].contiguous())[0, 0]
    normals = vertex_normals(rig.neutral, rig.faces)[rig.faces[face].long()]
    normals = (normals * barycentrics[..., None]).sum(1) @ R_world_head.T.float()
    if looks.light is None:
        return albedo
    return albedo * irradiance(torch.nn.functional.normalize(normals, dim=1), looks.light.float())


def of_faces(rig: Rig, names: tuple[str, ...]) -> Tensor:
    """Mask of the rig's faces that lie in any of some regions, with all their corners."""
    mask = torch.zeros(len(rig.faces), dtype=torch.bool)
    for name in names:
        if name in rig.regions:
            mask |= rig.regions[name][rig.faces.long()].all(1)
    return mask


def make(
    face: Tensor, barycentrics: Tensor, offsets: Tensor, log_scales: Tensor, colour: Tensor, opacity: float,
    group: Tensor, degree: int, quats: Tensor | None = None,
) -> Gaussians:  # fmt: skip
    """Splats of one opacity and of colours that are the same from everywhere."""
    n = len(face)
    sh = torch.zeros(n, (degree + 1) ** 2, 3)
    sh[:, 0] = (colour - 0.5) / SH_C0
    if quats is None:
        quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    return Gaussians(
        face=face.int(), barycentrics=barycentrics.float(), offsets=offsets.float(), quats=quats.float(),
        log_scales=log_scales.float(), logit_opacities=torch.full((n,), math.log(opacity / (1 - opacity))),
        sh=sh, group=group,
    )  # fmt: skip


def beyond_mesh(
    rig: Rig, poses: Poses, shots: list[Shot], count: int, degree: int, *, hair: bool = True
) -> Gaussians | None:
    """Splats for what the pictures show of the person beside the mesh: hair goes with the head, the rest with the root.

    Every pixel of the person beyond the mesh becomes a point: beside the head in the plane through its middle, below
    it in the plane of the shoulders. What several pictures show of one place is taken once.

    Args:
        rig: The avatar's, without anchors.
        poses: Where it is in every frame.
        shots: The pictures, best first.
        count: At most this many.
        degree: Of the spherical harmonics.
        hair: Whether what goes with the head is wanted.
    """
    found: list[tuple[Tensor, ...]] = []
    for shot in shots:
        points = _points(rig, poses, shot)
        if points is not None:
            found.append(points if hair else tuple(c[points[0] == 0] for c in points))
    if not any(len(points[0]) for points in found):
        return None
    columns = tuple(torch.cat(column) for column in zip(*found, strict=True))
    chosen = [
        _thinned(tuple(c[columns[0] == carrier] for c in columns), round(count * share))
        for carrier, share in _carriers(columns[0])
    ]
    joint, offset, colour, radius = (torch.cat(column) for column in zip(*chosen, strict=True))
    head = rig.joint_names.index("head") if "head" in rig.joint_names else 0
    group = torch.where(joint == head, GROUP_NAMES.index("hair"), GROUP_NAMES.index("other")).to(torch.uint8)
    barycentrics = torch.tensor([1.0, 0, 0]).repeat(len(joint), 1)
    log_scales = radius.log()[:, None] + torch.tensor([0.0, 0.0, math.log(0.5)])
    return make(len(rig.faces) + joint, barycentrics, offset, log_scales, colour, 0.7, group, degree)


def _points(rig: Rig, poses: Poses, shot: Shot) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Joint, place in its anchor's frame, colour and radius (both in anchor sizes) of what lies beyond the mesh."""
    scale = min(1.0, COARSE / max(shot.camera.width, shot.camera.height))
    w, h = max(1, round(shot.camera.width * scale)), max(1, round(shot.camera.height * scale))
    camera = shot.camera.resized(w, h)
    planes = torch.cat([shot.image, shot.mask[..., None]], -1).permute(2, 0, 1)[None].float() / 255
    planes = resize(planes, (h, w), mode="area")[0]
    vertices, _, _ = poses.vertices(torch.tensor([shot.frame]))
    points = camera_points(vertices[:, : len(rig.neutral)], [camera])
    seen = ops.rasterize(points, rig.faces, camera.K[None].float(), w, h).triangle[0] >= 0
    covered = max_pool2d(seen[None].float(), 3, 1, 1)[0] > 0
    ys, xs = ((planes[3] > 0.6) & ~covered).nonzero().unbind(1)
    if not len(ys):
        return None
    T = camera.T_camera_world.float()
    anchors = vertices[0, len(rig.neutral) :].view(-1, 3, 3)
    places = anchors[:, 0] @ T[:3, :3].T + T[:3, 3]
    names = rig.joint_names
    head, root = names.index("head") if "head" in names else 0, 0
    lower, upper = points[0].amin(0), points[0].amax(0)
    K = camera.K.float()
    rays = torch.stack([(xs + 0.5 - K[0, 2]) / K[0, 0], (ys + 0.5 - K[1, 2]) / K[1, 1], torch.ones(len(xs))], 1)
    beside = rays * ((lower[2] + upper[2]) / 2)
    below = rays * (places[root, 2] - 0.03)
    # the head's own axes decide what is beside it and what below
    frame = torch.stack([anchors[head, 1] - anchors[head, 0], anchors[head, 2] - anchors[head, 0]]) / ANCHOR_SIZE
    neck = rig.joint_positions[names.index("neck") if "neck" in names else 0] - rig.joint_positions[head]
    world = (beside - T[:3, 3]) @ T[:3, :3]
    local = (world - anchors[head, 0]) @ frame.T
    is_hair = (local[:, 1] > float(neck[1])) & (local.norm(dim=1) < 0.3)
    joint = torch.where(is_hair, head, root)
    place = torch.where(is_hair[:, None], world, (below - T[:3, 3]) @ T[:3, :3])
    origin, x, y = anchors[joint].unbind(1)
    axes = torch.stack([x - origin, y - origin, torch.linalg.cross(x - origin, y - origin) / ANCHOR_SIZE], 1)
    offset = ((place - origin)[:, None] * axes).sum(-1) / ANCHOR_SIZE**2
    depth = torch.where(is_hair, beside[:, 2], below[:, 2])
    radius = 0.7 * depth / float(camera.focal) / ANCHOR_SIZE
    return joint, offset, planes[:3, ys, xs].T.contiguous(), radius


def _carriers(joint: Tensor) -> list[tuple[int, float]]:
    """Joints that carry something, and their shares: as many points as they have, the rarer favoured."""
    names, counts = joint.unique(return_counts=True)
    weight = counts.double().sqrt()
    return [(int(n), float(w)) for n, w in zip(names, weight / weight.sum(), strict=True)]


def _thinned(columns: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """At most `count` points, evenly: one for every cell of the finest grid that will do."""
    joint, offset, colour, radius = columns
    low, high = 0.5, 20.0
    for _ in range(12):
        cell = (low * high) ** 0.5
        enough = len(_one_per_cell(offset, cell * radius.median())) > count
        low, high = (cell, high) if enough else (low, cell)
    kept = _one_per_cell(offset, high * radius.median())[:count]
    return joint[kept], offset[kept], colour[kept], radius[kept] * max(1.0, 0.7 * high)


def _one_per_cell(offset: Tensor, size: Tensor) -> Int[Tensor, "m"]:
    """The first point of every cell of a grid."""
    _, inverse = torch.unique((offset / size).floor().long(), dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(offset), dtype=torch.long)
    first.scatter_reduce_(0, inverse, torch.arange(len(offset)), "amin")
    return first.sort().values
