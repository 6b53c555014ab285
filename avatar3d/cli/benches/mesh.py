"""Mesh rendering: a closed head-sized mesh of 5k vertices and 10k faces at 512x512."""

import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from avatar3d import ops
from avatar3d.cli.bench import Result, interleaved_ms, once_ms
from avatar3d.cli.benches.peers import open3d_scene, peer
from avatar3d.cli.benches.roofline import Roofline, calibrate
from avatar3d.typing import Backend

SIZE, FOCAL = 512, 1150.0
TRAFFIC = {"rasterize": 16, "rasterize+interpolate+antialias": 72, "sample_texture": 20}
"""Bytes that a pixel's inputs and results take at least, each written once and read once by who needs it."""


def measure(device: torch.device) -> Iterator[Result]:
    """Rasterisation alone, on one thread and on all; with interpolation and antialiasing, forward and with backward;
    texture look-up.

    The roofline of rasterisation is 14 vector instructions for each block of 16 pixels in the faces' boxes, and the
    results' way to memory; for the others what they add is traffic alone.
    """
    vertices, faces = ellipsoid(51, 100)
    points = (vertices * torch.tensor([1.0, -1, -1]) + torch.tensor([0, 0, 0.6])).float()[None].to(device)
    faces = faces.to(device)
    K = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]], device=device)[None]
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

    blocks = pixel_blocks(points[0], faces)
    threads = torch.get_num_threads()
    reference: dict[str, float] = {}
    whole, alone = "rasterize+interpolate+antialias", f"rasterize {SIZE}x{SIZE}"
    for case, pass_, count, function in (
        (alone, "forward", 1, rasterize),
        (alone, "forward", threads, rasterize),
        (whole, "forward", threads, picture),
        (whole, "forward+backward", threads, gradients),
        (f"sample_texture bilinear {SIZE}x{SIZE}", "forward", threads, look_up),
    ):
        if (count < threads and device.type != "cpu") or (count == threads == 1 and case + pass_ in reference):
            continue
        torch.set_num_threads(count)
        functions: dict[str, Callable[[], object]] = {"ours": function}
        if case == alone:
            functions |= _peers(points, faces, raster)
        ms = interleaved_ms(functions)
        if case + pass_ not in reference:
            reference[case + pass_] = once_ms(lambda function=function: function(backend="reference"))
        peers = {name: value for name, value in ms.items() if name != "ours"}
        yield Result(
            bench="mesh",
            pass_=pass_,
            case=case,
            threads=count,
            ours_ms=ms["ours"],
            peers_ms=peers | {"reference": reference[case + pass_]},
            roofline=_floor_ms(case, blocks, calibrate(device)) / ms["ours"] if pass_ == "forward" else None,
            extra={"vertices": len(vertices), "faces": len(faces)},
        )
        torch.set_num_threads(threads)


def pixel_blocks(points: Tensor, faces: Tensor) -> int:
    """How many blocks of 16 pixels in a row the faces' boxes touch: rows (w + 15) / 16, with w + 15 rounded down."""
    xy = FOCAL * points[:, :2] / points[:, 2:] + SIZE / 2
    corners = xy[faces.long()]
    low, high = corners.amin(1).floor().clamp(0, SIZE), corners.amax(1).ceil().clamp(0, SIZE)
    width, rows = (high - low).unbind(1)
    return int((rows * ((width + 15) / 16).floor().clamp_min(1)).sum())


def _floor_ms(case: str, blocks: int, roof: Roofline) -> float:
    work = 14 * 16 * blocks / roof.lanes if case.startswith("rasterize") else 0.0
    return (work + TRAFFIC[case.split()[0]] * SIZE * SIZE / roof.bandwidth) * 1e3


def _peers(points: Tensor, faces: Tensor, raster: ops.Raster) -> dict[str, Callable[[], object]]:
    """Open3D's ray casting (Embree, its scene and rays kept) and pytorch3d's rasteriser, where they are installed."""
    found: dict[str, Callable[[], object]] = {}
    o3d: Any = peer("open3d") if points.device.type == "cpu" else None
    if o3d is not None:
        scene = open3d_scene(o3d, points[0].numpy(), faces.numpy())
        at = (torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
        x, y = torch.meshgrid(at, at, indexing="xy")
        rays = torch.stack([x, y, torch.ones_like(x)], -1)
        rays = o3d.core.Tensor.from_numpy(torch.cat([torch.zeros_like(rays), rays], -1).numpy())
        hit = torch.from_numpy(scene.cast_rays(rays)["t_hit"].numpy())
        different = ((hit < 1e3) != (raster.triangle[0] >= 0)).float().mean().item()
        if different > 1e-3:
            raise ArithmeticError(f"bench mesh: {different:.1%} of the pixels differ between ours and Open3D")
        found["open3d"] = lambda: scene.cast_rays(rays)
    pytorch3d: Any = peer("pytorch3d.renderer.mesh.rasterize_meshes")
    if pytorch3d is not None:
        ndc = torch.cat([-points[0, :, :2] * (2 * FOCAL / SIZE) / points[0, :, 2:], points[0, :, 2:]], 1)
        meshes = importlib.import_module("pytorch3d.structures").Meshes([ndc], [faces.long()])
        rasterize = pytorch3d.renderer.mesh.rasterize_meshes.rasterize_meshes
        found["pytorch3d"] = lambda: rasterize(meshes, SIZE, 0.0, 1, perspective_correct=True)
    return found


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
