"""Footage to avatar: capture, track, reconstruct."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from avatar3d import __version__, capture, models, storage
from avatar3d import appearance as looks
from avatar3d.appearance import SplatConfig
from avatar3d.appearance.scan_light import ScanLight
from avatar3d.errors import AvatarError, FileError, UsageError
from avatar3d.models.linear import LinearModel
from avatar3d.pipeline.common import Face, Progress, Say, peak_memory, timed, write_report
from avatar3d.pipeline.judging import splat_report
from avatar3d.pipeline.scanning import fit_scan, is_scan
from avatar3d.track import TrackConfig
from avatar3d.track import track as track_capture
from avatar3d.track.slices import Slices
from avatar3d.types import Avatar, Track
from avatar3d.types.capture import Capture


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How footage, or a scan, becomes an avatar."""

    model: str = "head"
    appearance: Literal["mesh", "splats"] = "mesh"
    quality: Literal["draft", "standard", "high"] = "standard"
    cameras: Path | None = None
    mask: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    face: Face = None
    photometric: bool = False
    """Fit keyframes to their pixels too."""
    holdout: int | None = None
    """None: nothing for a mesh, the last fifth for splats."""
    minutes: float | None = None
    seed: int = 0
    landmarks: Path | None = None
    """Of a scan."""
    light: ScanLight = "auto"
    """Of a scan: whether it is divided out of its colours."""


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
    """Footage, or a scan, to an `.avatar` file, checked by reading it back.

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
        raise UsageError(f"fit: {output.name}: the output is an .avatar file.")
    if settings.mask is not None and settings.appearance == "mesh":
        raise UsageError("fit: --mask says where splats are fitted, and --appearance mesh has none. Leave it out.")
    given = (*inputs, settings.model, settings.cameras, settings.mask, settings.landmarks)
    storage.check_writable(output, *given)
    storage.check_writable(report, *given)
    if report is not None and Path(report).absolute() == output.absolute():
        raise UsageError(f"fit: {output} is the output and the report. Name another file for one of them.")
    if settings.holdout is not None and settings.holdout < 0:
        raise UsageError(f"fit: --holdout {settings.holdout}; expected a number of frames, 0 or more.")
    if not 0 <= settings.seed < 2**63:
        raise UsageError(f"fit: --seed {settings.seed}; expected a number from 0 to 2^63 - 1.")
    if settings.minutes is not None and not settings.minutes > 0:
        raise UsageError(f"fit: --budget {settings.minutes:g}; expected minutes above 0.")
    _check_device(settings.device)
    torch.manual_seed(settings.seed)
    if any(is_scan(item) for item in inputs):
        return _fit_scan(inputs, output, settings, report, progress, say)
    if settings.landmarks is not None:
        raise UsageError("fit: --landmarks are those of a scan, and footage was given. Leave them out.")
    timings: dict[str, float] = {}
    notes: list[str] = []

    def tell(line: str) -> None:
        if line not in notes:
            notes.append(line)
            say(line)

    with timed(timings, "open"):
        footage = capture.open_capture(*inputs, cameras=settings.cameras)
        if settings.mask is not None:
            footage = capture.with_masks(footage, settings.mask)
        model = models.load(settings.model)
    for line in footage.warnings:
        tell(line)
    frames = (
        max(view.frame_count for view in footage.views)
        if footage.synchronised
        else sum(view.frame_count for view in footage.views)
    )
    if settings.holdout is not None and settings.holdout >= frames > 0:
        raise UsageError(f"fit: --holdout {settings.holdout} of {frames} frames leaves none to make the avatar of.")
    checkpoint = output.with_name(f".{output.stem}.checkpoint.track")
    key = _key(inputs, settings)
    with timed(timings, "track"):
        tracked = _resume(checkpoint, key)
        slices = Slices(output.with_name(f".{output.stem}.checkpoint.detections"), key)
        if tracked is None:
            with _removed_on_failure(slices):
                tracked = track(
                    footage, model, config=TrackConfig(photometric=settings.photometric), face=settings.face,
                    slices=slices, progress=progress, say=tell,
                )  # fmt: skip
                storage.save(checkpoint, _with_key(tracked, key))
        else:
            tell(f"going on from {checkpoint.name}: tracking is done")
        slices.remove()
    total = len(tracked.tracked)
    splats = settings.appearance == "splats"
    holdout = (total // 5 if splats else 0) if settings.holdout is None else settings.holdout
    with timed(timings, "appearance"):
        avatar = looks.reconstruct(
            footage, tracked, model, holdout=holdout, progress=progress, **QUALITY[settings.quality]
        )
    extra: dict = {}
    splat_state = output.with_name(f".{output.stem}.checkpoint.splats")
    if splats:
        with timed(timings, "splats"):
            config = replace(looks.SPLAT_QUALITY[settings.quality], minutes=settings.minutes)
            avatar = looks.add_splats(
                avatar, footage, tracked.tracked, config, holdout=holdout, seed=settings.seed, state=splat_state,
                key=f"{key}|{config}|{holdout}", preview=output.with_name(f"{output.stem}.checkpoint.png"),
                progress=progress, say=tell,
            )  # fmt: skip
        if not avatar.manifest["appearance"]["finished"]:
            storage.save(output, avatar)
            tell(f"{output}: the splats so far, after step {avatar.manifest['appearance']['steps_done']}")
            raise KeyboardInterrupt
        with timed(timings, "holdout"):
            extra = splat_report(avatar, footage, holdout, config.size)
    for line in footage.warnings:
        tell(line)
    with timed(timings, "save"):
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
        write_report(report, result)
    return result


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
    appearance: Literal["mesh", "splats"] = "mesh",
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
        appearance: "mesh": a texture. "splats": Gaussian splats on that mesh too.
        texture_size: Side of the texture, a multiple of 64.
        holdout: The last frames of the footage, kept out of the appearance.
        splats: How splats are optimised; the standard preset when left out.
        progress: Called with stage, done, total.
    """
    model = tracked.model if model is None else model
    loaded = models.load(model) if isinstance(model, str) else model
    avatar = looks.reconstruct(footage, tracked, loaded, texture_size=texture_size, holdout=holdout, progress=progress)
    if appearance == "mesh":
        return avatar
    splats = splats or looks.SPLAT_QUALITY["standard"]
    return looks.add_splats(avatar, footage, tracked.tracked, splats, holdout=holdout, progress=progress)


def _fit_scan(
    inputs: Sequence[Path | str], output: Path, settings: FitSettings, report: Path | None, progress: Progress | None,
    say: Say,
) -> dict:  # fmt: skip
    footage = [Path(item).name for item in inputs if not is_scan(item)]
    if footage:
        raise UsageError(f"fit: {footage[0]} is no scan, and others of the inputs are; give one or the other.")
    given = {"--cameras": settings.cameras, "--mask": settings.mask, "--face": settings.face}
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"fit: {name} is for footage, and {Path(inputs[0]).name} is a scan. Leave it out.")
    if settings.appearance != "mesh":
        raise UsageError("fit: a scan becomes a textured mesh; --appearance splats is for footage. Leave it out.")
    return fit_scan(
        inputs[0], output, expressions=inputs[1:], model=settings.model, landmarks=settings.landmarks,
        texture_size=QUALITY[settings.quality]["texture_size"], light=settings.light, seed=settings.seed, report=report,
        progress=progress, say=say,
    )  # fmt: skip


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise AvatarError("--device cuda: torch sees no CUDA device here. Use --device auto, or see `avatar3d doctor`.")


def _key(inputs: Sequence[Path | str], settings: FitSettings) -> str:
    """Changes with the footage, with what tracking depends on, and with the version."""
    parts: list[object] = [__version__, settings.model, str(settings.cameras), settings.face, settings.seed]
    parts.append(settings.photometric)
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
    stages = {**timings, **detail}
    if detail:
        stages.pop("track", None)
    return {**report, "timings": {k: round(v, 3) for k, v in stages.items()}, "memory": {"peak_mb": peak_memory()}}
