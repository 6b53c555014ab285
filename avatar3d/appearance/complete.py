"""Fills what no frame showed: colours spread over the mesh, detail mirrored or synthesised."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from torch import Tensor

from avatar3d.geometry.surface import edges
from avatar3d.typing import typed


@typed
def spread_over_mesh(
    faces: Int[Tensor, "f 3"],
    colour: Float[Tensor, "v 3"],
    confidence: Float[Tensor, "v"],
    group: Int[Tensor, "v"],
    *,
    mirror: Int[Tensor, "v"] | None = None,
    anchor: Float[Tensor, "v 3"],
    hold: Float[Tensor, "v"],
) -> Float[Tensor, "v 3"]:
    """The smoothest colours that agree with what was seen, with the other side, and faintly with an anchor.

    Minimises sum c (x - colour)^2 + sum_edges k (x_i - x_j)^2 + mirror springs + hold (x - anchor)^2.

    Args:
        faces: Triangles.
        colour: What was seen at every vertex; ignored where the confidence is 0.
        confidence: 0..1.
        group: Vertices of different groups are hardly coupled (scalp and skin).
        mirror: Every vertex's mirror image.
        anchor: Expected colour where there is nothing near.
        hold: Strength of the anchor at every vertex.
    """
    count = len(colour)
    e = edges(faces).long().numpy()
    same = group.numpy()[e[:, 0]] == group.numpy()[e[:, 1]]
    i, j, k = [e[:, 0]], [e[:, 1]], [np.where(same, 1.0, 0.02)]
    if mirror is not None:
        pairs = np.arange(count)
        other = mirror.long().numpy()
        left = pairs < other
        gap = 1 - np.minimum(confidence.numpy()[pairs[left]], confidence.numpy()[other[left]])
        i, j, k = [*i, pairs[left]], [*j, other[left]], [*k, 2.0 * gap]
    i, j, k = np.concatenate(i), np.concatenate(j), np.concatenate(k).astype(np.float64)
    w = coo_matrix((np.concatenate([k, k]), (np.concatenate([i, j]), np.concatenate([j, i]))), (count, count)).tocsr()
    # squared, so that weak evidence yields to the neighbourhood
    data = 30.0 * confidence.double().numpy() ** 2
    held = hold.double().numpy()
    lhs = diags(np.asarray(w.sum(1)).ravel() + data + held) - w
    rhs = data[:, None] * colour.nan_to_num(0.0).double().numpy() + held[:, None] * anchor.double().numpy()
    return torch.from_numpy(splu(lhs.tocsc()).solve(rhs)).float()


@typed
def vertex_means(
    faces: Int[Tensor, "f 3"],
    face: Int[Tensor, "n"],
    weights: Float[Tensor, "n 3"],
    values: Float[Tensor, "n c"],
    confidence: Float[Tensor, "n"],
    count: int,
) -> tuple[Float[Tensor, "v c"], Float[Tensor, "v"]]:
    """Averages of texel values around every vertex, and the mean confidence there."""
    index = faces.long()[face]
    total, mass, area = torch.zeros(count, values.shape[1]), torch.zeros(count), torch.zeros(count)
    clean = values.nan_to_num(0.0)
    for c in range(3):
        w = weights[:, c] ** 2
        area.index_add_(0, index[:, c], w)
        mass.index_add_(0, index[:, c], w * confidence)
        total.index_add_(0, index[:, c], clean * (w * confidence)[:, None])
    return total / mass.clamp_min(1e-9)[:, None], mass / area.clamp_min(1e-9)


@typed
def random_phase(patch: Float[Tensor, "h w c"], size: int, seed: int = 0) -> Float[Tensor, "s s c"]:
    """A seamless square texture with the spectrum and channel correlations of a patch.

    Galerne, Gousseau and Morel, "Random Phase Textures: Theory and Synthesis" (2011). The patch is tiled with
    overlapping windows of its own random-phase version.
    """
    generator = torch.Generator().manual_seed(seed)
    h, w, c = patch.shape
    centred = patch - patch.mean((0, 1))
    window = torch.outer(torch.hann_window(h, periodic=False), torch.hann_window(w, periodic=False))[..., None]
    centred = centred * window / window.square().mean().sqrt()
    # both orientations, so that a patch seen at a slant leaves no grain; one noise for all channels of each keeps
    # their correlation. White noise convolved with the patch has the patch's spectrum.
    out = torch.zeros(c, size, size)
    for turned in (centred, centred.transpose(0, 1)):
        canvas = torch.zeros(c, size, size)
        piece = turned.permute(2, 0, 1)[:, :size, :size]
        canvas[:, : piece.shape[1], : piece.shape[2]] = piece
        noise = torch.randn(size, size, generator=generator)
        out += torch.fft.irfft2(torch.fft.rfft2(canvas) * torch.fft.rfft2(noise), s=(size, size))
    return out.permute(1, 2, 0).contiguous() / (2 * h * w) ** 0.5


@typed
def best_patch(good: Bool[Tensor, "h w"], size: int) -> tuple[int, int] | None:
    """Upper-left corner of a square that lies wholly where `good` holds, the deepest inside; None if there is none."""
    padded = torch.nn.functional.pad(good.int().cumsum(0).cumsum(1), (1, 0, 1, 0))
    full = padded[size:, size:] - padded[:-size, size:] - padded[size:, :-size] + padded[:-size, :-size]
    rows, columns = (full == size * size).nonzero(as_tuple=True)
    if not len(rows):
        return None
    # of all squares the one nearest to their mean, i.e. away from borders
    y, x = rows.float(), columns.float()
    best = ((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin()
    return int(rows[best]), int(columns[best])


@typed
def fill_gutters(image: Float[Tensor, "h w c"], covered: Bool[Tensor, "h w"]) -> Float[Tensor, "h w c"]:
    """Extends colours beyond the islands (pull-push), so that filtering and mip maps meet no seams."""
    levels = []
    value, weight = image * covered[..., None], covered.float()
    while min(value.shape[:2]) > 1 and value.shape[0] % 2 == 0 and value.shape[1] % 2 == 0:
        levels.append((value, weight))
        h, w, c = value.shape
        value = value.view(h // 2, 2, w // 2, 2, c).sum((1, 3))
        weight = weight.view(h // 2, 2, w // 2, 2).sum((1, 3))
        # keep the mean where something is covered
        value = value / weight.clamp_min(1.0)[..., None]
        weight = (weight > 0).float()
        value = value * weight[..., None]
    for finer, covering in reversed(levels):
        up = value.repeat_interleave(2, 0).repeat_interleave(2, 1)
        value = torch.where(covering[..., None] > 0, finer, up)
    return value
