"""Head motion out of moving meshes: the same meshes with every skull in one place, and the motion."""

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import print_json, progress_bar, say


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Stabilises meshes of one person in one topology."""

    meshes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """OBJ, PLY or GLB files, a folder of them, or an .npz with `vertices` [t, v, 3]."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")]
    """The folder to write: the same names, motion.motion, motion.png and stabilize.json."""
    method: Literal["learned", "full", "upper", "skull", "robust"] = "learned"
    """How the skull is found; full, upper, skull and robust are Procrustes baselines."""
    anchor: int = 0
    """Number of the mesh that stays where it is."""
    fps: float | None = None
    """Rate of the frames; the file's own, or 30."""
    no_smooth: bool = False
    """Leave out the weak prior on the acceleration between frames."""
    json: bool = False
    """Print the report as JSON."""


def run(arguments: Arguments) -> int:
    """Stabilises, writes, reads back."""
    from avatar3d.pipeline.stabilizing import REPORT

    settings = pipeline.StabilizeSettings(method=arguments.method, anchor=arguments.anchor, fps=arguments.fps,
                                          smooth=not arguments.no_smooth)  # fmt: skip
    with progress_bar() as progress:
        found = pipeline.stabilize(arguments.meshes, arguments.output, settings=settings, progress=progress, say=say)
    report = json_format.loads((arguments.output / REPORT).read_text())
    if arguments.json:
        print_json(report)
        return 0
    turned = max(frame["rotation_deg"] for frame in report["frames"])
    worst = min(report["frames"], key=lambda frame: frame["confidence"])
    unit = report["units"]["name"]
    say(
        f"{arguments.output}: {len(report['frames'])} meshes in {unit}, {found.pairs} pairs compared; the "
        f"head turns by up to {turned:.2f} degrees, lowest confidence {worst['confidence']:.2f} ({worst['name']})."
    )
    return 0
