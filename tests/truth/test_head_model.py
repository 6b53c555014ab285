"""Known truth: the tracker on landmarks of the model's own heads, turning to 45 degrees, with errors of 0.3% of the
inter-ocular distance on each axis."""

import pytest
import torch
from truth_cases import Outcome, detections, landmarks_of, solve

from avatar3d import models
from avatar3d.appearance.observe import posed_vertices
from avatar3d.evaluate.synthetic import ClipConfig, make_clip, with_noise
from avatar3d.geometry.projection import project

NOISE = 0.003


def track(seed: int, config: ClipConfig, *, focal_known: bool) -> Outcome:
    model = models.load("head")
    clip = make_clip(model, config, seed=seed)
    return solve(model, clip, detections(clip, with_noise(clip.landmarks, NOISE, seed)), focal_known=focal_known)


@pytest.mark.parametrize("seed", [0, 3])
def test_identity_pose_and_expression_are_recovered(seed):
    found = track(seed, ClipConfig(), focal_known=True)
    assert found.track.tracked.all()
    assert found.rotation.median() < 0.5
    # One camera cannot tell a small head that is near from a large one that is far: see test_size.py for size
    assert found.depth_by_size.median() < 0.005
    assert found.expression < 0.05
    assert found.expression < 0.45 * found.activity  # seeing no expression at all would pass the line above
    assert found.surface.median < 0.6
    assert found.depth.median() < 0.06


@pytest.mark.parametrize("seed", [0, 3])
def test_focal_length_is_found_when_the_head_turns(seed):
    found = track(seed, ClipConfig(), focal_known=False)
    assert found.track.focal_determined
    assert found.focal_ratio == pytest.approx(1, abs=0.05)
    assert found.rotation.median() < 0.5


@pytest.mark.parametrize("seed", [0, 3])
def test_lips_and_lids_open_as_far_as_they_do(seed):
    """Slope of the opening against truth, in the picture, over frames from the front.

    Through the detector lips follow its landmarks with slope 1.00 and lids with 0.93 to 0.96 (six seeds), and these
    follow drawn heads with 0.83 and 0.66 alone.
    """
    model = models.load("head")
    clip = make_clip(model, ClipConfig(yaw=20, pitch=12), seed=seed)
    seen = detections(clip, with_noise(clip.landmarks, NOISE, seed))
    found = solve(model, clip, seen, focal_known=True).track
    posed = posed_vertices(model, found, torch.arange(len(clip.landmarks)))
    places = torch.stack([project(landmarks_of(model, v[None])[0], found.cameras[0]) for v in posed]).double()
    for pairs, least in ((((13, 14), (82, 87), (312, 317)), 0.95), (((386, 374), (159, 145)), 0.90)):
        true, ours = (
            torch.stack([(p[:, a] - p[:, b]).norm(dim=1) for a, b in pairs]).mean(0)
            for p in (clip.landmarks.double(), places)
        )
        x, y = true - true.mean(), ours - ours.mean()
        assert least < float((x * y).sum() / (x * x).sum()) < 1.1


@pytest.mark.parametrize("seed", [0, 1])
def test_focal_length_is_not_determined_by_a_frontal_head(seed):
    found = track(seed, ClipConfig(yaw=4, pitch=3, roll=3), focal_known=False)
    assert not found.track.focal_determined
    assert found.track.report["focal"]["determined"] is False
