"""ARKit coefficients in JSON -> Motion."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar3d.drive.timing import frames_on_a_grid
from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.motion import head_joint_rotations
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion
from avatar3d.typing import typed

_BY_LOWER = {name.lower(): name for name in ARKIT_NAMES}
_EXPECTED = (
    'Expected {"names": [52 ARKit names], "frames": [{"weights": [...], "time": seconds}, ...]} '
    "or a list of {name: weight}."
)


@typed
def from_arkit_json(path: str | Path, *, fps: float | None = None) -> Motion:
    """Reads ARKit coefficients by name from JSON.

    Two layouts: `{"names": [...], "frames": [{"weights": [...], "time": seconds, "rotation": [x, y, z]}, ...]}` with
    optional "fps" and "head_pose" (axis-angle per frame, our axes), and a list of `{name: weight}` per frame, also
    under "frames". Names are taken without regard to case, and with `_L`, `_R` for Left, Right.

    Args:
        path: The file.
        fps: Frame rate where the file states neither times nor a rate; 30 when left out.

    Raises:
        FileError: there is no such file.
        FormatError: not JSON, or none of these layouts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path} does not exist, or is not a file.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return _motion(content, path, fps)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{path} is not JSON: {error}.") from error
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{path} is JSON of another layout ({error}). {_EXPECTED}") from error


def _motion(content: Any, path: Path, fps: float | None) -> Motion:
    top = content if isinstance(content, dict) else {}
    frames = top["frames"] if top else content
    if not frames:
        raise ValueError("no frames")
    if "names" in top:
        names, weights = top["names"], np.array([frame["weights"] for frame in frames], dtype=np.float64)
    else:
        dicts = [frame.get("weights") or frame.get("blendshapes") or frame for frame in frames]
        names = sorted({name for frame in dicts for name in frame if _arkit(name)})
        weights = np.array([[float(frame.get(name, 0)) for name in names] for frame in dicts])
    known = {i: ARKIT_INDEX[name] for i, name in enumerate(map(_arkit, names)) if name}
    if not known or weights.shape != (len(frames), len(names)):
        raise ValueError(f"{len(known)} ARKit names, weights of shape {weights.shape}")
    expression = np.zeros((len(frames), len(ARKIT_NAMES)))
    expression[:, list(known.values())] = weights[:, list(known)]
    pose = top.get("head_pose") or [frame.get("rotation", []) for frame in frames]
    head = np.array([p if len(p) == 3 else [0.0, 0.0, 0.0] for p in pose], dtype=np.float64)
    if len(head) != len(frames) or not np.isfinite(expression).all() or not np.isfinite(head).all():
        raise ValueError(f"{len(head)} head poses for {len(frames)} frames, or numbers that are not finite")
    if fps is None and all("time" in frame for frame in frames):
        times = np.array([float(frame["time"]) for frame in frames])
        rate, frame, first, last, weight = frames_on_a_grid(times - times[0], str(path))
    else:
        rate = float(top.get("fps") or fps or 30.0)
        first = last = frame = np.arange(len(frames))
        weight = np.zeros(len(frames))
    mix = weight[:, None]
    expression, head = ((1 - mix) * x[first] + mix * x[last] for x in (expression, head))
    confidence = torch.zeros(len(first))
    confidence[torch.from_numpy(frame)] = 1.0
    return Motion(
        fps=rate,
        expression=torch.from_numpy(expression).float(),
        rotations=head_joint_rotations(rotvec_to_matrix(torch.from_numpy(head))) if head.any() else {},
        confidence=confidence,
        source=path.name,
    )


def _arkit(name: str) -> str | None:
    """The ARKit name that a file means, or None."""
    lower = name.lower()
    if lower.endswith(("_l", "_r")):
        lower = lower[:-2] + ("left" if lower.endswith("_l") else "right")
    return _BY_LOWER.get(lower)
