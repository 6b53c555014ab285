"""How near pictures come to footage: PSNR and SSIM of the person on white, whole and by region (RESEARCH.md 3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d import ops
from avatar3d.typing import typed


@typed
def psnr(
    picture: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], where: Bool[Tensor, "h w"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1, over all pixels or over some; NaN over none."""
    error = (picture - target).square()
    error = error if where is None else error[where]
    return -10 * math.log10(max(float(error.mean()), 1e-12)) if error.numel() else math.nan


@dataclass
class ImageScores:
    """Means over frames; every frame counts alike."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    regions: dict[str, list[float]] = field(default_factory=dict)
    perceptual: Callable[[Tensor, Tensor], float] | None = None
    """LPIPS, where it is installed (`perceptual.find_lpips`)."""
    lpips: list[float] = field(default_factory=list)

    @typed
    def add(
        self,
        frame: int,
        picture: Float[Tensor, "h w 3"],
        target: Float[Tensor, "h w 3"],
        mask: Float[Tensor, "h w"],
        regions: dict[str, Tensor] | None = None,
    ) -> None:
        """Scores one frame.

        Args:
            frame: Its index.
            picture: The avatar over white, 0..1.
            target: The footage, 0..1.
            mask: Coverage of the person, 0..1.
            regions: Masks `[h, w]` by name.
        """
        weight = mask[..., None]
        target = target * weight + (1 - weight)
        inside = mask > 0.5
        if not inside.any():
            return
        self.frames.append(frame)
        self.psnr.append(psnr(picture, target, inside))
        self.ssim.append(float(ops.ssim(picture[None], target[None]).mean()))
        if self.perceptual is not None:
            self.lpips.append(self.perceptual(picture, target))
        for name, where in (regions or {}).items():
            value = psnr(picture, target, where & inside)
            if not math.isnan(value):
                self.regions.setdefault(name, []).append(value)

    def summary(self) -> dict:
        """`frames`, `psnr`, `ssim`, `lpips` where there is one, `by_region`, and the worst frames first."""
        if not self.frames:
            return {"frames": 0, "psnr": None, "ssim": None}
        order = sorted(range(len(self.frames)), key=lambda i: self.psnr[i])
        return {
            "frames": len(self.frames),
            "psnr": sum(self.psnr) / len(self.psnr),
            "ssim": sum(self.ssim) / len(self.ssim),
            **({"lpips": sum(self.lpips) / len(self.lpips)} if self.lpips else {}),
            "by_region": {name: sum(v) / len(v) for name, v in self.regions.items()},
            "worst": [self.frames[i] for i in order[:5]],
        }
