"""Tracks synthetic clips and measures the result against what is known about them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatar3d import models
from avatar3d.evaluate.now import NOSE_BRIDGE, NOW_LANDMARKS, SurfaceErrors, now_errors
from avatar3d.evaluate.poses import depth_errors, rotation_errors
from avatar3d.evaluate.synthetic import SyntheticClip
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.models.candidates import INTERIOR
from avatar3d.models.linear import LinearModel
from avatar3d.models.paint import Palette, paint, random_palette
from avatar3d.nets import FaceLandmarker
from avatar3d.render import render_mesh
from avatar3d.render.shading import ambient_light, directional_light
from avatar3d.track import Detections, Lens, TrackConfig, track_landmarks
from avatar3d.track.calibration import calibrated
from avatar3d.types.track import Track


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors of a track."""

    track: Track
    rotation: Tensor
    """Degrees, per frame."""
    depth: Tensor
    """Fraction, per frame."""
    depth_by_size: Tensor
    """The same with the head scaled to its true size: one camera cannot tell a near small head from a far large one."""
    expression: float
    """Mean absolute error of the coefficients."""
    activity: float
    """Mean absolute coefficient: the error of a tracker that sees no expression at all."""
    surface: SurfaceErrors
    focal_ratio: float
    """Estimated over true focal length."""


def detections(clip: SyntheticClip, landmarks: Tensor, presence: Tensor | None = None) -> Detections:
    """A clip's landmarks as the detector would hand them over."""
    frames = len(landmarks)
    return Detections(
        landmarks=landmarks,
        presence=torch.ones(frames) if presence is None else presence,
        lenses=(Lens(width=clip.camera.width, height=clip.camera.height),),
        camera=torch.zeros(frames, dtype=torch.long),
        time=torch.arange(frames) / clip.fps,
        fps=clip.fps,
    )


def landmarks_of(model: LinearModel, vertices: Tensor) -> Tensor:
    embedding = model.landmarks["mediapipe478"]
    return points_on_faces(vertices, model.faces, embedding.faces, embedding.weights)


def skin(model: LinearModel) -> Tensor:
    """Vertices that a scanner could see."""
    inside = torch.zeros(len(model.template), dtype=torch.bool)
    for name in INTERIOR:
        inside |= model.regions.get(name, inside)
    return ~inside


def neutral(model: LinearModel, track: Track) -> Tensor:
    """The person that a track found."""
    vertices = model.rest_vertices(track.identity[None])[0]
    return vertices if track.offsets is None else vertices + track.offsets


def surface_errors(truth: LinearModel, identity: Tensor, model: LinearModel, mesh: Tensor) -> SurfaceErrors:
    """NoW distances of a true neutral head from an estimated one."""
    scan = truth.rest_vertices(identity[None])[0]
    on_scan, on_mesh = landmarks_of(truth, scan), landmarks_of(model, mesh)
    seven = list(NOW_LANDMARKS)
    return now_errors(
        scan[skin(truth)], on_scan[seven], on_scan[NOSE_BRIDGE], mesh, model.faces, on_mesh[seven], iterations=12
    )


def poses(track: Track) -> Tensor:
    """T_camera_head of every frame."""
    T_world_head = make_transform(rotvec_to_matrix(track.rotation.double()), track.translation.double())
    return torch.stack([track.cameras[c].T_camera_world for c in track.camera_of_frame.tolist()]) @ T_world_head


def solve(model: LinearModel, clip: SyntheticClip, seen: Detections, *, focal_known: bool) -> Outcome:
    """Tracks a clip of the model's own head and measures everything."""
    track = track_landmarks(seen, model, TrackConfig(focal=clip.camera.focal if focal_known else None))
    T = poses(track)
    mesh = neutral(model, track)
    found, true = landmarks_of(model, torch.stack([mesh, model.rest_vertices(clip.identity[None])[0]]))
    size = float((found[33] - found[263]).norm() / (true[33] - true[263]).norm())
    depth = apply(T, found[:468].mean(0).double().expand(len(T), 1, 3))[:, 0, 2]
    ok = track.tracked
    return Outcome(
        track=track,
        rotation=rotation_errors(T[ok, :3, :3], clip.T_camera_head[ok, :3, :3]),
        depth=depth_errors(depth[ok], clip.depth[ok]),
        depth_by_size=depth_errors(depth[ok] / size, clip.depth[ok]),
        expression=float((track.expression - clip.expression)[ok].abs().mean()),
        activity=float(clip.expression.abs().mean()),
        surface=surface_errors(model, clip.identity, model, mesh),
        focal_ratio=track.cameras[0].focal / clip.camera.focal,
    )


def pictures(model: LinearModel, clip: SyntheticClip, seed: int, batch: int = 8) -> list[Tensor]:
    """The clip as uint8 frames [h, w, 3]: painted, lit by one lamp and light from everywhere, before grey."""
    rng = torch.Generator().manual_seed(seed)
    colours = paint(model, random_palette(rng) if seed else Palette())[None]
    light = directional_light(torch.tensor([-0.4, -0.6, -0.9]), 0.75) + ambient_light(0.35)
    out = []
    for start in range(0, len(clip.vertices), batch):
        part = clip.vertices[start : start + batch]
        drawn = render_mesh(
            part, model.faces, clip.camera, vertex_colours=colours, light=light.float(),
            background=torch.tensor([0.55, 0.57, 0.6]),
        )  # fmt: skip
        noise = 0.01 * torch.randn(drawn.rgb.shape, generator=rng)
        out += list((255 * (drawn.rgb + noise).clamp(0, 1)).round().to(torch.uint8))
    return out


def detect(clip: SyntheticClip, images: list[Tensor]) -> Detections:
    """What the packaged networks see in pictures of a clip, as the tracker is given it."""
    net = FaceLandmarker(both_ways=True)
    points = torch.full((len(images), 478, 2), torch.nan)
    presence, scores = torch.zeros(len(images)), torch.full((len(images), 52), torch.nan)
    for i, image in enumerate(images):
        faces = net.track(image.numpy())
        if faces:
            points[i], presence[i] = faces[0].points[:, :2], faces[0].presence
            scores[i] = faces[0].blendshapes
    return calibrated(replace(detections(clip, points, presence), scores=scores), models.load("head"))
