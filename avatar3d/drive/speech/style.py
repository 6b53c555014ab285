"""A person's habits of speaking in a few numbers, and their file."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from avatar3d.errors import FileError, FormatError
from avatar3d.storage import replacing
from avatar3d.typing import typed

STYLE_FORMAT = "avatar3d-style"
_RANGES = {
    "mouth": (0.3, 2.0), "jaw": (0.3, 2.0), "asymmetry": (-0.6, 0.6), "smile": (-0.5, 0.5), "blinks": (0.0, 60.0),
    "brows": (0.0, 3.0), "yaw": (0.0, 0.6), "pitch": (0.0, 0.6), "roll": (0.0, 0.6), "pace": (0.2, 4.0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Style:
    """Habits of a person who speaks; the defaults are the average speaker of `perform`."""

    mouth: float = 1.0
    """Amplitude of lips and cheeks, times ours."""
    jaw: float = 1.0
    """Amplitude of the jaw, times ours."""
    asymmetry: float = 0.0
    """How much more the subject's left side of the mouth moves than the right: (left - right) / (left + right)."""
    smile: float = 0.0
    """What the mouth's corners keep while speaking: mouthSmile where positive, mouthFrown where negative."""
    blinks: float = 17.0
    """A minute."""
    brows: float = 1.0
    """Amplitude of the brows, times ours."""
    yaw: float = 0.044
    """Standard deviation of the head's turning, radians."""
    pitch: float = 0.035
    """Of nodding, radians."""
    roll: float = 0.025
    """Of tilting, radians."""
    pace: float = 1.0
    """How fast the head moves, times ours."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"Style: {name}={value:g}; expected {low:g} to {high:g}.")


@typed
def save_style(style: Style, path: str | Path) -> None:
    """Writes a style as JSON.

    Raises:
        FileError: it cannot be written.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps({"format": STYLE_FORMAT, "version": 1, **asdict(style)}, indent=2) + "\n")


@typed
def load_style(path: str | Path) -> Style:
    """Reads a style.

    Raises:
        FileError: there is no such file.
        FormatError: it is not a style.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise FormatError(f"{path} is not a style file: no JSON in it.") from None
    if not isinstance(content, dict) or content.get("format") != STYLE_FORMAT:
        raise FormatError(f"{path} is not a style file; expected JSON with format {STYLE_FORMAT!r}.")
    known = {f.name for f in fields(Style)}
    try:
        return Style(**{name: float(value) for name, value in content.items() if name in known})
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from None
