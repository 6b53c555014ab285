"""Projection of Gaussian splats in plain torch."""

import torch
from jaxtyping import Float
from torch import Tensor

LOW_PASS = 0.3  # square pixels
LEAST_ALPHA = 1 / 255
LOG_255 = 5.541263545158426
LEAST_RATIO = 0.000025  # of det(cov) to det(cov + low pass)


def sh_basis(directions: Float[Tensor, "*n 3"], coefficients: int) -> Float[Tensor, "*n k"]:
    """Real spherical harmonics of unit directions, in the order and sign of 3D Gaussian splatting."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, 0.28209479177387814)]
    if coefficients > 1:
        c = 0.4886025119029199
        basis += [-c * y, c * z, -c * x]
    if coefficients > 4:
        c, c0, c2 = 1.0925484305920792, 0.31539156525252005, 0.5462742152960396
        basis += [c * x * y, -c * y * z, c0 * (2 * z * z - x * x - y * y), -c * x * z, c2 * (x * x - y * y)]
    if coefficients > 9:
        c3, c2, c1, c0 = 0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154
        basis += [
            -c3 * y * (3 * x * x - y * y),
            c2 * x * y * z,
            -c1 * y * (4 * z * z - x * x - y * y),
            c0 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c1 * x * (4 * z * z - x * x - y * y),
            c2 / 2 * z * (x * x - y * y),
            -c3 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, -1)


def quat_matrix(q: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrix of a unit quaternion wxyz."""
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def project_splats(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    K: Float[Tensor, "b 3 3"],
    T_camera_world: Float[Tensor, "b 4 4"],
    width: int,
    height: int,
    *,
    sh: Float[Tensor, "n k 3"] | None = None,
    antialiased: bool = False,
    normals: bool = False,
    near: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """See `ops.project_splats`."""
    b = K.shape[0]
    splats = [t.expand(b, *t.shape) for t in (means, quats, scales, opacities)]
    if sh is not None:
        splats.append(sh.expand(b, *sh.shape))
    with torch.no_grad():
        everything = torch.ones(splats[3].shape, dtype=torch.bool, device=means.device)
        *_, visible = _project(splats, K, T_camera_world, width, height, near, antialiased, normals, everything)
    # What is not drawn is replaced before the arithmetic, so that no NaN of it reaches a gradient.
    *out, _ = _project(splats, K, T_camera_world, width, height, near, antialiased, normals, visible)
    return tuple(None if t is None else _where(visible, t, 0) for t in out)  # type: ignore[return-value]


def _where(mask: Tensor, value: Tensor, other: float) -> Tensor:
    return torch.where(mask.reshape(mask.shape + (1,) * (value.dim() - mask.dim())), value, other)


def _project(splats, K, T_camera_world, width, height, near, antialiased, normals, visible):
    means, quats, scales, opacities, *sh = (_where(visible, t, 1) for t in splats)
    W, t = T_camera_world[:, None, :3, :3], T_camera_world[:, None, :3, 3]
    A, offset = K[:, None, :2, :2], K[:, None, :2, 2]
    p = _where(visible, (W @ means[..., None])[..., 0] + t, 1)
    z = p[..., 2]
    slopes = p[..., :2] / torch.where(z >= near, z, 1)[..., None]
    pixels = (A @ slopes[..., None])[..., 0] + offset

    size = means.new_tensor([width, height])
    focal = K[:, None].diagonal(dim1=-2, dim2=-1)[..., :2]
    ends = torch.stack([(-0.15 * size - offset) / focal, (1.15 * size - offset) / focal])
    clamped = torch.maximum(torch.minimum(slopes, ends.amax(0)), ends.amin(0))
    inverse = (1 / torch.where(z >= near, z, 1))[..., None, None]
    J = torch.cat([A * inverse, -(A @ clamped[..., None]) * inverse], -1)

    length = quats.square().sum(-1)
    turned = (length > 1e-24) & (length < 1e24)
    R = quat_matrix(quats / torch.where(turned, length, 1).sqrt()[..., None])
    N = J @ W @ R * scales[..., None, :]
    N0, N1 = N[..., 0, :], N[..., 1, :]
    a, c, off = N0.square().sum(-1), N1.square().sum(-1), (N0 * N1).sum(-1)
    det0 = torch.linalg.cross(N0, N1).square().sum(-1)
    det = det0 + LOW_PASS * (a + c) + LOW_PASS**2
    conics = torch.stack([c + LOW_PASS, -off, a + LOW_PASS], -1) / det[..., None]
    if antialiased:
        opacities = opacities * (det0 / det).clamp_min(LEAST_RATIO).sqrt()

    reach = 2 * (opacities + LOG_255 - 1)
    room = torch.maximum(0.5 - pixels, pixels - (size - 0.5)).clamp_min(0)
    finite = torch.isfinite(pixels.sum(-1) + det + opacities + z + scales.sum(-1))
    visible = finite & turned & (z >= near) & (opacities >= LEAST_ALPHA) & (1 / det > 0)
    visible &= (room.square() <= reach[..., None] * (torch.stack([a, c], -1) + LOW_PASS)).all(-1)

    centre = -(W.transpose(-1, -2) @ t[..., None])[..., 0]
    away = means - centre
    colors = None
    if sh:
        distance = away.square().sum(-1, keepdim=True)
        directions = away / torch.where(distance > 0, distance, 1).sqrt()
        colors = torch.einsum("bnk,bnkc->bnc", sh_basis(directions, sh[0].shape[2]), sh[0]) + 0.5
        visible &= torch.isfinite(colors.sum(-1))
        colors = torch.where(colors > 0, colors, 0)
    normal = None
    if normals:
        axis = scales.square().argmin(-1)[..., None, None].expand(*scales.shape, 1)
        normal = R.gather(-1, axis)[..., 0]
        normal = torch.where((normal * away).sum(-1, keepdim=True) > 0, -normal, normal)
    return pixels, conics, opacities, z, colors, normal, visible
