"""From camera space to pixels."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.types.camera import Camera
from avatar3d.typing import typed


@typed
def project(points: Float[Tensor, "*b n 3"], camera: Camera) -> Float[Tensor, "*b n 2"]:
    """World points to pixels, lens distortion included. Points behind the camera give meaningless pixels."""
    T, K = camera.T_camera_world.to(points), camera.K.to(points)
    p = points @ T[:3, :3].T + T[:3, 3]
    xy = p[..., :2] / p[..., 2:]
    if camera.distortion is not None:
        xy = distort(xy, camera.distortion.to(points))
    return xy @ K[:2, :2].T + K[:2, 2]


@typed
def distort(xy: Float[Tensor, "*b 2"], coefficients: Float[Tensor, "k"]) -> Float[Tensor, "*b 2"]:
    """OpenCV's radial and tangential model on normalised coordinates; (k1, k2, p1, p2, k3), shorter is padded."""
    k = torch.zeros(5, dtype=xy.dtype, device=xy.device)
    k[: len(coefficients)] = coefficients[:5]
    k1, k2, p1, p2, k3 = k.unbind()
    x, y = xy.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return torch.stack([x * radial + dx, y * radial + dy], -1)
