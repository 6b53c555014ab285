"""A source of motion by its name: which reader reads it."""

from pathlib import Path

from avatar3d import storage
from avatar3d.drive.arkit_json import from_arkit_json
from avatar3d.drive.demo import demo_motion
from avatar3d.drive.livelink import from_livelink_csv
from avatar3d.errors import FileError
from avatar3d.models.motion import resample
from avatar3d.types import Avatar, Motion
from avatar3d.typing import typed

_READ_HERE = (".csv", ".json", ".motion", ".avatar")


@typed
def is_motion_source(source: str | Path) -> bool:
    """Whether `from_source` reads it; footage, which has to be tracked, is not."""
    return str(source) == "demo" or Path(source).suffix.lower() in _READ_HERE


@typed
def from_source(source: str | Path, *, fps: float | None = None) -> Motion:
    """A motion from a Live Link Face .csv, ARKit .json, .motion, the motion in an .avatar, or "demo".

    Args:
        source: The file, or "demo".
        fps: Frame rate of the result; the source's own when left out.

    Raises:
        ValueError: a source of another kind.
        FileError: the file is missing or not what its name says.
    """
    if str(source) == "demo":
        return demo_motion() if fps is None else demo_motion(fps)
    readers = {
        ".csv": from_livelink_csv,
        ".json": from_arkit_json,
        ".motion": from_motion_file,
        ".avatar": _from_avatar,
    }
    reader = readers.get(Path(source).suffix.lower())
    if reader is None:
        raise ValueError(f"No motion can be read from {source}; expected {', '.join(_READ_HERE)} or `demo`.")
    motion = reader(source)
    return motion if fps is None else resample(motion, fps)


@typed
def from_motion_file(path: str | Path) -> Motion:
    """Reads a .motion file.

    Raises:
        FileError: there is no such file, or it is not a motion.
    """
    return storage.load(path, Motion)


def _from_avatar(path: str | Path) -> Motion:
    motion = storage.load(path, Avatar).motion
    if motion is None:
        raise FileError(f"{path} carries no motion (it was made from photos or scans); drive it from something else.")
    return motion
