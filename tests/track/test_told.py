"""The detector's own coefficients in the tracker."""

from dataclasses import replace

import pytest
import torch

from avatar3d.capture import open_capture
from avatar3d.pipeline import demo_clip
from avatar3d.track import TrackConfig, observe, track_landmarks
from avatar3d.track.calibration import calibrated
from avatar3d.track.detections import Detections, Lens, observations
from avatar3d.track.footage import find_face
from avatar3d.track.observe import State
from avatar3d.track.problem import make_problem
from avatar3d.track.told import SLOPES, believed, slopes
from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES

JAW, SMILE = ARKIT_INDEX["jawOpen"], ARKIT_INDEX["mouthSmileLeft"]


@pytest.fixture(scope="module")
def demo():
    return find_face(open_capture(demo_clip())).detections


def some(landmarks, scores=None):
    t = len(landmarks)
    return Detections(
        landmarks=landmarks, presence=torch.ones(t), lenses=(Lens(width=640, height=480),), scores=scores,
        camera=torch.zeros(t, dtype=torch.long), time=torch.arange(t) / 30.0, fps=30.0,
    )  # fmt: skip


def test_a_smiling_clip_does_not_make_a_smiling_person(demo, head):
    """The clip begins with closed lips and smiles from the first second on."""
    closed = demo.scores[:, JAW] < 0.05
    assert closed.sum() > 10
    told = track_landmarks(calibrated(demo, head), head, TrackConfig())
    alone = track_landmarks(calibrated(replace(demo, scores=None), head), head, TrackConfig())
    assert alone.expression[closed, JAW].mean() > 0.25
    assert told.expression[closed, JAW].mean() < 0.2
    assert torch.corrcoef(torch.stack([told.expression[:, JAW], demo.scores[:, JAW]]))[0, 1] > 0.8
    assert told.expression[~closed, SMILE].mean() > alone.expression[~closed, SMILE].mean()
    assert told.report["nme"]["median"] < 0.009


def test_what_is_told_is_a_prior(head, demo):
    problem = make_problem(head, TrackConfig())
    assert (problem.told_precision > 0).sum() == len(SLOPES)
    asked = {ARKIT_NAMES[int(i)] for i in torch.nonzero(problem.told.sum(1))[:, 0]}
    assert asked == set(SLOPES)
    obs = observations(demo, minimum=0.5)
    assert obs.trust.min() > 0.5
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(obs.frames, problem.expressions, generator=generator, dtype=torch.float64)
    state = State(
        identity=torch.zeros(1).double(), focal=torch.ones(1).double(), expression=x,
        R=torch.eye(3).double().repeat(obs.frames, 1, 1), t=torch.zeros(obs.frames, 3).double(),
    )  # fmt: skip
    curvature, slope, value = observe.expression_prior(problem, obs, state)
    step = 1e-5 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ahead, behind = (
        observe.expression_prior(problem, obs, replace(state, expression=x + s * step))[2] for s in (1, -1)
    )
    torch.testing.assert_close((ahead - behind) / 2, (slope * step).sum(1), rtol=1e-6, atol=1e-12)
    bent = (ahead + behind - 2 * value).sum()
    torch.testing.assert_close(bent, (curvature * step.square()).sum(), rtol=1e-2, atol=1e-12)


def test_profiles_and_missing_faces_are_not_asked(demo):
    facing, turned = demo.landmarks[:1].clone(), demo.landmarks[:1].clone()
    nose = turned[:, 1].clone()
    turned[:, 234] = nose + 0.1 * (turned[:, 234] - nose)
    assert believed(facing) == 1 and believed(turned) == 0
    gone = torch.full_like(facing, torch.nan)
    scores = torch.stack([demo.scores[0], torch.full((52,), torch.nan)])
    obs = observations(some(torch.cat([facing, gone]), scores), minimum=0.5)
    assert obs.trust.tolist() == [1, 0] and torch.isfinite(obs.scores).all()
    assert observations(some(facing), minimum=0.5).trust.tolist() == [0]


def test_models_without_arkit_names_are_not_told():
    assert not slopes(("expression_0", "expression_1")).any()
    assert slopes(("jawOpen",))[JAW, 0] == SLOPES["jawOpen"]
