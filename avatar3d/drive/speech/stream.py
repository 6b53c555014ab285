"""Sound in pieces -> motion in pieces, at once: for microphones, calls and synthesisers that speak as they go."""

import math

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.mouth import Articulated, Mouth
from avatar3d.drive.speech.perform import FrameClock, joined, motion_of
from avatar3d.drive.speech.performer import STREAM_AHEAD, Performer
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.nets.mel import SAMPLE_RATE
from avatar3d.types import Motion
from avatar3d.typing import typed


class SpeechStream:
    """Speech that arrives piece by piece; memory and cost per piece stay the same for hours.

    A frame comes out when 130 ms of sound after it at most have gone in. The mouth is that of `from_speech` on the
    same sound; head, brows and eyes follow the prosody a little later than there, since nothing waits for them.
    """

    def __init__(self, *, fps: float | int = 30.0, settings: SpeechSettings | None = None) -> None:
        """Starts at time 0.

        Args:
            fps: Frames per second of the motion.
            settings: How it is acted.

        Raises:
            ValueError: `fps` is not positive.
            AssetError: the network's weights are missing or damaged.
        """
        self._clock = FrameClock(float(fps), 58)
        self._performer = Performer(settings, ahead=STREAM_AHEAD)
        self._mouth = Mouth()
        self._resampler: AudioResampler | None = None
        self._rate, self._pushed = 0, 0

    @property
    def frames(self) -> int:
        """Frames that have come out."""
        return self._clock.frames

    @property
    def seconds(self) -> float:
        """Sound that has gone in."""
        return self._pushed / max(self._rate, 1)

    @typed
    def push(self, samples: Float[Tensor, "n"], rate: int = SAMPLE_RATE) -> Motion:
        """The frames that this piece of sound completes, often none.

        Args:
            samples: Mono, full scale at -1 and 1; 20 to 40 ms at a time is usual, any length works.
            rate: Samples per second; the same for all pieces.

        Returns:
            A motion of 0 or more frames, which follow those of the last call.

        Raises:
            ValueError: another rate than before, or none.
        """
        if rate < 1 or (self._rate and rate != self._rate):
            raise ValueError(f"SpeechStream: {rate} samples per second after {self._rate}; expected one positive rate.")
        self._rate = rate
        sound = self._resampled(samples)
        self._pushed += len(samples)
        return self._motion(self._advance(self._mouth.push(sound), sound))

    def flush(self) -> Motion:
        """The rest, when the sound has ended: frames up to its end. The stream takes no more after this."""
        tail = torch.zeros(0) if self._resampler is None else _sound(self._resampler.resample(None))
        frames = [self._advance(self._mouth.push(tail), tail)]
        frames.append(self._advance(self._mouth.flush(), torch.zeros(0)))
        frames.append(self._clock.push(joined(self._performer.flush())))
        count = math.ceil(self.seconds * self._clock.fps - 1e-6)
        frames.append(self._clock.flush(count))
        return self._motion(torch.cat(frames))

    def _advance(self, rows: Articulated, sound: Tensor) -> Tensor:
        return self._clock.push(joined(self._performer.push(rows.curves, sound, rows.closed, rows.touching)))

    def _motion(self, frames: Tensor) -> Motion:
        return motion_of(frames, self._clock.fps, "speech")

    def _resampled(self, samples: Tensor) -> Tensor:
        if self._rate == SAMPLE_RATE or not len(samples):
            return samples.float()
        if self._resampler is None:
            self._resampler = AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        piece = np.ascontiguousarray(samples.detach().cpu().float().numpy()[None])
        frame = AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._pushed
        return _sound(self._resampler.resample(frame))


def _sound(frames: list[AudioFrame]) -> Tensor:
    pieces = [torch.from_numpy(frame.to_ndarray()[0].copy()) for frame in frames]
    return torch.cat(pieces) if pieces else torch.zeros(0)
