"""The detector's mean error, taken off its landmarks."""

from dataclasses import replace

import pytest
import torch
from synthetic import make_footage

from avatar3d.track.calibration import EDGES, calibrated, correct, features, learn, normalised, packaged_calibration
from avatar3d.types.face_points import mirror_points


@pytest.fixture
def seen(head):
    return make_footage(head, seed=0, frames=40).detections


def test_an_error_that_follows_the_view_is_learned_and_taken_off(head):
    """An error is put on known landmarks; on other people and views most of it goes."""
    direction = 0.03 * torch.randn(478, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = direction + direction[mirror_points()] * torch.tensor([-1.0, 1.0])  # the learner expects symmetry

    def wrong(points):
        upright, Q, size = normalised(points)
        turn = (upright[:, 1, 0] - upright[:, :468, 0].mean(1)).abs()[:, None, None]  # of the nose against the rest
        return points + size * ((0.5 + turn) * direction) @ Q

    people = [make_footage(head, seed=s, frames=40, noise=0).detections.landmarks for s in range(8)]
    found = learn(torch.cat([wrong(p) for p in people[:6]]), torch.cat(people[:6]))
    for true in people[6:]:
        before, after = ((points - true).norm(dim=-1).mean() for points in (wrong(true), correct(found, wrong(true))))
        assert after < 0.4 * before


def test_pictures_may_be_moved_scaled_turned_and_mirrored(seen):
    points = seen.landmarks[:5]
    calibration = packaged_calibration()
    expected = correct(calibration, points)
    c, s = torch.cos(torch.tensor(0.3)), torch.sin(torch.tensor(0.3))
    R = torch.tensor([[c, -s], [s, c]]).double()
    torch.testing.assert_close(correct(calibration, 1.7 * points @ R.T + 30), 1.7 * expected @ R.T + 30)
    mirror, flip = mirror_points(), torch.tensor([-1.0, 1.0]).double()
    torch.testing.assert_close(
        correct(calibration, points[:, mirror] * flip), expected[:, mirror] * flip, atol=0.2, rtol=0
    )


def test_the_packaged_error_is_small_and_bounded(seen):
    """A few percent of the inter-ocular distance, and no more for landmarks that no face can have."""
    calibration = packaged_calibration()
    points = seen.landmarks
    unit = (points[:, 33] - points[:, 263]).norm(dim=1).max()
    away = (correct(calibration, points) - points).norm(dim=-1) / unit
    assert 0.003 < float(away.mean()) < 0.03 and float(away.flatten().quantile(0.99)) < 0.13
    squeezed = points * torch.tensor([0.1, 1.0])
    assert float((correct(calibration, squeezed) - squeezed).norm(dim=-1).max() / unit) < 0.4


def test_frames_without_a_face_and_other_models_stay(head, seen):
    landmarks = seen.landmarks.clone()
    landmarks[3] = torch.nan
    out = calibrated(replace(seen, landmarks=landmarks), head)
    assert out.landmarks[3].isnan().all() and torch.isfinite(out.landmarks[4]).all()
    assert not torch.equal(out.landmarks[4], landmarks[4])
    assert calibrated(seen, replace(head, name="mine")) is seen


def test_edges_that_photographs_show_stay_where_they_are_seen_from_the_front(head):
    """Drawn heads have no lashes, and so the error on them is none of a person's."""
    people = [make_footage(head, seed=s, frames=40, noise=0).detections.landmarks for s in range(4)]
    true = torch.cat(people)
    wrong = true + 0.02 * normalised(true)[2]
    found = learn(wrong, true)
    front = features(found, normalised(wrong)[0])[:, 1:4].abs().amax(1) < 0.7
    assert front.sum() > 5
    by = (correct(found, wrong) - wrong)[front].norm(dim=-1)
    assert by[:, list(EDGES)].median() < 0.5 * by[:, [1, 10, 152]].median()
    assert not packaged_calibration().error[0].view(478, 2)[list(EDGES)].any()
