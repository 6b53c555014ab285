"""Footage or a scan of a person to an animatable avatar."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import Output, print_json, progress_bar, say
from avatar3d.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Footage, or a scan, to .avatar."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """A video, a folder of images, or photos. Several photos are one person; several clips are more footage of one
    person, or with --cameras synchronised views. Or a scan: .obj, .ply, .glb, .gltf, .stl, .off, .xyz, .npz;
    and after it others of the same person with expressions."""
    output: Output
    """The .avatar file to write."""
    model: str = "head"
    """head, flame, ict, or a model file."""
    appearance: Literal["mesh", "splats"] = "mesh"
    """mesh: a textured mesh. splats: Gaussian splats on that mesh, photoreal and with hair; takes minutes."""
    quality: Literal["draft", "standard", "high"] = "standard"
    """draft leaves the outline as the landmarks have it and bakes 512 texels; standard refines the outline and bakes
    1024; high bakes 2048 from more frames. Splats are optimised at 256, 512 and at most 1024 pixels."""
    budget: float | None = None
    """Minutes that the optimisation of splats may take; its schedule is shortened to fit."""
    cameras: Path | None = None
    """Calibrated cameras: our JSON, COLMAP text, or OpenCV JSON."""
    mask: Path | None = None
    """A folder of masks in place of our own, white where the person is: for a clip an image for each frame, in the
    order of the numbers in their names; for several clips a folder for each; for photos an image named as each."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    landmarks: Path | None = None
    """68 or 51 landmarks of a scan in iBUG's order, in its units: .npy, .ljson, .json, .pp, .txt. They are found
    without, too."""
    light: Literal["auto", "divide", "keep"] = "auto"
    """Of a scan: divide its light out of its colours, or keep them. auto divides light that comes from a side."""
    face: str | None = None
    """Whom to follow where there are several faces: a number as listed (0 is the largest and steadiest), or X,Y in
    pixels. Default: the largest and steadiest."""
    photometric: bool = False
    """Fit keyframes to their pixels too, not to landmarks alone: a turning head gets truer turns and depth."""
    holdout: int | None = None
    """Keep the last N frames out of the appearance, and report how well splats show them. Default: none for a mesh,
    the last fifth for splats."""
    report: Path | None = None
    """Write a JSON report: frames, residuals, jitter, timings, advice."""
    seed: int = 0
    """Seed of everything random."""
    json: bool = False
    """Print the report on stdout."""


def run(arguments: Arguments) -> int:
    """Fits, saves, reads back, reports."""
    if not arguments.inputs:
        raise UsageError("fit: no input. Give a video, a folder of images, or photos.")
    settings = pipeline.FitSettings(
        model=arguments.model, appearance=arguments.appearance, quality=arguments.quality, cameras=arguments.cameras,
        mask=arguments.mask, device=arguments.device, face=pipeline.parse_face(arguments.face),
        photometric=arguments.photometric,
        holdout=arguments.holdout, minutes=arguments.budget, seed=arguments.seed, landmarks=arguments.landmarks,
        light=arguments.light,
    )  # fmt: skip
    with progress_bar() as progress:
        report = pipeline.fit(arguments.inputs, arguments.output, settings, report=arguments.report,
                              progress=progress, say=say)  # fmt: skip
    if arguments.json:
        print_json(report)
    seconds = sum(report["timings"].values())
    shares = [f"{name} {100 * t / seconds:.0f} %" for name, t in report["timings"].items() if t > seconds / 200]
    spent = f"{seconds:.1f} s ({', '.join(shares)})"
    if "surface" in report:
        face, units = report["surface"], report["units"]
        say(
            f"{arguments.output}: {face['median_mm']:.2f} mm median, {face['p95_mm']:.2f} mm at 95% from the face, "
            f"units {units}, {spent}"
        )
        return 0
    frames = report["frames"]
    say(f"{arguments.output}: {frames['tracked']} of {frames['total']} frames tracked, {spent}")
    return 0
