"""A whole fit of real footage: wall time, frames per second end to end, and what each stage takes of it."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from avatar3d import capture, pipeline
from avatar3d.cli.bench import Result
from avatar3d.cli.benches.footage import test_data
from avatar3d.cli.common import say
from avatar3d.pipeline import FitSettings

CLIP = "videos/selfie_d13_man_glasses.mp4"


def measure(device: torch.device) -> Iterator[Result]:
    """`fit --quality draft --appearance mesh` of a 720p phone clip; of the packaged 360p clip where that is absent."""
    path = test_data(CLIP)
    if path is None:
        path = pipeline.demo_clip()
        say(f"bench fit: no {CLIP} in $AVATAR3D_TEST_DATA; the packaged clip, which is 360p")
    view = capture.open_capture(path).views[0]
    settings = FitSettings(quality="draft", appearance="mesh", device="cuda" if device.type == "cuda" else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        begin, processor = time.perf_counter(), time.process_time()
        report = pipeline.fit([path], Path(folder) / "bench.avatar", settings)
        seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    frames = report["frames"]["total"]
    spent = sum(report["timings"].values())
    shares = {f"{name}_%": 100 * value / spent for name, value in report["timings"].items()}
    yield Result(
        bench="fit", pass_="forward", case=f"draft mesh, {view.width}x{view.height}, {frames} frames",
        threads=torch.get_num_threads(), ours_ms=1e3 * seconds,
        extra={"frames_per_s": frames / seconds, "busy_cores": processor / seconds, **shares},
    )  # fmt: skip
