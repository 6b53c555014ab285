"""Articulation and its sound -> a motion: everything that is on top of lips, jaw and tongue."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.performer import OFFLINE_AHEAD, Performed, Performer
from avatar3d.drive.speech.prosody import SAMPLE_RATE
from avatar3d.drive.speech.rate import RATE
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.motion import head_joint_rotations
from avatar3d.types import Motion
from avatar3d.typing import typed

_BLOCK = 10 * RATE
_ROUNDING = 5e-3
"""Frames: a sound of 0.5 s at 44.1 kHz may have one sample more at 16 kHz, and no frame for it."""


class FrameClock:
    """Rows at `RATE`, at times (i + 0.5) / RATE -> frames at k / fps, linearly; keeps no more than one row."""

    def __init__(self, fps: float, width: int) -> None:
        if not fps > 0:
            raise ValueError(f"{fps:g} frames per second; expected a positive rate.")
        self.fps = fps
        self._last: Float[Tensor, "1 w"] | None = None
        self._width = width
        self._rows = 0
        self.frames = 0
        """Frames that have come out."""

    @typed
    def push(self, rows: Float[Tensor, "n w"]) -> Float[Tensor, "m w"]:
        """The frames that these rows complete."""
        if not len(rows):
            return rows.new_zeros(0, self._width)
        before = rows[:1] if self._last is None else self._last  # the first row holds before its time
        known = torch.cat([before, rows])
        first = self._rows - 1
        self._rows, self._last = self._rows + len(rows), rows[-1:].clone()
        end = math.ceil((self._rows - 0.5) / RATE * self.fps - 1e-9)  # frames before the time of the last row
        return self._between(known, first, max(end, self.frames))

    @typed
    def flush(self, frames: int) -> Float[Tensor, "m w"]:
        """The rest, up to this many frames in all; the last row holds."""
        if self._last is None:
            return torch.zeros(0, self._width)
        return self._between(self._last, self._rows - 1, max(frames, self.frames))

    def _between(self, known: Tensor, first: int, end: int) -> Tensor:
        times = torch.arange(self.frames, end, dtype=torch.float64) * (RATE / self.fps) - 0.5 - first
        self.frames = end
        times = times.clamp(0, len(known) - 1)
        low = times.floor().long()
        high = (low + 1).clamp(max=len(known) - 1)
        weight = (times - low).to(known)[:, None]
        return known[low] + weight * (known[high] - known[low])


@typed
def perform(
    mouth: Float[Tensor, "t 52"],
    samples: Float[Tensor, "n"],
    settings: SpeechSettings | None = None,
    *,
    cues: Sequence[Cue] = (),
    closed: Float[Tensor, "t"] | None = None,
    touching: Float[Tensor, "t"] | None = None,
    fps: float | int = 30.0,
    source: str = "",
) -> Motion:
    """Acts speech: emotion, head, blinks, gaze, brows and breath around a mouth that speaks.

    Lips that must meet do so whatever the emotion adds.

    Args:
        mouth: Articulation, ARKit coefficients at `RATE` rows a second; held or cut to the sound's length.
        samples: The sound, mono at 16 kHz.
        settings: How it is acted.
        cues: What to do at which time.
        closed: 0 free .. 1 where lips must meet; taken from `mouth` itself when left out.
        touching: 0 free .. 1 where the lower lip must touch the upper teeth.
        fps: Frames per second of the motion.
        source: What the motion says it was made from.

    Returns:
        A motion as long as the sound: ceil(duration * fps) frames, frame k at k / fps.
    """

    def blocks() -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
        hop = SAMPLE_RATE // RATE
        for start in range(0, max(len(mouth), 1), _BLOCK):
            part = slice(start, start + _BLOCK)
            sound = samples[start * hop : (start + _BLOCK) * hop]
            yield (mouth[part], sound, None if closed is None else closed[part],
                   None if touching is None else touching[part])  # fmt: skip

    duration = len(samples) / SAMPLE_RATE
    return perform_blocks(blocks(), duration, settings, cues=cues, fps=fps, source=source)


Block = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Articulation [n, 52], sound [m], closed [n], touching [n]: what `Performer.push` takes."""


def perform_blocks(
    blocks: Iterable[Block],
    duration: float,
    settings: SpeechSettings | None = None,
    *,
    cues: Sequence[Cue] = (),
    fps: float = 30.0,
    source: str = "",
) -> Motion:
    """`perform` for what comes in blocks: long sound needs no more memory than its motion."""
    performer = Performer(settings, cues=cues, ahead=OFFLINE_AHEAD)
    clock = FrameClock(float(fps), 58)
    pieces = [clock.push(joined(performer.push(*block))) for block in blocks]
    pieces.append(clock.push(joined(performer.flush())))
    count = max(1, math.ceil(duration * fps - _ROUNDING))
    pieces.append(clock.flush(count))
    frames = torch.cat(pieces)[:count]
    if not len(frames):
        frames = torch.zeros(count, 58)
    return motion_of(frames, float(fps), source)


@typed
def joined(part: Performed) -> Float[Tensor, "t 58"]:
    """Expression, head and translation side by side."""
    return torch.cat([part.expression, part.head, part.translation], 1)


@typed
def motion_of(frames: Float[Tensor, "t 58"], fps: float, source: str) -> Motion:
    """A motion of frames from a `FrameClock`."""
    return Motion(
        fps=fps,
        expression=frames[:, :52].clone(),
        rotations=head_joint_rotations(rotvec_to_matrix(frames[:, 52:55].double())),
        translation=frames[:, 55:58].clone(),
        source=source,
    )
