"""Settings of splat optimisation, and what the quality presets choose."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SplatConfig:
    """How splats are optimised."""

    size: int = 512
    """Longer side of the pictures that are looked at, pixels."""
    count: int = 30_000
    """At most this many splats."""
    steps: int = 4500
    """Optimiser steps, one picture each."""
    minutes: float | None = None
    """Stop by then; the schedule is shortened to fit. No limit when None."""
    frames: int = 300
    """At most this many frames are looked at."""
    components: int = 10
    """Of the expression-dependent basis; three more go with the turn of the head."""
    degree: int = 1
    """Of the spherical harmonics."""
    ssim: float = 0.2
    """Share of D-SSIM in the loss."""
    refine_pose: bool = True
    """Let pose and expression follow the pictures, held back by the track."""
    checkpoint_seconds: float = 30.0
    """How often the state is kept."""


QUALITY: dict[str, SplatConfig] = {
    "draft": SplatConfig(size=256, count=12_000, steps=1500, frames=150, components=6),
    "standard": SplatConfig(),
    "high": SplatConfig(size=1024, count=60_000, steps=10_000, frames=500, components=12, degree=2),
}
"""The quality presets."""
