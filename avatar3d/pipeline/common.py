"""What the parts of the pipeline share."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
Face = int | tuple[float, float] | None
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".3gp"}
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
