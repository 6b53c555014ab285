"""Heads of known identity, expression and pose, seen as landmarks: no renderer, no detector."""

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.track import Detections, Lens
from avatar3d.types.arkit import ARKIT_INDEX

WIDTH, HEIGHT, FOCAL = 640, 480, 900.0
EYES = 33, 263
FLIP = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))


@dataclass(frozen=True)
class Truth:
    detections: Detections
    identity: Tensor
    expression: Tensor
    R: Tensor  # T_camera_head about `origin`
    t: Tensor
    origin: Tensor
    neutral: Tensor
    landmarks: Tensor  # model space, of every frame


def landmarks_of(model, identity, expression=None):
    """[t, 478, 3] in model space."""
    vertices = model.rest_vertices(identity, expression).double()
    embedding = model.landmarks["mediapipe478"]
    return points_on_faces(vertices, model.faces, embedding.faces, embedding.weights.double())


def make_footage(model, *, seed=0, frames=60, noise=0.005, yaw=45.0, moving=False, focal=FOCAL, spread=1.0):
    """A head at about 60 cm. `noise` in inter-ocular distances; `moving` for a smooth motion, else random frames."""
    rng = torch.Generator().manual_seed(seed)
    uniform = lambda *s: torch.rand(*s, generator=rng, dtype=torch.float64)  # noqa: E731
    normal = lambda *s: torch.randn(*s, generator=rng, dtype=torch.float64)  # noqa: E731
    identity = spread * normal(model.identity_basis.shape[0])
    time = torch.arange(frames, dtype=torch.float64) / 30
    some = 8 / 52
    if moving:
        waves = torch.sin(6.28 * (uniform(58, 1) + (0.2 + 0.5 * uniform(58, 1)) * time)).T
        angles = waves[:, :3] * torch.tensor([min(15, yaw), yaw, min(15, yaw)])
        expression = (0.5 + 0.5 * waves[:, 3:55]) ** 3 * (uniform(1, 52) < some)
        shift = 0.03 * waves[:, 55:]
    else:
        angles = (2 * uniform(frames, 3) - 1) * torch.tensor([min(30, yaw), yaw, min(30, yaw)])
        expression = uniform(frames, 52) * (uniform(frames, 52) < some)
        shift = 0.1 * (uniform(frames, 3) - 0.5)
    for name in ("tongueOut", "cheekPuff"):  # landmarks do not show them
        expression[:, ARKIT_INDEX[name]] = 0
    R = FLIP @ rotvec_to_matrix(torch.deg2rad(angles))
    points = landmarks_of(model, identity[None].float().expand(frames, -1), expression.float())
    origin = points.mean((0, 1))
    t = torch.tensor([0, 0, 0.6], dtype=torch.float64) + shift
    X = (points - origin) @ R.mT + t[:, None]
    pixels = focal * X[..., :2] / X[..., 2:] + torch.tensor([WIDTH / 2, HEIGHT / 2])
    unit = focal * (points[:, EYES[0]] - points[:, EYES[1]]).norm(dim=1).mean() / 0.6
    detections = Detections(
        landmarks=pixels + noise * unit * normal(*pixels.shape),
        presence=torch.ones(frames, dtype=torch.float64),
        lenses=(Lens(width=WIDTH, height=HEIGHT),),
        camera=torch.zeros(frames, dtype=torch.long),
        time=time,
        fps=30.0,
    )
    neutral = model.rest_vertices(identity[None].float())[0].double()
    return Truth(detections, identity, expression, R, t, origin, neutral, points)


def camera_poses(track, origin):
    """Rotation and position, in the camera, of the head's frame placed at `origin` of model space."""
    T = torch.stack([camera.T_camera_world for camera in track.cameras])[track.camera_of_frame]
    R_world = rotvec_to_matrix(track.rotation.double())
    place = (R_world @ origin) + track.translation.double()
    return T[:, :3, :3] @ R_world, (T[:, :3, :3] @ place[..., None])[..., 0] + T[:, :3, 3]
