"""Structural similarity in plain torch."""

import torch
from jaxtyping import Float
from torch import Tensor

RADIUS, SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2


def ssim(a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"], *, margin: int = 0) -> Float[Tensor, "b"]:
    """See `ops.ssim`. Windows whose centre is nearer than `margin` to the border do not count."""
    inside = slice(margin, a.shape[1] - margin), slice(margin, a.shape[2] - margin)
    return ssim_map(a, b)[:, inside[0], inside[1]].mean((1, 2, 3))


def photometric_loss(
    image: Float[Tensor, "b h w c"],
    target: Float[Tensor, "b h w c"],
    weights: Float[Tensor, "b h w"] | None,
    ssim_weight: float,
) -> Float[Tensor, "b"]:
    """See `ops.photometric_loss`."""
    target = target.detach()
    loss = (1 - ssim_weight) * (image - target).abs() + ssim_weight * (1 - ssim_map(image, target))
    if weights is not None:
        weights = weights.detach()[..., None]
        loss = torch.where(weights != 0, weights * loss, 0)
    return loss.mean((1, 2, 3))


def ssim_map(a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
    """Similarity of the windows about every pixel; beyond the border lie zeros."""
    mu_a, mu_b = _filter(a), _filter(b)
    variances = _filter(a * a) - mu_a * mu_a + _filter(b * b) - mu_b * mu_b
    covariance = _filter(a * b) - mu_a * mu_b
    means = (2 * mu_a * mu_b + C1) / (mu_a * mu_a + mu_b * mu_b + C1)
    return means * (2 * covariance + C2) / (variances + C2)


def _filter(x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
    c = x.shape[3]
    at = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    taps = torch.exp(-at.square() / (2 * SIGMA**2))
    taps = taps / taps.sum()
    window = (taps[:, None] * taps).expand(c, 1, -1, -1).contiguous()
    return torch.nn.functional.conv2d(x.movedim(3, 1), window, padding=RADIUS, groups=c).movedim(1, 3)
