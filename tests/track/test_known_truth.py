"""What the tracker finds from landmarks of heads whose identity, expression, pose and camera are known."""

from dataclasses import replace

import pytest
import torch
from synthetic import FOCAL, camera_poses, landmarks_of, make_footage

from avatar3d.errors import DetectionError
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.track import TrackConfig, track_landmarks
from avatar3d.types.arkit import ARKIT_INDEX


def rotation_errors(track, truth):
    R, _ = camera_poses(track, truth.origin)
    return torch.rad2deg(matrix_to_rotvec(R @ truth.R.mT).norm(dim=1))


def depth_errors(track, truth, model):
    """Share of the distance. One camera cannot tell a small head from a far one: lengths are in head sizes."""
    size = lambda points: (points - points.mean(-2, keepdim=True)).norm()  # noqa: E731
    found = landmarks_of(model, track.identity[None])[0]
    scale = size(landmarks_of(model, truth.identity[None].float())[0]) / size(found)
    _, t = camera_poses(track, truth.origin)
    return (scale * t[:, 2] / truth.t[:, 2] - 1).abs()


def wander(track, truth):
    """Root mean square rotation error about its own mean, degrees: a constant part is a matter of shape."""
    R, _ = camera_poses(track, truth.origin)
    away = matrix_to_rotvec(R @ truth.R.mT)
    return torch.rad2deg((away - away.mean(0)).norm(dim=1)).square().mean().sqrt()


def surface_error(track, truth, model):
    """Median distance of corresponding vertices of the face after alignment with scale, mm."""
    face = model.regions["face"]
    vertices = model.rest_vertices(track.identity[None])[0].double() + track.offsets
    found, true = vertices[face], truth.neutral[face]
    T = procrustes(found, true, with_scale=True)
    return 1000 * float((apply(T, found) - true).norm(dim=1).median())


@pytest.mark.parametrize("moving", [False, True])
def test_known_focal_length(head, moving):
    rotation, depth, expression, surface = [], [], [], []
    for seed in range(4):
        truth = make_footage(head, seed=seed, frames=60, moving=moving)
        config = TrackConfig(focal=FOCAL, smooth_iterations=1 if moving else 0)
        track = track_landmarks(truth.detections, head, config)
        assert bool(track.tracked.all())
        rotation.append(rotation_errors(track, truth))
        depth.append(depth_errors(track, truth, head))
        expression.append((track.expression - truth.expression).abs())
        surface.append(surface_error(track, truth, head))
    assert float(torch.cat(rotation).median()) < 0.5
    assert float(torch.cat(depth).median()) < 0.01
    assert float(torch.cat(expression).mean()) < 0.05
    assert max(surface) < 0.6


def test_unknown_focal_length_is_found_when_the_head_turns(head):
    errors = []
    for seed in range(3):
        track = track_landmarks(make_footage(head, seed=seed, frames=40, moving=seed > 0).detections, head)
        assert track.focal_determined
        errors.append(abs(track.cameras[0].focal / FOCAL - 1))
    assert sorted(errors)[1] < 0.05


def test_unknown_focal_length_is_not_determined_from_a_still_head(head):
    track = track_landmarks(make_footage(head, seed=1, frames=40, yaw=2.0, moving=True).detections, head)
    assert not track.focal_determined and not track.report["focal"]["determined"]


def test_smoothing_removes_jitter_and_no_truth(head):
    """Less jitter, and no larger an error: neither lag nor loss of fast motion."""
    truth = make_footage(head, seed=3, frames=90, yaw=30.0, moving=True, noise=0.01)
    alone, smooth = (
        track_landmarks(truth.detections, head, TrackConfig(focal=FOCAL, smooth_iterations=n)) for n in (0, 1)
    )
    assert smooth.report["jitter"]["ratio"] < 0.6 < alone.report["jitter"]["ratio"]
    assert float(wander(smooth, truth)) < 0.7 * float(wander(alone, truth))
    assert float(rotation_errors(smooth, truth).median()) < float(rotation_errors(alone, truth).median()) + 0.05
    error = lambda track: float((track.expression - truth.expression).abs().mean())  # noqa: E731
    assert error(smooth) <= error(alone)


def test_a_blink_is_not_smoothed_away(head):
    truth = make_footage(head, seed=4, frames=40, yaw=10.0, moving=True)
    names = [ARKIT_INDEX[n] for n in ("eyeBlinkLeft", "eyeBlinkRight")]
    expression = truth.expression.clone()
    expression[:, names] = 0
    expression[18:23, names] = torch.tensor([0.5, 1, 1, 0.6, 0.2]).double()[:, None]
    identity = truth.identity[None].float().expand(40, -1)
    points = landmarks_of(head, identity, expression.float())
    X = (points - truth.origin) @ truth.R.mT + truth.t[:, None]
    pixels = FOCAL * X[..., :2] / X[..., 2:] + torch.tensor([320.0, 240])
    track = track_landmarks(replace(truth.detections, landmarks=pixels), head, TrackConfig(focal=FOCAL))
    blink = track.expression[:, names].mean(1)
    assert float(blink[19:21].max()) > 0.85 and int(blink.argmax()) in (19, 20)
    assert float(blink[:16].max()) < 0.2


def test_gaps_are_bridged_and_marked(head):
    truth = make_footage(head, seed=5, frames=70, yaw=25.0, moving=True)
    landmarks = truth.detections.landmarks.clone()
    landmarks[20:24], landmarks[40:65] = torch.nan, torch.nan
    presence = truth.detections.presence.clone()
    presence[20:24], presence[40:65], presence[10] = 0, 0, 0.2
    detections = replace(truth.detections, landmarks=landmarks, presence=presence)
    track = track_landmarks(detections, head, TrackConfig(focal=FOCAL))
    missing = {10, *range(20, 24), *range(40, 65)}
    assert {d.index for d in track.dropped} == missing == set(torch.nonzero(~track.tracked)[:, 0].tolist())
    assert (track.confidence[~track.tracked] == 0).all() and track.residual[~track.tracked].isnan().all()
    reasons = {d.index: d.reason for d in track.dropped}
    assert "no face" in reasons[21] and "presence 0.20" in reasons[10]
    errors = rotation_errors(track, truth)
    assert float(errors[20:24].max()) < 1.5 and torch.isfinite(track.rotation).all()
    between = track.rotation[40:65] - track.rotation[[39]]
    whole = (track.rotation[65] - track.rotation[39]).norm()
    assert float(between.norm(dim=1).max()) < 1.1 * float(whole)  # a straight path, no swing


def test_outliers_are_dropped(head):
    truth = make_footage(head, seed=6, frames=50, yaw=20.0, moving=True)
    landmarks = truth.detections.landmarks.clone()
    rng = torch.Generator().manual_seed(0)
    landmarks[30] += 12 * torch.randn(478, 2, generator=rng, dtype=torch.float64)
    track = track_landmarks(replace(truth.detections, landmarks=landmarks), head, TrackConfig(focal=FOCAL))
    assert [d.index for d in track.dropped] == [30] and "do not fit" in track.dropped[0].reason
    assert float(rotation_errors(track, truth)[29:32].max()) < 1.0


def test_smoothing_stops_at_cuts(head):
    truth = make_footage(head, seed=7, frames=60, yaw=30.0, moving=True)
    order = torch.cat([torch.arange(30), torch.arange(59, 29, -1)])
    detections = replace(truth.detections, landmarks=truth.detections.landmarks[order], cuts=(30,))
    track = track_landmarks(detections, head, TrackConfig(focal=FOCAL))
    R, _ = camera_poses(track, truth.origin)
    errors = torch.rad2deg(matrix_to_rotvec(R @ truth.R[order].mT).norm(dim=1))
    assert float(errors[27:33].max()) < 0.8 and track.cuts == (30,)


def test_windows_do_not_show(head):
    truth = make_footage(head, seed=8, frames=80, yaw=30.0, moving=True)
    whole = track_landmarks(truth.detections, head, TrackConfig(focal=FOCAL))
    parts = track_landmarks(truth.detections, head, TrackConfig(focal=FOCAL, window=24, overlap=12))
    torch.testing.assert_close(parts.rotation, whole.rotation, atol=2e-3, rtol=0)
    torch.testing.assert_close(parts.expression, whole.expression, atol=0.05, rtol=0)


def test_one_photo(head):
    truth = make_footage(head, seed=9, frames=1, yaw=20.0)
    track = track_landmarks(replace(truth.detections, fps=0.0), head, TrackConfig(focal=FOCAL))
    assert float(rotation_errors(track, truth)) < 3 and not track.report["jitter"]["rotation_deg"]
    torch.testing.assert_close(track.rotation, torch.zeros(1, 3), atol=1e-5, rtol=0)  # the world is the mean pose


def test_world_is_upright_and_faces_forward(head):
    truth = make_footage(head, seed=10, frames=40, moving=True)
    track = track_landmarks(truth.detections, head, TrackConfig(focal=FOCAL))
    assert float(track.rotation.mean(0).norm()) < 0.15 and float(track.translation.mean(0).norm()) < 1e-3
    up = track.cameras[0].T_camera_world[:3, :3] @ torch.tensor([0.0, 1, 0], dtype=torch.float64)
    assert float(up[1]) < -0.8  # +y of the world is up, and up is -y in the picture


def test_no_face(head):
    truth = make_footage(head, seed=11, frames=5)
    empty = replace(truth.detections, landmarks=torch.full((5, 478, 2), torch.nan).double())
    with pytest.raises(DetectionError, match="No face in any of 5 frames"):
        track_landmarks(empty, head)


def test_a_model_without_landmarks_is_refused(head):
    with pytest.raises(ValueError, match="no embedding of the landmarks"):
        track_landmarks(make_footage(head, frames=2).detections, replace(head, landmarks={}))
