"""Streams a motion, a sound, a text, or a microphone to Unreal, Unity, ... as Live Link Face packets, in real time."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, BinaryIO

import numpy as np
import torch
import tyro

from avatar3d import drive as driving
from avatar3d import pipeline
from avatar3d.cli.common import progress_bar, say
from avatar3d.cli.speech_options import SpeechOptions
from avatar3d.export.livelink_udp import parse_address, stream_livelink
from avatar3d.types import Motion

_PIECE = 0.04
"""Seconds of microphone sound that are taken at a time."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Live Link Face out."""

    source: Annotated[str, tyro.conf.Positional]
    """.motion, .csv, .json, .avatar, demo; a sound; text:"..."; or - for raw sound on stdin (mono, 16 bit, little
    endian), as in: arecord -t raw -f S16_LE -r 16000 | avatar3d live - --to 192.168.1.20"""
    to: str
    """HOST or HOST:PORT of the engine; the port is 11111 where it is left out."""
    subject: str = "avatar3d"
    """Name under which the engine lists it."""
    loop: bool = False
    """Again and again, until Ctrl-C."""
    fps: float | None = None
    """Frames per second; the motion's own when left out, 60 for sound and text."""
    rate: int = 16000
    """Samples per second of the sound on stdin."""
    speech: Annotated[SpeechOptions, tyro.conf.arg(name="")] = field(default_factory=SpeechOptions)


def run(arguments: Arguments) -> int:
    """Sends until the source ends."""
    host, port = parse_address(arguments.to)
    motions = _microphone(arguments, sys.stdin.buffer) if arguments.source == "-" else _motion(arguments)
    say(f"{arguments.source} to {host}:{port} as {arguments.subject!r}; Ctrl-C ends it.")
    sent = stream_livelink(motions, host, port, subject=arguments.subject, loop=arguments.loop)
    say(f"{sent} frames sent.")
    return 0


def _motion(arguments: Arguments) -> Motion:
    if not pipeline.is_speech(arguments.source):
        return driving.from_source(arguments.source, fps=arguments.fps)
    with progress_bar() as progress:
        return pipeline.drive_by_speech(arguments.source, arguments.speech.request(), fps=arguments.fps or 60.0,
                                        progress=progress, say=say)[0]  # fmt: skip


def _microphone(arguments: Arguments, stdin: BinaryIO) -> Iterator[Motion]:
    """Pieces of motion as sound comes in; the sound's own pace is the clock."""
    from avatar3d.drive.speech.stream import SpeechStream

    request = pipeline.with_style(arguments.speech.request(), say=say)
    stream = SpeechStream(fps=arguments.fps or 60.0, settings=request.settings)
    size = 2 * max(1, round(_PIECE * arguments.rate))
    while piece := stdin.read(size):
        samples = np.frombuffer(piece[: len(piece) // 2 * 2], "<i2").astype(np.float32) / 32768
        yield stream.push(torch.from_numpy(samples), arguments.rate)
    yield stream.flush()
