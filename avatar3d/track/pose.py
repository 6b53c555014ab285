"""A first guess of the head's pose, from landmarks alone, for any number of frames at once."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.transform import make_transform


def initial_pose(
    points: Float[Tensor, "l 3"],
    detections: Float[Tensor, "o l 2"],
    usable: Bool[Tensor, "l"],
    intrinsics: Float[Tensor, "o 4"],
) -> Float[Tensor, "o 4 4"]:
    """Scaled orthographic pose: the affine camera that fits best, and the rotation next to it.

    DeMenthon and Davis, "Model-based object pose in 25 lines of code" (1995), first iteration.

    Returns:
        T_camera_head, the head's origin being that of `points`.
    """
    X = torch.cat([points[usable], torch.ones_like(points[usable, :1])], 1)
    affine = torch.linalg.pinv(X) @ detections[:, usable]  # [o, 4, 2]
    first, second = affine[:, :3, 0], affine[:, :3, 1]
    size = (first.norm(dim=1) * second.norm(dim=1)).sqrt().clamp_min(1e-6)
    third = torch.linalg.cross(first, second) / size[:, None]
    U, _, Vt = torch.linalg.svd(torch.stack([first, second, third], 1))
    U = torch.cat([U[:, :, :2], U[:, :, 2:] * torch.linalg.det(U @ Vt)[:, None, None]], 2)
    z = intrinsics[:, :2].mean(1) / size
    xy = (affine[:, 3] - intrinsics[:, 2:]) / intrinsics[:, :2] * z[:, None]
    return make_transform(U @ Vt, torch.cat([xy, z[:, None]], 1))
