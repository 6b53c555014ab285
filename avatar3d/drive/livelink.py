"""Live Link Face CSV -> Motion."""

import csv
import re
from pathlib import Path

import numpy as np
import torch

from avatar3d.drive.timing import frames_on_a_grid
from avatar3d.errors import FileError, FormatError
from avatar3d.models.livelink import (
    ANGLE_COLUMNS,
    COLUMNS,
    GAZE_PITCH,
    GAZE_YAW,
    TIMECODE_BASE,
    head_matrix,
)
from avatar3d.models.motion import head_joint_rotations
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion
from avatar3d.typing import typed

_TIMECODE = re.compile(r"^\s*(\d{1,2}):(\d{1,2}):(\d{1,2})(?:[:;](\d+(?:\.\d+)?)|(\.\d+))?\s*$")
_KNOWN_BASES = (24, 25, 30, 48, 50, 60, 120)


@typed
def from_livelink_csv(path: str | Path) -> Motion:
    """Reads a recording of the Live Link Face app, or of one of the programs that write its columns.

    Time comes from the timecodes: their base is found where seconds change (the app counts 60 per second even when
    it records 30). Frames that the recording lacks are interpolated and have confidence 0. Head angles are shared
    evenly by neck and head; the eyes' angles only restate the eyeLook coefficients, and stand in where those are
    empty.

    Raises:
        FileError: there is no such file.
        FormatError: not a Live Link Face CSV, or one with damaged rows.
    """
    path = Path(path)
    header, rows = _read(path)
    values = _numbers(path, header, rows)
    index = {name.strip().lower(): i for i, name in enumerate(header)}
    times = _seconds(path, [row[0] for row in rows])
    fps, frame, first, last, weight = frames_on_a_grid(times, str(path))

    def on_grid(columns: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((1 - weight)[:, None] * columns[first] + weight[:, None] * columns[last])

    expression = on_grid(np.stack([values[:, index[name.lower()]] for name in ARKIT_NAMES], 1))
    rotations: dict[str, torch.Tensor] = {}
    if all(name.lower() in index for name in ANGLE_COLUMNS):
        angles = on_grid(np.stack([values[:, index[name.lower()]] for name in ANGLE_COLUMNS], 1))
        if angles[:, :3].any():
            rotations = head_joint_rotations(head_matrix(angles[:, :3]))
        if not expression[:, [ARKIT_INDEX[name] for name in ARKIT_NAMES if "Look" in name]].any():
            _gaze_from_angles(expression, angles)
    confidence = torch.zeros(len(first))
    confidence[torch.from_numpy(frame)] = 1.0
    return Motion(fps=fps, expression=expression.float(), rotations=rotations, confidence=confidence, source=path.name)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise FileError(f"{path} does not exist, or is not a file.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is not a CSV text file: {error}.") from error
    names = {cell.strip().lower() for cell in rows[0]} if rows else set()
    missing = [name for name in COLUMNS[2:54] if name.lower() not in names]
    if missing or rows[0][0].strip().lower() != "timecode":
        what = f"column {missing[0]} is missing" if missing else "its first column is not Timecode"
        raise FormatError(f"{path} is not a Live Link Face CSV: {what}. Expected Timecode, BlendShapeCount, 52 shapes.")
    if len(rows) < 2:
        raise FormatError(f"{path} has a header and no frames. Record it again.")
    return rows[0], rows[1:]


def _numbers(path: Path, header: list[str], rows: list[list[str]]) -> np.ndarray:
    """All cells but the timecodes, which become 0."""
    for number, row in enumerate(rows, 2):
        if len(row) < len(header):
            raise FormatError(f"{path}, line {number}: {len(row)} cells where the header has {len(header)}; truncated?")
    try:
        values = np.array([[0.0, *map(float, row[1 : len(header)])] for row in rows])
    except ValueError as error:
        raise FormatError(f"{path}: a cell is not a number ({error}).") from error
    if not np.isfinite(values).all():
        raise FormatError(f"{path}, line {int(np.argwhere(~np.isfinite(values))[0, 0]) + 2}: not a finite number.")
    return values


def _seconds(path: Path, timecodes: list[str]) -> np.ndarray:
    """Timecodes HH:MM:SS:FF.fff (FF counts in the timecode's base) or HH:MM:SS.fff to seconds from the first."""
    matches = [_TIMECODE.match(code) for code in timecodes]
    if None in matches:
        bad = matches.index(None)
        raise FormatError(f"{path}, line {bad + 2}: timecode {timecodes[bad]!r}; expected HH:MM:SS:FF.fff.")
    parts = [m.groups() for m in matches if m]
    whole = np.array([int(h) * 3600 + int(m) * 60 + int(s) for h, m, s, _, _ in parts], dtype=np.float64)
    whole += 86400.0 * np.concatenate([[0], np.cumsum(np.diff(whole) < -43200)])  # past midnight
    frames = np.array([float(f) if f else 0.0 for *_, f, _ in parts])
    seconds = whole + frames / _timecode_base(whole, frames) + np.array([float(x) if x else 0.0 for *_, x in parts])
    return seconds - seconds[0]


def _timecode_base(whole: np.ndarray, frames: np.ndarray) -> float:
    """Frames per second that the timecode counts in: what it drops by at a new second, plus the usual step."""
    steps, seconds = np.diff(frames), np.diff(whole)
    if not (seconds == 1).any() or not (seconds == 0).any():
        return TIMECODE_BASE
    base = np.median(np.median(steps[seconds == 0]) - steps[seconds == 1])
    nearest = min(_KNOWN_BASES, key=lambda known: abs(known - base))
    return nearest if abs(nearest - base) < 0.06 * nearest and frames.max() < nearest else TIMECODE_BASE


def _gaze_from_angles(expression: torch.Tensor, angles: torch.Tensor) -> None:
    """Fills the eyeLook coefficients from the eyes' angles, in place."""
    for side, column, outwards in (("Left", 3, -1.0), ("Right", 6, 1.0)):
        yaw, pitch = angles[:, column] / GAZE_YAW, angles[:, column + 1] / GAZE_PITCH
        parts = {"Out": outwards * yaw, "In": -outwards * yaw, "Down": pitch, "Up": -pitch}
        for name, value in parts.items():
            expression[:, ARKIT_INDEX[f"eyeLook{name}{side}"]] = value.clamp(0, 1)
