"""Sound from any file that FFmpeg reads: for capture, and for what speech drives."""

from pathlib import Path

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import CaptureError
from avatar3d.typing import typed


@typed
def load_audio(path: str | Path, rate: int = 16000, start: float | int | None = None) -> Float[Tensor, "n"]:
    """The sound of a video or audio file, the mean of its channels, resampled.

    Codec padding that the file declares is left out.

    Args:
        path: File.
        rate: Samples per second.
        start: Time of the first sample on the file's clock, seconds: silence is put before or samples are cut
            (`view.audio_start` gives the sound from the view's first frame). None for where the sound begins.

    Returns:
        Samples, full scale at -1 and 1.

    Raises:
        CaptureError: missing, without sound, or not one sample of it can be decoded.
    """
    if rate < 1:
        raise ValueError(f"load_audio: rate={rate}; expected samples per second above 0.")
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise CaptureError(f"{path} cannot be read as sound ({getattr(error, 'strerror', None) or error}).") from None
    with container:
        if not container.streams.audio:
            raise CaptureError(f"{path} has no sound in it.")
        stream = container.streams.audio[0]
        # Packed samples: PyAV crashes on planes of channels that have no layout.
        resampler = AudioResampler(format="flt", rate=rate)
        chunks: list[np.ndarray] = []
        begins = 0.0
        try:
            for frame in container.decode(stream):
                begins = frame.time or 0.0 if not chunks else begins
                chunks += [_mean(out) for out in resampler.resample(frame)]
        except (FFmpegError, OSError):
            pass  # a cut-off tail: what came before it is good
        if chunks:
            chunks += [_mean(out) for out in resampler.resample(None)]
    if not chunks:
        raise CaptureError(f"{path}: no sound could be decoded; it is damaged or empty.")
    sound = np.nan_to_num(np.concatenate(chunks), posinf=0.0, neginf=0.0)  # float formats may hold anything
    if start is not None:
        early = round((begins - start) * rate)
        sound = np.pad(sound, (early, 0)) if early > 0 else sound[-early:]
    return torch.from_numpy(sound)


def _mean(frame: av.AudioFrame) -> np.ndarray:
    """Mean of the channels of packed samples."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(1)


@typed
def resample_audio(samples: Float[Tensor, "n"], rate: int, to: int) -> Float[Tensor, "m"]:
    """Sound at another rate, within one sample as long as before.

    Raises:
        ValueError: a rate that is not positive.
    """
    if rate < 1 or to < 1:
        raise ValueError(f"resample_audio: from {rate} to {to}; expected samples per second above 0.")
    if rate == to or not len(samples):
        return samples
    resampler = AudioResampler(format="fltp", layout="mono", rate=to)
    sound = samples.detach().cpu().float().numpy()
    chunks: list[np.ndarray] = []
    for start in range(0, len(sound), rate):
        part = np.ascontiguousarray(sound[None, start : start + rate])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, start
        chunks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
    chunks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return torch.from_numpy(np.concatenate(chunks)) if chunks else samples.new_zeros(0)
