"""Blinks that close: an eyeBlink shape fitted to one head, so that the lids meet and stay outside the eyeball.

The lid opening differs from person to person and linear shapes do not know it. The upper lid's displacement is
corrected along the margin by what is missing (or too much) at coefficient 1, fading with the lid's own motion.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.typing import typed

_CLEARANCE = 0.00035  # of a closing lid above the eyeball, metres
_STEPS = (0.25, 0.5, 0.75, 1.0)  # coefficients at which the lid must clear the eyeball


@typed
def close_lids(
    neutral: Float[Tensor, "v 3"],
    blink: Float[Tensor, "v 3"],
    regions: dict[str, Bool[Tensor, "v"]],
    side: str,
    overlap: float = 0.0003,
    shorten: bool = False,
) -> Float[Tensor, "v 3"]:
    """The eyeBlink displacement of one eye, corrected for this head.

    Args:
        neutral: The head at rest, metres.
        blink: The model's displacement at coefficient 1, metres.
        regions: The model's masks; `eyelid_upper_*`, `lid_margin_upper_*`, `lid_margin_lower_*` and `eyeball_*` are
            used, and a model that lacks one gets its displacement back unchanged.
        side: "left" or "right".
        overlap: How far the upper margin passes the lower one at coefficient 1, metres.
        shorten: Also take back a blink that goes further; otherwise only what stays open is closed.
    """
    names = [f"{name}_{side}" for name in ("eyelid_upper", "lid_margin_upper", "lid_margin_lower", "eyeball")]
    if any(name not in regions for name in names):
        return blink
    lid, upper, lower, ball = (regions[name].numpy() for name in names)
    p, d = neutral.double().numpy(), blink.double().numpy().copy()
    along = p[:, 0] * (1 if side == "left" else -1)

    def margin(mask: np.ndarray) -> np.ndarray:
        vertices = np.flatnonzero(mask)
        return vertices[np.argsort(along[vertices])]

    upper_line, lower_line = margin(upper), margin(lower)
    closed = p + d
    # what each margin vertex lacks to lie on the lower margin, as seen along the opening
    reached = np.stack(
        [np.interp(along[upper_line], along[lower_line], closed[lower_line, axis]) for axis in range(3)], 1
    )
    lacking = reached - closed[upper_line]
    lacking[:, 0] = 0
    opening = p[upper_line, 1] - np.interp(along[upper_line], along[lower_line], p[lower_line, 1])
    lacking[:, 1] -= overlap * np.clip(opening / max(opening.max(), 1e-6), 0, 1)
    if not shorten:
        lacking *= lacking[:, 1:2] < 0
    for _ in range(2):
        lacking = 0.5 * lacking + 0.25 * (lacking[np.r_[0, : len(lacking) - 1]] + lacking[np.r_[1 : len(lacking), -1]])
    motion = np.linalg.norm(d, axis=1)
    vertices = np.flatnonzero(lid)
    missing = np.stack([np.interp(along[vertices], along[upper_line], lacking[:, axis]) for axis in range(3)], 1)
    full = np.interp(along[vertices], along[upper_line], motion[upper_line])
    share = np.where(full > 2e-4, motion[vertices] / np.maximum(full, 2e-4), 0.0)
    d[vertices] += np.clip(share, 0, 1)[:, None] * missing

    centre = p[ball].mean(0)
    radius = np.linalg.norm(p[ball] - centre, axis=1).mean()
    # only the lid's outside: its inner rim rests in the eyeball by design
    outside = vertices[np.linalg.norm(p[vertices] - centre, axis=1) > radius + 0.5 * _CLEARANCE]
    for _ in range(4):
        for step in _STEPS:
            q = p[outside] + step * d[outside] - centre
            distance = np.linalg.norm(q, axis=1, keepdims=True)
            short = np.clip(radius + _CLEARANCE - distance, 0, None)
            d[outside] += short / step * q / distance
    return torch.from_numpy(d).to(blink)
