"""One frame of an avatar's splats: in the world, as a file takes them, and as a picture."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatar3d.errors import UsageError
from avatar3d.models.anchors import with_anchors
from avatar3d.models.rig import pose_rig
from avatar3d.models.splat_cloud import SplatCloud
from avatar3d.nets.crop import one_thread
from avatar3d.render.gaussians import PosedGaussians, head_rotation_of, pose_gaussians
from avatar3d.render.splats import render_gaussians
from avatar3d.types import Avatar, Camera, Motion, Rig
from avatar3d.typing import typed


@typed
def posed_splats(avatar: Avatar, motion: Motion | None, frame: int) -> PosedGaussians:
    """The splats in one frame of a motion; the neutral face, at rest, without one.

    Raises:
        ValueError: the avatar has no splats, or the motion no such frame.
    """
    if avatar.gaussians is None:
        raise ValueError("posed_splats: this avatar has no splats.")
    if motion is not None and not 0 <= frame < motion.frames:
        raise UsageError(f"frame {frame} of {motion.frames}; they count from 0.")
    rig = _anchored(avatar.rig)
    if motion is None:
        motion, frame = Motion(fps=1.0, expression=torch.zeros(1, len(rig.shape_names))), 0
    one = slice(frame, frame + 1)
    expression, rotations = motion.expression[one].float(), {n: r[one].float() for n, r in motion.rotations.items()}
    translation = None if motion.translation is None else motion.translation[one].float()
    vertices = pose_rig(rig, expression, rotations, translation)
    return pose_gaussians(avatar.gaussians, rig, vertices, expression, head_rotation_of(rig, rotations))


_last_rig: tuple[Rig, Rig] | None = None


def _anchored(rig: Rig) -> Rig:
    """The rig with its anchors; the last one is kept, since films pose one avatar many times."""
    global _last_rig
    if _last_rig is None or _last_rig[0] is not rig:
        _last_rig = (rig, with_anchors(rig))
    return _last_rig[1]


@typed
def draw_splats(
    avatar: Avatar, motion: Motion | None, frame: int, camera: Camera, background: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the splats in one frame of a motion over a background of the camera's size.

    Args:
        avatar: One that has splats.
        motion: What moves it; at rest without one.
        frame: Of the motion; one beyond its ends is the nearest.
        camera: Where from.
        background: sRGB.

    Raises:
        ValueError: the avatar has no splats, or the background is not of the camera's size.
    """
    if background.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"draw_splats: background {background.shape[1::-1]}, camera {camera.width, camera.height}.")
    frame = 0 if motion is None else min(max(frame, 0), motion.frames - 1)
    colour = background[0, 0]
    plain = bool((background == colour).all())
    behind = torch.from_numpy(colour.copy() if plain else background).float() / 255
    with torch.no_grad():
        with one_thread():  # small work: on a busy machine waiting for a second thread takes longer
            posed = posed_splats(avatar, motion, frame)
        drawn = render_gaussians(posed, camera, background=behind, antialiased=True)
    rgb = drawn.rgb[0].numpy()
    return (np.clip(rgb, 0, 1, out=rgb) * 255 + 0.5).astype(np.uint8)


@typed
def cloud_of_frame(avatar: Avatar, motion: Motion | None, frame: int) -> SplatCloud:
    """The same as files take it: harmonics for directions in the world, unit quaternions.

    Raises:
        ValueError: the avatar has no splats, or the motion no such frame.
    """
    with torch.no_grad():
        posed = posed_splats(avatar, motion, frame)
        quats = torch.nn.functional.normalize(posed.quats[0], dim=-1)

        def plain(x: Tensor) -> np.ndarray:
            return np.ascontiguousarray(x.float().numpy())

        return SplatCloud(
            means=plain(posed.means[0]), quats=plain(quats), scales=plain(posed.scales[0].clamp_min(1e-9)),
            opacities=plain(posed.opacities[0]), sh=plain(posed.world_sh[0]),
        )  # fmt: skip
