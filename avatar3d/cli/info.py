"""Tells what a file holds: avatar, motion, track."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from avatar3d import storage
from avatar3d.cli.common import print_json
from avatar3d.types import Avatar, Motion, TextureSet, Track


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a file holds."""

    file: Annotated[Path, tyro.conf.Positional]
    """An .avatar, .motion or .track file."""
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
    """Kind, format version, model, frames, rate, counts and manifest of one of our files.

    Raises:
        FormatError: it is not one of our files.
    """
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
        "bounds_m": [[round(x, 4) for x in corner.tolist()] for corner in (lower, upper)],
        "manifest": avatar.manifest,
    }


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
