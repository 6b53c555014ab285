"""A painted head, lit from a side: the light that divides out of its colours is the one that was there."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from avatar3d.appearance.chart import build_chart
from avatar3d.appearance.layout import in_one_texture
from avatar3d.appearance.light import FLOOR, Lighting, shade
from avatar3d.appearance.regions import faces_in, region, skin_faces
from avatar3d.appearance.scan_light import divide_light
from avatar3d.appearance.texture import Bake
from avatar3d.geometry.harmonics import sh_basis
from avatar3d.geometry.surface import vertex_normals
from avatar3d.models.head import load_head
from avatar3d.models.rig import build_rig
from avatar3d.render.shading import ambient_light, directional_light


@pytest.fixture(scope="module")
def head():
    """Rig, coarse and fine texels, normals, a face with a dark beard, moles and red cheeks, and where to measure."""
    model = load_head()
    rig = in_one_texture(build_rig(model, torch.zeros(len(model.identity_basis))))
    coarse, fine = build_chart(rig, 64), build_chart(rig, 128)
    normals = normalize(coarse.interpolate(vertex_normals(rig.neutral, rig.faces), rig.faces.long()), dim=1)
    points = coarse.interpolate(rig.neutral, rig.faces.long())
    albedo = torch.tensor([0.45, 0.28, 0.2]).log().expand(coarse.count, 3).clone()
    beard = faces_in(rig, region(rig, "chin", "jaw"))[coarse.face.long()]
    albedo[beard] -= 0.6
    albedo[faces_in(rig, region(rig, "cheek"))[coarse.face.long()]] += torch.tensor([0.1, -0.1, -0.05])
    albedo[faces_in(rig, region(rig, "brow"))[coarse.face.long()]] -= 1.0
    albedo[((points * 180).sin().prod(1) > 0.7)] -= 0.8
    face = faces_in(rig, region(rig, "face") & ~region(rig, "lip", "eyelid"))[coarse.face.long()]
    return rig, coarse, fine, normals, albedo, face


def lit(head, light: torch.Tensor) -> Bake:
    """What a scanner sees from the front; the fine level is not looked at."""
    rig, coarse, fine, normals, albedo, _ = head
    colour = albedo + (sh_basis(normals) @ light.float()).clamp_min(FLOOR).log()
    seen = skin_faces(rig)[coarse.face.long()] & (normals[:, 2] > -0.2)
    none = Lighting(light=torch.zeros(9, 3), gain=torch.ones(1, 3), albedo=albedo, trust=torch.ones(1, len(albedo)))
    return Bake(
        coarse=torch.where(seen[:, None], colour, torch.nan), confidence=seen.float(), fine=torch.zeros(fine.count, 3),
        lighting=none,
    )  # fmt: skip


def spread(head, bake: Bake) -> float:
    """Of the logarithm of what is left of light, over the seen face."""
    albedo, face = head[4:]
    return float((bake.coarse - albedo)[face & (bake.confidence > 0)].mean(1).std())


@pytest.mark.parametrize("turn", [-60, 40, 75])
def test_light_from_a_side_is_divided_out(head, turn):
    rig, coarse, fine, normals, _, face = head
    angle = math.radians(turn)
    sun = directional_light(torch.tensor([math.sin(angle), 0.3, math.cos(angle)]), torch.tensor([0.75, 0.7, 0.6]))
    bake = lit(head, ambient_light(0.4) + sun)
    found = divide_light(bake, rig.neutral, rig, fine, coarse)
    assert found is not None and spread(head, found) < 0.5 * spread(head, bake)
    way = found.lighting.light.mean(1)[3]
    assert way * angle > 0, "from the side it came from"
    seen = bake.confidence > 0
    change = bake.coarse - found.coarse
    expected = shade(normals, found.lighting.light).log()
    torch.testing.assert_close(change[seen], expected[seen], atol=1e-5, rtol=0)
    assert (found.fine != 0).all(1).float().mean() > 0.9
    level = change[face & seen].exp().mean()
    assert 0.85 < level < 1.15, "a face is as bright after as before"


def test_even_light_is_left_alone(head):
    rig, coarse, fine = head[:3]
    bake = lit(head, ambient_light(1.0))
    assert divide_light(bake, rig.neutral, rig, fine, coarse) is None
    forced = divide_light(bake, rig.neutral, rig, fine, coarse, "divide")
    assert forced is not None and spread(head, forced) < 0.15


def test_colours_may_be_kept(head):
    rig, coarse, fine = head[:3]
    bake = lit(head, ambient_light(0.2) + directional_light(torch.tensor([1.0, 0.2, 0.5])))
    assert divide_light(bake, rig.neutral, rig, fine, coarse, "keep") is None
    assert divide_light(bake, rig.neutral, rig, fine, coarse, "auto") is not None


def test_nothing_seen(head):
    rig, coarse, fine = head[:3]
    bake = lit(head, ambient_light(1.0))
    empty = Bake(coarse=bake.coarse * torch.nan, confidence=0 * bake.confidence, fine=bake.fine, lighting=bake.lighting)
    assert divide_light(empty, rig.neutral, rig, fine, coarse, "divide") is None
