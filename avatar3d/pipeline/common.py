"""What the parts of the pipeline share."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avatar3d import storage
from avatar3d.errors import UsageError

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
Face = int | tuple[float, float] | None
VIDEO_SUFFIXES = {
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".3gp", ".3g2", ".mpg", ".mpeg", ".wmv",
    ".flv", ".ogv", ".mxf", ".gif",
}  # fmt: skip
SOUND_SUFFIXES = {
    ".wav",
    ".flac",
    ".mp3",
    ".m4a",
    ".aac",
    ".ogg",
    ".oga",
    ".opus",
    ".aif",
    ".aiff",
    ".wma",
    ".amr",
    ".au",
}


def check_fps(fps: float | None) -> None:
    """Whether a motion can have this rate; None is the source's own.

    Raises:
        UsageError: it cannot.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"--fps {fps:g}: expected frames per second, above 0 and up to 1000.")


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Writes the seconds that a block took into `timings`."""
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start


def finite(value: Any) -> Any:
    """The same with None where a number is not finite, which JSON cannot say."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(path: Path | str, report: dict) -> None:
    """Writes a report as JSON, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    with storage.replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(finite(report), indent=2, default=float, allow_nan=False), encoding="utf-8")


def peak_memory() -> float | None:
    """The most memory that this process held, in megabytes; None where the system does not count it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
