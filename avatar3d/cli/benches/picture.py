"""How long 20k splats take from a random start to 35 dB on one picture of a head."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar3d import models, ops
from avatar3d.cli.bench import Result
from avatar3d.models.linear import LinearModel
from avatar3d.render.mesh import render_mesh
from avatar3d.render.shading import studio_light
from avatar3d.types import Camera

COUNT, SIZE, GOAL, LIMIT = 20_000, 512, 35.0, 120.0
RATES = {"means": 4e-4, "scales": 8e-3, "quats": 8e-3, "opacities": 3e-2, "colors": 1.5e-2}


def measure(device: torch.device) -> Iterator[Result]:
    """One optimisation to 35 dB; `$AVATAR3D_BENCH_PICTURE` names a PNG for target and result side by side."""
    seconds, steps, reached, picture = fit_picture(head_picture().to(device))
    path = os.environ.get("AVATAR3D_BENCH_PICTURE")
    if path:
        pixels = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(Path(path))
    yield Result(
        bench="picture", pass_="forward+backward", case=f"20k splats from random to {GOAL:g} dB",
        threads=torch.get_num_threads(), ours_ms=seconds * 1e3, peers_ms={}, roofline=None,
        extra={"steps": steps, "psnr": reached},
    )  # fmt: skip


def head_picture() -> Tensor:
    """A rendered head `[512, 512, 3]`, 0..1: the default model's mean, with skin, lips and eyes coloured."""
    model: LinearModel = models.load("head")
    colours = torch.tensor([0.78, 0.60, 0.50]).repeat(len(model.template), 1)
    noise = torch.sin(model.template * 160).sum(1, keepdim=True)
    colours = colours * (1 + 0.06 * noise)
    for name, colour in (("lips_outer", (0.66, 0.30, 0.30)), ("scalp", (0.25, 0.17, 0.12)),
                         ("eyeball_left", (0.93, 0.92, 0.9)), ("eyeball_right", (0.93, 0.92, 0.9)),
                         ("iris_left", (0.3, 0.2, 0.1)), ("iris_right", (0.3, 0.2, 0.1))):  # fmt: skip
        colours[model.regions[name]] = torch.tensor(colour)
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[:3, 3] = torch.tensor([0.0, 0.01, 0.75])
    camera = Camera.from_focal(1100.0, SIZE, SIZE, T)
    light = studio_light().float()
    drawn = render_mesh(model.template[None], model.faces, camera, vertex_colours=colours[None], light=light)
    return drawn.rgb[0].clamp(0, 1)


def fit_picture(target: Tensor) -> tuple[float, int, float, Tensor]:
    """Adam on splats before one camera: seconds and steps to 35 dB, the PSNR, and target and result side by side."""
    generator = torch.Generator().manual_seed(0)
    device = target.device
    focal = float(SIZE)
    K = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]], device=device)
    T = torch.eye(4, device=device)
    random = torch.rand(COUNT, 3, generator=generator)
    leaves = {
        "means": (random - 0.5) * torch.tensor([1.0, 1.0, 0.2]) + torch.tensor([0.0, 0.0, 1.0]),
        "scales": torch.full((COUNT, 3), -5.3),
        "quats": torch.randn(COUNT, 4, generator=generator),
        "opacities": torch.full((COUNT,), 0.5),
        "colors": torch.rand(COUNT, 3, generator=generator),
    }
    leaves = {name: value.to(device).requires_grad_() for name, value in leaves.items()}
    adam = torch.optim.Adam([{"params": [x], "lr": RATES[n]} for n, x in leaves.items()], fused=True, eps=1e-15)
    background = torch.ones(3, device=device)
    start, step, psnr, drawn = time.perf_counter(), 0, 0.0, target
    while psnr < GOAL and time.perf_counter() - start < LIMIT:
        drawn = ops.render_splats(
            leaves["means"], leaves["quats"], leaves["scales"].exp(), leaves["opacities"].sigmoid(), leaves["colors"],
            K, T, SIZE, SIZE, background,
        ).color  # fmt: skip
        ops.photometric_loss(drawn, target[None]).sum().backward()
        adam.step()
        adam.zero_grad()
        step += 1
        psnr = -10 * float((drawn[0].detach() - target).square().mean().log10())
    return time.perf_counter() - start, step, psnr, torch.cat([target, drawn[0].detach()], 1)
