"""Recorded times -> a constant frame rate."""

import numpy as np

from avatar3d.errors import FormatError

_COMMON_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0, 90.0, 120.0)


def frames_on_a_grid(times: np.ndarray, name: str) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places recorded frames on a grid of constant rate; frames are kept as they are, gaps are interpolated.

    Args:
        times: Seconds, increasing.
        name: What is read, for errors.

    Returns:
        fps; grid frame of every recorded frame; and for every grid frame the recorded frames before and after it
        with the weight of the latter.

    Raises:
        FormatError: times that do not increase.
    """
    if len(times) == 1:
        return 30.0, np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), np.zeros(1)
    steps = np.diff(times)
    if steps.min() <= 0:
        raise FormatError(f"{name}: frame {int(steps.argmin()) + 1} is not later than the one before it.")
    period = np.median(steps)
    count = np.maximum(1, np.round(steps / period)).sum()
    fps = float(count / (times[-1] - times[0]))
    nearest = min(_COMMON_RATES, key=lambda rate: abs(rate - fps))
    # A clip that starts and ends within half a frame of a common rate's grid was recorded at that rate.
    if abs(nearest - fps) < max(2e-4 * nearest, 0.5 / (times[-1] - times[0])) and abs(nearest - fps) < 0.01 * fps:
        fps = nearest
    frame = np.round(times * fps).astype(int)
    frame = np.maximum.accumulate(frame)
    for i in np.flatnonzero(np.diff(frame) == 0) + 1:  # jitter: two frames at one place
        frame[i:] = np.maximum(frame[i:], frame[i - 1] + 1 + np.arange(len(frame) - i))
    grid = np.arange(frame[-1] + 1)
    last = np.searchsorted(frame, grid)
    first = np.where(frame[last] == grid, last, last - 1)
    span = np.maximum(frame[last] - frame[first], 1)
    return fps, frame, first, last, (grid - frame[first]) / span
