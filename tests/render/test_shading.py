import torch

from avatar3d.geometry.colour import linear_to_srgb
from avatar3d.render import ambient_light, directional_light, shade, studio_light
from avatar3d.render.shading import irradiance


def unit(rng, n):
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=rng, dtype=torch.float64), dim=-1)


def test_directional_light_is_close_to_the_clamped_cosine(rng):
    direction, normals = unit(rng, 1)[0], unit(rng, 2000)
    actual = irradiance(normals, directional_light(direction * 3, 2.0))
    expected = 2 * (normals @ direction).clamp_min(0)
    # Order 2 keeps over 99% of the energy of the clamped cosine (Ramamoorthi and Hanrahan 2001).
    assert ((actual[:, 0] - expected) ** 2).mean() < 0.01 * (expected**2).mean()


def test_ambient_light_is_the_same_from_everywhere(rng):
    torch.testing.assert_close(irradiance(unit(rng, 50), ambient_light(0.4)), torch.full((50, 3), 0.4).double())


def test_white_under_unit_light_stays_what_it_is(rng):
    albedo, normals = torch.rand(20, 3, generator=rng, dtype=torch.float64), unit(rng, 20)
    torch.testing.assert_close(shade(albedo, normals, ambient_light(1.0)), albedo, rtol=1e-4, atol=1e-4)
    assert shade(albedo, normals, None) is albedo
    half = shade(torch.ones(20, 3, dtype=torch.float64), normals, ambient_light(0.5))
    torch.testing.assert_close(half, linear_to_srgb(torch.full((20, 3), 0.5, dtype=torch.float64)))


def test_studio_light_does_not_clip_and_comes_from_above(rng):
    normals = unit(rng, 500)
    light = irradiance(normals, studio_light())
    assert float(light.max()) < 1.05
    up, down = (irradiance(torch.tensor([[0.0, s, 0.5]]).double(), studio_light()).mean() for s in (0.87, -0.87))
    assert up > 2 * down
