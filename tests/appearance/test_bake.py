"""The bake against a ball whose texture, light and exposures are known."""

import numpy as np
import pytest
import torch

from avatar3d.appearance.chart import build_chart, mirrored_uv
from avatar3d.appearance.eyes import eyeball_colour
from avatar3d.appearance.finish import finish
from avatar3d.appearance.inside import measure_inside, settle_tints
from avatar3d.appearance.light import weighted_quantile
from avatar3d.appearance.observe import Picture, cut_out, observe, sample
from avatar3d.appearance.regions import skin_faces
from avatar3d.appearance.texture import bake
from avatar3d.geometry.colour import srgb_to_linear
from avatar3d.geometry.harmonics import sh_basis

YAWS = np.linspace(-0.9, 0.9, 9)
GAINS = 1 + 0.2 * np.sin(3 * np.arange(9))


def picture(index, shot):
    return Picture(frame=index, image=shot.image, origin=(0, 0), camera=shot.camera)


@pytest.fixture(scope="module")
def observations(ball, sphere_tools):
    out = []
    for i, yaw in enumerate(YAWS):
        blob = (90, 90, 130, 130) if i in (2, 6) else None  # a hand before the face
        shot = sphere_tools["shoot"](yaw, 0.2 * np.sin(i), gain=float(GAINS[i]), blob=blob)
        out.append(observe(picture(i, shot), ball.neutral @ shot.R.T, ball.faces))
    return out


@pytest.fixture(scope="module")
def baked(ball, observations):
    chart, coarse = build_chart(ball, 256), build_chart(ball, 32)
    return chart, coarse, bake(observations, ball, chart, coarse, sharp=[1.0] * len(observations))


def directions(chart, ball):
    return torch.nn.functional.normalize(chart.interpolate(ball.neutral, ball.faces), dim=1)


def test_albedo_light_and_gains_are_recovered(ball, baked, sphere_tools):
    chart, _, result = baked
    d = directions(chart, ball)
    front = (d[:, 2] > 0.2) & ~result.fine.isnan().any(1)
    assert front.float().sum() > 0.95 * (d[:, 2] > 0.2).float().sum()
    ratio = result.fine.exp()[front] / sphere_tools["albedo"](d[front])
    scale = ratio.median()
    assert (ratio / scale - 1).abs().median() < 0.03
    assert (ratio / scale - 1).abs().quantile(0.95) < 0.10
    gain = result.lighting.gain.mean(1) / torch.tensor(GAINS)
    assert (gain / gain.mean() - 1).abs().max() < 0.05
    facing = torch.nn.functional.normalize(torch.tensor([[0, 0, 1.0], [0.6, 0, 1], [-0.6, 0, 1], [0, 0.5, 1]]), dim=1)
    light = (sh_basis(facing) @ result.lighting.light) / (sh_basis(facing) @ sphere_tools["light"])
    assert (light * scale - 1).abs().max() < 0.2
    assert (light / light.mean() - 1).abs().max() < 0.06


def test_what_covers_the_surface_in_some_frames_leaves_no_trace(ball, baked, sphere_tools):
    chart, _, result = baked
    got = result.fine.exp()
    d = directions(chart, ball)
    middle = d[:, 2] > 0.8
    blue = got[middle, 2] / got[middle, 0]
    truth = sphere_tools["albedo"](d[middle])
    assert ((blue / (truth[:, 2] / truth[:, 0])) - 1).abs().max() < 0.12


def test_a_finished_texture_is_whole_and_free_of_background(ball, observations, baked):
    chart, coarse, result = baked
    tints = settle_tints(measure_inside(observations, None, result.lighting.gain, result.lighting.light))
    image, seen = finish(result, ball, chart, coarse, mirror=None, tints=tints)
    assert image.shape == (256, 256, 3) and seen.shape == (256, 256)
    linear = srgb_to_linear(image)
    assert linear.isfinite().all()
    # the background is green, the ball never is
    assert (linear[..., 1] / linear[..., 0]).max() < 0.9
    assert 0.2 < seen.float().mean() < 0.7
    assert not seen[:, :8].any() and not seen[:, -8:].any()  # the back of the ball
    back = linear[96:160, :16].reshape(-1, 3).mean(0)
    assert (back / torch.tensor([0.45, 0.28, 0.2])).log().abs().max() < 0.35


def test_hidden_texels_are_not_sampled(ball, sphere_tools):
    shot = sphere_tools["shoot"](0.0)
    # a second ball in front of the first hides it
    both = torch.cat([ball.neutral, ball.neutral * 0.4 + torch.tensor([0, 0, 0.25])])
    faces = torch.cat([ball.faces, ball.faces + len(ball.neutral)])
    seen = observe(picture(0, shot), both, faces)
    chart = build_chart(ball, 128)
    wanted = torch.zeros(len(faces), dtype=torch.bool)
    wanted[: len(ball.faces)] = True
    got = sample(seen, chart, faces, wanted)
    d = directions(chart, ball)[got.texel]
    assert d[:, 2].min() > 0.1
    assert (d[:, :2].norm(dim=1) > 0.5).all()  # the middle is hidden
    assert len(got.texel) > 100


def test_out_of_the_picture_is_none(ball, sphere_tools):
    shot = sphere_tools["shoot"](0.0)
    assert cut_out(0, shot.image, shot.camera, ball.neutral + torch.tensor([5.0, 0, 0])) is None
    assert cut_out(0, shot.image, shot.camera, ball.neutral + torch.tensor([0, 0, 5.0])) is None


def test_mirrored_texels(ball):
    chart = build_chart(ball, 64)
    uv, known = mirrored_uv(chart, ball, None)
    x = (chart.texel % 64 + 0.5) / 64
    inner = known & (x > 0.05) & (x < 0.95)
    assert inner.float().mean() > 0.4  # the diagonals of a ball are not all symmetric
    assert (uv[inner, 0] - (1 - x[inner])).abs().max() < 1e-4


def test_everything_of_a_ball_is_skin(ball):
    assert skin_faces(ball).all()


def test_weighted_quantile_ignores_what_has_no_weight():
    values = torch.tensor([1.0, 2.0, 100.0])[:, None, None].expand(3, 2, 1)
    weights = torch.tensor([[1.0, 0], [1, 0], [0, 0]])
    got = weighted_quantile(values, weights, 0.9)
    assert got[0, 0] == 2 and got[1, 0].isnan()


def test_an_eye_has_pupil_iris_and_sclera(observations):
    tints = settle_tints(measure_inside(observations, None, torch.ones(9, 3), torch.zeros(9, 3)))
    angle = torch.tensor([0.0, 0.3, 0.9])
    points = 0.012 * torch.stack([angle.sin(), 0 * angle, angle.cos()], 1)
    pupil, iris, sclera = eyeball_colour(points, torch.zeros(3), 0.012, tints.iris, tints.sclera)
    assert pupil.max() < 0.01 and 0.01 < iris.mean() < 0.1 and sclera.mean() > 0.3
