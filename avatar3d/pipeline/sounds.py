"""The sound that belongs to a motion: found again where a motion is exported or filmed."""

from pathlib import Path

from torch import Tensor

from avatar3d import capture
from avatar3d.errors import CaptureError
from avatar3d.pipeline.common import SOUND_SUFFIXES, VIDEO_SUFFIXES
from avatar3d.sound import load_audio
from avatar3d.types import Avatar, Motion


def find_sound(
    avatar: Avatar, motion: Motion, asked: Motion | Path | str | None, given: Path | str | None
) -> tuple[Path, float] | None:
    """File of a motion's sound, and the time on its clock that belongs to the motion's first frame.

    Args:
        avatar: Whose footage may be what sounds.
        motion: What sounds.
        asked: How the motion was named; its sound may lie beside its file.
        given: A file that was named.

    Returns:
        None where the motion has no sound, or its file is no longer at hand.

    Raises:
        CaptureError: `given` cannot be read, or has no sound in it.
    """
    if given is not None:
        return _read(Path(given))
    own = motion is avatar.motion and avatar.footage is not None
    sources = avatar.footage.sources if own and avatar.footage else (motion.source,)
    if len(sources) != 1 or not sources[0]:
        return None
    places = [Path(sources[0])]
    if isinstance(asked, (str, Path)):
        places.append(Path(asked).parent / Path(sources[0]).name)
    for path in places:
        try:
            if path.is_file():
                return _read(path)
        except (CaptureError, OSError):
            continue  # the motion's source is no sound
    return None


def sound_samples(found: tuple[Path, float] | None, rate: int) -> Tensor | None:
    """A sound that was found, mono, from the motion's first frame on."""
    return None if found is None else load_audio(found[0], rate, found[1])


def _read(path: Path) -> tuple[Path, float]:
    """The file itself, or a video's sound file with its start.

    Raises:
        CaptureError: there is no sound in it.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        view = capture.open_capture(path).views[0]
        if view.audio is None:
            raise CaptureError(f"{path} has no sound in it.")
        return Path(view.audio), view.audio_start
    if path.suffix.lower() not in SOUND_SUFFIXES:
        load_audio(path, 8000)
    return path, 0.0


def sound_of_footage(path: Path, rate: int) -> Tensor:
    """The sound of a clip from its first frame on: it may begin elsewhere on the file's clock.

    Raises:
        CaptureError: there is none.
    """
    view = capture.open_capture(path).views[0]
    if view.audio is None:
        raise CaptureError(f"{path} has no sound in it.")
    return load_audio(view.audio, rate, view.audio_start)
