"""What everyone begins with, to be compared with: one fixed mouth for each phone, cross-faded."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from avatar3d.drive.speech.phones import Phone, articulations
from avatar3d.drive.speech.rate import RATE, rows
from avatar3d.drive.speech.visemes import viseme
from avatar3d.types.arkit import ARKIT_NAMES
from avatar3d.typing import typed

_FADE = 0.08  # seconds


@typed
def plain_visemes(phones: Sequence[Phone], duration: float | int) -> Float[Tensor, "t 52"]:
    """A plain viseme table: every phone has its mouth, and mouths fade into one another in 80 ms.

    Args:
        phones: In order of time.
        duration: Seconds to cover.
    """
    count = rows(duration)
    times = (np.arange(count) + 0.5) / RATE
    out = np.zeros((count, len(ARKIT_NAMES)))
    for phone in phones:
        at = phone.start
        for part in articulations(phone.symbol):
            end = at + part.share * (phone.end - phone.start)
            shape = viseme(part)
            out[(times >= at) & (times < end)] = [shape.target(name) for name in ARKIT_NAMES]
            at = end
    if count:
        out = uniform_filter1d(out, max(round(_FADE * RATE), 1), axis=0, mode="nearest")
    return torch.from_numpy(out).float()
