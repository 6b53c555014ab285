"""Avatar (and motion) to a file that engines and tools read: .glb .html .obj .ply .spz .csv."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import Output, print_json, say


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Avatar to GLB and others."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """The .avatar file."""
    output: Output
    """What to write; the suffix chooses the format."""
    motion: str | None = None
    """A .motion file (default: the motion that the avatar's footage showed), or `none` for a still."""
    sound: Path | None = None
    """File with the motion's sound, for .html, and for .glb as a .wav beside it (default: the footage or sound that the
    motion was made from, where it is still at hand)."""
    frame: int | None = None
    """Which frame of the motion, for splats: .ply and .spz (default: the first), and .glb, which holds the animated
    mesh where no frame is asked for."""
    json: bool = False
    """Print what was written as JSON."""


def run(arguments: Arguments) -> int:
    """Exports and reports the size."""
    from avatar3d import storage

    storage.check_writable(arguments.output, arguments.avatar, arguments.motion, arguments.sound)
    avatar = pipeline.load_avatar(arguments.avatar)
    written = pipeline.export(
        avatar, arguments.output, motion=arguments.motion, sound=arguments.sound, frame=arguments.frame
    )
    size = written.stat().st_size
    if arguments.json:
        print_json({"file": str(written), "bytes": size})
    else:
        say(f"{written}: {size / 1e6:.1f} MB")
    return 0
