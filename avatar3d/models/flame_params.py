"""FLAME's parameters in .npz files, as trackers and datasets hand them out, and motions: one from the other.

Names differ between projects (`expr`, `expression`, `exp`; `jaw_pose`, `jaw`; `rot`, `global_orient`, ...) and all of
the usual ones are read. SMPL-X's expression, jaw and eyes are FLAME's, so its files are read as well.
"""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.models.arkit import arkit_to_model, model_to_arkit
from avatar3d.models.linear import LinearModel
from avatar3d.storage import replacing
from avatar3d.types import Motion
from avatar3d.typing import typed

NAMES = {
    "expression": ("expr", "expression", "expressions", "exp", "expression_params", "expcode"),
    "identity": ("shape", "betas", "identity", "shape_params", "shapecode"),
    "jaw": ("jaw_pose", "jaw", "jawpose"),
    "eyes": ("eye_rot", "eyes_pose", "eye_pose", "eyes"),
    "eye_left": ("leye_pose", "eye_left"),
    "eye_right": ("reye_pose", "eye_right"),
    "neck": ("neck_pose", "neck"),
    "rotation": ("rot", "rotation", "global_orient", "global_rot", "head_rotation"),
    "translation": ("tra", "translation", "transl", "trans"),
    "fps": ("fps",),
}
FPS = 30.0


@dataclass(frozen=True, kw_only=True)
class FlameParameters:
    """A performance in FLAME's own terms."""

    expression: Float[Tensor, "t e"]
    joints: dict[str, Float[Tensor, "t 3"]] = field(default_factory=dict)
    """Rotation vectors of root, neck, jaw, eye_left, eye_right, where the file has them."""
    translation: Float[Tensor, "t 3"] | None = None
    identity: Float[Tensor, "k"] | None = None
    fps: float | None = None


def is_flame_parameters(path: str | Path) -> bool:
    """Whether an .npz holds FLAME's expression coefficients, by the names of its arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return any(name in file.files for name in NAMES["expression"])
    except (OSError, ValueError, EOFError, AttributeError, TypeError):
        return False


@typed
def read_flame_parameters(path: str | Path) -> FlameParameters:
    """Reads FLAME's (or SMPL-X's) parameters from an .npz.

    Raises:
        FileError: the file cannot be read.
        FormatError: no expression coefficients, or arrays that do not fit together.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays = {k: np.asarray(file[k]) for k in file.files if file[k].dtype.kind in "fiu"}
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, AttributeError) as error:
        raise FormatError(f"{path} cannot be read as numpy arrays: {error}") from error

    def find(what: str) -> np.ndarray | None:
        return next((arrays[n] for n in NAMES[what] if n in arrays), None)

    expression = find("expression")
    if expression is None or expression.ndim not in (2, 3) or not len(expression):
        held = ", ".join(f"{k} {v.shape}" for k, v in arrays.items())
        raise FormatError(f"{path} holds {held or 'nothing'}; expression coefficients `expr` [t, e] were expected.")
    t = len(expression)

    def rows(what: str, width: int) -> Tensor | None:
        value = find(what)
        if value is None:
            return None
        value = value.reshape(len(value), -1) if value.ndim else value
        if value.shape != (t, width) and value.size == width:
            value = np.broadcast_to(value.reshape(1, width), (t, width))
        if value.shape != (t, width):
            raise FormatError(f"{path}: {what} is {value.shape}, and [{t}, {width}] was expected.")
        return torch.from_numpy(np.array(value, dtype=np.float32))

    joints: dict[str, Tensor] = {}
    for joint, what in (("root", "rotation"), ("neck", "neck"), ("jaw", "jaw")):
        value = rows(what, 3)
        if value is not None:
            joints[joint] = value
    eyes = find("eyes")
    if eyes is not None:  # one rotation for both, or one each
        both = rows("eyes", 6 if eyes.reshape(len(eyes), -1).shape[1] == 6 else 3)
        assert both is not None
        joints["eye_left"], joints["eye_right"] = both[:, :3], both[:, -3:]
    for joint in ("eye_left", "eye_right"):
        value = rows(joint, 3)
        if value is not None:
            joints[joint] = value
    identity, fps = find("identity"), find("fps")
    out = FlameParameters(
        expression=torch.from_numpy(expression.reshape(t, -1).astype(np.float32)),
        joints=joints,
        translation=rows("translation", 3),
        identity=None if identity is None else torch.from_numpy(identity.reshape(-1).astype(np.float32)),
        fps=float(fps) if fps is not None and fps.size == 1 and float(fps) > 0 else None,
    )
    moving = [out.expression, *joints.values()] + ([] if out.translation is None else [out.translation])
    if not all(bool(torch.isfinite(x).all()) for x in moving):
        raise FormatError(f"{path} holds parameters that are not finite (NaN or infinite).")
    return out


@typed
def flame_to_motion(
    parameters: FlameParameters, model: LinearModel, *, fps: float | None = None, source: str = "FLAME parameters"
) -> tuple[Motion, Float[Tensor, "t"]]:
    """The motion in ARKit's terms, and the distance in metres that ARKit's shapes lose in every frame.

    Args:
        parameters: The performance.
        model: FLAME, from the user's file.
        fps: Frames per second; the file's own, or 30, when left out.
        source: What the motion says that it came from.
    """
    e = min(parameters.expression.shape[1], len(model.expression_basis))
    face = {n: r for n, r in parameters.joints.items() if n in ("jaw", "eye_left", "eye_right")}
    arkit, lost = model_to_arkit(model, parameters.expression[:, :e], face)
    moved = parameters.translation
    return Motion(
        fps=fps or parameters.fps or FPS,
        expression=arkit,
        rotations={n: r for n, r in parameters.joints.items() if n in ("root", "neck")},
        translation=None if moved is None else moved - moved[:1],
        source=source,
    ), lost


@typed
def motion_to_flame(motion: Motion, model: LinearModel) -> tuple[FlameParameters, Float[Tensor, "t"]]:
    """FLAME's parameters for a motion, and the distance in metres that FLAME's expressions lose in every frame."""
    found, lost = arkit_to_model(model, motion.expression)
    joints = dict(found.joints)
    for name in ("eye_left", "eye_right"):  # eye rotations add to the coefficients
        if name in motion.rotations:
            joints[name] = joints.get(name, torch.zeros(motion.frames, 3)) + motion.rotations[name]
    zero = torch.zeros(motion.frames, 3)
    neck, head = (rotvec_to_matrix(motion.rotations.get(n, zero)) for n in ("neck", "head"))
    joints["neck"] = matrix_to_rotvec(neck @ head)  # FLAME's one joint for both
    joints["root"] = motion.rotations.get("root", zero)
    return FlameParameters(
        expression=found.expression, joints=joints, translation=motion.translation, fps=motion.fps
    ), lost


@typed
def write_flame_parameters(
    parameters: FlameParameters, path: str | Path, lost: Float[Tensor, "t"] | None = None
) -> None:
    """Writes `expr`, `shape`, `jaw_pose`, `leye_pose`, `reye_pose`, `neck_pose`, `global_orient`, `transl`, `fps`.

    Args:
        parameters: The performance.
        path: The .npz.
        lost: What the conversion lost in every frame, metres; kept as `residual_mm`.

    Raises:
        FileError: it cannot be written.
    """
    t = len(parameters.expression)
    zero = torch.zeros(t, 3)
    keys = {"jaw": "jaw_pose", "eye_left": "leye_pose", "eye_right": "reye_pose", "neck": "neck_pose",
            "root": "global_orient"}  # fmt: skip
    arrays = {"expr": parameters.expression} | {k: parameters.joints.get(n, zero) for n, k in keys.items()}
    arrays["transl"] = zero if parameters.translation is None else parameters.translation
    if parameters.identity is not None:
        arrays["shape"] = parameters.identity
    if lost is not None:
        arrays["residual_mm"] = 1e3 * lost
    values = {k: v.float().numpy() for k, v in arrays.items()}
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, fps=np.float32(parameters.fps or FPS), **values)  # type: ignore[arg-type]
