"""What this machine can do at most, measured in the run whose results are held against it."""

import functools
import time
from dataclasses import dataclass

import torch

from avatar3d.cli.bench import median_ms
from avatar3d.cli.common import say
from avatar3d.ops import native

LARGE = 64 << 20
"""Floats of the three arrays of the triad together: 256 MB, beyond most caches."""


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Attainable rates in single precision, all threads together."""

    flops: float
    """F: a multiply-add counts two, per second."""
    bandwidth: float
    """BW: bytes per second of a = b + s c from memory (STREAM's triad)."""

    @property
    def lanes(self) -> float:
        """C: lane operations per second, cores x lanes x 2 units x clock. A multiply-add is one of them."""
        return self.flops / 2


def calibrate(device: torch.device) -> Roofline:
    """Measures the roofline once for each device and number of threads, and says what it is."""
    return _calibrate(device, torch.get_num_threads())


@functools.cache
def _calibrate(device: torch.device, threads: int) -> Roofline:
    roofline = Roofline(flops=_gpu_flops(device) if device.type == "cuda" else _cpu_flops(threads),
                        bandwidth=triad(device, LARGE * 4))  # fmt: skip
    say(f"roofline: {roofline.flops / 1e9:.0f} GFLOP/s, {roofline.bandwidth / 1e9:.1f} GB/s from memory")
    return roofline


def _cpu_flops(threads: int) -> float:
    """The best of several short runs of multiply-adds in registers."""
    rounds, best = 200_000, 0.0
    for _ in range(12):
        start = time.perf_counter()
        done = native.module().probe_fma(rounds, threads)
        best = max(best, 2 * done / (time.perf_counter() - start))
    return best


def _gpu_flops(device: torch.device) -> float:
    """A large matrix product in single precision, without tensor cores."""
    a = torch.randn(4096, 4096, device=device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return 2 * 4096**3 / (median_ms(lambda: a @ a, seconds=0.5) * 1e-3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def triad(device: torch.device, working_set: int) -> float:
    """Bytes per second of a = b + s c over `working_set` bytes in three arrays."""
    a, b, c = torch.ones(3, working_set // 12, device=device)
    return 3 * a.nbytes / (median_ms(lambda: torch.add(b, c, alpha=3.0, out=a), seconds=0.3) * 1e-3)
