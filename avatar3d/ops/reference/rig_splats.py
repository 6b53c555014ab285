"""Splats that ride on triangles, in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_quat


def rig_splats(
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    face: Int[Tensor, "n"],
    barycentrics: Float[Tensor, "n 3"],
    offsets: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 4"], Float[Tensor, "b n 3"]]:
    """See `ops.rig_splats`."""
    b = vertices.shape[0]
    corners = vertices[:, faces.long()[face.long()]]
    splats = [t.expand(b, *t.shape) for t in (barycentrics, offsets, quats, scales)]
    with torch.no_grad():
        out = _rig(corners, *splats)
        finite = torch.cat(out, -1).sum(-1, keepdim=True).isfinite()
    # What is not finite is replaced before the arithmetic, so that no NaN of it reaches a gradient.
    safe = _rig(torch.where(finite[..., None], corners, 0), *(torch.where(finite, t, 1) for t in splats))
    means, quats, scales = (torch.where(finite, s, o) for s, o in zip(safe, out, strict=True))
    return means, quats, scales


def _rig(corners: Tensor, barycentrics: Tensor, offsets: Tensor, quats: Tensor, scales: Tensor):
    e1, e2 = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    nn = torch.linalg.cross(e1, e2).square().sum(-1, keepdim=True)
    ee = e1.square().sum(-1, keepdim=True)
    usable = (nn > 1e-30) & (nn < 1e30) & (ee > 1e-30) & (ee < 1e30)
    e1 = torch.where(usable, e1, e1.new_tensor([1, 0, 0]))
    e2 = torch.where(usable, e2, e2.new_tensor([0, 1, 0]))
    normal = torch.linalg.cross(e1, e2)
    length = normal.norm(dim=-1, keepdim=True)
    x, z = e1 / e1.norm(dim=-1, keepdim=True), normal / length
    R = torch.stack([x, torch.linalg.cross(z, x), z], -1)
    size = torch.where(usable, length.sqrt(), 0)
    means = (barycentrics[..., None] * corners).sum(-2) + size * (R @ offsets[..., None])[..., 0]
    squared = quats.square().sum(-1, keepdim=True)
    turned = (squared > 1e-24) & (squared < 1e24)
    quats = torch.where(turned, quats, 1)
    q = torch.where(turned, quats / quats.norm(dim=-1, keepdim=True), 0)
    return means, quat_product(matrix_to_quat(R), q), size * scales


def quat_product(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The rotation b followed by the rotation a, quaternions wxyz."""
    w, v = a[..., :1], a[..., 1:]
    s, u = b[..., :1], b[..., 1:]
    return torch.cat([w * s - (v * u).sum(-1, keepdim=True), w * u + s * v + torch.linalg.cross(v, u)], -1)
