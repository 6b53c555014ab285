"""Mesh rendering: a closed head-sized mesh of 5k vertices and 10k faces at 512x512, against the torch reference."""

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from avatar3d import ops
from avatar3d.cli.bench import Result, median_ms
from avatar3d.typing import Backend

SIZE = 512


def measure(device: torch.device) -> Iterator[Result]:
    """Rasterisation alone; with interpolation and antialiasing, forward and with backward; texture look-up.

    The roofline is the time that it takes to write the results once.
    """
    vertices, faces = ellipsoid(51, 100)
    points = (vertices * torch.tensor([1.0, -1, -1]) + torch.tensor([0, 0, 0.6])).float()[None].to(device)
    faces = faces.to(device)
    K = torch.tensor([[1150.0, 0, SIZE / 2], [0, 1150, SIZE / 2], [0, 0, 1]], device=device)[None]
    colours = torch.rand(1, len(vertices), 3, generator=torch.Generator().manual_seed(0)).to(device)
    uvs = (vertices[None, :, :2] * 4 + 0.5).float().to(device)
    texture = torch.rand(1, 1024, 1024, 3, generator=torch.Generator().manual_seed(1)).to(device)
    neighbours = ops.face_neighbours(faces)
    raster = ops.rasterize(points, faces, K, SIZE, SIZE)
    uv = ops.interpolate(uvs, faces, raster.triangle, raster.barycentrics)

    def rasterize(backend: Backend = "native") -> ops.Raster:
        return ops.rasterize(points, faces, K, SIZE, SIZE, backend=backend)

    def picture(points=points, colours=colours, backend: Backend = "native") -> Tensor:
        seen = ops.rasterize(points, faces, K, SIZE, SIZE, backend=backend)
        image = ops.interpolate(colours, faces, seen.triangle, seen.barycentrics, backend=backend)
        return ops.antialias(image, seen, points, faces, K, neighbours=neighbours, backend=backend)

    def gradients(backend: Backend = "native") -> tuple[Tensor, ...]:
        wrt = (points.clone().requires_grad_(), colours.clone().requires_grad_())
        return torch.autograd.grad(picture(*wrt, backend=backend).square().sum(), wrt)

    def look_up(backend: Backend = "native") -> Tensor:
        return ops.sample_texture(texture, uv, backend=backend)

    written = {"rasterize": 5, "rasterize+interpolate+antialias": 11, "sample_texture bilinear": 3}
    for case, pass_, function in (
        ("rasterize", "forward", rasterize),
        ("rasterize+interpolate+antialias", "forward", picture),
        ("rasterize+interpolate+antialias", "forward+backward", gradients),
        ("sample_texture bilinear", "forward", look_up),
    ):
        ours = median_ms(function)
        floor = None
        if pass_ == "forward":
            outputs = torch.empty(written[case], SIZE, SIZE, device=device)
            floor = median_ms(lambda outputs=outputs: outputs.fill_(1.0), seconds=0.3)
        yield Result(
            bench="mesh",
            pass_=pass_,
            case=f"{case} {SIZE}x{SIZE}",
            threads=torch.get_num_threads(),
            ours_ms=ours,
            peers_ms={"reference": _once_ms(lambda function=function: function(backend="reference"))},
            roofline=None if floor is None else floor / ours,
            extra={"vertices": len(vertices), "faces": len(faces)},
        )


def _once_ms(function: Callable[[], object]) -> float:
    """One run: the reference takes seconds."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def ellipsoid(rings: int, segments: int) -> tuple[Tensor, Tensor]:
    """A closed surface of 17 x 24 x 20 cm, faces counter-clockwise from outside."""
    theta = torch.arange(1, rings, dtype=torch.float64) * math.pi / rings
    phi = torch.arange(segments, dtype=torch.float64) * 2 * math.pi / segments
    ring = torch.stack([theta.sin()[:, None] * phi.cos(), theta.cos()[:, None].expand(-1, segments),
                        theta.sin()[:, None] * phi.sin()], -1)  # fmt: skip
    poles = torch.tensor([[0, 1.0, 0], [0, -1, 0]], dtype=torch.float64)
    vertices = torch.cat([poles, ring.reshape(-1, 3)]) * torch.tensor([0.085, 0.12, 0.1])
    j = torch.arange(segments)
    k = (j + 1) % segments
    last = 2 + (rings - 2) * segments
    faces = [
        torch.stack([torch.zeros_like(j), 2 + k, 2 + j], -1),
        torch.stack([torch.ones_like(j), last + j, last + k], -1),
    ]
    for i in range(rings - 2):
        a, b = 2 + i * segments, 2 + (i + 1) * segments
        faces += [torch.stack([a + j, a + k, b + j], -1), torch.stack([a + k, b + k, b + j], -1)]
    return vertices, torch.cat(faces).int()
