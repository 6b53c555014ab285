"""Speed against peers and rooflines, measured in one run on this machine."""

import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from avatar3d import __version__, storage
from avatar3d.cli.common import say
from avatar3d.errors import AvatarError, UsageError
from avatar3d.ops import native

NAMES = ("skin", "track", "fit", "mesh", "ssim", "nearest", "splats", "picture", "stabilize")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Speed against peers and rooflines."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Which benchmarks (default: all): skin, track, fit, mesh, ssim, nearest, splats, picture, stabilize."""
    json: Path | None = None
    """Write the results as JSON."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where ours and the peers run."""
    threads: int | None = None
    """CPU threads; all cores when left out."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured case: medians in milliseconds."""

    bench: str
    pass_: str
    """"forward" or "forward+backward"."""
    case: str
    threads: int
    ours_ms: float
    peers_ms: dict[str, float] = field(default_factory=dict)
    roofline: float | None = None
    """Attainable over achieved time, measured in the same run."""
    extra: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The keys that outside checks read."""
        values = asdict(self)
        values["pass"] = values.pop("pass_")
        return values


def run(arguments: Arguments) -> int:
    """Runs the benchmarks, prints a table, writes JSON."""
    names = arguments.names or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UsageError(f"bench: no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}.")
    if arguments.threads is not None and arguments.threads < 1:
        raise UsageError(f"bench: --threads {arguments.threads}; expected 1 or more.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise AvatarError("bench --device cuda: torch sees no CUDA device here; `avatar3d doctor` says why.")
    storage.check_writable(arguments.json)
    before = torch.get_num_threads()
    torch.set_num_threads(arguments.threads or os.cpu_count() or 1)
    try:
        say(f"{_machine()['cpu']}, {torch.get_num_threads()} threads, {_machine()['instruction_set']}")
        results: list[Result] = []
        for name in names:
            module = importlib.import_module(f"avatar3d.cli.benches.{name}")
            for result in module.measure(torch.device(arguments.device)):
                results.append(result)
                print(_line(result), flush=True)
    finally:
        torch.set_num_threads(before)
    if arguments.json:
        import json

        with storage.replacing(arguments.json) as temporary:
            value = {"machine": _machine(), "results": [r.as_json() for r in results]}
            temporary.write_text(json.dumps(value, indent=1))
    return 0


def median_ms(function: Callable[[], object], *, seconds: float = 1.0, warmup: int = 3) -> float:
    """Median time of a call in milliseconds: warm-up, then as many runs as fit into `seconds`, five at least."""
    for _ in range(warmup):
        function()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - start < seconds and len(times) < 200):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        t = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - t)
    return statistics.median(times) * 1e3


def interleaved_ms(
    functions: dict[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Medians of several functions measured in turn, so that a drift of the machine's speed hits all alike."""
    for function in functions.values():
        function()
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    while len(next(iter(times.values()))) < 5 or time.perf_counter() - start < seconds:
        for name, function in functions.items():
            t = clock()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(clock() - t)
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


def once_ms(function: Callable[[], object]) -> float:
    """One run in milliseconds, of what takes seconds."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def _machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": native.module().isa_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "avatar3d": __version__,
        "system": platform.system(),
    }


def _line(r: Result) -> str:
    peers = "  ".join(f"{name} {ms:.3g} ms ({ms / r.ours_ms:.1f}x)" for name, ms in r.peers_ms.items())
    roofline = f"  {100 * r.roofline:.0f}% of the roofline" if r.roofline else ""
    extra = "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in r.extra.items()
    )
    return f"{r.bench:<6} {r.case:<32} {r.pass_:<17} {r.ours_ms:8.3g} ms  {peers}{roofline}  {extra}".rstrip()
