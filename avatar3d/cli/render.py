"""Draws an avatar: an MP4, or one frame as PNG."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import Output, progress_bar, say


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Avatar to MP4 or PNG."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """The .avatar file."""
    output: Output
    """An .mp4, or a .png for one frame."""
    motion: str | None = None
    """A .motion file (default: the motion that the avatar's footage showed), or `none` for a still."""
    camera: str = "front"
    """front, orbit, track (the footage's own camera), or a cameras.json."""
    background: str = "white"
    """black, white, footage (with --camera track), or #rrggbb."""
    compare: Path | None = None
    """The footage: puts footage, mesh overlay and avatar side by side, the avatar last."""
    footage: Path | None = None
    """The footage for --background footage, where it is no longer where it was."""
    sound: Path | None = None
    """File with the motion's sound (default: the footage or sound that the motion was made from, where it is still at
    hand)."""
    frame: int = 0
    """Which frame a .png shows."""
    size: int = 720
    """Height in pixels for the front and orbit cameras."""
    untextured: bool = False
    """Clay instead of texture or splats: the shape alone."""
    sheet: bool = False
    """A contact sheet to judge the avatar by: with --footage three moments of it, then the shape and the texture from
    five sides, and expressions."""


def run(arguments: Arguments) -> int:
    """Renders and says how fast."""
    from avatar3d import storage

    storage.check_writable(arguments.output, arguments.avatar, arguments.motion, arguments.compare, arguments.footage)
    avatar = pipeline.load_avatar(arguments.avatar)
    if arguments.sheet:
        pipeline.contact_sheet(avatar, arguments.output, footage=arguments.footage)
        say(f"{arguments.output}: contact sheet")
        return 0
    settings = pipeline.RenderSettings(
        camera=arguments.camera, background=arguments.background, compare=arguments.compare, footage=arguments.footage,
        frame=arguments.frame, size=arguments.size, untextured=arguments.untextured,
    )  # fmt: skip
    with progress_bar() as progress:
        result = pipeline.render(avatar, arguments.output, motion=arguments.motion, settings=settings,
                                 sound=arguments.sound, progress=progress)  # fmt: skip
    say(f"{arguments.output}: {result['frames']} frames, {result['width']} x {result['height']}, "
        f"{result['fps']:.1f} drawn per second")  # fmt: skip
    return 0
