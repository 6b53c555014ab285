"""Speech and text as what drives: settings, styles from clips, edits, and the sound beside the motion."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from avatar3d import capture, models, storage
from avatar3d.drive.speech.description import describe
from avatar3d.drive.speech.editing import edit, read_edits
from avatar3d.drive.speech.from_text import from_text
from avatar3d.drive.speech.learn_style import learn_style
from avatar3d.drive.speech.phones import Speech
from avatar3d.drive.speech.prosody import SAMPLE_RATE
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.style import Style, load_style, save_style
from avatar3d.export.sound import wav_beside, write_wav
from avatar3d.models.motion import track_to_motion
from avatar3d.models.rig import build_rig
from avatar3d.pipeline.common import SOUND_SUFFIXES, VIDEO_SUFFIXES, Progress, Say, check_fps
from avatar3d.pipeline.fitting import track
from avatar3d.pipeline.sounds import sound_of_footage
from avatar3d.sound import load_audio
from avatar3d.types import Motion

__all__ = ["SpeechRequest", "drive_by_speech", "is_speech", "save_speech", "save_style", "with_style"]
TEXT, SPEECH = "text:", "speech:"


@dataclass(frozen=True, kw_only=True)
class SpeechRequest:
    """How speech or text shall drive."""

    settings: SpeechSettings = field(default_factory=SpeechSettings)
    style: Path | None = None
    """A .style file, or a clip of some ten seconds of the person who speaks."""
    edits: Path | None = None
    """JSON with keyframes and regions; see `drive.speech.editing.read_edits`."""
    language: str = "en"
    """Of a text; a code that espeak-ng knows."""
    voice: str = "auto"
    """Of a text: auto, espeak-ng, flite[:NAME], piper:NAME."""
    speed: float = 1.0
    pitch: float = 1.0
    hear: Literal["network", "recogniser"] = "network"
    """What hears a sound; see `drive.from_speech`."""
    words: str | None = None
    """What a sound says, in English, where it is known."""


def is_speech(source: str) -> bool:
    """Whether a source drives by what is said: a text, a sound file, or `speech:` before a video."""
    return source.startswith((TEXT, SPEECH)) or Path(source).suffix.lower() in SOUND_SUFFIXES


def drive_by_speech(
    source: str,
    request: SpeechRequest | None = None,
    *,
    fps: float | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> tuple[Motion, Speech | None]:
    """Motion from `text:...`, a sound file, or `speech:` and a video whose sound it is.

    Args:
        source: What drives.
        request: How.
        fps: Frames per second; 30 when left out.
        progress: Called with stage, done, total.
        say: Called with what a person should know.

    Returns:
        The motion, and the sound that a text became.

    Raises:
        ValueError: nothing to say, or a wrong value.
        CaptureError: the sound cannot be read.
        DependencyError, AvatarError: no voice.
    """
    check_fps(fps)
    request = request or SpeechRequest()
    unknown = describe(request.settings.description).unknown
    if unknown:
        say(f"The description's {_quoted(unknown)} mean nothing to the table of docs/speech.md; the rest is acted.")
    settings, rate, speech = with_style(request, progress=progress, say=say).settings, fps or 30.0, None
    if source.startswith(TEXT):
        motion, speech = from_text(source[len(TEXT) :], settings, language=request.language, voice=request.voice,
                                   speed=request.speed, pitch=request.pitch, fps=rate)  # fmt: skip
    else:
        from avatar3d.drive.speech.from_speech import from_speech

        path = source.removeprefix(SPEECH)
        is_video = Path(path).suffix.lower() in VIDEO_SUFFIXES
        samples = (sound_of_footage if is_video else load_audio)(Path(path), SAMPLE_RATE)
        motion = from_speech(samples, fps=rate, settings=settings, hear=request.hear, words=request.words)
        motion = replace(motion, source=path)
    if request.edits is not None:
        keyframes, regions = read_edits(request.edits)
        motion = edit(motion, keyframes, regions)
    return motion, speech


def with_style(
    request: SpeechRequest, *, progress: Progress | None = None, say: Say = lambda line: None
) -> SpeechRequest:
    """The request with the style of its clip or file among its settings.

    Raises:
        FileError, FormatError: not a style.
        CaptureError: a clip without sound.
        TrackingError: less than two seconds of speech.
    """
    if request.style is None:
        return request
    style = _style_of(request.style, progress, say)
    return replace(request, style=None, settings=replace(request.settings, style=style))


def save_speech(output: Path, motion: Motion, speech: Speech | None) -> Motion:
    """Saves a motion, and the sound that a text became beside it: as .wav of that name, or as `wav_beside` says.

    Returns:
        The motion as it was read back; its source names the sound.
    """
    sound = wav_beside(output)
    if speech is None:
        storage.save(output, motion)
        return storage.load(output, Motion)
    write_wav(sound, speech.samples, speech.rate)
    try:
        storage.save(output, replace(motion, source=sound.name))
        return storage.load(output, Motion)
    except BaseException:
        sound.unlink(missing_ok=True)
        raise


def _style_of(path: Path, progress: Progress | None, say: Say) -> Style:
    """A style from its file, or learnt from a clip of someone who speaks."""
    from avatar3d.drive.speech.mouth import Mouth

    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return load_style(path)
    samples = sound_of_footage(path, SAMPLE_RATE)
    model = models.load("head")
    tracked = track(capture.open_capture(path), model, progress=progress, say=say)
    motion = track_to_motion(tracked, build_rig(model, tracked.identity, tracked.offsets))
    mouth = Mouth()
    curves = torch.cat([mouth.push(samples).curves, mouth.flush().curves])
    style = learn_style(motion, samples, curves)
    say(f"Style of {path.name}: mouth {style.mouth:.2f}, jaw {style.jaw:.2f}, asymmetry {style.asymmetry:+.2f}, "
        f"{style.blinks:.0f} blinks a minute, head {style.pace:.2f} times as fast as usual.")  # fmt: skip
    return style


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(repr(word) for word in words)
