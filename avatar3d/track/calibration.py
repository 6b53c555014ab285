"""What the detector gets wrong alike in every face, taken off its landmarks.

A landmark network was trained on marks that people and other fits put on pictures. Where it puts a point is not where
that point of the skin is: it lags behind as the head turns, slides along the far cheek, and sees the nose shorter than
it is. The mean of that error as a function of the view was learned on pictures of many model heads, whose points are
known (`tools/make_calibration.py`). The view is told by the landmarks themselves: their first principal components
once they are upright, centred and of one size. Everything is mirror-symmetric.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatar3d.data import packaged
from avatar3d.models.linear import LinearModel
from avatar3d.track.detections import Detections
from avatar3d.track.scheme import FACE, IRISES, LIDS
from avatar3d.types.face_points import COUNT, EYE_CORNERS, mirror_points
from avatar3d.typing import typed

COMPONENTS = 3
"""Principal components that tell the view: turn, nod, and how far the mouth is open."""
FARTHEST = 2.5
"""Standard deviations of a component beyond which the error is taken for constant."""
RIDGE = 100.0
TRANSFER = 0.5
"""Share of the error learned on rendered heads that is taken off pictures. All of it is best for heads of the model
itself; half of it for other heads (ICT's, drawn alike: surface 0.79 mm with half, 0.90 with all, 0.81 with none; a
scanned man: landmarks off by 2.0, 2.3 and 2.1 % of the inter-ocular distance), and faces in profile then keep their
noses.
"""
EDGES = (*LIDS, *IRISES)
"""Landmarks whose error is taken for zero from the front: on photographs they are at edges that the network sees. On
drawn heads it sets upper lids 0.6 mm too high, although these have lashes."""
PATH = "track/assets/landmark_calibration.safetensors"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Mean error of the detector as a function of the view. Unit: the landmarks' root mean square distance from their
    mean, in the axes of an upright head."""

    mean: Float[Tensor, "d"]
    axes: Float[Tensor, "d c"]
    """Principal directions over their standard deviations."""
    error: Float[Tensor, "f d"]
    """Coefficients of what `features` gives."""


@typed
def calibrated(detections: Detections, model: LinearModel) -> Detections:
    """Detections less `TRANSFER` of the mean error of the detector, where it is known for a model's landmarks."""
    if model.name != "head":
        return detections
    seen = detections.seen
    landmarks = detections.landmarks.clone()
    if bool(seen.any()):
        landmarks[seen] = torch.lerp(landmarks[seen], correct(packaged_calibration(), landmarks[seen]), TRANSFER)
    return replace(detections, landmarks=landmarks)


@typed
def moved(landmarks: Float[Tensor, "t 478 2"], corrected: Float[Tensor, "t 478 2"]) -> float:
    """Median over frames of the mean distance that the 468 face landmarks were moved, over the distance of the outer
    eye corners: what `nme`, which is measured against corrected landmarks, may be off against the detector's own."""
    distance = (landmarks - corrected)[:, :468].norm(dim=-1).mean(1)
    eyes = (landmarks[:, 33] - landmarks[:, 263]).norm(dim=-1).clamp_min(1e-6)
    return float((distance / eyes).nanmedian())


def correct(calibration: Calibration, landmarks: Float[Tensor, "t 478 2"]) -> Float[Tensor, "t 478 2"]:
    """Where the points of the skin are that a network has marked, pixels."""
    upright, Q, size = normalised(landmarks.double())
    error = (features(calibration, upright) @ calibration.error.double()).view(-1, COUNT, 2)
    return (landmarks.double() - size * (error @ Q)).to(landmarks)


def normalised(landmarks: Float[Tensor, "t l 2"]) -> tuple[Tensor, Tensor, Tensor]:
    """Landmarks upright by the eyes, about their mean and of one size; that rotation [t, 2, 2] and size [t, 1, 1]."""
    centred = landmarks - landmarks[:, :FACE].mean(1, keepdim=True)
    across = landmarks[:, EYE_CORNERS["left"][0]] - landmarks[:, EYE_CORNERS["right"][0]]
    c, s = torch.nn.functional.normalize(across, dim=1).unbind(1)
    Q = torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)
    size = centred[:, :FACE].square().sum(2).mean(1).sqrt().clamp_min(1e-6)[:, None, None]
    return centred @ Q.mT / size, Q, size


def features(calibration: Calibration, upright: Float[Tensor, "t l 2"]) -> Float[Tensor, "t f"]:
    """1, the components, their products, and their absolute values."""
    p = (upright.flatten(1) - calibration.mean.to(upright)) @ calibration.axes.to(upright)
    p = p.clamp(-FARTHEST, FARTHEST)
    i, j = torch.triu_indices(p.shape[1], p.shape[1])
    return torch.cat([torch.ones_like(p[:, :1]), p, p[:, i] * p[:, j], p.abs()], 1)


@typed
def learn(landmarks: Float[Tensor, "t 478 2"], truth: Float[Tensor, "t 478 2"]) -> Calibration:
    """A calibration from detected and true landmarks in pictures of many heads, and in the mirror images of these."""
    mirror, flip = mirror_points(), torch.tensor([-1.0, 1.0])
    landmarks = torch.cat([landmarks, landmarks[:, mirror] * flip]).double()
    truth = torch.cat([truth, truth[:, mirror] * flip]).double()
    upright, Q, size = normalised(landmarks)
    error = ((landmarks - truth) @ Q.mT / size).flatten(1)
    mean = upright.flatten(1).mean(0)
    away = upright.flatten(1) - mean
    values, vectors = torch.linalg.eigh(away.mT @ away / len(away))
    axes = vectors[:, -COMPONENTS:].flip(1) / values[-COMPONENTS:].flip(0).sqrt()
    calibration = Calibration(mean=mean, axes=axes, error=torch.zeros(0, error.shape[1], dtype=error.dtype))
    F = features(calibration, upright)
    normal = F.mT @ F + RIDGE * torch.eye(F.shape[1], dtype=F.dtype)
    error = torch.linalg.solve(normal, F.mT @ error)
    error[0].view(COUNT, 2)[list(EDGES)] = 0
    return replace(calibration, error=error)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Writes a calibration."""
    tensors = {name: getattr(calibration, name).float().contiguous() for name in ("mean", "axes", "error")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


@cache
def packaged_calibration() -> Calibration:
    """The calibration of the packaged detector on the packaged head.

    Raises:
        AssetError: its file is missing.
    """
    return Calibration(**load_file(packaged(PATH)))
