"""Rigid and similarity transforms as 4 x 4 matrices, named T_a_b: b-coordinates to a-coordinates."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed


@typed
def make_transform(R: Float[Tensor, "*b 3 3"], t: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4 4"]:
    """[R | t] with the row 0 0 0 1."""
    bottom = torch.tensor([0, 0, 0, 1], dtype=R.dtype, device=R.device).expand(*R.shape[:-2], 1, 4)
    return torch.cat([torch.cat([R, t[..., None]], -1), bottom], -2)


@typed
def invert_rigid(T: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Inverse of a rigid transform."""
    Rt = T[..., :3, :3].transpose(-1, -2)
    return make_transform(Rt, -(Rt @ T[..., :3, 3:])[..., 0])


@typed
def apply(T: Float[Tensor, "*b 4 4"], points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
    """Maps points."""
    return points @ T[..., :3, :3].transpose(-1, -2) + T[..., None, :3, 3]


@typed
def procrustes(
    source: Float[Tensor, "n 3"],
    target: Float[Tensor, "n 3"],
    weights: Float[Tensor, "n"] | None = None,
    *,
    with_scale: bool = False,
) -> Float[Tensor, "4 4"]:
    """The rigid (or similarity) transform that brings `source` onto `target` in the least-squares sense.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991).

    Returns:
        T_target_source.
    """
    w = torch.ones_like(source[:, 0]) if weights is None else weights
    w = w / w.sum()
    mean_s, mean_t = w @ source, w @ target
    s, t = source - mean_s, target - mean_t
    U, D, Vt = torch.linalg.svd((t * w[:, None]).T @ s)
    sign = torch.ones(3, dtype=source.dtype, device=source.device)
    sign[2] = torch.sign(torch.linalg.det(U @ Vt))
    R = U @ torch.diag(sign) @ Vt
    scale = (D * sign).sum() / (w[:, None] * s * s).sum() if with_scale else torch.ones_like(mean_s[0])
    return make_transform(scale * R, mean_t - scale * (R @ mean_s))


@typed
def global_transforms(
    parents: tuple[int, ...], rest: Float[Tensor, "b j 3"], R: Float[Tensor, "b j 3 3"]
) -> Float[Tensor, "b j 4 4"]:
    """Forward kinematics: T_model_joint of every joint, from rest positions and rotations relative to the parent.

    Args:
        parents: Parent of every joint, -1 for a root; parents come before children.
        rest: Rest positions in model space; rest rotations are the identity.
        R: Rotation of every joint relative to its parent.
    """
    return make_transform(*_chain(parents, rest, R))


@typed
def posed_rest_transforms(
    parents: tuple[int, ...], rest: Float[Tensor, "b j 3"], R: Float[Tensor, "b j 3 3"]
) -> Float[Tensor, "b j 4 4"]:
    """T_posed_rest of every joint: what `ops.skin` takes."""
    turned, moved = _chain(parents, rest, R)
    return make_transform(turned, moved - (turned @ rest[..., None])[..., 0])


def _chain(parents: tuple[int, ...], rest: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation [b, j, 3, 3] and position [b, j, 3] of every joint in model space."""
    turned: list[Tensor] = []
    moved: list[Tensor] = []
    locals_, places = R.unbind(1), rest.unbind(1)
    for joint, parent in enumerate(parents):
        if parent < 0:
            turned.append(locals_[joint])
            moved.append(places[joint])
            continue
        offset = (places[joint] - places[parent])[..., None]
        moved.append(moved[parent] + (turned[parent] @ offset)[..., 0])
        turned.append(turned[parent] @ locals_[joint])
    return torch.stack(turned, 1), torch.stack(moved, 1)
