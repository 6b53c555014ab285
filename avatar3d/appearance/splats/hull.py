"""Where hair begins: the space beside the head that the person's masks agree on, carved in the head's frame.

Every picture says which cells of a grid about the head may belong to the person. A head that turns little leaves the
depth of that hull open, so it is kept near the head: as near as its outline beside the head has it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool2d, max_pool3d, normalize

from avatar3d import ops
from avatar3d.appearance.splats.initial import make, of_faces
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.rotation import matrix_to_quat
from avatar3d.geometry.surface import face_normals
from avatar3d.models.anchors import ANCHOR_SIZE
from avatar3d.render.mesh import camera_points
from avatar3d.types import Rig
from avatar3d.types.gaussians import GROUP_NAMES, Gaussians

CELL = 0.006
"""Metres."""
AROUND = torch.tensor([[-0.11, 0.0, -0.09], [0.11, 0.11, 0.0]])
"""How far the grid reaches beyond the head, metres; its lower end is the neck's joint."""
AGREED = 0.8
"""Share of the pictures that must have a cell within the person's outline."""
SLAB = 0.015
"""Metres on either side of the head's middle in which its outline is measured."""
BINS = 36
"""Directions about the head in which it is measured."""
FORWARD = 0.08
"""Metres before the head's middle at which hair has no thickness any more."""
BACKWARD = 0.06
"""Metres behind it where hair is as thick as it usually is around the upper half of the outline."""
OWNER = "scalp"
"""Region on which hair may lie; farther than `LOOSE` from the mesh it may hang beside anything."""
LOOSE = 0.015
FLATNESS = 0.4
"""Thickness of a splat of hair, relative to its radius."""
INNER = ("teeth_upper", "teeth_lower", "gums_upper", "gums_lower", "tongue", "mouth_cavity", "eye_socket_left",
         "eye_socket_right", "eyeball_left", "eyeball_right")  # fmt: skip
"""Regions that do not say where the head ends."""


def carve(
    rig: Rig, poses: Poses, shots: list[Shot]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Float[Tensor, "n 3"]] | None:
    """Points on the outside of the hair, one a cell, with outward normals and colours; None where there is no hair.

    Positions are relative to the head's joint in its frame, metres; colours are sRGB.

    Args:
        rig: The avatar's, without anchors.
        poses: Where it is in every frame.
        shots: Pictures of the head from as many sides as there are.
    """
    if "head" not in rig.joint_names or not {"face", OWNER} <= rig.regions.keys():
        return None
    joint = rig.joint_names.index("head")
    neutral = (rig.neutral - rig.joint_positions[joint]).float()
    head = neutral[rig.skinning_weights[:, joint] > 0.5]
    low, high = head.amin(0) + AROUND[0], head.amax(0) + AROUND[1]
    if "neck" in rig.joint_names:
        low[1] = float(rig.joint_positions[rig.joint_names.index("neck"), 1] - rig.joint_positions[joint, 1])
    shape = [int(x) for x in ((high - low) / CELL).ceil()]
    axes = [low[i] + CELL * (torch.arange(shape[i]) + 0.5) for i in range(3)]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
    views = [_View(rig, poses, shot) for shot in shots]
    votes = torch.zeros(2, len(cells))
    for view in views:
        inside, seen = view.votes(cells)
        votes += torch.stack([inside, seen])
    full = (votes[1] >= min(3, len(shots))) & (votes[0] >= AGREED * votes[1])
    index = full.nonzero()[:, 0]
    outer = rig.faces[~of_faces(rig, INNER)]
    near = ops.nearest_on_mesh(cells[index], neutral, outer)
    normals = normalize(face_normals(neutral, outer), dim=-1)[near.face.long()]
    out = ((cells[index] - near.point) * normals).sum(1) > 0
    owned = rig.regions[OWNER][outer.long()].all(1)[near.face.long()] | (near.distance > LOOSE)
    middle = (head.amin(0) + head.amax(0)) / 2
    allowed = _thickness(cells[index], near.distance, out & owned, middle)
    hair = torch.zeros(len(cells), dtype=torch.bool)
    hair[index[out & owned & (near.distance <= allowed)]] = True
    solid = hair.clone()
    solid[index[~out]] = True
    grid = solid.view(1, 1, *shape).float()
    buried = -max_pool3d(-_edged(grid), 3, 1)  # all 26 neighbours are solid too
    surface = hair & (buried.view(-1) < 0.5)
    if int(surface.sum()) < 50:
        return None
    soft = avg_pool3d(grid, 5, 1, 2, count_include_pad=True)[0, 0]
    outward = -torch.stack(torch.gradient(soft), -1).view(-1, 3)[surface]
    points = cells[surface]
    outward = normalize(outward + 1e-6 * normalize(points - middle, dim=1), dim=1)
    return points, outward, _colours(points, outward, views)


def _edged(grid: Tensor) -> Tensor:
    return torch.nn.functional.pad(grid, (1, 1, 1, 1, 1, 1))


def _thickness(points: Tensor, distance: Tensor, usable: Tensor, middle: Tensor) -> Tensor:
    """How far from the mesh each point may lie: as far as the outline beside the head reaches in its direction."""
    d = points - middle
    angle = ((torch.atan2(d[:, 1], d[:, 0]) / (2 * math.pi)) * BINS).floor().long() % BINS
    slab = usable & (d[:, 2].abs() < SLAB)
    reach = torch.zeros(BINS).scatter_reduce(0, angle[slab], distance[slab], "amax")
    reach = torch.stack([reach.roll(-1), reach, reach.roll(1)]).median(0).values
    usual = reach[: BINS // 2].median()
    behind = (-d[:, 2] / BACKWARD).clamp(0, 1) * (d[:, 1] > 0)
    forward = (1 - d[:, 2].clamp_min(0) / FORWARD).clamp_min(0)
    return (reach[angle] * (1 - behind) + usual * behind) * forward + CELL / 2 * (forward > 0)


class _View:
    """One picture and where the head is in it."""

    def __init__(self, rig: Rig, poses: Poses, shot: Shot) -> None:
        vertices, _, R = poses.vertices(torch.tensor([shot.frame]))
        anchor = len(rig.neutral) + 3 * rig.joint_names.index("head")
        T = shot.camera.T_camera_world.float()
        self.R = T[:3, :3] @ R[0]
        self.t = T[:3, :3] @ vertices[0, anchor] + T[:3, 3]
        self.K, self.shot = shot.camera.K.float(), shot
        self.size = (shot.camera.width, shot.camera.height)
        points = camera_points(vertices[:, : len(rig.neutral)], [shot.camera])
        triangle = ops.rasterize(points, rig.faces, shot.camera.K[None].float(), *self.size).triangle[0].long()
        corners = points[0, :, 2][rig.faces.long()].mean(1)
        self.depth = torch.where(triangle >= 0, corners[triangle.clamp_min(0)], math.inf)
        face = rig.regions["face"][rig.faces.long()].all(1)
        self.face = (triangle >= 0) & face[triangle.clamp_min(0)]
        self.well_inside = -max_pool2d(-(shot.mask > 240)[None].float(), 5, 1, 2)[0] > 0

    def places(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel index (0 where outside), whether it is in the picture, and depth."""
        x = points @ self.R.T + self.t
        u = (self.K[0, 0] * x[:, 0] / x[:, 2] + self.K[0, 2]).floor().long()
        v = (self.K[1, 1] * x[:, 1] / x[:, 2] + self.K[1, 2]).floor().long()
        seen = (x[:, 2] > 0.05) & (u >= 0) & (v >= 0) & (u < self.size[0]) & (v < self.size[1])
        return torch.where(seen, v * self.size[0] + u, 0), seen, x[:, 2]

    def votes(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Which points are within the person and not before the face, and which are in the picture."""
        pixel, seen, depth = self.places(points)
        before = self.face.view(-1)[pixel] & (depth < self.depth.view(-1)[pixel])
        person = self.shot.mask.view(-1)[pixel] > 127
        return (seen & person & ~before).float(), seen.float()

    def colours(self, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        """What the picture shows at some points of a surface, and how well: 0 where they are hidden."""
        pixel, seen, depth = self.places(points)
        near = torch.full((self.size[0] * self.size[1],), math.inf)
        near.scatter_reduce_(0, pixel[seen], depth[seen], "amin")
        near = -max_pool2d(-near.view(1, self.size[1], self.size[0]), 3, 1, 1)[0]
        near = torch.minimum(near, self.depth).view(-1)
        towards = -normalize(points + self.R.T @ self.t, dim=1)
        facing = (normals * towards).sum(1)
        sure = seen & self.well_inside.view(-1)[pixel] & (depth < near[pixel] + 2 * CELL) & (facing > 0.15)
        return self.shot.image.view(-1, 3)[pixel].float() / 255, torch.where(sure, facing.square(), 0.0)


def _colours(points: Tensor, normals: Tensor, views: list[_View]) -> Tensor:
    """Mean of what the pictures show; what none shows is as the nearest place that one does, on either side."""
    total, weight = torch.zeros(len(points), 3), torch.zeros(len(points))
    for view in views:
        colour, share = view.colours(points, normals)
        total += colour * share[:, None]
        weight += share
    known = weight > 0
    if not known.any():
        return torch.full((len(points), 3), 0.3)
    colour = total / weight.clamp_min(1e-9)[:, None]
    folded = points * torch.tensor([-1.0, 1, 1])
    there = torch.cat([points[known], folded[known]])
    nearest = torch.cat([torch.cdist(part, there).argmin(1) for part in points[~known].split(1024)] or [torch.empty(0)])
    colour[~known] = torch.cat([colour[known], colour[known]])[nearest.long()]
    return colour


def hair(rig: Rig, poses: Poses, shots: list[Shot], count: int, degree: int) -> Gaussians | None:
    """At most `count` flat splats on the outside of the hair, bound to the head; None where there is none.

    Args:
        rig: The avatar's, without anchors.
        poses: Where it is in every frame.
        shots: Pictures of the head from as many sides as there are.
        count: At most this many.
        degree: Of the spherical harmonics.
    """
    found = carve(rig, poses, shots)
    if found is None:
        return None
    points, normals, colours = found
    area = len(points) * CELL**2
    if len(points) > count:
        generator = torch.Generator().manual_seed(len(points))
        kept = torch.randperm(len(points), generator=generator)[:count].sort().values
        points, normals, colours = points[kept], normals[kept], colours[kept]
    n = len(points)
    radius = torch.full((n, 1), 0.75 * math.sqrt(area / n) / ANCHOR_SIZE)
    side = normalize(torch.linalg.cross(normals, torch.tensor([0.0, 1, 0.02]).expand_as(normals)) + 1e-9, dim=1)
    quats = matrix_to_quat(torch.stack([side, torch.linalg.cross(normals, side), normals], -1))
    face = torch.full((n,), len(rig.faces) + rig.joint_names.index("head"))
    group = torch.full((n,), GROUP_NAMES.index("hair"), dtype=torch.uint8)
    log_scales = radius.log() + torch.tensor([0.0, 0.0, math.log(FLATNESS)])
    at = torch.tensor([1.0, 0, 0]).repeat(n, 1)
    return make(face, at, points / ANCHOR_SIZE, log_scales, colours, 0.8, group, degree, quats)
