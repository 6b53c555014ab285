"""Makes a .motion from what moves: a video, a Live Link Face CSV, ARKit JSON, another .motion, or `demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatar3d import pipeline, storage
from avatar3d.cli.common import Output, print_json, progress_bar, say
from avatar3d.cli.info import describe
from avatar3d.types import Motion


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Motion for an avatar."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """The .avatar file that will be driven."""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """Video, folder or .npz of meshes, Live Link Face .csv, ARKit .json, .motion, or `demo` for the built-in motion."""
    output: Output
    """The .motion file to write."""
    fps: float | None = None
    """Frame rate of the result; the source's own when left out."""
    face: str | None = None
    """Whom to follow in a video: a number, or X,Y pixels in the first frame."""
    absolute: bool = False
    """Keep the driver's resting face: without it, coefficients are taken relative to the driver's neutral."""
    json: bool = False
    """Print what was written as JSON."""


def run(arguments: Arguments) -> int:
    """Drives, saves, and reads back."""
    avatar = pipeline.load_avatar(arguments.avatar)
    with progress_bar() as progress:
        motion = pipeline.drive(avatar, arguments.source, fps=arguments.fps, face=pipeline.parse_face(arguments.face),
                                relative=not arguments.absolute, progress=progress, say=say)  # fmt: skip
    storage.save(arguments.output, motion)
    back = storage.load(arguments.output, Motion)
    if arguments.json:
        print_json(describe(arguments.output))
    else:
        say(f"{arguments.output}: {back.frames} frames at {back.fps:g} per second from {back.source}")
    return 0
