"""Calibrated cameras that saw the same instants: poses and size are those of the rig's world."""

from dataclasses import replace

import torch
from synthetic import FOCAL, HEIGHT, WIDTH, landmarks_of, make_footage

from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.transform import apply, invert_rigid, make_transform
from avatar3d.track import Lens, track_landmarks
from avatar3d.types.camera import Camera


def test_three_cameras(head):
    truth = make_footage(head, seed=12, frames=12, yaw=20.0, moving=True)
    frames, pivot = 12, torch.tensor([0, 0, 0.6], dtype=torch.float64)
    world = make_transform(
        rotvec_to_matrix(torch.tensor([3.0, 0.3, 0.1]).double()), torch.tensor([0.2, 1, -2]).double()
    )
    inside = truth.landmarks - truth.origin
    inside = inside @ truth.R.mT + truth.t[:, None]  # in the first camera
    lenses, pixels = [], []
    for angle in (0.0, 0.6, -0.6):
        R = rotvec_to_matrix(torch.tensor([0, angle, 0]).double())
        T = make_transform(R, pivot - R @ pivot)
        X = apply(T.expand(frames, 4, 4), inside)
        pixels.append(FOCAL * X[..., :2] / X[..., 2:] + torch.tensor([WIDTH / 2, HEIGHT / 2]))
        camera = Camera.from_focal(FOCAL, WIDTH, HEIGHT, T @ invert_rigid(world))
        lenses.append(Lens(width=WIDTH, height=HEIGHT, camera=camera))
    landmarks = torch.stack(pixels, 1).flatten(0, 1)
    landmarks[4] = torch.nan  # one camera misses one instant
    detections = replace(
        truth.detections,
        landmarks=landmarks,
        presence=torch.where(landmarks[:, 0, 0].isfinite(), 1.0, 0.0).double(),
        lenses=tuple(lenses),
        camera=torch.arange(3).repeat(frames),
        time=truth.detections.time.repeat_interleave(3),
        instant=torch.arange(frames).repeat_interleave(3),
    )
    track = track_landmarks(detections, head)
    assert bool(track.tracked.all()) and len(track.rotation) == frames and track.focal_determined
    R = rotvec_to_matrix(track.rotation.double())
    expected = world[:3, :3] @ truth.R
    assert float(torch.rad2deg(matrix_to_rotvec(R @ expected.mT).norm(dim=1)).median()) < 0.5
    found = landmarks_of(head, track.identity.expand(frames, -1), track.expression)
    found = apply(make_transform(R, track.translation.double()), found)
    true = apply(world.expand(frames, 4, 4), inside)
    assert float((found - true).norm(dim=-1).median()) < 1e-3  # metres: a rig tells the size
