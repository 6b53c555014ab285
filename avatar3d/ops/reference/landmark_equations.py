"""Gauss-Newton equations of landmarks in plain torch."""

import torch
from torch import Tensor

from avatar3d.geometry.rotation import skew


def landmark_equations(
    points: Tensor, identity_basis: Tensor, expression_basis: Tensor, expression_scale: Tensor, pairs: Tensor,
    identity: Tensor, expression: Tensor, T_camera_head: Tensor, intrinsics: Tensor, detections: Tensor,
    weights: Tensor, pair_weights: Tensor, cauchy: float, discount: float, shared: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """See `ops.landmark_equations`."""
    scale = 1 + expression_scale @ identity
    moved = torch.einsum("lce,oe->olc", expression_basis, expression)
    R, t = T_camera_head[:, :3, :3], T_camera_head[:, None, :3, 3]
    turned = (points + identity_basis @ identity + scale * moved) @ R.mT
    X = turned + t
    z = X[..., 2].clamp_min(1e-3)
    pixel = intrinsics[:, None, :2] * X[..., :2] / z[..., None]
    residual = pixel + intrinsics[:, None, 2:] - detections
    D = torch.zeros(*X.shape[:2], 2, 3, dtype=X.dtype, device=X.device)
    D[..., 0, 0], D[..., 1, 1] = intrinsics[:, None, 0] / z, intrinsics[:, None, 1] / z
    D[..., 2] = -pixel / z[..., None]
    DR = D @ R[:, None]
    columns = [scale * torch.einsum("olrc,lce->olre", DR, expression_basis), -D @ skew(turned), D]
    if shared:
        identity_columns = torch.einsum("olrc,lck->olrk", DR, identity_basis)
        along = (DR @ moved[..., None]) * expression_scale
        columns += [pixel[..., None], identity_columns + along]
    J = torch.cat(columns, -1)
    J = torch.cat([J, J[:, pairs[:, 0]] - J[:, pairs[:, 1]]], 1)
    r = torch.cat([residual, residual[:, pairs[:, 0]] - residual[:, pairs[:, 1]]], 1)
    w = torch.cat([weights, pair_weights], 1)
    relative = w * r.square().sum(-1) / cauchy**2
    cost = discount * 0.5 * cauchy**2 * torch.log1p(relative).sum(1)
    JW = J * (discount * w / (1 + relative))[..., None, None]
    return torch.einsum("olri,olrj->oij", JW, J), torch.einsum("olri,olr->oi", JW, r), cost
