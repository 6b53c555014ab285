"""A ball with a known texture in a known light, ray cast: independent of the rasteriser and of the bake."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from avatar3d.geometry.colour import linear_to_srgb
from avatar3d.geometry.harmonics import sh_basis
from avatar3d.types import ARKIT_NAMES, Camera, Rig

RADIUS = 0.1


def uv_sphere(rings: int = 32, segments: int = 48) -> Rig:
    """Latitude-longitude ball; u runs around +y with the seam behind (-z), v from bottom to top."""
    theta = torch.linspace(0, math.pi, rings + 1)
    phi = torch.linspace(-math.pi, math.pi, segments + 1)
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    points = RADIUS * torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1).view(-1, 3)
    uvs = torch.stack([(p + math.pi) / (2 * math.pi), 1 - t / math.pi], -1).view(-1, 2)
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(segments), indexing="ij")
    a = (i * (segments + 1) + j).reshape(-1)
    b, c, d = a + 1, a + segments + 1, a + segments + 2
    left = (j >= segments // 2).reshape(-1)[:, None]  # diagonals mirrored about the middle
    upper = torch.where(left, torch.stack([a, c, d], 1), torch.stack([a, c, b], 1))
    lower = torch.where(left, torch.stack([a, d, b], 1), torch.stack([b, c, d], 1))
    faces = torch.cat([upper, lower])
    everywhere = torch.ones(len(points), dtype=torch.bool)
    return Rig(
        neutral=points, faces=faces, uvs=uvs, uv_faces=faces, shapes=torch.zeros(52, len(points), 3),
        shape_names=ARKIT_NAMES, joint_names=("root",), joint_parents=(-1,), joint_positions=torch.zeros(1, 3),
        skinning_weights=torch.ones(len(points), 1), regions={"face": everywhere},
    )  # fmt: skip


def ball_albedo(directions: torch.Tensor) -> torch.Tensor:
    """Skin with a fine pattern and one dark spot, linear RGB."""
    x, y, z = directions.unbind(-1)
    pattern = 1 + 0.25 * torch.sin(28 * x) * torch.sin(28 * y)
    spot = torch.where((x - 0.35) ** 2 + (y - 0.2) ** 2 + (z - 0.9) ** 2 < 0.02, 0.3, 1.0)
    return torch.tensor([0.45, 0.28, 0.2]) * (pattern * spot)[..., None]


LIGHT = torch.zeros(9, 3)
LIGHT[0] = 0.85 / 0.282095
LIGHT[3] = 0.55  # from the side
LIGHT[1] = 0.25  # from above
LIGHT[2] = 0.2


@dataclass
class Shot:
    image: np.ndarray
    camera: Camera
    R: torch.Tensor


def shoot(yaw: float, pitch: float = 0.0, *, gain: float = 1.0, size: int = 220, blob: tuple | None = None) -> Shot:
    """The ball turned by yaw and pitch (radians) in the world's fixed light, on green; `blob` covers a box."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    R = torch.tensor([[cy, 0, sy], [0, 1.0, 0], [-sy, 0, cy]]) @ torch.tensor([[1.0, 0, 0], [0, cp, -sp], [0, sp, cp]])
    T = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.6], [0, 0, 0, 1]])
    camera = Camera.from_focal(2.6 * size, size, size, T)
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    d = torch.stack([(x - size / 2) / (2.6 * size), -(y - size / 2) / (2.6 * size), -torch.ones_like(x)], -1)
    d = d / d.norm(dim=-1, keepdim=True)
    o = torch.tensor([0, 0, 0.6])
    b = (d * o).sum(-1)
    disc = b * b - (o @ o - RADIUS**2)
    normal = (o + d * (-b - disc.clamp_min(0).sqrt())[..., None]) / RADIUS
    colour = ball_albedo(normal @ R) * (sh_basis(normal) @ LIGHT) * gain
    colour = torch.where((disc > 0)[..., None], colour, torch.tensor([0.1, 0.8, 0.1]))
    if blob:
        x0, y0, x1, y1 = blob
        colour[y0:y1, x0:x1] = torch.tensor([0.05, 0.1, 0.7])
    image = (linear_to_srgb(colour.clamp(0, 1)) * 255).round().byte().numpy()
    return Shot(image, camera, R)


@pytest.fixture(scope="session")
def ball():
    return uv_sphere()


@pytest.fixture(scope="session")
def sphere_tools():
    return {"shoot": shoot, "albedo": ball_albedo, "light": LIGHT, "radius": RADIUS}
