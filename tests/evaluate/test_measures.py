"""The measures themselves: NoW, pose errors, synthetic clips."""

import pytest
import torch

from avatar3d import models
from avatar3d.evaluate.now import NOSE_BRIDGE, NOW_LANDMARKS, now_crop, now_errors
from avatar3d.evaluate.poses import depth_errors, rotation_errors
from avatar3d.evaluate.synthetic import ClipConfig, make_clip, with_noise
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply


@pytest.fixture(scope="module")
def head():
    return models.load("head")


def seven(model, vertices):
    embedding = model.landmarks["mediapipe478"]
    points = points_on_faces(vertices, model.faces, embedding.faces, embedding.weights)
    return points[list(NOW_LANDMARKS)], points[NOSE_BRIDGE]


def test_now_undoes_a_similarity(rng, head):
    scan = head.rest_vertices(torch.randn(1, len(head.identity_basis), generator=rng))[0]
    R = rotvec_to_matrix(torch.tensor([0.3, -0.5, 0.2]))
    moved = 1.2 * scan @ R.T + torch.tensor([0.1, 0.2, -0.3])
    on_scan, bridge = seven(head, scan)
    on_mesh, _ = seven(head, moved)
    errors = now_errors(scan, on_scan, bridge, moved, head.faces, on_mesh)
    assert errors.mean < 1e-3
    torch.testing.assert_close(apply(errors.T_scan_mesh, moved.double()), scan.double(), atol=1e-6, rtol=0)
    metrical = now_errors(scan, on_scan, bridge, moved, head.faces, on_mesh, with_scale=False)
    assert metrical.mean > 2


def test_now_keeps_size_only_in_the_metrical_variant():
    """A ball 1% larger than the scan's: at its own size some of the millimetre stays, with scale nothing does."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.1)
    vertices, faces = torch.from_numpy(ball.vertices).float(), torch.from_numpy(ball.faces).long()
    angles = torch.tensor([[-0.5, 0.3], [-0.2, 0.3], [0.2, 0.3], [0.5, 0.3], [0.0, -0.1], [-0.25, -0.4], [0.25, -0.4]])
    x, y = angles.unbind(1)
    on = torch.stack([x.sin() * y.cos(), y.sin(), x.cos() * y.cos()], 1)
    bridge = torch.tensor([0.0, 0.3, 1.0]) / torch.tensor([0.0, 0.3, 1.0]).norm()
    errors = now_errors(vertices, 0.1 * on, 0.1 * bridge, 1.01 * vertices, faces, 0.101 * on,
                        with_scale=False)  # fmt: skip
    assert 0 < errors.cropped.sum() < len(vertices)
    assert 0.05 < errors.mean < 1.0
    scaled = now_errors(vertices, 0.1 * on, 0.1 * bridge, 1.01 * vertices, faces, 0.101 * on)
    assert scaled.mean < 0.01


def test_crop_is_the_sphere_of_the_protocol(head):
    points, bridge = seven(head, head.template)
    outer, nose = float((points[0] - points[3]).norm()), bridge - points[4]
    radius = 1.4 * (outer + float(nose.norm())) / 2
    centre = points[4] + 0.3 * nose
    offsets = torch.tensor([0.99, 1.01])[:, None] * radius * torch.tensor([0.6, 0, 0.8])
    assert now_crop(centre + offsets, points, bridge).tolist() == [True, False]


def test_pose_errors_are_degrees_and_fractions():
    R = rotvec_to_matrix(torch.tensor([[0.1, 0.2, 0.3], [1.0, -1.0, 0.5]], dtype=torch.float64))
    turn = rotvec_to_matrix(torch.deg2rad(torch.tensor([[0, 2.0, 0], [0.5, 0, 0]], dtype=torch.float64)))
    torch.testing.assert_close(rotation_errors(turn @ R, R), torch.tensor([2.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(depth_errors(torch.tensor([0.99, 2.2]), torch.tensor([1.0, 2.0])),
                               torch.tensor([0.01, 0.1]), atol=1e-6, rtol=0)  # fmt: skip


def test_synthetic_clips_agree_with_themselves(head):
    clip = make_clip(head, ClipConfig(frames=20), seed=5)
    embedding = head.landmarks["mediapipe478"]
    points = points_on_faces(clip.vertices, head.faces, embedding.faces, embedding.weights)
    pixels = points @ clip.camera.K.float().T
    torch.testing.assert_close((pixels[..., :2] / pixels[..., 2:]).double(), clip.landmarks, atol=2e-2, rtol=0)
    assert (clip.vertices[..., 2] > 0.2).all()  # before the camera
    assert (clip.vertices[:, head.template[:, 1].argmax(), 1] < clip.vertices[:, 0, 1].mean()).all()  # upright
    assert clip.expression.min() == 0 and clip.expression.max() <= 0.7
    again = make_clip(head, ClipConfig(frames=20), seed=5)
    assert torch.equal(again.landmarks, clip.landmarks)
    forward = clip.T_camera_head[:, :3, 2]  # the face's direction in camera coordinates
    yaw = torch.rad2deg(torch.atan2(forward[:, 0], -forward[:, 2]))
    assert yaw.abs().max() == pytest.approx(45, abs=12)


def test_noise_is_a_share_of_the_inter_ocular_distance(head):
    clip = make_clip(head, ClipConfig(frames=30), seed=1)
    unit = (clip.landmarks[:, 33] - clip.landmarks[:, 263]).norm(dim=-1).max()
    noise = with_noise(clip.landmarks, 0.01, seed=2) - clip.landmarks
    assert float(noise.std() / unit) == pytest.approx(0.01, rel=0.05)
