"""Where eyeballs lie behind the lids of a scan, and which of its points are eye and not skin."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.models.linear import LinearModel
from avatar3d.models.registration_parts import Parts
from avatar3d.models.scan_samples import ScanSamples
from avatar3d.types import face_points
from avatar3d.typing import typed

DEPTH = 0.012
"""Of points of an eye about the plane of its lids, metres."""
INNER = 0.8
"""Part of an opening whose points are surely the eyeball's."""
ROUGH = 0.0008
"""Spread of an eye's points about a sphere from which the scan does not show it, metres: reflections."""
FARTHEST = 0.003
"""How far the scan's eye may lie from where the lids say, metres."""
LEAST = 25


@dataclass(frozen=True, kw_only=True)
class EyeOpenings:
    """The lids' edges on a scan, by side, in model space."""

    rings: dict[str, Float[Tensor, "m 3"]]

    def contain(self, points: Float[Tensor, "n 3"], side: str, share: float = 1.0) -> Bool[Tensor, "n"]:
        """Points within an opening, as seen from the front, drawn in to a share of its size."""
        ring = self.rings[side]
        middle = ring.mean(0)
        ring = middle + share * (ring - middle)
        out = _inside(points[:, :2], ring[:, :2])
        return out & ((points[:, 2] - middle[2]).abs() < DEPTH)


@typed
def eye_openings(points: Float[Tensor, "n 3"], sigma: Float[Tensor, "n"]) -> EyeOpenings:
    """The lids' edges among landmarks of MediaPipe's scheme; sides that are not known are left out."""
    rings = {}
    for side in ("left", "right"):
        temple, nose = face_points.EYE_CORNERS[side]
        ring = [temple, *face_points.LIDS_UPPER[side], nose, *reversed(face_points.LIDS_LOWER[side])]
        if len(points) >= face_points.COUNT and bool(torch.isfinite(sigma[ring]).all()):
            rings[side] = points[ring]
    return EyeOpenings(rings=rings)


def _inside(points: Tensor, ring: Tensor) -> Tensor:
    """Points [n, 2] within a polygon [m, 2]: crossings of a ray to the right."""
    a, b = ring, ring.roll(-1, 0)
    x, y = points[:, None, 0], points[:, None, 1]
    spans = (a[:, 1] > y) != (b[:, 1] > y)
    at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / torch.where(a[:, 1] == b[:, 1], 1e-12, b[:, 1] - a[:, 1])
    return (spans & (x < at)).sum(1) % 2 == 1


@typed
def of_eyes(openings: EyeOpenings, samples: ScanSamples) -> Bool[Tensor, "n"]:
    """Samples of a scan that are of its eyes."""
    out = torch.zeros(len(samples.points), dtype=torch.bool)
    for side in openings.rings:
        out |= openings.contain(samples.points, side)
    return out


@typed
def eye_shift(
    model: LinearModel,
    parts: Parts,
    start: Float[Tensor, "v 3"],
    moved: Float[Tensor, "v 3"],
    side: str,
    samples: ScanSamples,
    openings: EyeOpenings,
) -> Float[Tensor, "3"]:
    """How far an eyeball moves: with its lids, and to the depth at which the scan shows it.

    Args:
        model: The model.
        parts: Its parts.
        start: Vertices as the coefficients have them, metres.
        moved: The skin's displacement.
        side: "left" or "right".
        samples: The scan in model space.
        openings: Its lids' edges.
    """
    ball = parts.eyeballs[side]
    points = start[ball]
    centre = 0.5 * (points.amax(0) + points.amin(0))
    radius = float((points - centre).norm(dim=1).median())
    gap = (start - centre).norm(dim=1) - radius
    near = lids_of(model, parts, start, centre, radius)
    w = torch.where(near, torch.exp(-(gap.clamp_min(0) / 0.003)), 0.0)[:, None]
    shift = (moved * w).sum(0) / w.sum().clamp_min(1e-9)
    if side not in openings.rings:
        return shift
    shown = samples.points[openings.contain(samples.points, side, INNER)]
    if len(shown) < LEAST:
        return shift
    front = points[points[:, 2] > centre[2]] + shift
    off = shown[:, 2] - front[torch.cdist(shown[:, :2], front[:, :2]).argmin(1), 2]
    middle = off.median()
    if float((off - middle).abs().median()) > ROUGH:
        return shift
    return shift + torch.stack([shift[0] * 0, shift[0] * 0, middle.clamp(-FARTHEST, FARTHEST)])


def lids_of(model: LinearModel, parts: Parts, start: Tensor, centre: Tensor, radius: float) -> Tensor:
    """Vertices [v] of the lids of one eye."""
    lids = torch.zeros(len(start), dtype=torch.bool)
    for name, mask in model.regions.items():
        if name.startswith(("eyelid", "lid_margin")):
            lids |= mask
    away = (start - centre).norm(dim=1)
    lids &= parts.shell & (away < 2.2 * radius)
    return lids if lids.any() else parts.shell & ~parts.interior & (away < 1.35 * radius)
