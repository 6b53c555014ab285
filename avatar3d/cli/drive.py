"""Makes a .motion from what moves or speaks: video, sound, text, meshes, Live Link Face CSV, ARKit JSON, .motion."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import Output, print_json, progress_bar, say
from avatar3d.cli.speech_options import SpeechOptions
from avatar3d.errors import UsageError

if TYPE_CHECKING:
    from avatar3d.types import Motion


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Motion for an avatar."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """The .avatar file that will be driven."""
    source: Annotated[str, tyro.conf.arg(name="from")]
    """Video, sound (.wav, .flac, .mp3, ...), text:"Hello! [nod]", speech:VIDEO (its sound alone), folder or .npz of
    meshes, Live Link Face .csv, ARKit .json, .motion, or `demo` for the built-in motion."""
    output: Output
    """The .motion file to write; the sound that a text became is written beside it as .wav."""
    fps: float | None = None
    """Frame rate of the result; the source's own when left out, 30 for sound and text."""
    face: str | None = None
    """Whom to follow in a video: a number, or X,Y pixels in the first frame."""
    absolute: bool = False
    """Keep the driver's resting face: without it, coefficients are taken relative to the driver's neutral."""
    speech: Annotated[SpeechOptions, tyro.conf.arg(name="")] = field(default_factory=SpeechOptions)
    json: bool = False
    """Print what was written as JSON."""


def run(arguments: Arguments) -> int:
    """Drives, saves, and reads back."""
    from avatar3d import storage
    from avatar3d.types import Motion

    storage.check_writable(arguments.output, arguments.avatar, arguments.source.removeprefix("speech:"))
    if arguments.output.suffix.lower() != ".motion":
        raise UsageError(f"drive: {arguments.output.name}: the output is a .motion file.")
    avatar = pipeline.load_avatar(arguments.avatar)
    if pipeline.is_speech(arguments.source):
        return _speak(arguments)
    if arguments.speech.given:
        raise UsageError(f"{', '.join(arguments.speech.given)}: for sound and text alone, and {arguments.source} is "
                         "neither. The sound of a video is taken by speech:VIDEO.")  # fmt: skip
    with progress_bar() as progress:
        motion = pipeline.drive(avatar, arguments.source, fps=arguments.fps, face=pipeline.parse_face(arguments.face),
                                relative=not arguments.absolute, progress=progress, say=say)  # fmt: skip
    storage.save(arguments.output, motion)
    return _report(arguments, storage.load(arguments.output, Motion))


def _speak(arguments: Arguments) -> int:
    request = arguments.speech.request()
    with progress_bar() as progress:
        if request.style is not None:
            request = pipeline.with_style(request, progress=progress, say=say)
        motion, speech = pipeline.drive_by_speech(arguments.source, request, fps=arguments.fps, progress=progress,
                                                  say=say)  # fmt: skip
    back = pipeline.save_speech(arguments.output, motion, speech)
    if arguments.speech.save_style is not None and request.settings.style is not None:
        pipeline.save_style(request.settings.style, arguments.speech.save_style)
    return _report(arguments, back)


def _report(arguments: Arguments, back: "Motion") -> int:
    from avatar3d.cli.info import describe

    if arguments.json:
        print_json(describe(arguments.output))
    else:
        say(f"{arguments.output}: {back.frames} frames at {back.fps:g} per second from {back.source}")
    return 0
