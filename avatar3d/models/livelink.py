"""Live Link Face's channels: their names and order in the app's CSV, and its angle conventions.

The app states three angles for the head and for each eye, in radians. Signs follow from real recordings and are
held by tests on them:

- The eyes' angles restate the eyeLook coefficients: yaw is positive to the subject's right, pitch positive downwards.
  A straight line through a recording of 4030 frames gives 0.607 rad of yaw and 0.556 rad of pitch per unit.
- The head's have the other signs: yaw is positive to the subject's left, pitch positive upwards. With these, and
  with no others, the gaze of a recorded head that turns stays on the phone. Roll is positive when the top of the
  head tips to the subject's right; recordings do not determine its sign, other programs that send or receive these
  channels use it so.
- Angles compose as yaw, pitch, roll from the outside in (Unreal's rotator).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.types import ARKIT_NAMES
from avatar3d.typing import typed

_SWAPPED = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
ANGLE_COLUMNS = tuple(
    f"{part}{angle}" for part in ("Head", "LeftEye", "RightEye") for angle in ("Yaw", "Pitch", "Roll")
)
SHAPE_NAMES = tuple(_SWAPPED.get(name, name) for name in ARKIT_NAMES)
"""The 52 ARKit names in the app's order, which has right before left for jaw and mouth."""
COLUMNS = (
    "Timecode",
    "BlendShapeCount",
    *(name[0].upper() + name[1:] for name in SHAPE_NAMES),
    *ANGLE_COLUMNS,
)
TIMECODE_BASE = 60
"""Frames per second of the app's timecode, whatever the rate of the recording."""
GAZE_YAW = 0.607
"""Radians of eye yaw per unit of eyeLookIn or eyeLookOut."""
GAZE_PITCH = 0.556
"""Radians of eye pitch per unit of eyeLookDown or eyeLookUp."""


@typed
def head_angles(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """The app's HeadYaw, HeadPitch, HeadRoll of a head rotation in our axes, radians."""
    pitch = torch.asin(R[..., 1, 2].clamp(-1, 1))
    yaw = torch.atan2(R[..., 0, 2], R[..., 2, 2])
    roll = torch.atan2(R[..., 1, 0], R[..., 1, 1])
    return torch.stack([yaw, pitch, roll], -1)


@typed
def head_matrix(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The head rotation in our axes of the app's yaw, pitch, roll: Ry(yaw) Rx(-pitch) Rz(roll)."""
    (cy, cp, cr), (sy, sp, sr) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        cy * cr - sy * sp * sr, -cy * sr - sy * sp * cr, sy * cp,
        cp * sr, cp * cr, sp,
        -sy * cr - cy * sp * sr, sy * sr - cy * sp * cr, cy * cp,
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


@typed
def eye_angles(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """The app's yaw, pitch, roll of an eye rotation in our axes: all signs are opposite to the head's."""
    return -head_angles(R)


@typed
def eye_matrix(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The eye rotation in our axes of the app's yaw, pitch, roll."""
    return head_matrix(-angles)
