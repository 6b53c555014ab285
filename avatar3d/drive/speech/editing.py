"""What a person fixes in a motion, and the rest filled in around it: keyframes, and stretches kept from another take.

Fixed values are met exactly. Around them the difference to what was generated fades within `blend` seconds, so the
generated detail stays and nothing jumps.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from avatar3d.drive.source import from_motion_file
from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.models.livelink import head_angles, head_matrix
from avatar3d.models.motion import head_joint_rotations, head_rotation, resample
from avatar3d.types import ARKIT_NAMES, Motion
from avatar3d.typing import typed

HEAD_CURVES = ("headYaw", "headPitch", "headRoll")
"""The head's angles in radians: to the subject's left, up, top to the subject's right."""
CURVES = (*ARKIT_NAMES, *HEAD_CURVES)
_INDEX = {name: i for i, name in enumerate(CURVES)}
_GROUPS = {
    "mouth": ("mouth*", "jaw*", "cheekPuff", "tongueOut"), "eyes": ("eye*",), "brows": ("brow*",),
    "upper": ("eye*", "brow*", "cheekSquint*"), "head": ("head*",), "all": ("*",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """Values of some curves at a time."""

    time: float
    """Seconds."""
    values: dict[str, float]
    """By name: ARKit's, or one of `HEAD_CURVES`."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A stretch of some curves that is kept from another motion, or held at values."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    curves: tuple[str, ...] = ("all",)
    """Names, patterns ("brow*"), or the groups mouth, eyes, brows, upper, head, all."""
    motion: Motion | None = None
    """The take that is kept, on the same clock; None with `values`."""
    values: dict[str, float] | None = None
    """What is held; names as in a keyframe."""


@typed
def edit(
    motion: Motion, keyframes: Sequence[Keyframe] = (), regions: Sequence[Region] = (), *, blend: float | int = 0.25
) -> Motion:
    """The motion with what was fixed; regions first, keyframes on top.

    Args:
        motion: What was generated; only joints of the head and ARKit coefficients are edited.
        keyframes: Values at times.
        regions: Stretches.
        blend: Seconds over which a fix fades into the rest.

    Raises:
        ValueError: an unknown curve, a time outside the motion, or a region without content.
    """
    if not (keyframes or regions):
        return motion
    if blend < 0:
        raise ValueError(f"edit: blend={blend:g}; expected seconds from 0 on.")
    curves = _curves(motion)
    times = np.arange(motion.frames) / motion.fps
    for region in regions:
        _keep(curves, times, region, motion.fps, float(blend))
    for name in {name for key in keyframes for name in key.values}:
        keys = sorted((key.time, key.values[name]) for key in keyframes if name in key.values)
        _meet(curves[:, _column(name)], times, keys, float(blend))
    return _with_curves(motion, curves)


@typed
def read_edits(path: str | Path) -> tuple[tuple[Keyframe, ...], tuple[Region, ...]]:
    """Keyframes and regions from JSON.

    `{"keyframes": [{"time": 1.2, "values": {"mouthSmileLeft": 0.8}}],
    "regions": [{"start": 2, "end": 3.5, "curves": ["upper"], "motion": "take1.motion"}]}`; a region may have "values"
    in place of "motion", which is a file beside this one.

    Raises:
        FileError: the file, or a motion that it names, cannot be read.
        FormatError: it is not what is expected.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise FormatError(f"{path} is no JSON ({error}).") from None
    if not isinstance(content, dict) or not content.keys() <= {"keyframes", "regions"}:
        raise FormatError(f'{path}: expected {{"keyframes": [...], "regions": [...]}}, either or both.')
    try:
        keyframes = tuple(
            Keyframe(time=float(k["time"]), values={str(n): float(v) for n, v in k["values"].items()})
            for k in content.get("keyframes", ())
        )
        regions = []
        for r in content.get("regions", ()):
            other = from_motion_file(path.parent / r["motion"]) if r.get("motion") else None
            values = {str(n): float(v) for n, v in r["values"].items()} if r.get("values") else None
            names = tuple(str(n) for n in r.get("curves", values or ("all",)))
            regions.append(
                Region(start=float(r["start"]), end=float(r["end"]), curves=names, motion=other, values=values)
            )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{path}: keyframes need time and values, regions start, end and motion or values; "
                          f"found otherwise ({error}).") from None  # fmt: skip
    return keyframes, tuple(regions)


def _column(name: str) -> int:
    if name not in _INDEX:
        raise ValueError(f"edit: no curve {name!r}; there are ARKit's 52 and {', '.join(HEAD_CURVES)}.")
    return _INDEX[name]


def _columns(names: Sequence[str]) -> np.ndarray:
    found: set[int] = set()
    for name in names:
        patterns = _GROUPS.get(name, (name,))
        matched = [i for curve, i in _INDEX.items() if any(fnmatchcase(curve, p) for p in patterns)]
        if not matched:
            raise ValueError(f"edit: no curve is called {name!r}; expected names, patterns or {', '.join(_GROUPS)}.")
        found.update(matched)
    return np.array(sorted(found))


def _keep(curves: np.ndarray, times: np.ndarray, region: Region, fps: float, blend: float) -> None:
    """Puts a region's content in, and lets the difference at its ends fade."""
    if not 0 <= region.start < region.end:
        raise ValueError(f"edit: a region from {region.start:g} to {region.end:g} s; expected a start before its end.")
    inside = np.flatnonzero((times >= region.start - 1e-9) & (times <= region.end + 1e-9))
    if not len(inside):
        raise ValueError(f"edit: nothing of the motion ({times[-1]:.2f} s) lies in {region.start:g}..{region.end:g} s.")
    if region.values is not None:
        columns = np.array([_column(name) for name in region.values])
        wanted = np.tile(np.array(list(region.values.values())), (len(inside), 1))
    elif region.motion is not None:
        other = _curves(region.motion if region.motion.fps == fps else resample(region.motion, fps))
        columns = _columns(region.curves)
        if inside[-1] >= len(other):
            raise ValueError(f"edit: the kept motion ends at {len(other) / fps:.2f} s, before {region.end:g} s.")
        wanted = other[inside][:, columns]
    else:
        raise ValueError("edit: a region needs a motion to keep or values to hold.")
    before = curves[np.ix_(inside[[0, -1]], columns)]
    curves[np.ix_(inside, columns)] = wanted
    for end, offset in ((0, wanted[0] - before[0]), (-1, wanted[-1] - before[1])):
        edge = times[inside[end]]
        outside = np.arange(inside[0]) if end == 0 else np.arange(inside[-1] + 1, len(times))
        curves[np.ix_(outside, columns)] += _fade(np.abs(times[outside] - edge), blend)[:, None] * offset


def _meet(curve: Float64[np.ndarray, "t"], times: np.ndarray, keys: list[tuple[float, float]], blend: float) -> None:
    """Adds an offset that meets every key: between near keys eased from one to the next, else fading to nothing."""
    last = times[-1] + (times[1] - times[0] if len(times) > 1 else 0.0)
    if keys[0][0] < 0 or keys[-1][0] > last:
        raise ValueError(f"edit: keyframes at {keys[0][0]:g}..{keys[-1][0]:g} s; the motion has 0..{times[-1]:.2f} s.")
    offsets = [(t, value - float(np.interp(t, times, curve))) for t, value in keys]
    total = np.zeros_like(curve)
    first, final = offsets[0], offsets[-1]
    early, late = times < first[0], times > final[0]
    total[early] = first[1] * _fade(first[0] - times[early], blend)
    total[late] = final[1] * _fade(times[late] - final[0], blend)
    total[np.abs(times - final[0]) < 1e-9] = final[1]
    for (t0, d0), (t1, d1) in zip(offsets[:-1], offsets[1:], strict=True):
        part = (times >= t0) & (times < t1)
        if t1 - t0 <= 2 * blend:
            total[part] = d1 + (d0 - d1) * _fade(times[part] - t0, t1 - t0)
        else:
            total[part] = d0 * _fade(times[part] - t0, blend) + d1 * _fade(t1 - times[part], blend)
    curve += total


def _fade(distance: np.ndarray, span: float) -> np.ndarray:
    """1 at 0, eased to 0 at `span`."""
    if span <= 0:
        return (distance < 1e-9).astype(np.float64)
    x = np.clip(distance / span, 0, 1)
    return 1 - x * x * x * (10 + x * (6 * x - 15))


def _curves(motion: Motion) -> Float64[np.ndarray, "t 55"]:
    angles = head_angles(head_rotation(motion))
    return torch.cat([motion.expression.double(), angles], 1).numpy().copy()


def _with_curves(motion: Motion, curves: np.ndarray) -> Motion:
    expression = torch.from_numpy(curves[:, :52]).float().clamp(0, 1)
    before = _curves(motion)[:, 52:]
    rotations = dict(motion.rotations)
    if np.abs(curves[:, 52:] - before).max(initial=0.0) > 1e-9:
        R: Tensor = head_matrix(torch.from_numpy(curves[:, 52:].copy()))
        root = motion.rotations.get("root")
        if root is not None:
            R = rotvec_to_matrix(root.double()).mT @ R
        rotations |= head_joint_rotations(rotvec_to_matrix(matrix_to_rotvec(R)))
    return replace(motion, expression=expression, rotations=rotations)
