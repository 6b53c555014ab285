"""Many pairwise motions of one skull, brought to agree: rotation and translation averaging, and a little smoothness."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.geometry.transform import invert_rigid, make_transform
from avatar3d.typing import typed

LEVER = 0.08
"""Metres from the pivot at which a rotation counts like a translation."""
ACCELERATION = 0.0003
"""Metres per frame squared that a head moves by without being doubted."""


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Measured motions between frames, in a frame of reference near the skull's centre, metres."""

    start: Int[Tensor, "e"]
    end: Int[Tensor, "e"]
    T_end_start: Float[Tensor, "e 4 4"]
    error: Float[Tensor, "e"]
    """Expected error, metres."""


@typed
def average(
    edges: Edges, first: Float[Tensor, "t 4 4"], *, anchor: int = 0, smooth: bool = False, rounds: int = 5
) -> tuple[Float[Tensor, "t 4 4"], Float[Tensor, "t"]]:
    """Poses of all frames relative to the anchor that agree best with all edges.

    Gauss-Newton on twists, weighted by the edges' expected errors and, robustly, by how well they agree with the rest
    (Cauchy). Smoothness is a weak prior on second differences, robust as well: jumps, and frames that are no sequence,
    are left alone.

    Args:
        edges: What was measured. Every frame is reached from the anchor.
        first: A first guess, T_frame_anchor.
        anchor: The frame that stays where it is.
        smooth: Frames are a sequence at a constant rate.
        rounds: Gauss-Newton steps.

    Returns:
        T_frame_anchor, and what is left of doubt about each, metres.
    """
    T = first.clone()
    n = len(T)
    base = 1 / (edges.error.clamp_min(1e-6)).square()
    free = torch.arange(n) != anchor
    doubt = torch.zeros(n, dtype=T.dtype)
    scale = torch.tensor([LEVER] * 3 + [1.0] * 3, dtype=T.dtype)
    for _ in range(rounds):
        # T_end = T_end_start T_start, up to a twist in the anchor's frame
        d = _twist(invert_rigid(T[edges.end]) @ edges.T_end_start @ T[edges.start]) * scale
        weight = base / (1 + d.square().sum(1) / (3 * edges.error).square())
        H, g = torch.zeros(n, n, dtype=T.dtype), torch.zeros(n, 6, dtype=T.dtype)
        i, j = edges.start, edges.end
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            H.index_put_((a, b), sign * weight, accumulate=True)
        g.index_add_(0, j, weight[:, None] * d).index_add_(0, i, -weight[:, None] * d)
        if smooth and n >= 3:
            local = _twist(invert_rigid(T[:-1]) @ T[1:]) * scale
            bend = local[1:] - local[:-1]
            w = 1 / ACCELERATION**2 / (1 + bend.square().sum(1) / (3 * ACCELERATION) ** 2)
            k = torch.arange(1, n - 1)
            for p, sp in ((-1, 1), (0, -2), (1, 1)):
                g.index_add_(0, k + p, -sp * w[:, None] * bend)
                for q, sq in ((-1, 1), (0, -2), (1, 1)):
                    H.index_put_((k + p, k + q), sp * sq * w, accumulate=True)
        inverse = torch.linalg.inv(H[free][:, free])
        step = torch.zeros(n, 6, dtype=T.dtype)
        step[free] = inverse @ g[free] / scale
        T = T @ make_transform(rotvec_to_matrix(step[:, :3]), step[:, 3:])
        doubt[free] = inverse.diagonal().sqrt()
    return T, doubt


def _twist(T: Tensor) -> Tensor:
    """[e, 6] rotation vectors and translations of small motions."""
    return torch.cat([matrix_to_rotvec(T[:, :3, :3]), T[:, :3, 3]], 1)
