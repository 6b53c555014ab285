"""Small meshes and cameras for the tests of mesh operations."""

import math

import torch


def sphere(rings: int, segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed unit sphere, faces counter-clockwise from outside; 2 + (rings - 1) segments vertices."""
    theta = torch.arange(1, rings, dtype=torch.float64) * math.pi / rings
    phi = torch.arange(segments, dtype=torch.float64) * 2 * math.pi / segments
    x = theta.sin()[:, None] * phi.cos()
    z = theta.sin()[:, None] * phi.sin()
    y = theta.cos()[:, None].expand_as(x)
    poles = torch.tensor([[0, 1.0, 0], [0, -1, 0]], dtype=torch.float64)
    vertices = torch.cat([poles, torch.stack([x, y, z], -1).reshape(-1, 3)])
    faces = []
    for j in range(segments):
        k = (j + 1) % segments
        faces += [(0, 2 + k, 2 + j), (1, 2 + (rings - 2) * segments + j, 2 + (rings - 2) * segments + k)]
        for i in range(rings - 2):
            a, b = 2 + i * segments, 2 + (i + 1) * segments
            faces += [(a + j, a + k, b + j), (a + k, b + k, b + j)]
    return vertices, torch.tensor(faces, dtype=torch.int32)


def in_front(vertices: torch.Tensor, distance: float = 3.0) -> torch.Tensor:
    """Model space to the space of a camera that looks at it from the front: +y down, +z away."""
    return vertices * vertices.new_tensor([1, -1, -1]) + vertices.new_tensor([0, 0, distance])


def soup(rng: torch.Generator, b: int, v: int, f: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random triangles in camera space, some behind the camera and some across the near plane."""
    points = torch.randn(b, v, 3, generator=rng, dtype=torch.float64)
    points[..., 2] = points[..., 2] * 1.5 + 2
    return points, torch.randint(0, v, (f, 3), generator=rng, dtype=torch.int32)


def intrinsics(b: int, width: int, height: int, focal: float | None = None) -> torch.Tensor:
    f = focal or 0.9 * width
    K = torch.tensor([[f, 0.1, 0.48 * width], [0, 1.03 * f, 0.53 * height], [0, 0, 1]], dtype=torch.float64)
    return K.repeat(b, 1, 1)
