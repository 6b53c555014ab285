"""Sound -> motion: the network hears what the mouth does, the performer adds the rest."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.align import align
from avatar3d.drive.speech.amplitude import opened
from avatar3d.drive.speech.coarticulation import articulate, closures, labiodentals
from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.mouth import CERTAIN, Mouth
from avatar3d.drive.speech.perform import Block, perform, perform_blocks
from avatar3d.drive.speech.recognise import recognise
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.nets.mel import SAMPLE_RATE
from avatar3d.sound import load_audio, resample_audio
from avatar3d.types import Motion
from avatar3d.typing import typed

_BLOCK = 10 * SAMPLE_RATE
_LOUD = 0.7  # full scale, to which sound is brought for the recogniser
_GAIN = 2.8
"""How much further lips open than `articulate` says: as far as tracked lips of the same speech do on average."""


@typed
def from_speech(
    sound: str | Path | Float[Tensor, "n"],
    *,
    rate: int = SAMPLE_RATE,
    fps: float | int = 30.0,
    settings: SpeechSettings | None = None,
    cues: Sequence[Cue] = (),
    hear: Literal["network", "recogniser"] = "network",
    words: str | None = None,
) -> Motion:
    """Motion for speech in any language; needs no words, and no GPU.

    Args:
        sound: A sound or video file, or samples at full scale -1 to 1.
        rate: Samples per second, where `sound` is samples.
        fps: Frames per second of the motion.
        settings: How it is acted.
        cues: What to do at which time.
        hear: "network" is ours, for every language and in constant memory; "recogniser" adds the phones that the
            package `hama` (English) hears: the mean of both follows clean English more closely (docs/speech.md).
        words: What is said, in English, where it is known: `pocketsphinx` finds when, closest of all.

    Returns:
        A motion as long as the sound, frame k at k / fps seconds.

    Raises:
        CaptureError: the file cannot be read, or has no sound.
        DependencyError: `hear="recogniser"` without the package hama, `words` without pocketsphinx.
        ValueError: a rate that is not positive.
    """
    if rate < 1 or not fps > 0:
        raise ValueError(f"from_speech: rate={rate}, fps={fps:g}; expected positive numbers.")
    if isinstance(sound, Tensor):
        samples, source = resample_audio(sound, rate, SAMPLE_RATE), "speech"
    else:
        samples, source = load_audio(sound, SAMPLE_RATE), str(sound)
    duration = len(samples) / SAMPLE_RATE
    if words is not None or hear == "recogniser":
        loud = samples * (_LOUD / samples.abs().max().clamp(min=1e-4)) if len(samples) else samples
        phones = recognise(loud) if words is None else align(loud, words)
        mouth = opened(articulate(phones, duration), _GAIN)
        closed = closures(phones, duration)
        if words is None:  # two ears err in different places
            heard, certain = _heard(samples, len(mouth))
            mouth, closed = 0.5 * mouth + 0.5 * heard, torch.maximum(closed, certain)
        return perform(mouth, samples, settings, cues=cues, closed=closed,
                       touching=labiodentals(phones, duration), fps=fps, source=source)  # fmt: skip
    return perform_blocks(_blocks(samples), duration, settings, cues=cues, fps=float(fps), source=source)


def _heard(samples: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What the network makes of it, and where it is certain that lips meet."""
    mouth = Mouth(CERTAIN)
    parts = [mouth.push(samples), mouth.flush()]
    rows = torch.cat([torch.cat([p.curves, p.closed[:, None]], 1) for p in parts])[:count]
    rows = torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])
    return rows[:, :-1], rows[:, -1]


def _blocks(samples: Tensor) -> Iterator[Block]:
    """Ten seconds at a time: what the mouth does needs no memory of the whole."""
    mouth = Mouth()
    for start in range(0, len(samples), _BLOCK):
        part = samples[start : start + _BLOCK]
        rows = mouth.push(part)
        yield rows.curves, part, rows.closed, rows.touching
    rows = mouth.flush()
    yield rows.curves, samples[:0], rows.closed, rows.touching
