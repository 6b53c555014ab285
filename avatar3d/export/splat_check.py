"""What file formats do to splats: limits, and the comparison of what was read back with what was written."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatar3d.errors import ExportError
from avatar3d.models.splat_cloud import SplatCloud


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What a file format may change."""

    means: float
    """Metres."""
    turn: float
    """Radians."""
    log_scales: float
    opacities: float
    sh: float


def check_cloud(back: SplatCloud, cloud: SplatCloud, tolerance: Tolerance, path: Path) -> None:
    """Compares what was read back with what was written.

    Raises:
        ExportError: something differs by more than the format explains.
    """

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise ExportError(f"{path.name} read back differs from the avatar: {what}. It was not kept.")

    demand(back.means.shape == cloud.means.shape, f"{len(back.means)} splats instead of {len(cloud.means)}")
    demand(back.sh.shape == cloud.sh.shape, f"harmonics of degree {back.degree} instead of {cloud.degree}")
    if not len(cloud.means):
        return
    gaps = {
        "means": np.abs(back.means - cloud.means).max(),
        "log_scales": np.abs(np.log(back.scales) - np.log(cloud.scales)).max(),
        "opacities": np.abs(back.opacities - cloud.opacities).max(),
        "sh": np.abs(back.sh - cloud.sh).max(),
        "turn": _angles(back.quats.astype(np.float64), cloud.quats.astype(np.float64)).max(),
    }
    for name, gap in gaps.items():
        allowed = getattr(tolerance, name)
        demand(bool(gap <= allowed), f"{name} by {gap:.2g}, and {allowed:.2g} is what the format loses")


def _angles(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """Between two rotations, radians; precise for small ones too."""
    apart = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return 4 * np.arcsin(np.clip(apart / 2, 0, 1))


def clipped(
    cloud: SplatCloud, *, faintest: float, smallest: float, largest: float, colour: float, detail: float
) -> SplatCloud:
    """The cloud within what a format can say.

    Args:
        cloud: Splats.
        faintest: Distance of opacities from 0 and from 1.
        smallest: Scale, metres.
        largest: Scale, metres.
        colour: Greatest absolute value of the first harmonic.
        detail: Greatest absolute value of the others.
    """
    sh = np.concatenate(
        [np.clip(cloud.sh[:, :1], -colour, colour), np.clip(cloud.sh[:, 1:], -detail, detail)], 1
    )  # fmt: skip
    return SplatCloud(
        means=cloud.means, quats=cloud.quats, scales=np.clip(cloud.scales, smallest, largest),
        opacities=np.clip(cloud.opacities, faintest, 1 - faintest), sh=sh,
    )  # fmt: skip
