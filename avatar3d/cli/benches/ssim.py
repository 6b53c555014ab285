"""Structural similarity, and the loss that pictures are fitted with, against torch's depthwise convolution."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from avatar3d import ops
from avatar3d.cli.bench import Result, interleaved_ms
from avatar3d.cli.benches.roofline import calibrate
from avatar3d.typing import Backend

SIZE = 512


def measure(device: torch.device) -> Iterator[Result]:
    """Value of SSIM; value and gradient of 0.8 L1 + 0.2 (1 - SSIM), both at 512x512x3.

    The roofline counts 44 flops for each map that is filtered (11 taps, rows and columns) and about 25 for the rest: 4
    maps for a value, 7 with the gradient.
    """
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, SIZE, SIZE, 3, generator=generator).to(device)
    image = (target + 0.1 * torch.randn(target.shape, generator=generator).to(device)).clamp(0, 1).requires_grad_()

    def similarity(backend: Backend) -> Tensor:
        with torch.no_grad():
            return ops.ssim(image, target, backend=backend)

    def gradient(backend: Backend) -> tuple[Tensor, ...]:
        return torch.autograd.grad(ops.photometric_loss(image, target, backend=backend).sum(), image)

    roof = calibrate(device)
    cases: tuple[tuple[str, str, Callable[[Backend], object], float], ...] = (
        ("ssim", "forward", similarity, 4 * 44 + 25),
        ("L1+ssim", "forward+backward", gradient, 7 * 44 + 44),
    )
    for case, pass_, function, flops in cases:
        names: tuple[Backend, ...] = ("native", "reference")
        ms = interleaved_ms({name: lambda name=name, function=function: function(name) for name in names})
        floor = flops * target.numel() / roof.flops * 1e3
        yield Result(
            bench="ssim",
            pass_=pass_,
            case=f"{case} {SIZE}x{SIZE}x3",
            threads=torch.get_num_threads(),
            ours_ms=ms["native"],
            peers_ms={"reference": ms["reference"]},
            roofline=floor / ms["native"],
        )
