"""Known truth: clips of a model's own heads, with every coefficient, pose and landmark given."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.models.linear import LinearModel
from avatar3d.types.camera import Camera
from avatar3d.typing import typed

HIDDEN_FROM_LANDMARKS = ("tongueOut", "cheekPuff")
"""Coefficients that landmarks cannot tell; synthetic heads leave them at 0."""
EYES = (33, 263)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What a synthetic clip shows."""

    frames: int = 60
    fps: float = 30.0
    yaw: float = 45.0
    """Largest, degrees."""
    pitch: float = 20.0
    roll: float = 15.0
    active: int = 14
    """Expression coefficients that move."""
    strength: float = 0.7
    """Largest coefficient; without ARKit names the standard deviation."""
    identity: float = 1.0
    """Standard deviation of the identity coefficients."""
    focal: float = 1.25
    """Share of the picture's longer side."""
    width: int = 640
    height: int = 480
    distance: float = 0.55
    """Of the face from the camera, metres."""


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """One head in motion before one camera, in camera coordinates (OpenCV)."""

    identity: Float[Tensor, "k"]
    expression: Float[Tensor, "t e"]
    T_camera_head: Float[Tensor, "t 4 4"]
    camera: Camera
    vertices: Float[Tensor, "t v 3"]
    """Camera space, metres."""
    landmarks: Float[Tensor, "t l 2"]
    """Exact, pixels; hidden ones too."""
    depth: Float[Tensor, "t"]
    """Of the middle of the landmarks, metres."""
    fps: float


@typed
def make_clip(
    model: LinearModel,
    config: ClipConfig | None = None,
    *,
    seed: int = 0,
    identity: Float[Tensor, "k"] | None = None,
) -> SyntheticClip:
    """A head of random identity, expression and motion; smooth in time, as footage is.

    Args:
        model: Whose heads; it needs an embedding of the 478 landmarks.
        config: What the clip shows.
        seed: Of everything random.
        identity: Who it is; random when left out.

    Raises:
        ValueError: the model has no embedding of the 478 landmarks.
    """
    config = config or ClipConfig()
    if "mediapipe478" not in model.landmarks:
        raise ValueError(f"Model {model.name!r} has no embedding of the landmarks 'mediapipe478'.")
    rng = torch.Generator().manual_seed(seed)
    if identity is None:
        identity = config.identity * torch.randn(len(model.identity_basis), generator=rng)
    expression = _expressions(model, config, rng)
    rest = model.rest_vertices(identity.expand(config.frames, -1), expression)
    embedding = model.landmarks["mediapipe478"]
    points = points_on_faces(rest, model.faces, embedding.faces, embedding.weights)
    middle = points[:, :468][:, torch.isfinite(embedding.residual[:468])].mean((0, 1)).double()
    T = _poses(config, middle, rng)
    camera = Camera.from_focal(config.focal * max(config.width, config.height), config.width, config.height)
    inside = apply(T, points.double())
    pixels = inside[..., :2] / inside[..., 2:] * camera.focal + camera.K[:2, 2]
    depth = apply(T, middle.expand(config.frames, 1, 3))[:, 0, 2]
    return SyntheticClip(
        identity=identity, expression=expression, T_camera_head=T, camera=camera,
        vertices=apply(T, rest.double()).float(), landmarks=pixels, depth=depth, fps=config.fps,
    )  # fmt: skip


@typed
def with_noise(
    landmarks: Float[Tensor, "t l 2"], share: float, seed: int = 0, *, eyes: tuple[int, int] = EYES
) -> Float[Tensor, "t l 2"]:
    """Landmarks with independent Gaussian errors on each axis.

    Args:
        landmarks: Exact, pixels.
        share: Standard deviation as a share of the inter-ocular distance: the largest in the clip, which is the one
            seen squarely.
        seed: Of the errors.
        eyes: The outer corners of the eyes.
    """
    unit = (landmarks[:, eyes[0]] - landmarks[:, eyes[1]]).norm(dim=-1).max()
    rng = torch.Generator().manual_seed(seed)
    return landmarks + share * unit * torch.randn(landmarks.shape, generator=rng, dtype=landmarks.dtype)


def _waves(count: int, frames: int, rng: torch.Generator, periods: tuple[float, float] = (0.6, 2.2)) -> Tensor:
    """Smooth curves in -1..1, [t, n]: two sines each, of random period (in clips) and phase."""
    t = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None]
    out = torch.zeros(frames, count, dtype=torch.float64)
    for share in (0.65, 0.35):
        cycles = periods[0] + (periods[1] - periods[0]) * torch.rand(count, generator=rng, dtype=torch.float64)
        phase = 2 * torch.pi * torch.rand(count, generator=rng, dtype=torch.float64)
        out += share * torch.sin(2 * torch.pi * cycles * t + phase)
    return out


def _expressions(model: LinearModel, config: ClipConfig, rng: torch.Generator) -> Tensor:
    """[t, e]. ARKit shapes come and go between 0 and `strength`; jaw and lids are always among them."""
    names = model.expression_names
    out = torch.zeros(config.frames, len(names))
    if not any(name in names for name in ("jawOpen", "eyeBlinkLeft")):
        few = min(config.active, len(names))
        out[:, :few] = (config.strength * _waves(few, config.frames, rng)).float()
        return out
    usable = [i for i, name in enumerate(names) if name not in HIDDEN_FROM_LANDMARKS]
    always = [names.index(n) for n in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight") if n in names]
    others = [i for i in usable if i not in always]
    order = torch.randperm(len(others), generator=rng)[: max(0, config.active - len(always))]
    chosen = always + [others[i] for i in order.tolist()]
    out[:, chosen] = (config.strength * _waves(len(chosen), config.frames, rng)).clamp_min(0).float()
    return out


def _poses(config: ClipConfig, middle: Float[Tensor, "3"], rng: torch.Generator) -> Float[Tensor, "t 4 4"]:
    """Head poses in camera coordinates: the yaw runs to both ends of its range."""
    waves = _waves(6, config.frames, rng, (0.6, 1.6))
    yaw = waves[:, 0] - waves[:, 0].mean()
    yaw = yaw / yaw.abs().max()
    angles = torch.deg2rad(torch.stack([config.yaw * yaw, config.pitch * waves[:, 1], config.roll * waves[:, 2]], 1))
    zero = torch.zeros_like(angles[:, 0])
    turn = rotvec_to_matrix(torch.stack([zero, angles[:, 0], zero], 1))
    nod = rotvec_to_matrix(torch.stack([angles[:, 1], zero, zero], 1))
    tilt = rotvec_to_matrix(torch.stack([zero, zero, angles[:, 2]], 1))
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    R = flip @ tilt @ nod @ turn
    place = torch.stack([0.03 * waves[:, 3], 0.02 * waves[:, 4], config.distance + 0.04 * waves[:, 5]], 1)
    return make_transform(R, place - R @ middle)
