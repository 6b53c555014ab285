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
from avatar3d.drive.speech.mouth import Articulated, whole_mouth
from avatar3d.drive.speech.perform import Block, perform_blocks
from avatar3d.drive.speech.rate import RATE
from avatar3d.drive.speech.recognise import recognise
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.nets.mel import SAMPLE_RATE
from avatar3d.nets.speech_motion import ROW
from avatar3d.sound import load_audio, resample_audio
from avatar3d.types import Motion
from avatar3d.typing import typed

_BLOCK = 10 * RATE
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
        hear: "network" is ours, for every language; "recogniser" adds the phones that the package `hama` (English)
            hears (docs/speech.md).
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
    if words is None and hear == "network":
        mouth = whole_mouth(samples)
    else:
        loud = samples * (_LOUD / samples.abs().max().clamp(min=1e-4)) if len(samples) else samples
        phones = recognise(loud) if words is None else align(loud, words)
        curves = opened(articulate(phones, duration), _GAIN)
        mouth = Articulated(curves, closures(phones, duration), labiodentals(phones, duration))
        if words is None:
            mouth = _mean(whole_mouth(samples), mouth)
    return perform_blocks(_blocks(mouth, samples), duration, settings, cues=cues, fps=float(fps), source=source)


def _mean(heard: Articulated, known: Articulated) -> Articulated:
    """Two ears err in different places: the mean of the mouths, and the contacts of either."""
    curves = 0.5 * heard.curves + 0.5 * known.curves
    return Articulated(curves, torch.maximum(heard.closed, known.closed), known.touching)


def _blocks(mouth: Articulated, samples: Tensor) -> Iterator[Block]:
    """Ten seconds at a time."""
    for start in range(0, max(len(mouth.curves), 1), _BLOCK):
        rows = slice(start, start + _BLOCK)
        sound = samples[start * ROW : (start + _BLOCK) * ROW]
        yield mouth.curves[rows], sound, mouth.closed[rows], mouth.touching[rows]
