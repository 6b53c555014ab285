"""Sound as a small file that every browser plays, and as WAV."""

import io
import struct
import wave
from itertools import chain, count
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.storage import replacing
from avatar3d.typing import typed

SOUND_RATE = 44100
"""Samples per second that `encode_sound` expects."""
_BITS_PER_SECOND = 96_000
_FRAME = 1024
_MARK = b"LIST\x16\0\0\0INFOISFT\x0a\0\0\0avatar3d\0\0"
"""A chunk of RIFF, of the software that wrote the file."""


@typed
def encode_sound(samples: Float[Tensor, "n"], duration: float) -> bytes:
    """Mono sound as AAC in MP4 (`audio/mp4`).

    Args:
        samples: At `SOUND_RATE`, full scale at -1 and 1.
        duration: Seconds; shorter sound is followed by silence, longer sound is cut.
    """
    sound = np.zeros((1, max(1, round(duration * SOUND_RATE))), np.float32)
    count = min(sound.shape[1], len(samples))
    sound[0, :count] = samples[:count].float().clamp(-1, 1).numpy()
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SOUND_RATE)
        stream.bit_rate = _BITS_PER_SECOND
        stream.codec_context.layout = "mono"
        for at in range(0, sound.shape[1], _FRAME):
            part = np.ascontiguousarray(sound[:, at : at + _FRAME])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SOUND_RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@typed
def write_wav(path: str | Path, samples: Float[Tensor, "n"], rate: int) -> None:
    """Writes mono sound as 16-bit WAV, full scale at -1 and 1, which says of itself that avatar3d wrote it.

    Raises:
        FileError: it cannot be written.
    """
    pcm = (samples.detach().cpu().float().clamp(-1, 1) * 32767).round().to(torch.int16).numpy()
    with replacing(Path(path)) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())
        file.close()
        with temporary.open("r+b") as raw:
            raw.seek(0, io.SEEK_END)
            raw.write(_MARK)
            size = raw.tell()
            raw.seek(4)
            raw.write(struct.pack("<I", size - 8))


def wav_beside(path: Path) -> Path:
    """Where the sound of a file is written: beside it as NAME.wav, or as NAME.sound.wav, NAME.sound2.wav, ... where
    there is a sound of that name that avatar3d did not write, and so may not replace."""
    names = chain([f"{path.stem}.wav", f"{path.stem}.sound.wav"], (f"{path.stem}.sound{i}.wav" for i in count(2)))
    return next(p for p in map(path.with_name, names) if not p.exists() or _is_ours(p))


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_MARK)))
        return file.read() == _MARK
