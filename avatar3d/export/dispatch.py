"""One function for every format: the suffix chooses."""

from pathlib import Path

from torch import Tensor

from avatar3d import storage
from avatar3d.export.arkit_json import write_arkit_json
from avatar3d.export.glb import write_glb
from avatar3d.export.html import write_html
from avatar3d.export.livelink import write_livelink_csv
from avatar3d.export.mesh import write_obj, write_ply
from avatar3d.types import Avatar, Motion
from avatar3d.typing import typed

_MESHES = {".obj": write_obj, ".ply": write_ply}
_MOTIONS = {".csv": write_livelink_csv, ".json": write_arkit_json}
SUFFIXES = (".glb", ".html", *_MESHES, *_MOTIONS)
"""What `export` writes."""


@typed
def export(
    avatar: Avatar, path: str | Path, motion: Motion | str | Path | None = None, *, sound: Tensor | None = None
) -> Path:
    """Writes an avatar (or its motion) in the format that the suffix names, and reads it back.

    .glb: skinned mesh with 52 morph targets, texture and animation. .html: one page that plays the avatar in a
    browser. .obj, .ply: the neutral identity. .csv: Live Link Face. .json: ARKit coefficients.

    Args:
        avatar: What is exported.
        path: Where to.
        motion: A motion or .motion file; "none" for a still; the avatar's own when left out.
        sound: Of the motion, for .html: mono samples from its first frame on, `SOUND_RATE` a second.

    Returns:
        The path.

    Raises:
        ValueError: an unknown suffix, or a motion format and no motion.
        ExportError: the file did not survive being read back. It is not kept.
        FileError: it cannot be written.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"Cannot export to {path.name}: unknown suffix {suffix!r}; known are {', '.join(SUFFIXES)}.")
    if suffix in _MESHES:
        _MESHES[suffix](avatar, path)
        return path
    chosen = _chosen(avatar, motion)
    if suffix == ".glb":
        write_glb(avatar, path, chosen)
    elif suffix == ".html":
        write_html(avatar, path, chosen, sound)
    elif chosen is None:
        raise ValueError(f"{path.name} holds a motion, and there is none: the avatar has none of its own; pass one.")
    else:
        _MOTIONS[suffix](chosen, path)
    return path


def _chosen(avatar: Avatar, motion: Motion | str | Path | None) -> Motion | None:
    if motion is None:
        return avatar.motion
    if isinstance(motion, Motion):
        return motion
    return None if str(motion) == "none" else storage.load(motion, Motion)
