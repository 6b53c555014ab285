"""Exposure and white balance that change from frame to frame, told by what stands still behind the person.

Phones brighten a picture when a dark sleeve comes in. Skin does not tell: it changes with the turn of the head, in the
clips at hand by up to a quarter, and that is to be learned. A background that stands still does not change; where it
moves, or nothing is seen of it, pictures are left as they are.
"""

from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.colour import linear_to_srgb, srgb_to_linear

ACROSS = 64
"""Backgrounds are compared at this many pixels across."""
OUTSIDE = 0.02
"""Coverage by the person below which a pixel is background."""
MEASURABLE = (0.02, 0.8)
"""Linear light between which a pixel tells how bright the rest is: not black, and not clipped."""
FEWEST = 60
"""Such pixels that are needed, and a third of as many in every picture."""
STILL = 0.03
"""Median difference of the logarithm of a background's pixels, apart from the gain, up to which it stands still."""
PLAIN = 0.1
"""Changes of the gain up to which, from the least to the most, pictures are left as they are."""


@dataclass(frozen=True)
class Balance:
    """What stands still behind the person."""

    background: Float[Tensor, "p 3"]
    """Logarithms of its linear colours; nan where nothing is known."""
    size: tuple[int, int]
    """Height and width of the pictures in which it was seen, pixels."""

    def __call__(self, shots: list[Shot]) -> list[Shot]:
        """Pictures as they would be with the usual exposure."""
        whole = [s for s in shots if not s.close and s.image.shape[:2] == self.size]
        gains = {}
        for shot, logs in zip(whole, _logs(whole), strict=True):
            apart = logs - self.background
            if int(apart.isfinite().all(1).sum()) * 3 >= FEWEST:
                gains[shot.frame] = apart.nanmedian(0).values
        return [_divided(s, gains[s.frame]) if s.frame in gains else s for s in shots]


def balance(shots: list[Shot]) -> Balance | None:
    """What `shots` of one video say of their exposures; None where there is nothing to mend or to tell it by."""
    whole = [s for s in shots if not s.close]
    if len(whole) < 3 or len({s.image.shape for s in whole}) > 1:
        return None
    logs = torch.stack(_logs(whole))
    gain, background = torch.zeros(len(whole), 1, 3), logs[0]
    for _ in range(3):
        background = (logs - gain).nanmedian(0).values
        gain = (logs - background).nanmedian(1, keepdim=True).values.nan_to_num()
    often = logs.isfinite().all(2).sum(0) >= max(3, len(whole) // 3)
    background = torch.where(often[:, None], background, torch.nan)
    apart = (logs - background - gain).abs()
    if int(often.sum()) < FEWEST or not float(apart.nanmedian()) < STILL:
        return None
    if float((gain.amax(0) - gain.amin(0)).max()) < PLAIN:
        return None
    return Balance(background, (whole[0].image.shape[0], whole[0].image.shape[1]))


def _logs(shots: list[Shot]) -> list[Tensor]:
    """Logarithms `[p, 3]` of the linear colours of small pictures; nan where they show the person or tell nothing."""
    out = []
    for shot in shots:
        planes = torch.cat([srgb_to_linear(shot.image.float() / 255), shot.mask[..., None] / 255], -1).permute(2, 0, 1)
        height, width = planes.shape[1:]
        scale = min(1.0, ACROSS / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = torch.nn.functional.interpolate(planes[None], size, mode="area")[0].flatten(1).T
        colours = small[:, :3]
        told = (small[:, 3] < OUTSIDE) & (colours.amin(1) > MEASURABLE[0]) & (colours.amax(1) < MEASURABLE[1])
        out.append(torch.where(told[:, None], colours.clamp_min(1e-6).log(), torch.nan))
    return out


def _divided(shot: Shot, gain: Float[Tensor, "3"]) -> Shot:
    linear = srgb_to_linear(shot.image.float() / 255) / gain.exp()
    return replace(shot, image=(linear_to_srgb(linear.clamp(0, 1)) * 255).round().byte())


class Balances:
    """The balance of every video that pictures come from."""

    def __init__(self, shots: list[Shot], video: Int[Tensor, "t"]) -> None:
        """Looks at the pictures.

        Args:
            shots: Of any of the videos.
            video: Number of the video that every frame of the motion comes from.
        """
        self._video = video
        self._known = {v: balance([s for s in shots if int(video[s.frame]) == v]) for v in video.unique().tolist()}

    def __call__(self, shots: list[Shot]) -> list[Shot]:
        """Pictures of the same videos, in their order, with the usual exposure of their video."""
        out: list[Shot] = []
        for v, mine in groupby(shots, lambda s: int(self._video[s.frame])):
            known, pictures = self._known.get(v), list(mine)
            out += pictures if known is None else known(pictures)
        return out

    @property
    def changes(self) -> bool:
        """Whether any of the videos changes its exposure."""
        return any(b is not None for b in self._known.values())
