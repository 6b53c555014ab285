"""Known truth: rendered model heads, whose shape, texture and light are known, back to an avatar."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar3d import models, storage
from avatar3d.appearance import reconstruct
from avatar3d.appearance.chart import build_chart
from avatar3d.appearance.finish import _scalp_tone, _strands
from avatar3d.appearance.layout import in_one_texture
from avatar3d.appearance.observe import choose_frames, posed_vertices
from avatar3d.appearance.reconstruct import take_pictures
from avatar3d.appearance.regions import faces_in, hairy, region
from avatar3d.appearance.shape import FADE, refine_shape
from avatar3d.appearance.silhouette import contour_points
from avatar3d.appearance.texture import Bake
from avatar3d.capture import open_capture
from avatar3d.errors import TrackingError
from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear
from avatar3d.geometry.surface import averaged, vertex_normals
from avatar3d.render import render_mesh
from avatar3d.types import Avatar, Camera, Track

SIZE = 300
YAWS = (-0.8, -0.4, -0.15, 0.0, 0.15, 0.4, 0.8)
WALL = torch.tensor([0.55, 0.65, 0.75])


@pytest.fixture(scope="module")
def model():
    return models.load("head")


def make_track(model, identity, yaws=YAWS) -> Track:
    t = len(yaws)
    T = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.75], [0, 0, 0, 1]])
    rotation = torch.zeros(t, 3)
    rotation[:, 1] = torch.tensor(yaws)
    translation = torch.tensor([0.0, -0.03, 0.0]).expand(t, 3).clone()
    return Track(
        model=model.name, identity=identity, expression=torch.zeros(t, model.expression_basis.shape[0]),
        rotation=rotation, translation=translation, cameras=(Camera.from_focal(2.0 * SIZE, SIZE, SIZE, T),),
        camera_of_frame=torch.zeros(t, dtype=torch.long), fps=25.0, time=torch.arange(t) / 25.0,
        residual=torch.ones(t), confidence=torch.ones(t), tracked=torch.ones(t, dtype=torch.bool),
    )  # fmt: skip


def colours(model) -> torch.Tensor:
    """sRGB of every vertex: skin with red lips and cheeks, brown hair."""
    linear = torch.tensor([0.45, 0.25, 0.18]).repeat(len(model.template), 1)
    rig = models.build_rig(model, torch.zeros(1))
    linear[region(rig, "cheek")] *= torch.tensor([1.1, 0.85, 0.85])
    linear[region(rig, "lip")] = torch.tensor([0.35, 0.11, 0.10])
    linear[hairy(rig)] = torch.tensor([0.06, 0.035, 0.02])
    return linear_to_srgb(linear)


LIGHT = torch.zeros(9, 3)
LIGHT[0] = 0.9 / 0.282095
LIGHT[3], LIGHT[1], LIGHT[2] = 0.3, 0.2, 0.15


def footage(model, track: Track, size: int = SIZE) -> np.ndarray:
    vertices = posed_vertices(model, track, torch.arange(len(track.tracked)))
    pictures = render_mesh(vertices, model.faces.long(), track.cameras[0], vertex_colours=colours(model)[None],
                           light=LIGHT, background=WALL)  # fmt: skip
    return (pictures.rgb.clamp(0, 1) * 255).round().byte().numpy()


@pytest.fixture(scope="module")
def person(model):
    identity = 0.7 * torch.randn(model.identity_basis.shape[0], generator=torch.Generator().manual_seed(3))
    track = make_track(model, identity)
    return track, open_capture(footage(model, track), fps=25.0)


@pytest.fixture(scope="module")
def avatar(model, person):
    track, capture = person
    return reconstruct(capture, track, model, texture_size=256, refine=False)


def test_the_texture_has_the_colours_of_the_head(model, avatar):
    albedo = srgb_to_linear(avatar.appearance.albedo.float() / 255)
    truth = srgb_to_linear(colours(model))
    rig = avatar.rig
    corners = rig.uvs[rig.uv_faces.long()].mean(1)
    x = (corners[:, 0] * 256).long().clamp(0, 255)
    y = ((1 - corners[:, 1]) * 256).long().clamp(0, 255)
    got, wanted = albedo[y, x], truth[rig.faces.long()].mean(1)
    for name, tolerance in (("forehead", 0.08), ("cheek", 0.1), ("chin", 0.12), ("nose", 0.12)):
        mask = faces_in(rig, region(rig, name))
        ratio = (got[mask] / wanted[mask]).median(0).values
        assert (ratio / ratio.mean() - 1).abs().max() < tolerance, (name, ratio)  # hue
    skin = faces_in(rig, region(rig, "forehead", "cheek"))
    scale = (got[skin] / wanted[skin]).median()
    hair = faces_in(rig, region(rig, "scalp"))
    assert ((got[hair] / wanted[hair]).median() / scale).log().abs() < 0.35  # most of it was never seen
    lips = faces_in(rig, region(rig, "lips_outer"))
    assert ((got[lips] / wanted[lips]).median(0).values / scale).log().abs().max() < 0.25


def test_frames_are_explained_by_texture_and_light(model, person, avatar):
    track, capture = person
    rig, look = avatar.rig, avatar.appearance
    vertices = posed_vertices(model, track, torch.tensor([3]))
    drawn = render_mesh(vertices, rig.faces.long(), track.cameras[0], uvs=rig.uvs, uv_faces=rig.uv_faces.long(),
                        texture=look.albedo.float()[None] / 255, light=look.light * look.exposure[3],
                        background=WALL)  # fmt: skip
    image = torch.from_numpy(capture.views[0].frame(3).image).float() / 255
    on_face = faces_in(rig, region(rig, "forehead", "cheek", "nose", "chin"))
    triangle = drawn.triangle[0].long()
    mask = (triangle >= 0) & on_face[triangle.clamp_min(0)]
    error = (drawn.rgb[0] - image)[mask].square().mean()
    assert -10 * math.log10(float(error)) > 30


def test_an_avatar_is_whole(avatar, person, tmp_path):
    track, _ = person
    assert avatar.appearance.albedo.shape == (256, 256, 3)
    assert avatar.appearance.exposure.shape == (len(YAWS), 3)
    assert avatar.motion.frames == len(YAWS) and avatar.footage.frames == len(YAWS)
    assert avatar.manifest["model"]["name"] == "head" and avatar.manifest["networks"]
    storage.save(tmp_path / "a.avatar", avatar)
    back = storage.load(tmp_path / "a.avatar", Avatar)
    assert torch.equal(back.appearance.albedo, avatar.appearance.albedo)


def test_an_outline_is_found_to_a_pixel(ball, sphere_tools):
    shot = sphere_tools["shoot"](0.0)
    c = contour_points(shot.image, ball.neutral * 0.93, ball.faces, shot.camera)
    assert (c.confidence > 0.5).float().mean() > 0.85  # at its four extremes the ball nearly touches the border
    centre = torch.tensor([110.0, 110.0])
    # the silhouette of a sphere: focal * r / sqrt(d^2 - r^2)
    radius = 2.6 * 220 * 0.1 / math.sqrt(0.6**2 - 0.1**2)
    found = (c.observed[c.confidence > 0.5] - centre).norm(dim=1)
    assert (found - radius).abs().max() < 1.5
    assert (found - radius).abs().median() < 0.7


def test_no_outline_in_an_empty_picture(ball, sphere_tools):
    shot = sphere_tools["shoot"](0.0)
    c = contour_points(np.full_like(shot.image, 90), ball.neutral, ball.faces, shot.camera)
    assert (c.confidence < 0.1).all()


def test_the_cranium_follows_the_outline_and_landmarks_stay(model):
    rig = models.build_rig(model, torch.zeros(1))
    above = ((rig.neutral[:, 1] - rig.neutral[region(rig, "eyeball")].mean(0)[1] - 0.04) / 0.06).clamp(0, 1)
    bump = region(rig, "scalp")[:, None] * above[:, None] * torch.nn.functional.normalize(rig.neutral, dim=1) * 0.015
    truth = replace(make_track(model, torch.zeros(model.identity_basis.shape[0])), offsets=bump)
    capture = open_capture(footage(model, truth), fps=25.0)
    track = replace(truth, offsets=None)
    pictures = take_pictures(capture, track, model, 7, 0, None)
    got = refine_shape(pictures, track, model)
    reached = models.build_rig(model, got.identity, got.offsets)
    start, wanted = rig.neutral, rig.neutral + bump
    top = bump.norm(dim=1) > 0.008
    assert (reached.neutral - wanted)[top].norm(dim=1).median() < 0.4 * (start - wanted)[top].norm(dim=1).median()
    e = model.landmarks["mediapipe478"]
    at = lambda v: (v[model.faces[e.faces.long()].long()] * e.weights[..., None]).sum(1)  # noqa: E731
    moved = (at(reached.neutral) - at(start))[:, :2].norm(dim=1)
    assert moved.median() < 0.5e-3 and moved.quantile(0.95) < 2e-3


def test_hair_seen_from_the_front_is_as_thick_behind(model):
    """Hair of 15 mm all around; only views from the front show it."""
    rig = models.build_rig(model, torch.zeros(1))
    hair = 0.015 * averaged(hairy(rig).float()[:, None], rig.faces.long(), FADE)
    volume = hair * vertex_normals(rig.neutral, rig.faces.long())
    start = make_track(model, torch.zeros(model.identity_basis.shape[0]), yaws=(-0.1, 0.0, 0.1))
    capture = open_capture(footage(model, replace(start, offsets=volume)), fps=25.0)
    got = refine_shape(take_pictures(capture, start, model, 3, 0, None), start, model)
    reached = models.build_rig(model, got.identity, got.offsets).neutral
    back = hairy(rig) & (rig.neutral[:, 2] < rig.neutral[hairy(rig), 2].quantile(0.1))
    behind = (rig.neutral - reached)[back, 2].median()
    assert 0.5 * 0.015 < behind < 1.6 * 0.015
    assert got.identity.norm() < 3  # the skull did not grow for it
    ears = region(rig, "ear_left") & ~hairy(rig)
    assert (reached - rig.neutral)[ears].norm(dim=1).median() < 4e-3


def test_hair_that_nobody_saw_has_strands_and_skin_has_none(model):
    rig = in_one_texture(models.build_rig(model, torch.zeros(1)))
    chart, scalp = build_chart(rig, 256), faces_in(rig, hairy(rig))
    dark, bald = (_strands(rig, chart, scalp, darker) for darker in (2.5, 0.3))
    assert not bald.any() and not dark[~scalp[chart.face.long()]].any()
    inside = dark[chart.of_faces(scalp)]
    assert 0.15 < inside.std() < 0.6 and inside.abs().mean() < 1


def test_the_colour_of_hair_is_not_that_of_the_hairline():
    seen = torch.tensor([-4.0] * 55 + [-1.0] * 45)[:, None].expand(100, 3)
    bake = Bake(coarse=seen, confidence=torch.ones(100), fine=seen, lighting=None)  # type: ignore[arg-type]
    scalp = torch.ones(100, dtype=torch.bool)
    assert (_scalp_tone(bake, bake.confidence, scalp, torch.full((3,), -1.0)) == -4).all()


def test_chosen_frames_differ_and_can_be_used(model):
    track = make_track(model, torch.zeros(4), yaws=tuple(np.linspace(-0.8, 0.8, 41)))
    tracked = torch.ones(41, dtype=torch.bool)
    tracked[:3] = False
    usable = torch.arange(41) < 38
    chosen = choose_frames(replace(track, tracked=tracked), model.expression_names, 6, usable)
    assert len(chosen) == 6 and (chosen.diff() > 0).all()
    assert chosen.min() >= 3 and chosen.max() < 38
    assert chosen.max() - chosen.min() > 25  # covers the turn


def test_errors_say_what_to_do(model, person):
    track, capture = person
    with pytest.raises(ValueError, match="multiple of 64"):
        reconstruct(capture, track, model, texture_size=100)
    with pytest.raises(ValueError, match="model"):
        reconstruct(capture, replace(track, model="flame"), model)
    away = replace(track, translation=track.translation + torch.tensor([9.0, 0, 0]))
    with pytest.raises(TrackingError, match="Check that the footage"):
        reconstruct(capture, away, model, texture_size=64)
