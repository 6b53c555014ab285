"""Splats in the world as the file formats take them: unbound from any rig."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic: colour = 0.5 + SH_C0 * sh[0] + ..."""


@dataclass(frozen=True, kw_only=True)
class SplatCloud:
    """Splats in world space: metres, +y up."""

    means: Float[np.ndarray, "n 3"]
    quats: Float[np.ndarray, "n 4"]
    """Unit, wxyz."""
    scales: Float[np.ndarray, "n 3"]
    """Standard deviations, metres."""
    opacities: Float[np.ndarray, "n"]
    """0..1."""
    sh: Float[np.ndarray, "n k 3"]
    """Spherical harmonics of sRGB less 0.5, 3DGS's order and sign, for directions in world space."""

    @property
    def degree(self) -> int:
        """Of the spherical harmonics."""
        return round(self.sh.shape[1] ** 0.5) - 1

    @property
    def bounds(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Lower and upper corner of the means, metres; NaN without splats."""
        if not len(self.means):
            return np.full(3, np.nan), np.full(3, np.nan)
        return self.means.min(0), self.means.max(0)
