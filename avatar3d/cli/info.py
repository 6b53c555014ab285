"""Tells what a file holds: avatar, motion, track, splats, a LAM avatar."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from avatar3d import pipeline, storage
from avatar3d.cli.common import print_json
from avatar3d.errors import FileError
from avatar3d.export.spz import read_spz
from avatar3d.models.splat_cloud import SplatCloud
from avatar3d.models.splat_ply import read_splat_ply
from avatar3d.types import Avatar, Gaussians, Motion, TextureSet, Track


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a file holds."""

    file: Annotated[Path, tyro.conf.Positional]
    """An .avatar, .motion or .track file, splats in .ply or .spz, or the .zip of a LAM avatar."""
    json: bool = False
    """Print JSON."""


def run(arguments: Arguments) -> int:
    """Prints the summary."""
    summary = describe(arguments.file)
    if arguments.json:
        print_json(summary)
    else:
        _print_table(summary)
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Kind, format version, model, frames, rate, counts and manifest of one of our files; count, degree and bounds of
    splats.

    Raises:
        FileError: there is no such file.
        FormatError: it is none of these.
    """
    suffix = path.suffix.lower()
    if suffix in (".ply", ".spz", ".zip") and not path.is_file():
        raise FileError(f"{path} does not exist, or is not a file.")
    if suffix in (".ply", ".spz"):
        cloud = read_splat_ply(path) if suffix == ".ply" else read_spz(path)
        return {"file": str(path), "kind": "splats", "bytes": path.stat().st_size} | _describe_cloud(cloud)
    if suffix == ".zip":
        base = {"file": str(path), "kind": "LAM avatar", "bytes": path.stat().st_size}
        return base | _describe_avatar(pipeline.load_avatar(path))
    header = storage.read_header(path)
    base = {"file": str(path), "kind": header["kind"], "format_version": header["version"],
            "bytes": path.stat().st_size}  # fmt: skip
    value = storage.load(path, storage.KINDS[header["kind"]])
    if isinstance(value, Avatar):
        return base | _describe_avatar(value)
    if isinstance(value, Motion):
        return base | _describe_motion(value)
    assert isinstance(value, Track)
    frames = {"frames": len(value.tracked), "tracked": int(value.tracked.sum()), "dropped": len(value.dropped)}
    return base | {"model": value.model, "fps": value.fps, "cuts": list(value.cuts)} | frames


def _describe_avatar(avatar: Avatar) -> dict[str, Any]:
    rig = avatar.rig
    counts = {"vertices": len(rig.neutral), "faces": len(rig.faces), "shapes": len(rig.shape_names),
              "joints": len(rig.joint_names)}  # fmt: skip
    splats = avatar.gaussians
    if splats is not None:
        counts |= {"splats": splats.count}
    looks = avatar.appearance
    appearance = {"kind": "none"}
    if isinstance(looks, TextureSet):
        appearance = {"kind": "texture", "size": list(looks.albedo.shape[:2])}
    lower, upper = avatar.bounds
    return {
        "model": avatar.model,
        "frames": avatar.motion.frames if avatar.motion else 0,
        "fps": avatar.motion.fps if avatar.motion else None,
        "counts": counts,
        "appearance": appearance,
        "splats": None if splats is None else _describe_gaussians(splats),
        "bounds_m": [[round(x, 4) for x in corner.tolist()] for corner in (lower, upper)],
        "manifest": avatar.manifest,
    }


def _describe_gaussians(splats: Gaussians) -> dict[str, Any]:
    groups = {name: int((splats.group == i).sum()) for i, name in enumerate(splats.group_names)}
    return {
        "count": splats.count,
        "bytes": storage.tensor_bytes(splats),
        "sh_degree": splats.degree,
        "components": 0 if splats.mixing is None else len(splats.mixing),
        "groups": {name: count for name, count in groups.items() if count},
    }


def _describe_cloud(cloud: SplatCloud) -> dict[str, Any]:
    lower, upper = cloud.bounds
    bounds = [[round(float(x), 4) for x in corner] for corner in (lower, upper)] if len(cloud.means) else None
    return {"counts": {"splats": len(cloud.means)}, "sh_degree": cloud.degree, "bounds_m": bounds}


def _describe_motion(motion: Motion) -> dict[str, Any]:
    active = int((motion.expression.abs().amax(0) > 1e-3).sum()) if motion.frames else 0
    return {
        "model": None,
        "frames": motion.frames,
        "fps": motion.fps,
        "duration": motion.duration,
        "counts": {"expression": motion.expression.shape[1], "active": active, "joints": len(motion.rotations)},
        "joints": sorted(motion.rotations),
        "source": motion.source,
        "manifest": {"source": motion.source},
    }


def _print_table(summary: dict[str, Any], indent: str = "") -> None:
    for key, value in summary.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_table(value, indent + "  ")
        else:
            print(f"{indent}{key}: {value}")
