"""What the detector saw in the footage, as arrays: the input of the solvers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.track.observe import Observations
from avatar3d.track.told import believed
from avatar3d.types.arkit import ARKIT_NAMES
from avatar3d.types.camera import Camera

LONGER_SIDE = 1.2
"""Focal length of a camera that nothing is known of, over the longer side of its picture."""


@dataclass(frozen=True, kw_only=True)
class Lens:
    """What is known about a camera before tracking."""

    width: int
    height: int
    camera: Camera | None = None
    """Calibration, where there is one; its extrinsics count where views are synchronised."""
    focal_hint: float | None = None
    """Focal length in pixels by the footage's metadata."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Landmarks of one face through footage: one entry per picture."""

    landmarks: Float[Tensor, "t l 2"]
    """Pixels; NaN where there was no face."""
    presence: Float[Tensor, "t"]
    """Probability that it is a face, 0..1."""
    lenses: tuple[Lens, ...]
    camera: Int[Tensor, "t"]
    """Index into `lenses` of every picture."""
    time: Float[Tensor, "t"]
    """Seconds."""
    fps: float
    """0 for photos."""
    cuts: tuple[int, ...] = ()
    """First pictures of new shots; other clips and photos begin shots too."""
    instant: Int[Tensor, "t"] | None = None
    """Instant of every picture, where cameras are synchronised; ascending from 0."""
    spread: Float[Tensor, "t l"] | None = None
    """Standard error of every landmark in pixels, where the detector tells it."""
    scores: Float[Tensor, "t 52"] | None = None
    """The detector's own coefficients, in ARKit's order; NaN where there was no face. See `told`."""

    @property
    def seen(self) -> Tensor:
        """Whether there is a face at all."""
        return torch.isfinite(self.landmarks).all(2).all(1)

    @property
    def instants(self) -> Int[Tensor, "t"]:
        """Instant of every picture; pictures one after another where cameras are not synchronised."""
        return torch.arange(len(self.camera)) if self.instant is None else self.instant


def observations(detections: Detections, *, minimum: float) -> Observations:
    """Detections of at least this presence as the solvers take them. The world is the camera's, or the rig's."""
    usable = detections.seen & (detections.presence >= minimum)
    landmarks = torch.where(usable[:, None, None], detections.landmarks, 0).double()
    instants = detections.instants.long()
    confidence = torch.where(usable, detections.presence.double().clamp(0, 1), 0)
    poses, principal = [], []
    for lens in detections.lenses:
        known = lens.camera is not None
        rig = known and detections.instant is not None
        poses.append(lens.camera.T_camera_world if rig else torch.eye(4).double())
        middle = torch.tensor([lens.width / 2, lens.height / 2]).double()
        principal.append(lens.camera.K[:2, 2] if known else middle)
    frames = int(instants.max()) + 1
    scores, trust = torch.zeros(frames, len(ARKIT_NAMES)).double(), torch.zeros(frames).double()
    if detections.scores is not None:
        weight = torch.where(usable, believed(landmarks), 0)
        scores.index_add_(0, instants, weight[:, None] * detections.scores.double().nan_to_num(0))
        trust.index_add_(0, instants, weight)
        scores /= trust[:, None].clamp_min(1e-6)
    return Observations(
        scores=scores,
        trust=trust.clamp(max=1),
        detections=landmarks,
        confidence=confidence[:, None].expand(landmarks.shape[:2]).contiguous(),
        camera=detections.camera.long(),
        frame=instants,
        T_camera_world=torch.stack(poses),
        principal=torch.stack(principal),
        frames=frames,
    )


def focal_prior(
    lenses: tuple[Lens, ...], *, given: float | None, sigma: float, hint_sigma: float
) -> Float[Tensor, "c 2"]:
    """Mean and standard deviation of every camera's log focal length; a deviation of 0 where it is known."""
    rows = []
    for lens in lenses:
        if lens.camera is not None:
            rows.append((lens.camera.focal, 0.0))
        elif given is not None:
            rows.append((given, 0.0))
        elif lens.focal_hint is not None:
            rows.append((lens.focal_hint, hint_sigma))
        else:
            rows.append((LONGER_SIDE * max(lens.width, lens.height), sigma))
    out = torch.tensor(rows, dtype=torch.float64)
    return torch.stack([out[:, 0].log(), out[:, 1]], 1)
