"""Splats that fill a picture of 512x512, against the torch reference and, on CUDA, gsplat."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from avatar3d import ops
from avatar3d.cli.bench import Result, interleaved_ms, once_ms
from avatar3d.cli.benches.peers import peer
from avatar3d.cli.benches.roofline import calibrate
from avatar3d.ops.blend_splats import _blend_splats
from avatar3d.ops.reference.blend_splats import tile_weights
from avatar3d.typing import Backend

SIZE = 512
COUNTS = {"20k": 20_000, "100k": 100_000}
FORWARD, BACKWARD = 26, 48  # operations for every lane that is evaluated


class Scene(NamedTuple):
    """Arguments of `ops.render_splats`."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    K: Tensor
    T_camera_world: Tensor

    def draw(self, backend: Backend = "native") -> Tensor:
        """The picture, over white."""
        return ops.render_splats(*self, SIZE, SIZE, self.means.new_ones(3), backend=backend).color


def scene(count: int, device: torch.device) -> Scene:
    """Ellipsoids between 1 and 5 metres all over the frame, of all directions, about 4.7 million blended pairs."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    focal = 600.0
    depth = 1 + 4 * rand(count, 1)
    means = torch.cat([(rand(count, 2) - 0.5) * SIZE / focal, torch.ones(count, 1)], 1) * depth
    quats = torch.randn(count, 4, generator=generator)
    size = 2.92 * math.sqrt(20_000 / count) - 0.18  # standard deviation in pixels, before the low-pass filter
    scales = size * (0.5 + rand(count, 3)) * depth / focal
    opacities = 0.1 + 0.8 * rand(count)
    sh = torch.randn(count, 1, 3, generator=generator)
    K = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    return Scene(*(t.to(device) for t in (means, quats, scales, opacities, sh, K, torch.eye(4))))


def measure(device: torch.device) -> Iterator[Result]:
    """The whole of `render_splats`, spherical harmonics of degree 0: forward, and with the gradients of all attributes.

    On the CPU the roofline is the time for 26 operations forward and 48 more backward in every lane that is evaluated,
    a splat's blocks of 4x4 pixels being evaluated as a whole; projection, sorting and memory are not in it.
    """
    gsplat = peer("gsplat.rendering") if device.type == "cuda" else None
    for case, count in COUNTS.items():
        splats = scene(count, device)
        leaves = Scene(*(t.clone().requires_grad_(i < 5) for i, t in enumerate(splats)))
        cotangent = torch.randn(1, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1)).to(device)

        def gradients(draw: Callable[[], Tensor], leaves=leaves, cotangent=cotangent) -> None:
            torch.autograd.grad(draw(), leaves[:5], cotangent)

        seen = ops.project_splats(*splats[:4], splats.K[None], splats.T_camera_world[None], SIZE, SIZE, sh=splats.sh)
        pairs, lanes = _pairs(seen), _lanes(seen)
        operations = {"forward": FORWARD, "forward+backward": FORWARD + BACKWARD}
        for name, given, run in (("forward", splats, lambda draw: draw()), ("forward+backward", leaves, gradients)):
            ms = interleaved_ms({"native": lambda given=given, run=run: run(given.draw)} | (
                {"gsplat": lambda given=given, run=run: run(lambda: _gsplat(gsplat, given))} if gsplat else {}
            ))  # fmt: skip
            peers = {k: v for k, v in ms.items() if k != "native"}
            peers["reference"] = once_ms(lambda given=given, run=run: run(lambda: given.draw("reference")))
            floor = operations[name] * lanes / calibrate(device).lanes * 1e3 if lanes else None
            yield Result(
                bench="splats", pass_=name, case=case, threads=torch.get_num_threads(), ours_ms=ms["native"],
                peers_ms=peers, roofline=floor and floor / ms["native"],
                extra={"pairs": pairs} | ({"lane_efficiency": pairs / lanes} if lanes else {}),
            )  # fmt: skip


def _gsplat(gsplat, given: Scene) -> Tensor:
    """The same picture by gsplat: sorted by depth, low-pass filter of 0.3, 16x16 tiles."""
    means, quats, scales, opacities, sh, K, T = given
    return gsplat.rasterization(means, quats, scales, opacities, sh, T[None], K[None], SIZE, SIZE, sh_degree=0,
                                packed=False, backgrounds=means.new_ones(1, 3))[0]  # fmt: skip


@torch.no_grad()
def _pairs(seen: ops.ProjectedSplats) -> int:
    """How many pairs of splat and pixel are blended."""
    assert seen.colors is not None
    inputs = (t[0].cpu() for t in (seen.pixels, seen.conics, seen.opacities, seen.depths, seen.colors))
    return sum(int((weights > 0).sum()) for *_, weights in tile_weights(*inputs, SIZE, SIZE))


@torch.no_grad()
def _lanes(seen: ops.ProjectedSplats) -> int:
    """How many lanes the CPU's kernel evaluates for them; 0 on CUDA, which goes about it otherwise."""
    if seen.pixels.is_cuda:
        return 0
    new = seen.pixels.new_zeros
    *_, last, _, intersections, tiles = _blend_splats(*seen[:5], new(1, 3), new(0), SIZE, SIZE, True)
    looked_at = last.flatten(1).amax(1)
    blocks = intersections.view(torch.int64)[:, 1].numpy().view("uint64")
    parts = (blocks[first : first + n] for first, n in zip(tiles.tolist(), looked_at.tolist(), strict=False))
    return 16 * sum(int(b).bit_count() for part in parts for b in part)
