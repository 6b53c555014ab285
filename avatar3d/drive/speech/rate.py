"""The rate at which articulation is described."""

RATE = 50
"""Rows a second; row i stands for the time (i + 0.5) / RATE."""


def rows(duration: float) -> int:
    """Rows that cover a duration in seconds."""
    from math import ceil

    return max(ceil(duration * RATE - 1e-6), 0)
