"""Light and colour of a surface: second-order spherical-harmonics irradiance on Lambertian albedo."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear
from avatar3d.geometry.harmonics import sh_basis
from avatar3d.typing import typed

CLAY = (0.72, 0.69, 0.66)
"""sRGB albedo of a mesh that has neither texture nor vertex colours."""


@typed
def irradiance(normals: Float[Tensor, "*b 3"], light: Float[Tensor, "9 3"]) -> Float[Tensor, "*b 3"]:
    """Linear RGB that a white Lambertian surface reflects, at least 0."""
    return (sh_basis(normals) @ light.to(normals)).clamp_min(0)


@typed
def shade(
    albedo: Float[Tensor, "*b 3"], normals: Float[Tensor, "*b 3"], light: Float[Tensor, "9 3"] | None
) -> Float[Tensor, "*b 3"]:
    """sRGB colour of sRGB albedo under a light, not clipped above; the albedo itself without one.

    Args:
        albedo: sRGB, 0..1.
        normals: Unit, in the space that the light is given in.
        light: Irradiance coefficients in the order of `sh_basis`, linear RGB.
    """
    if light is None:
        return albedo
    return linear_to_srgb(srgb_to_linear(albedo) * irradiance(normals, light))


def directional_light(direction: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """Irradiance [9, 3] of a distant source: the order-2 fit of strength * max(0, n . direction).

    Args:
        direction: Towards the source; need not be of unit length.
        strength: Linear, one number or RGB.

    Ramamoorthi and Hanrahan (2001): factors pi, 2 pi / 3, pi / 4 on the harmonics of a delta.
    """
    d = torch.nn.functional.normalize(direction.double(), dim=0)
    A = torch.tensor([torch.pi] + [2 * torch.pi / 3] * 3 + [torch.pi / 4] * 5, dtype=torch.float64)
    return (A * sh_basis(d))[:, None] * torch.as_tensor(strength, dtype=torch.float64).expand(3)


def ambient_light(strength: float | Tensor = 1.0) -> Tensor:
    """Irradiance [9, 3] that is the same from everywhere."""
    light = torch.zeros(9, 3, dtype=torch.float64)
    light[0] = torch.as_tensor(strength, dtype=torch.float64) / 0.282095
    return light


def studio_light() -> Tensor:
    """Neutral three-point light [9, 3] for previews: key from the upper left of the picture, fill, back and ambient."""
    key = directional_light(torch.tensor([-0.5, 0.55, 0.8]), torch.tensor([0.66, 0.645, 0.62]))
    fill = directional_light(torch.tensor([0.8, 0.1, 0.5]), torch.tensor([0.22, 0.235, 0.26]))
    top = directional_light(torch.tensor([0.0, 1.0, -0.3]), torch.tensor([0.16, 0.16, 0.16]))
    return key + fill + top + ambient_light(0.16)
