"""What pictures count for: less where they are blurred, and where something is before the face."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from avatar3d.appearance.observe import sharpness
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.projection import project
from avatar3d.geometry.surface import vertex_normals

LEAST = 0.1
"""Of the weight of a picture whose face is covered."""
BLURRED = 0.3
"""Of the weight of a blurred picture."""
ACROSS = 64
"""The face is compared at this many pixels across."""
POINTS = 600
"""Of the face, at most."""
FACING = 0.35
"""Cosine to the viewer from which a point counts as seen."""
OTHER = 0.25
"""Difference of the logarithm of a colour, from what the point usually has, that a covered point has."""
USUAL, SLOPE = 0.14, 8.0
"""Share of points, beyond the median picture's, that an expression or a turn may change so much, and what every further
share costs. Of five clips without anything before the face none comes above 0.13; a hand there gives 0.16 to 0.27."""


def weighted(shots: list[Shot], poses: Poses) -> list[Shot]:
    """The pictures with their weights: 1 or less."""
    clear = dict(zip(*_uncovered([s for s in shots if not s.close], poses), strict=True))
    out: list[Shot] = []
    for close in (False, True):
        mine = [s for s in shots if s.close == close]
        if not mine:
            continue
        clarity = torch.tensor([sharpness((s.image.float() / 255) ** 2.2) for s in mine])
        relative = (clarity / clarity.median().clamp_min(1e-9)).clamp(BLURRED, 1.0)
        out += [replace(s, weight=float(w) * clear.get(s.frame, 1.0)) for s, w in zip(mine, relative, strict=True)]
    return out


@torch.no_grad()
def _uncovered(shots: list[Shot], poses: Poses) -> tuple[list[int], list[float]]:
    """Frames, and by how much each counts: less the more of the face has not the colours that it usually has."""
    frames = [s.frame for s in shots]
    region = poses.rig.regions.get("face")
    if len(shots) < 3 or region is None:
        return frames, [1.0] * len(frames)
    points = region.nonzero()[:, 0]
    points = points[torch.linspace(0, len(points) - 1, min(POINTS, len(points))).round().long()]
    logs = torch.stack([_colours(shot, poses, points) for shot in shots])
    usual, light = logs.nanmedian(0).values, torch.zeros(())
    for _ in range(2):
        light = (logs - usual).nanmedian(1, keepdim=True).values
        usual = (logs - light).nanmedian(0).values
    change = (logs - light - usual).abs().amax(2)
    known = change.isfinite()
    share = ((change > OTHER) & known).sum(1) / known.sum(1).clamp_min(1)
    weight = 1 - SLOPE * (share - share.median() - USUAL).clamp_min(0)
    return frames, weight.clamp_min(LEAST).tolist()


def _colours(shot: Shot, poses: Poses, points: Tensor) -> Float[Tensor, "p 3"]:
    """Logarithms of what a picture shows at some points of the mesh; nan where it does not show them."""
    vertices = poses.vertices(torch.tensor([shot.frame]))[0][0]
    pixels = project(vertices[points], shot.camera)
    extent = float((pixels.amax(0) - pixels.amin(0)).max())
    height, width = shot.image.shape[:2]
    scale = min(1.0, ACROSS / max(extent, 1.0))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture = interpolate(shot.image.permute(2, 0, 1)[None].float() / 255, size, mode="area")
    at = 2 * pixels / torch.tensor([width, height]) - 1
    colours = grid_sample(picture, at[None, None].float(), padding_mode="border", align_corners=False)[0, :, 0].T
    T = shot.camera.T_camera_world.float()
    eye = -T[:3, :3].T @ T[:3, 3]
    towards = torch.nn.functional.normalize(eye - vertices[points], dim=1)
    normals = vertex_normals(vertices, poses.rig.faces)[points]
    shown = ((towards * normals).sum(1) > FACING) & (at.abs() < 1).all(1)
    return torch.where(shown[:, None], (colours + 0.05).log(), torch.nan)
