"""Motions: from a track, to another frame rate, and the head's whole rotation."""

from dataclasses import replace
from math import floor

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.rotation import (
    matrix_to_rotvec,
    quat_to_matrix,
    quat_to_rotvec,
    rotvec_to_matrix,
    rotvec_to_quat,
    slerp,
)
from avatar3d.geometry.transform import posed_rest_transforms
from avatar3d.types import ARKIT_NAMES, Motion, Rig, Track
from avatar3d.typing import typed

HEAD_CHAIN = ("root", "neck", "head")
"""The joints that carry the head, from the root on."""
PHOTOS_A_SECOND = 1.0
"""Rate of a motion of photos, which have no time of their own."""


@typed
def track_to_motion(
    track: Track, rig: Rig, arkit: Float[Tensor, "t 52"] | None = None, *, torso_seconds: float = 2.0
) -> Motion:
    """The motion that footage showed, such that the rig's head lies exactly where it was tracked.

    The slow part of the head's rotation (a Gaussian of `torso_seconds`, per shot) goes to the root, as a torso
    would turn; the rest is shared evenly by the joints between root and head. The root's translation closes what is
    left, so that vertices bound to the head satisfy x = T_world_head rest for every frame.

    Args:
        track: One entry per frame of the footage.
        rig: The rig that will be moved; its joints decide what the rotations are shared among.
        arkit: ARKit coefficients, where the track's own expression is in other terms.
        torso_seconds: Standard deviation of the Gaussian that separates torso from head motion.

    Raises:
        ValueError: the track's expression is not ARKit's and `arkit` is not given; the rig has no root, neck or head.
    """
    expression = track.expression if arkit is None else arkit
    if expression.shape[1] != len(ARKIT_NAMES):
        raise ValueError(
            f"track_to_motion: {track.model!r} has {expression.shape[1]} expression coefficients, and 52 of ARKit's "
            "were expected; convert them and pass `arkit`."
        )
    chain = [name for name in HEAD_CHAIN if name in rig.joint_names]
    if not chain:
        raise ValueError(f"track_to_motion: the rig has {', '.join(rig.joint_names)}; expected root, neck or head.")
    R_world_head = rotvec_to_matrix(track.rotation.double())
    rotations = {chain[0]: track.rotation.double()}
    if len(chain) > 1:
        R_world_root = _slow_rotation(R_world_head, torso_seconds * track.fps, track.cuts)
        share = matrix_to_rotvec(R_world_root.mT @ R_world_head) / (len(chain) - 1)
        rotations = {chain[0]: matrix_to_rotvec(R_world_root), **{name: share for name in chain[1:]}}
    map_head = _joint_map(rig, rotations, chain[-1])
    translation = track.translation.double() - map_head[:, :3, 3]
    rotations |= {name: value for name, value in track.joints.items() if name not in rotations}
    return Motion(
        fps=track.fps or PHOTOS_A_SECOND,
        expression=expression.float(),
        rotations={name: value.float() for name, value in rotations.items()},
        translation=translation.float(),
        confidence=track.confidence.float(),
        source="its own footage",
    )


def _joint_map(rig: Rig, rotations: dict[str, Tensor], joint: str) -> Tensor:
    """T_posed_rest [t, 4, 4] of one joint, before the root's translation."""
    zero = torch.zeros_like(next(iter(rotations.values())))
    R = rotvec_to_matrix(torch.stack([rotations.get(name, zero) for name in rig.joint_names], 1))
    rest = rig.joint_positions.double().expand(len(zero), -1, -1)
    return posed_rest_transforms(rig.joint_parents, rest, R)[:, rig.joint_names.index(joint)]


def _slow_rotation(R: Tensor, sigma_frames: float, cuts: tuple[int, ...]) -> Tensor:
    """Rotation matrices smoothed by a Gaussian, each shot for itself."""
    from scipy.ndimage import gaussian_filter1d

    quats = continuous(rotvec_to_quat(matrix_to_rotvec(R)))
    bounds = [0, *(c for c in cuts if 0 < c < len(R)), len(R)]
    shots = [quats[a:b].numpy() for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b > a]
    smooth = [torch.from_numpy(gaussian_filter1d(q, max(sigma_frames, 1e-3), axis=0, mode="nearest")) for q in shots]
    return quat_to_matrix(torch.cat(smooth))


@typed
def continuous(quats: Float[Tensor, "t 4"]) -> Float[Tensor, "t 4"]:
    """The same rotations with signs chosen so that neighbours lie on the same half of the sphere."""
    dots = (quats[1:] * quats[:-1]).sum(-1)
    flips = torch.where(dots < 0, -torch.ones_like(dots), torch.ones_like(dots)).cumprod(0)
    return torch.cat([quats[:1], quats[1:] * flips[:, None]])


@typed
def head_rotation(motion: Motion) -> Float[Tensor, "t 3 3"]:
    """Rotation of the head in the world: root, neck and head together."""
    R = torch.eye(3, dtype=torch.float64).expand(motion.frames, 3, 3)
    for name in HEAD_CHAIN:
        if name in motion.rotations:
            R = R @ rotvec_to_matrix(motion.rotations[name].double())
    return R


@typed
def head_joint_rotations(R_world_head: Float[Tensor, "t 3 3"]) -> dict[str, Tensor]:
    """Rotation vectors that share a head rotation evenly between neck and head."""
    half = (matrix_to_rotvec(R_world_head.double()) / 2).float()
    return {"neck": half, "head": half.clone()}


@typed
def resample(motion: Motion, fps: float) -> Motion:
    """The same motion at another frame rate: linear in coefficients and translation, along the arc in rotations.

    Raises:
        ValueError: `fps` is not positive, or the motion has no frames.
    """
    if fps <= 0 or motion.frames == 0:
        raise ValueError(f"resample: {motion.frames} frames to {fps:g} per second; expected some, and a positive rate.")
    if fps == motion.fps:
        return motion
    count = floor((motion.frames - 1) * fps / motion.fps + 1e-6) + 1
    position = torch.arange(count, dtype=torch.float64) * (motion.fps / fps)
    return replace(sampled(motion, position), fps=fps)


@typed
def sampled(motion: Motion, position: Float[Tensor, "n"]) -> Motion:
    """The motion at fractional frame numbers, which are held at both ends; the frame rate is kept."""
    position = position.double().clamp(0, motion.frames - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=motion.frames - 1)
    t = position - low

    def linear(x: Tensor) -> Tensor:
        w = t.to(x).view(-1, *[1] * (x.ndim - 1))
        return x[low] + w * (x[high] - x[low])

    def arc(x: Tensor) -> Tensor:
        q = rotvec_to_quat(x.double())
        return quat_to_rotvec(slerp(q[low], q[high], t)).to(x)

    return replace(
        motion,
        expression=linear(motion.expression),
        rotations={name: arc(value) for name, value in motion.rotations.items()},
        translation=None if motion.translation is None else linear(motion.translation),
        confidence=None
        if motion.confidence is None
        else torch.minimum(motion.confidence[low], motion.confidence[high]),
    )
