"""Hair that no picture shows: where it ends, and that it is made of strands.

The masks of a head that hardly turns say nothing of what lies behind it, so hair may stand there that nobody has, and
whoever is behind a neck may be a collar. What is seen beside the face tells: short hair ends at the ears, and long hair
goes on down from them.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d import ops
from avatar3d.types import Rig
from avatar3d.types.gaussians import GROUP_NAMES, Gaussians

STEP, EMPTY, FEW = 0.01, 2, 4
"""Hair ends below the ears where so many layers of so many metres have fewer than so many seen splats each."""
BEFORE = 0.03
"""Metres before the ears up to which hair counts for that; further in front it is a beard."""
SHORT, TAPER = 3e-3, 0.4
"""Metres by which hair stands off where it ends, and by how much more for every metre above."""
THICKER = 5e-3
"""Metres by which hair that is not seen may stand off further than the 9 in 10 of what is seen."""
STRANDS, LOCAL, VARIED = 60, 0.5, 0.6
"""An unseen splat takes after so many of the nearest: between the median of all and theirs, and so much of how one of
them differs from that."""
GOLDEN = 0.6180339887498949
HAIR = GROUP_NAMES.index("hair")


def standing_off(
    gaussians: Gaussians, rig: Rig, places: Float[Tensor, "n 3"], unseen: Float[Tensor, "n"], told: Bool[Tensor, "n"],
    end: float | None, fewest: int,
) -> Bool[Tensor, "n"]:  # fmt: skip
    """Unseen hair that stands where there should be none.

    Args:
        gaussians: Bound to `rig`.
        rig: With its anchors.
        places: Of the splats on the neutral head, metres.
        unseen: How unseen each is, 0..1.
        told: Which are seen well.
        end: Of `hair_end`.
        fewest: With fewer seen splats of hair than these nothing can be said.
    """
    hair = gaussians.group == HAIR
    out = torch.zeros_like(hair)
    index = hair.nonzero()[:, 0]
    known = told[index]
    if int(known.sum()) < fewest:
        return out
    mesh = rig.faces[(rig.faces < len(rig.neutral) - 3 * len(rig.joint_names)).all(1)]
    distance = ops.nearest_on_mesh(places[index].contiguous(), rig.neutral.float(), mesh).distance
    limit = (distance[known].quantile(0.9) + THICKER).expand(len(index))
    if end is not None:
        limit = torch.minimum(limit, SHORT + TAPER * (places[index, 1] - end).clamp_min(0))
    out[index] = (unseen[index] > 0.5) & (distance > limit)
    return out


def hair_end(rig: Rig, seen: Float[Tensor, "m 3"]) -> float | None:
    """Height at which hair ends, metres in the neutral head's frame; None where it goes on as far as anything does.

    Args:
        rig: With a region `ears`.
        seen: Places of the splats of hair that are seen well.
    """
    if "ears" not in rig.regions:
        return None
    ears = rig.neutral[rig.regions["ears"]]
    beside = seen[seen[:, 2] < float(ears[:, 2].max()) + BEFORE, 1]
    empty, top = 0, float(ears[:, 1].mean())
    for layer in range(int(0.3 / STEP)):
        high = top - layer * STEP
        there = int(((beside <= high) & (beside > high - STEP)).sum())
        empty = empty + 1 if there < FEW else 0
        if empty == EMPTY:
            return high + (EMPTY - 1) * STEP
    return None


def strands(
    places: Float[Tensor, "m 3"], sources: Float[Tensor, "s 3"], values: Float[Tensor, "s c"]
) -> Float[Tensor, "m c"]:
    """Values at some places that vary as those of the nearest sources do: a smooth mean would be a cap, not hair."""
    k = min(STRANDS, len(sources))
    usual, out = values.median(0).values, []
    for first, part in enumerate(places.split(1024)):
        near = torch.cdist(part, sources).topk(k, largest=False).indices
        middle = values[near].median(1).values
        index = 1024 * first + torch.arange(len(part))
        one = values[near[torch.arange(len(part)), (index * GOLDEN % 1 * k).long()]]
        out.append(usual + LOCAL * (middle - usual) + VARIED * (one - middle))
    return torch.cat(out) if out else values[:0]
