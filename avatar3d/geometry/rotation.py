"""Rotations: vectors (axis times angle, radians), matrices, and unit quaternions wxyz."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed


@typed
def skew(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The matrix of the cross product: skew(a) @ b = a x b."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


@typed
def rotvec_to_matrix(rotvec: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula; smooth and differentiable through zero."""
    square = (rotvec * rotvec).sum(-1)[..., None, None]
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    K = skew(rotvec)
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + a * K + b * (K @ K)


@typed
def matrix_to_quat(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternion wxyz with w >= 0, by the largest of the four components (Shepperd 1978)."""
    m = R.flatten(-2)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = m.unbind(-1)
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    ).clamp_min(0)
    rows = torch.stack(
        [
            torch.stack([squares[..., 0], m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, squares[..., 1], m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, squares[..., 2], m21 + m12], -1),
            torch.stack([m10 - m01, m02 + m20, m21 + m12, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    q = torch.nn.functional.normalize(rows.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


@typed
def quat_to_matrix(quat: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a quaternion wxyz, which is normalised first."""
    w, x, y, z = torch.nn.functional.normalize(quat, dim=-1).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).unflatten(-1, (3, 3))  # fmt: skip


@typed
def quat_product(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Hamilton product wxyz: first rotates by b, then by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz, aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx, aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )  # fmt: skip


@typed
def quat_to_rotvec(quat: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3"]:
    """Rotation vector of at most pi radians."""
    quat = torch.nn.functional.normalize(quat, dim=-1)
    quat = torch.where(quat[..., :1] < 0, -quat, quat)
    w, v = quat[..., :1], quat[..., 1:]
    sine = v.norm(dim=-1, keepdim=True)
    small = sine < 1e-7
    scale = torch.where(small, 2 / w, 2 * torch.atan2(sine, w) / torch.where(small, torch.ones_like(sine), sine))
    return scale * v


@typed
def rotvec_to_quat(rotvec: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternion wxyz."""
    angle = rotvec.norm(dim=-1, keepdim=True)
    return torch.cat([(angle / 2).cos(), 0.5 * torch.sinc(angle / (2 * torch.pi)) * rotvec], -1)


@typed
def matrix_to_rotvec(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Rotation vector of at most pi radians."""
    return quat_to_rotvec(matrix_to_quat(R))


@typed
def slerp(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"], t: Float[Tensor, "*b"]) -> Float[Tensor, "*b 4"]:
    """Interpolates quaternions along the shorter arc; `t` in 0..1."""
    dot = (a * b).sum(-1, keepdim=True)
    b, dot = torch.where(dot < 0, -b, b), dot.abs().clamp(max=1)
    angle = dot.acos()
    close = angle < 1e-4
    sine = torch.where(close, torch.ones_like(angle), angle.sin())
    t = t[..., None]
    wa = torch.where(close, 1 - t, ((1 - t) * angle).sin() / sine)
    wb = torch.where(close, t, (t * angle).sin() / sine)
    return torch.nn.functional.normalize(wa * a + wb * b, dim=-1)
