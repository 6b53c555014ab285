"""What a person should do to get a better avatar, and what must be known about this one, in words."""

import math

import torch
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.track.footage import Found
from avatar3d.types.track import Track

ENOUGH_WIDTH = 200
DARK, BRIGHT = 50, 235
BLURRED = 2.0
ENOUGH_YAW, ENOUGH_PITCH = 25, 10


def advice(found: Found, track: Track) -> list[str]:
    """How the footage could be better; empty where nothing is wrong."""
    out = []
    points = found.detections.landmarks[torch.isfinite(found.detections.landmarks[:, 0, 0])]
    width = float((points[..., 0].amax(1) - points[..., 0].amin(1)).median())
    if width < ENOUGH_WIDTH:
        out.append(f"The face is {width:.0f} px wide; {ENOUGH_WIDTH} gives more detail. Move closer or film larger.")
    if found.light < DARK:
        out.append(f"The face is too dark (brightness {found.light:.0f} of 255). Turn to a window or a lamp.")
    if found.light > BRIGHT:
        out.append(f"The face is overexposed (brightness {found.light:.0f} of 255). Avoid direct light.")
    if found.sharpness < BLURRED:
        out.append("The face is blurred. Hold the camera still, move slowly, and let it focus.")
    yaw, pitch = head_angles(track)
    if track.fps > 0 and len(yaw) > 1:
        left, right = float(yaw.max()), -float(yaw.min())
        if left < ENOUGH_YAW:
            out.append(f"Turn your head further left (seen: {max(left, 0):.0f} of {ENOUGH_YAW} degrees).")
        if right < ENOUGH_YAW:
            out.append(f"Turn your head further right (seen: {max(right, 0):.0f} of {ENOUGH_YAW} degrees).")
        if float(pitch.max() - pitch.min()) < ENOUGH_PITCH:
            out.append("Nod a little: the chin and the brow are seen from one height only.")
    share = len(track.dropped) / max(len(track.tracked), 1)
    if share > 0.1:
        out.append(f"{share:.0%} of the frames were of no use; keep the whole face in view.")
    return out


def head_angles(track: Track) -> tuple[Tensor, Tensor]:
    """Yaw (to the subject's left) and pitch (up) of the head against the camera, degrees, of tracked frames."""
    R = rotvec_to_matrix(track.rotation.double())[track.tracked]
    t = track.translation.double()[track.tracked]
    T = torch.stack([camera.T_camera_world for camera in track.cameras])[track.camera_of_frame[track.tracked]]
    eye = -(T[:, :3, :3].mT @ T[:, :3, 3:])[..., 0]  # the camera in the world
    towards = (R.mT @ (eye - t)[..., None])[..., 0]
    yaw = -torch.atan2(towards[:, 0], towards[:, 2])
    pitch = -torch.atan2(towards[:, 1], towards[:, ::2].norm(dim=1))
    return yaw * 180 / math.pi, pitch * 180 / math.pi


def notes(found: Found, track: Track) -> list[str]:
    """What a person must know: several faces, cuts, dropped frames, unknown focal length."""
    out = list(found.notes)
    if track.cuts:
        at = ", ".join(str(c) for c in track.cuts[:8]) + (", ..." if len(track.cuts) > 8 else "")
        out.append(f"{len(track.cuts)} cut{'s' if len(track.cuts) > 1 else ''}, at frame {at}")
    if track.dropped:
        reasons: dict[str, int] = {}
        for frame in track.dropped:
            kind = frame.reason.split(":")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
        words = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
        out.append(f"{len(track.dropped)} of {len(track.tracked)} frames dropped: {words}")
    if not track.focal_determined:
        focal = track.cameras[0].focal
        out.append(
            f"focal length not determined by this footage (the head turns too little); {focal:.0f} px is assumed"
        )
    return out
