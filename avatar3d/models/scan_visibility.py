"""Which points of a mesh can be seen from outside: what lies within a head was modelled, not scanned."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from avatar3d.ops import rasterize
from avatar3d.typing import typed

SIZE, DISTANCE = 384, 1.6
"""Of the depth pictures: side in pixels, distance of their cameras in metres."""
DEEP = 0.0025
"""How far behind the surface that is seen a point still belongs to it, metres."""


@typed
def visible_points(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    points: Float[Tensor, "n 3"],
    centre: Float[Tensor, "3"],
    reach: float,
) -> Bool[Tensor, "n"]:
    """Points that some of fourteen cameras about a mesh see, or nearly.

    Args:
        vertices: Metres.
        faces: Triangles.
        points: On the mesh, or beside it.
        centre: Where the cameras look.
        reach: What they show about it, metres.
    """
    seen = torch.zeros(len(points), dtype=torch.bool)
    near = ((vertices - centre).norm(dim=1) < 1.5 * reach)[faces].all(1)
    faces = faces[near]
    if not len(faces):
        return seen
    focal = SIZE / 2 * (DISTANCE - reach) / reach
    K = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    for axes in _cameras():
        depth = rasterize(((vertices - centre) @ axes.T + torch.tensor([0.0, 0, DISTANCE]))[None], faces, K[None],
                          SIZE, SIZE).depth[0]  # fmt: skip
        p = (points - centre) @ axes.T + torch.tensor([0.0, 0, DISTANCE])
        pixel = (p[:, :2] * focal / p[:, 2:] + SIZE / 2).long().clamp(0, SIZE - 1)
        # the farthest of the pixels about: surfaces that are seen at a slant
        farthest = max_pool2d(depth[None], 3, 1, 1)[0]
        front = farthest[pixel[:, 1], pixel[:, 0]]
        seen |= (front == 0) | (p[:, 2] < front + DEEP)
    return seen


def _cameras() -> list[Tensor]:
    """Axes of cameras that look inwards from the faces and corners of a cube."""
    out = []
    grid = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    for direction in (torch.tensor(g, dtype=torch.float32) for g in grid if sum(map(abs, g)) in (1, 3)):
        forward = -direction / math.sqrt(float(direction.square().sum()))
        up = torch.tensor([0.0, 1, 0]) if abs(forward[1]) < 0.9 else torch.tensor([0.0, 0, 1])
        right = torch.linalg.cross(forward, up)
        right = right / right.norm()
        out.append(torch.stack([right, torch.linalg.cross(forward, right), forward]))
    return out
