"""Splats of an avatar from its rig's triangles into the world, for a batch of poses."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.harmonics import rotate_splat_sh
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.transform import global_transforms
from avatar3d.types import Rig
from avatar3d.types.gaussians import BASIS_ROWS, TURN, Gaussians
from avatar3d.typing import Backend, typed

HEAD_CHAIN = ("head", "neck", "root")
"""Joints whose frame the spherical harmonics may be in: the first of these that the rig has."""


@dataclass(frozen=True, kw_only=True)
class PosedGaussians:
    """Splats in the world, for a batch of poses."""

    means: Float[Tensor, "b n 3"]
    """Metres."""
    quats: Float[Tensor, "b n 4"]
    """wxyz; not normalised."""
    scales: Float[Tensor, "b n 3"]
    """Standard deviations, metres."""
    opacities: Float[Tensor, "b n"]
    """0..1."""
    sh: Float[Tensor, "b n k 3"]
    """As `Gaussians.sh`; directions in the head's frame."""
    head_rotation: Float[Tensor, "b 3 3"] | None
    """R_world_head; None where they are the same."""

    @property
    def world_sh(self) -> Float[Tensor, "b n k 3"]:
        """Spherical harmonics for directions in world space."""
        return self.sh if self.head_rotation is None else rotate_splat_sh(self.sh, self.head_rotation)


@typed
def pose_gaussians(
    gaussians: Gaussians,
    rig: Rig,
    vertices: Float[Tensor, "b v 3"],
    coefficients: Float[Tensor, "b s"] | None = None,
    head_rotation: Float[Tensor, "b 3 3"] | None = None,
    *,
    backend: Backend = "auto",
) -> PosedGaussians:
    """Brings splats into the world: what expression and turn of the head change, then the triangles they are bound to.

    Differentiable in every attribute, vertices and coefficients, and in the head's rotation but for what it changes.

    Args:
        gaussians: Splats of an avatar.
        rig: The avatar's with its anchors (`models.anchors.with_anchors`): the one the vertices are of.
        vertices: Posed, world space, metres.
        coefficients: Of the rig's shapes; without them the expression-dependent change is left out.
        head_rotation: R_world_head (see `head_rotation_of`); the identity when left out.
        backend: As for the operations.

    Raises:
        ValueError: vertices of another rig, or as many coefficients as the splats are not made for.
    """
    if vertices.shape[1] != len(rig.neutral):
        raise ValueError(
            f"pose_gaussians: {vertices.shape[1]} vertices for a rig of {len(rig.neutral)}; "
            "pose the rig that models.anchors.with_anchors gives."
        )
    like = vertices
    offsets, quats = gaussians.offsets.to(like), gaussians.quats.to(like)
    log_scales, logits, sh = (x.to(like) for x in (gaussians.log_scales, gaussians.logit_opacities, gaussians.sh))
    faces, face = rig.faces.to(like.device), gaussians.face.to(like.device)
    barycentrics = gaussians.barycentrics.to(like)
    b = len(vertices)
    change = None if coefficients is None else _change(gaussians, coefficients.to(like), head_rotation)
    if change is None:
        scales = log_scales.exp()
        means, quats, scales = ops.rig_splats(
            vertices, faces, face, barycentrics, offsets, quats, scales, backend=backend
        )
        opacities, sh = logits.sigmoid().expand(b, -1), sh.expand(b, -1, -1, -1)
    else:
        widths = [rows.stop - rows.start for rows in BASIS_ROWS.values()]
        parts = dict(zip(BASIS_ROWS, change.split(widths, -1), strict=True))
        posed = [
            ops.rig_splats(
                vertices[i : i + 1], faces, face, barycentrics, offsets + parts["offsets"][i],
                quats + parts["quats"][i], (log_scales + parts["log_scales"][i]).exp(), backend=backend,
            )
            for i in range(b)
        ]  # fmt: skip
        means, quats, scales = posed[0] if b == 1 else (torch.cat(x) for x in zip(*posed, strict=True))
        opacities = (logits + parts["logit_opacities"][..., 0]).sigmoid()
        sh = torch.cat([sh[None, :, :1] + parts["colour"][:, :, None], sh[None, :, 1:].expand(b, -1, -1, -1)], 2)
    return PosedGaussians(
        means=means, quats=quats, scales=scales, opacities=opacities, sh=sh,
        head_rotation=None if head_rotation is None else head_rotation.to(like),
    )  # fmt: skip


@typed
def head_rotation_of(rig: Rig, rotations: dict[str, Float[Tensor, "b 3"]], batch: int = 1) -> Float[Tensor, "b 3 3"]:
    """R_world_head of poses, from rotation vectors by joint name as `models.rig.pose_rig` takes them.

    Args:
        rig: Whose head, or neck or root where it has none.
        rotations: Joints that are not named stay at rest.
        batch: Number of poses, where `rotations` is empty.
    """
    example = next(iter(rotations.values()), torch.zeros(batch, 3))
    zero = torch.zeros_like(example)
    R = rotvec_to_matrix(torch.stack([rotations.get(name, zero) for name in rig.joint_names], 1))
    rest = rig.joint_positions.to(example).expand(len(example), -1, -1)
    joint = next(rig.joint_names.index(name) for name in (*HEAD_CHAIN, rig.joint_names[0]) if name in rig.joint_names)
    return global_transforms(rig.joint_parents, rest, R)[:, joint, :3, :3]


def _change(
    gaussians: Gaussians, coefficients: Float[Tensor, "b s"], head_rotation: Float[Tensor, "b 3 3"] | None
) -> Float[Tensor, "b n 14"] | None:
    """What the expression and the turn of the head add to the attributes."""
    if gaussians.mixing is None or gaussians.basis is None:
        return None
    mixing, basis = gaussians.mixing.to(coefficients), gaussians.basis.to(coefficients)
    if mixing.shape[1] == coefficients.shape[1] + TURN:
        turn = coefficients.new_zeros(len(coefficients), TURN)
        if head_rotation is not None:
            turn = matrix_to_rotvec(head_rotation.detach().to(coefficients))
        coefficients = torch.cat([coefficients, turn], 1)
    if mixing.shape[1] != coefficients.shape[1]:
        raise ValueError(f"pose_gaussians: {coefficients.shape[1]} coefficients for splats made for {mixing.shape[1]}.")
    components = coefficients @ mixing.T
    if gaussians.limits is not None:
        low, high = gaussians.limits.to(coefficients).unbind(1)
        components = torch.minimum(torch.maximum(components, low), high)
    return (components @ basis.flatten(1)).view(len(components), *basis.shape[1:])
