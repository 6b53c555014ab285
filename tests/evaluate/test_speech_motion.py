import math

import pytest
import torch

from avatar3d.evaluate import speech_motion as judge
from avatar3d.types import ARKIT_INDEX, Motion

JAW = ARKIT_INDEX["jawOpen"]


def talking(rng, frames=120, fps=25.0):
    values = torch.nn.functional.interpolate(
        torch.rand(1, 1, frames // 4, generator=rng), size=frames, mode="linear", align_corners=True
    )[0, 0]
    expression = torch.zeros(frames, 52)
    expression[:, JAW] = 0.6 * values
    return Motion(fps=fps, expression=expression)


def test_same_motion_scores_perfectly(rng):
    motion = talking(rng)
    scores = judge.compare(motion, motion)
    assert scores["lips"]["correlation"] == pytest.approx(1, abs=1e-6)
    assert scores["lips"]["lag_ms"] == 0
    assert scores["lve"]["mm2"] == pytest.approx(0, abs=1e-9) and scores["fdd"]["mm2"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("late", [-2, 3])
def test_lag_is_found_and_late_is_positive(rng, late):
    motion = talking(rng)
    moved = Motion(fps=25.0, expression=motion.expression.roll(late, 0))
    lips = judge.compare(moved, motion)["lips"]
    assert lips["lag_ms"] == 40 * late
    assert lips["best_correlation"] > 0.97 > lips["correlation"]


def test_other_frame_rate_is_the_same_motion(rng):
    motion = talking(rng, frames=120)
    times = torch.arange(288, dtype=torch.float64) / 60
    faster = Motion(fps=60.0, expression=judge.sampled_at(motion.expression, 25.0, times))
    lips = judge.compare(faster, motion)["lips"]
    assert lips["correlation"] > 0.999 and lips["lag_ms"] == 0


def test_vertex_errors_by_hand(rng):
    # the jaw a little further open: the farthest lip vertex moves by its displacement, every frame
    truth = talking(rng)
    wider = truth.expression.clone()
    wider[:, JAW] += 0.1
    from avatar3d.models.head import load_head

    head = load_head()
    lips = head.regions["lips_outer"] | head.regions["lips_inner"]
    far = float((head.expression_basis[JAW][lips] * 100).norm(dim=1).max())  # mm at 0.1
    scores = judge.vertex_scores(Motion(fps=25.0, expression=wider), truth)
    assert scores["lve"]["mm"] == pytest.approx(far, rel=1e-4)
    assert scores["lve"]["mm2"] == pytest.approx(far**2, rel=1e-4)


def test_fdd_counts_the_upper_face_only(rng):
    truth = talking(rng)
    lively = truth.expression.clone()
    lively[:, ARKIT_INDEX["browInnerUp"]] = torch.rand(len(lively), generator=rng)
    still = judge.vertex_scores(truth, Motion(fps=25.0, expression=lively))["fdd"]["mm2"]
    over = judge.vertex_scores(Motion(fps=25.0, expression=lively), truth)["fdd"]["mm2"]
    assert still > 0.1 and over == pytest.approx(-still, rel=1e-5)


def test_lip_opening_of_the_head_model():
    expression = torch.zeros(3, 52)
    expression[1, JAW] = 0.3
    expression[2, JAW], expression[2, ARKIT_INDEX["mouthClose"]] = 0.3, 0.3
    rest, opened, closed = judge.lip_opening(expression).tolist()
    assert rest == 0 and opened > 5 and closed < 0.5 * opened


def test_landmark_opening_is_in_millimetres():
    points = torch.zeros(2, 478, 2)
    points[:, 33, 0], points[:, 263, 0] = -45.0, 45.0
    points[1, 14, 1] = 12.0
    torch.testing.assert_close(judge.landmark_opening(points), torch.tensor([0.0, 12.0]))
    torch.testing.assert_close(judge.landmark_opening(points * 3), torch.tensor([0.0, 12.0]))


def test_closure_rate_by_hand():
    expression = torch.zeros(100, 52)
    expression[:, JAW] = 0.3
    expression[20:25, JAW] = 0
    motion = Motion(fps=50.0, expression=expression)
    assert judge.closure_rate(motion, [(0.41, 0.47)]) == 1
    assert judge.closure_rate(motion, [(0.41, 0.47), (1.0, 1.1)]) == 0.5
    with pytest.raises(ValueError, match="expected one or more"):
        judge.closure_rate(motion, [])


def test_loudness_opens_the_jaw_where_it_is_loud():
    t = torch.arange(32000) / 16000
    motion = judge.loudness_motion(torch.sin(2000 * t) * (t > 1), 16000)
    assert motion.frames == math.ceil(2 * motion.fps)
    jaw = motion.expression[:, JAW]
    assert float(jaw[:48].max()) < 0.01 and float(jaw[55:95].min()) > 0.4


def test_too_little_in_common_is_refused(rng):
    motion = talking(rng)
    short = Motion(fps=25.0, expression=motion.expression[:5])
    with pytest.raises(ValueError, match="5 frames in common; expected 10 or more"):
        judge.compare(short, motion)


def test_untracked_frames_do_not_count(rng):
    truth = talking(rng)
    broken = truth.expression.clone()
    broken[30:60] = torch.rand(30, 52, generator=rng)
    confidence = torch.ones(120)
    confidence[30:60] = 0
    scores = judge.compare(truth, Motion(fps=25.0, expression=broken, confidence=confidence))
    assert scores["lips"]["correlation"] == pytest.approx(1, abs=1e-6)
