"""One function for every format: the suffix chooses."""

import importlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from avatar3d import storage
from avatar3d.errors import UsageError
from avatar3d.types import Avatar, Motion
from avatar3d.typing import typed

# Each writer is imported when it is called for: its libraries take long to load.
_MESHES = {".obj": "mesh:write_obj", ".ply": "mesh:write_ply"}
_MOTIONS = {
    ".csv": "livelink:write_livelink_csv",
    ".json": "arkit_json:write_arkit_json",
    ".npz": "flame:write_flame_npz",
}
SUFFIXES = (".glb", ".html", *_MESHES, ".spz", *_MOTIONS)
"""What `export` writes."""


@typed
def export(
    avatar: Avatar,
    path: str | Path,
    motion: Motion | str | Path | None = None,
    *,
    sound: Tensor | None = None,
    frame: int | None = None,
) -> Path:
    """Writes an avatar (or its motion) in the format that the suffix names, and reads it back.

    .glb: skinned mesh with 52 morph targets, texture and animation. .html: one page that plays the avatar in a
    browser. .obj, .ply: the neutral identity. .csv: Live Link Face. .json: ARKit coefficients. .npz: FLAME's parameters
    (through the user's FLAME file). An avatar with splats
    also goes, one frame of it, into .ply (in 3D Gaussian splatting's layout), .spz, and, where a frame is asked for,
    .glb (KHR_gaussian_splatting).

    Args:
        avatar: What is exported.
        path: Where to.
        motion: A motion or .motion file; "none" for a still; the avatar's own when left out.
        sound: Of the motion, for .html: mono samples from its first frame on, `SOUND_RATE` a second.
        frame: Of the motion, for splats; the first when left out.

    Returns:
        The path.

    Raises:
        ValueError: an unknown suffix, a motion format and no motion, a frame that does not exist, or a frame of an
            avatar without splats.
        ExportError: the file did not survive being read back. It is not kept.
        FileError: it cannot be written.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"Cannot export to {path.name}: unknown suffix {suffix!r}; known are {', '.join(SUFFIXES)}.")
    splats = suffix in (".ply", ".spz") or (suffix == ".glb" and frame is not None)
    if splats and avatar.gaussians is not None:
        _write_splats(avatar, path, _chosen(avatar, motion), frame or 0)
        return path
    if frame is not None or suffix == ".spz":
        raise UsageError(f"{path.name}: frames of splats go into .ply, .spz and .glb, and of avatars that have splats.")
    if suffix in _MESHES:
        _writer(_MESHES[suffix])(avatar, path)
        return path
    chosen = _chosen(avatar, motion)
    if suffix == ".glb":
        _writer("glb:write_glb")(avatar, path, chosen)
    elif suffix == ".html":
        _writer("html:write_html")(avatar, path, chosen, sound)
    elif chosen is None:
        raise ValueError(f"{path.name} holds a motion, and there is none: the avatar has none of its own; pass one.")
    else:
        _writer(_MOTIONS[suffix])(chosen, path)
    return path


def _writer(place: str) -> Callable:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"avatar3d.export.{module}"), name)


def _write_splats(avatar: Avatar, path: Path, motion: Motion | None, frame: int) -> None:
    from avatar3d.export.splat_frame import cloud_of_frame

    cloud = cloud_of_frame(avatar, motion, frame)
    if path.suffix.lower() == ".ply":
        _writer("splat_ply:write_splat_ply")(cloud, path)
    elif path.suffix.lower() == ".spz":
        _writer("spz:write_spz")(cloud, path)
    else:
        _writer("splat_glb:write_splat_glb")(cloud, path, {"manifest": avatar.manifest, "frame": frame})


def _chosen(avatar: Avatar, motion: Motion | str | Path | None) -> Motion | None:
    if motion is None:
        return avatar.motion
    if isinstance(motion, Motion):
        return motion
    return None if str(motion) == "none" else storage.load(motion, Motion)
