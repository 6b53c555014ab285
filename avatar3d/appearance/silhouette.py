"""Where the head's outline really is: the edge to the background along the normals of the rendered outline.

Landmarks say nothing about cranium, ears and neck. Their outline in the frames does.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv1d, normalize

from avatar3d.geometry.projection import project
from avatar3d.ops import rasterize, sample_texture
from avatar3d.types import Camera
from avatar3d.typing import typed

SIZE = 360  # longer side of the picture in which the outline is drawn, pixels
REACH = 0.11  # of the head's size in the picture: how far from the drawn outline the edge is looked for
STEPS = 25  # on either side
BEYOND = 16  # further steps, whose colours are the background
SPACING = 3  # pixels between points
SAME = 9.0  # squared deviations from the background at which a colour is no background
UNEVEN = 0.035  # least deviation of a background's colours, of the square root of linear light


@dataclass(frozen=True, kw_only=True)
class Contour:
    """Points of the outline in one frame."""

    face: Int[Tensor, "n"]
    """Face of the mesh that the outline was drawn by."""
    weights: Float[Tensor, "n 3"]
    """Barycentric coordinates of that point of the mesh."""
    drawn: Float[Tensor, "n 2"]
    """Where the mesh's outline is, pixels."""
    observed: Float[Tensor, "n 2"]
    """Where the picture's outline is, pixels; on the normal of the drawn one."""
    normal: Float[Tensor, "n 2"]
    """Outward normal of the drawn outline."""
    confidence: Float[Tensor, "n"]
    """0..1; 0 where no edge was found."""
    inside: Float[Tensor, "n 3"]
    """Linear colour just inside the edge."""
    outside: Float[Tensor, "n 3"]
    """Linear colour just outside."""


@typed
def contour_points(
    image: UInt8[np.ndarray, "h w 3"], vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], camera: Camera
) -> Contour:
    """Finds the outline of a head in a picture, starting from that of a posed mesh.

    Along every normal the colours far outside are the background; the edge is where they end. Neighbours agree
    (Viterbi over the closed outline), and an edge counts for as much as it separates.

    Args:
        image: sRGB.
        vertices: World positions of the mesh, metres.
        faces: Triangles.
        camera: The picture's camera.
    """
    height, width = image.shape[:2]
    pixels = project(vertices, camera)
    T = camera.T_camera_world.to(vertices)
    depth = vertices @ T[2, :3] + T[2, 3]
    low, high = pixels.amin(0), pixels.amax(0)
    extent = float((high - low).max())
    pad = (REACH * (1 + BEYOND / STEPS) + 0.02) * extent
    low, high = low - pad, high + pad
    scale = SIZE / float((high - low).max())
    h, w = (max(8, math.ceil(float(s) * scale)) for s in (high - low).flip(0))
    points = torch.cat([(pixels - low) * scale, torch.ones(len(pixels), 1)], 1) * depth[:, None]
    raster = rasterize(points[None], faces, torch.eye(3)[None], w, h)
    mask = (raster.triangle[0] >= 0).float()
    smooth = avg_pool2d(mask[None, None], 7, 1, 3)[0, 0]
    edge = (mask > 0) & (-torch.nn.functional.max_pool2d(-mask[None, None], 3, 1, 1)[0, 0] < 0.5)
    edge[0], edge[-1], edge[:, 0], edge[:, -1] = False, False, False, False
    rows, columns = edge.nonzero(as_tuple=True)
    if len(rows) < 16:
        return _nothing()
    # in order around the middle, thinned
    angle = torch.atan2(rows - rows.float().mean(), columns - columns.float().mean())
    order = angle.argsort()[::SPACING]
    rows, columns = rows[order], columns[order]
    gy, gx = torch.gradient(smooth)
    normal = -normalize(torch.stack([gx[rows, columns], gy[rows, columns]], 1), dim=1)

    # profiles of colour along the normals, from inside to far outside
    step = REACH * extent * scale / STEPS
    along = torch.arange(-STEPS, STEPS + BEYOND + 1) * step
    xy = torch.stack([columns, rows], 1) + 0.5
    at = (xy[:, None] + along[None, :, None] * normal[:, None]) / scale + low
    colour = _sample(image, at)
    border = 0.015 * extent  # pictures have frames, and codecs blur their borders
    valid = ((at > border) & (at < torch.tensor([width - border, height - border]))).all(-1)
    distance = _strangeness(colour, valid)
    cut, certainty = _cut(distance, valid)
    certainty = certainty * _prominence(colour, cut)
    offset = along[cut]
    # colours are averaged over three pixels, so that the last strange one lies a pixel outside
    found = xy + (offset + 0.5 * step - scale)[:, None] * normal
    step_in, step_out = (cut[:, None] - torch.arange(1, 4)).clamp_min(0), cut[:, None] + torch.arange(2, 5)
    inside, outside = (
        colour.square().gather(1, steps[..., None].expand(-1, -1, 3)).mean(1) for steps in (step_in, step_out)
    )
    return Contour(
        face=raster.triangle[0, rows, columns].long(),
        weights=raster.barycentrics[0, rows, columns],
        drawn=(xy + 0.5 * normal) / scale + low,
        observed=found / scale + low,
        normal=normal,
        confidence=certainty,
        inside=inside,
        outside=outside,
    )


def _nothing() -> Contour:
    return Contour(
        face=torch.zeros(0, dtype=torch.long), weights=torch.zeros(0, 3), drawn=torch.zeros(0, 2),
        observed=torch.zeros(0, 2), normal=torch.zeros(0, 2), confidence=torch.zeros(0), inside=torch.zeros(0, 3),
        outside=torch.zeros(0, 3),
    )  # fmt: skip


def _sample(image: np.ndarray, xy: Tensor) -> Tensor:
    """sRGB 0..1, averaged over three pixels, at `[n, s, 2]`; it is within a few percent of the root of linear light."""
    height, width = image.shape[:2]
    taps = torch.tensor([[0.0, 0.0], [0.8, 0.8], [-0.8, 0.8], [0.8, -0.8], [-0.8, -0.8]])
    at = (xy[:, :, None] + taps) * torch.tensor([1 / width, -1 / height]) + torch.tensor([0.0, 1.0])
    texture = torch.from_numpy(np.ascontiguousarray(image)).float()[None] / 255
    return sample_texture(texture, at.flatten(1, 2)[None])[0].view(*at.shape[:3], 3).mean(2)


def _strangeness(colour: Tensor, valid: Tensor) -> Tensor:
    """Squared deviations of every colour from the background of its normal and its neighbours, 0..SAME."""
    outer, weight = colour[:, -BEYOND:], valid[:, -BEYOND:].float()
    sums = torch.cat([(outer * weight[..., None]).sum(1), (outer.square() * weight[..., None]).sum(1)], 1)
    sums = torch.cat([sums, weight.sum(1, keepdim=True)], 1)
    around = 5
    ring = torch.cat([sums[-around:], sums, sums[:around]]).T[:, None]
    sums = conv1d(ring, torch.ones(1, 1, 2 * around + 1))[:, 0].T
    count = sums[:, 6:].clamp_min(1.0)
    mean = sums[:, :3] / count
    variance = (sums[:, 3:6] / count - mean.square()).clamp_min(0) + UNEVEN**2
    off = ((colour - mean[:, None]).square() / variance[:, None]).mean(-1)
    return off.clamp_max(SAME)


def _cut(distance: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Last step of the head on every normal, and how certain it is."""
    band = 8
    strange = distance / SAME
    outside = strange.flip(1).cumsum(1).flip(1) - strange  # strange colours that would be background
    familiar = torch.nn.functional.pad((1 - strange).cumsum(1), (band, 0))
    inside = familiar[:, band:] - familiar[:, :-band]  # background colours that would be head
    choices = slice(3, 2 * STEPS + 1)
    cost = (outside + inside)[:, choices]
    path = _viterbi(cost, 0.35)
    cut = path + 3
    n = torch.arange(len(cut))
    head = torch.stack([strange[n, (cut - i).clamp_min(0)] for i in range(band)]).mean(0)
    back = torch.stack([strange[n, (cut + 1 + i).clamp_max(strange.shape[1] - 1)] for i in range(band)]).mean(0)
    certainty = ((head - back - 0.3) / 0.5).clamp(0, 1)
    ends = (path < 2) | (path > cost.shape[1] - 3)
    seen = valid[n, cut] & valid[n, (cut + 6).clamp_max(valid.shape[1] - 1)]
    return cut, torch.where(ends | ~seen, 0.0, certainty)


def _prominence(colour: Tensor, cut: Tensor) -> Tensor:
    """1 where no edge between the drawn outline and the cut is much stronger than the one at the cut, else 0.

    Past a stronger edge lies a shadow on the wall, say.
    """
    sums = torch.nn.functional.pad(colour.cumsum(1), (0, 0, 1, 0))
    mean = (sums[:, 3:] - sums[:, :-3]) / 3
    edge = torch.nn.functional.pad((mean[:, 3:] - mean[:, :-3]).norm(dim=-1), (2, 3))
    n, index = torch.arange(len(cut)), torch.arange(edge.shape[1])
    passed = index[None] >= cut.clamp_max(STEPS)[:, None] - 4
    between = torch.where(passed & (index[None] <= cut[:, None] + 2), edge, 0.0)
    here = torch.stack([edge[n, (cut + d).clamp(0, edge.shape[1] - 1)] for d in (-1, 0, 1)]).amax(0)
    return ((here / between.amax(1).clamp_min(1e-6) - 0.25) / 0.25).clamp(0, 1)


def _viterbi(cost: Tensor, bend: float, jump: float = 6.0) -> Tensor:
    """Cheapest closed path: cost `[n, k]` plus `bend` for each step between neighbours, at most `jump`."""
    n, k = cost.shape
    index = np.arange(k)
    move = np.minimum(np.abs(index[:, None] - index[None]) * bend, jump)
    costs = cost.double().numpy()
    total, back = costs[0].copy(), np.zeros((n, k), dtype=np.int64)
    order = np.concatenate([np.arange(n), np.arange(n)])  # twice around; the second round is closed
    came = []
    for i in order[1:]:
        through = total[:, None] + move
        back = through.argmin(0)
        came.append(back)
        total = through[back, index] + costs[i]
        total -= total.min()
    at, path = int(total.argmin()), np.zeros(2 * n, dtype=np.int64)
    path[-1] = at
    for j in range(2 * n - 2, -1, -1):
        at = int(came[j][at])
        path[j] = at
    half = n // 2
    # the middle of the two rounds is far from both loose ends
    middle = path[half : half + n]
    return torch.from_numpy(np.roll(middle, half))


@typed
def likely_skin(colour: Float[Tensor, "n 3"], tone: Float[Tensor, "3"]) -> Bool[Tensor, "n"]:
    """Whether linear colours could be skin of a tone (linear): of its hue, from deep shadow to a little brighter."""
    off = colour.clamp_min(2e-3).log() - tone.clamp_min(2e-3).log()
    grey = off.mean(1)
    hue = (off - grey[:, None]).norm(dim=1)
    return (hue < 0.4) & (grey > -1.2) & (grey < 0.5)
