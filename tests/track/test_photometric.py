"""The photometric refinement: its chart, light, derivatives, and heads whose landmarks lie and whose pixels do not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from avatar3d.evaluate.synthetic import ClipConfig, make_clip
from avatar3d.geometry.harmonics import sh_basis, sh_slope
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.paint import Palette, paint
from avatar3d.render import render_mesh
from avatar3d.render.shading import ambient_light, directional_light
from avatar3d.track import TrackConfig, observe, scheme
from avatar3d.track.detections import Detections, Lens, observations
from avatar3d.track.observe import State
from avatar3d.track.personal import corrected
from avatar3d.track.photometric import Term, refine
from avatar3d.track.problem import make_problem
from avatar3d.track.skin_chart import is_charted, make_chart
from avatar3d.track.skin_light import irradiance, solve_light
from avatar3d.track.skin_pictures import NOTHING, cut_patch, inside, pictures_of

FRAMES = 10


@pytest.fixture(scope="module")
def scene(head):
    """A head that turns, in pictures, with its true state."""
    config = ClipConfig(frames=FRAMES, width=320, height=240, yaw=30.0, active=4, strength=0.4, identity=0.7)
    clip = make_clip(head, config, seed=3)
    light = (directional_light(torch.tensor([-0.4, -0.6, -0.9]), 0.75) + ambient_light(0.35)).float()
    drawn = render_mesh(
        clip.vertices, head.faces, clip.camera, vertex_colours=paint(head, Palette())[None], light=light
    )
    images = (255 * drawn.rgb.clamp(0, 1)).round().to(torch.uint8).numpy()
    problem = make_problem(head, TrackConfig())
    T = clip.T_camera_head
    true = State(
        identity=clip.identity.double(), focal=torch.tensor([clip.camera.focal]).double(),
        expression=clip.expression.double(), R=T[:, :3, :3],
        t=T[:, :3, 3] + T[:, :3, :3] @ problem.origin,
    )  # fmt: skip
    return SimpleNamespace(clip=clip, images=images, problem=problem, true=true)


def seen(scene, state):
    """Observations whose landmarks are those of a state."""
    frames = torch.arange(FRAMES)
    detections = Detections(
        landmarks=scene.clip.landmarks, presence=torch.ones(FRAMES), camera=torch.zeros(FRAMES, dtype=torch.long),
        lenses=(Lens(width=320, height=240),), time=frames / 30.0, fps=30.0,
    )  # fmt: skip
    obs = observations(detections, minimum=0.5)
    return replace(obs, detections=observe.project(scene.problem, obs, state))


def patches(scene, obs, state):
    per_metre = observe.unit_pixels(scene.problem, obs, state) / scene.problem.interocular
    marks = obs.detections.float()
    return [cut_patch(i, m, float(s)) for i, m, s in zip(scene.images, marks, per_metre, strict=True)]


def test_the_chart_is_skin_of_the_face(head):
    chart = make_chart(head)
    at = points_on_faces(head.template, head.faces, chart.face, chart.weights)
    torch.testing.assert_close(at, chart.here.points)
    corners = head.faces[chart.face].long()
    for name in ("eyeball_left", "eyelids", "ears", "lips_inner", "teeth_upper"):
        assert not bool(head.regions[name][corners].all(1).any()), name
    assert float(at[:, 0].mean().abs()) < 2e-3 and len(at) > 800
    outward = torch.linalg.cross(chart.down.points, chart.across.points)
    assert float((outward[:, 2] > 0).float().mean()) > 0.8
    assert not is_charted(replace(head, regions={}))


def test_slope_of_harmonics():
    rng = torch.Generator().manual_seed(0)
    n = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    light = torch.randn(20, 9, generator=rng, dtype=torch.float64)
    n.requires_grad_(True)
    (slope,) = torch.autograd.grad((sh_basis(n) * light).sum(), n)
    torch.testing.assert_close(sh_slope(n.detach(), light), slope, atol=1e-5, rtol=1e-5)


def test_light_is_told_from_albedo_when_the_head_turns():
    rng = torch.Generator().manual_seed(1)
    normals = torch.nn.functional.normalize(torch.randn(300, 3, generator=rng) + torch.tensor([0, 0, 1.5]), dim=1)
    turns = rotvec_to_matrix(torch.stack([torch.zeros(9), torch.linspace(-0.6, 0.6, 9), torch.zeros(9)], 1))
    normals = normals @ turns.mT
    true = (directional_light(torch.tensor([0.5, 0.6, 0.8])) + ambient_light(0.5))[:, 0].float()
    gain = 1 + 0.1 * torch.randn(9, generator=rng)
    value = irradiance(normals, gain[:, None] * true)
    albedo = 0.2 + 0.6 * torch.rand(300, generator=rng)
    weights = torch.ones(9, 300)
    light = solve_light((albedo * value).log(), normals, weights, weights > 0)
    found = irradiance(normals, light)
    ratio = (found / value).log()
    assert float((ratio - ratio.mean()).std()) < 0.02  # one gain for all is left to the albedo
    assert float(value.log().std()) > 0.2


def test_derivatives(scene):
    true = scene.true
    obs = seen(scene, true)
    term = Term(
        scene.problem,
        make_chart(scene.problem.model),
        obs,
        patches(scene, obs, true),
        true,
        torch.zeros(5042, 3),
        2.5e-3,
    )
    look = term._look(true)
    value = irradiance(look.normal, term.light)
    J = term._jacobian(look, *term._slopes(look, value), slice(0, FRAMES))
    free = look.read[..., 0] - value.log()
    e, mask = true.expression.shape[1], term.mask

    def moved(column, by):
        step = torch.zeros(FRAMES, e + 6).double()
        if column < e + 6:
            step[:, column] = by
            if column < e:
                return replace(true, expression=true.expression + step[:, :e])
            return true.moved(step, scene.problem)
        if column == e + 6:
            return replace(true, focal=true.focal * float(torch.tensor(by).exp()))
        identity = true.identity.clone()
        identity[column - e - 7] += by
        return replace(true, identity=identity)

    names = scene.problem.model.expression_names
    columns = [names.index("jawOpen"), names.index("browInnerUp"), *range(e, e + 7), e + 7, e + 12]
    for column in columns:
        by = {e + 3: 2e-4, e + 4: 2e-4, e + 5: 1e-3}.get(column, 0.05 if column >= e + 7 else 4e-3)
        numeric = []
        for sign in (1, -1):
            other = term._look(moved(column, sign * by))
            numeric.append(other.read[..., 0] - irradiance(other.normal, term.light).log())
        numeric = ((numeric[0] - numeric[1]) / (2 * by))[mask]
        analytic = J[..., column][mask]
        slope = float((numeric * analytic).sum() / analytic.square().sum())
        assert abs(slope - 1) < 0.06, (column, slope)
        assert float(torch.corrcoef(torch.stack([numeric, analytic]))[0, 1]) > 0.97, column
    assert free.isfinite().all()


def test_pixels_undo_what_landmarks_get_wrong(scene):
    """Landmarks of a head that turns a tenth too little, as detectors see it."""
    true, problem = scene.true, scene.problem
    turn = matrix_to_rotvec(true.R[:1].mT @ true.R)
    wrong = replace(true, R=true.R[:1] @ rotvec_to_matrix(0.9 * turn), identity=0.7 * true.identity)
    obs = seen(scene, wrong)
    joint = SimpleNamespace(state=wrong, focal_sigma=torch.zeros(1))
    log_focal = torch.stack([true.focal.log(), torch.zeros(1).double()], 1)
    found = refine(
        problem, obs, patches(scene, obs, wrong), joint, torch.zeros(5042, 3), log_focal, TrackConfig(), hold_size=True
    )
    assert found is not None and found.after < 0.6 * found.before and found.points > 100

    def error(state):
        away = matrix_to_rotvec(true.R.mT @ state.R)
        return float((away - away.mean(0)).norm(dim=1).mean())

    assert error(found.joint.state) < 0.6 * error(wrong)


def test_too_few_pictures_or_points(scene):
    true, problem = scene.true, scene.problem
    joint = SimpleNamespace(state=true, focal_sigma=torch.zeros(1))
    log_focal = torch.stack([true.focal.log(), torch.zeros(1).double()], 1)
    obs = seen(scene, true)
    zero = torch.zeros(5042, 3)
    nothing = [NOTHING] * FRAMES
    assert refine(problem, obs, nothing, joint, zero, log_focal, TrackConfig(), hold_size=True) is None
    two = obs.at(torch.arange(2))
    joint = SimpleNamespace(state=true.at(slice(0, 2)), focal_sigma=torch.zeros(1))
    assert refine(problem, two, nothing[:2], joint, zero, log_focal, TrackConfig(), hold_size=True) is None


def test_a_face_outside_the_picture_has_no_patch(scene):
    marks = torch.rand(478, 2) * 50 - 200
    assert cut_patch(scene.images[0], marks, 1000.0) is NOTHING
    assert not bool(inside(NOTHING, torch.rand(9, 2) * 300).any())


def test_pictures_are_found_by_their_place():
    views = tuple(
        SimpleNamespace(frames_at=lambda wanted, v=v: (SimpleNamespace(index=i, image=10 * v + i) for i in wanted))
        for v in range(2)
    )
    read = pictures_of(SimpleNamespace(views=views), torch.tensor([0, 1, 0, 1, 1]))
    assert dict(read(torch.tensor([4, 2, 0, 3]))) == {0: 12, 1: 1, 2: 0, 3: 11}


def test_a_persons_own_error_is_taken_off(scene):
    true, problem = scene.true, scene.problem
    obs = seen(scene, true)
    yaw = torch.atan2(true.R[:, 0, 2], -true.R[:, 2, 2])
    bias = torch.zeros_like(obs.detections)
    nose = [1, 4, 5, 195]
    bias[:, nose, 0] = (4 + 10 * yaw)[:, None]
    bias[:, scheme.OVAL[3]] = 2.0
    found = corrected(
        problem, replace(obs, detections=obs.detections + bias), true, replace(obs, detections=obs.detections + bias)
    )
    left = (found.detections - obs.detections).norm(dim=-1)
    assert float(left[:, nose].mean()) < 0.35 * float(bias[:, nose].norm(dim=-1).mean())
    others = [i for i in range(468) if i not in nose and i != scheme.OVAL[3]]
    assert float(left[:, others].mean()) < 0.2
