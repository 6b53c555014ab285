"""Text -> motion and its sound: lips exact to the phone, as the voice tells when each is spoken."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.coarticulation import articulate, closures, labiodentals
from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.markup import Passage, parse_markup, place_cues
from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.phones import SILENCE, Phone, Speech
from avatar3d.drive.speech.prosody import SAMPLE_RATE
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.synthesis import synthesize
from avatar3d.errors import UsageError
from avatar3d.sound import resample_audio
from avatar3d.types import Motion
from avatar3d.typing import typed

_GAP = 0.12
"""Seconds of quiet between passages beside the pauses that were asked for."""


@typed
def from_text(
    text: str,
    settings: SpeechSettings | None = None,
    *,
    language: str = "en",
    voice: str = "auto",
    speed: float | int = 1.0,
    pitch: float | int = 1.0,
    fps: float | int = 30.0,
) -> tuple[Motion, Speech]:
    """Speaks a text, with directions in brackets (`markup`), and acts it.

    Returns:
        The motion, as long as the sound, and the sound with its phones.

    Raises:
        ValueError: nothing to say or do, a direction that is none, or a value out of range.
        DependencyError: a Python package is missing.
        AvatarError: the program or the voice is missing.
    """
    speech, cues = speak(text, language=language, voice=voice, speed=speed, pitch=pitch)
    return act(speech, settings, cues=cues, fps=fps), speech


@typed
def act(
    speech: Speech, settings: SpeechSettings | None = None, *, cues: Sequence[Cue] = (), fps: float | int = 30.0
) -> Motion:
    """The motion of speech whose phones are known."""
    samples = resample_audio(speech.samples, speech.rate, SAMPLE_RATE)
    mouth = articulate(speech.phones, speech.duration)
    # Resampling may gain or lose a sample: the motion is as long as the sound that is heard.
    wanted = round(speech.duration * SAMPLE_RATE)
    samples = torch.nn.functional.pad(samples, (0, max(0, wanted - len(samples))))[:wanted]
    return perform(mouth, samples, settings, cues=cues, closed=closures(speech.phones, speech.duration),
                   touching=labiodentals(speech.phones, speech.duration), fps=fps,
                   source=_title(speech.text))  # fmt: skip


@typed
def speak(
    text: str, *, language: str = "en", voice: str = "auto", speed: float | int = 1.0, pitch: float | int = 1.0
) -> tuple[Speech, tuple[Cue, ...]]:
    """A text with directions -> sound with phone times, and cues with theirs.

    Raises:
        ValueError: nothing to say or do, a direction that is none, or a value out of range.
        DependencyError: a Python package is missing.
        AvatarError: the program or the voice is missing.
    """
    passages = parse_markup(text)
    if not any(p.text or p.pause for p in passages):
        raise UsageError(f"Nothing to say in {text!r}; expected words, or at least a [pause].")
    rate = 22050
    spoken: dict[int, Speech] = {}
    for i, passage in enumerate(passages):
        if passage.text:
            spoken[i] = synthesize(passage.text, voice=voice, language=language, speed=speed, pitch=pitch)
            rate = spoken[i].rate
    sound: list[Float[Tensor, "n"]] = []
    phones: list[Phone] = []
    cues: list[Cue] = []
    at = 0  # samples
    for i, passage in enumerate(passages):
        pause = passage.pause + (_GAP if i and passage.text and passage.pause == 0 else 0.0)
        cues += [replace(d.cue, time=at / rate + d.cue.time) for d in passage.leading]
        quiet = round(pause * rate)
        sound.append(torch.zeros(quiet))
        at += quiet
        if i in spoken:
            speech, start = spoken[i], at / rate
            here = [replace(p, start=p.start + start, end=p.end + start) for p in speech.phones]
            phones += here
            words, end = _word_starts(passage, here)
            cues += place_cues(passage.directions, words, end)
            sound.append(speech.samples)
            at += len(speech.samples)
    plain = " ".join(p.text for p in passages if p.text)
    cues.sort(key=lambda cue: cue.time)
    return Speech(samples=torch.cat(sound), rate=rate, phones=tuple(phones), text=plain), tuple(cues)


def _word_starts(passage: Passage, phones: Sequence[Phone]) -> tuple[list[float], float]:
    """When each word of a passage begins, and when the last one ends.

    Where the voice tells which phones are which word, its words are matched in order; numbers and the like are spoken
    as several, and lie between their neighbours. Where it does not, letters count as time.
    """
    voiced = [p for p in phones if p.symbol != SILENCE]
    words = passage.text.split()
    if not voiced or not words:
        return [], phones[-1].end if phones else 0.0
    first, end = voiced[0].start, voiced[-1].end
    marks = _matched(words, voiced)
    lengths = [0.0]
    for word in words:
        lengths.append(lengths[-1] + len(word) + 1)
    known = {0: first, **marks, len(words): end}
    keys = sorted(known)
    starts = []
    for i in range(len(words)):
        low = max(k for k in keys if k <= i)
        high = min(k for k in keys if k > i)
        share = (lengths[i] - lengths[low]) / (lengths[high] - lengths[low])
        starts.append(known[low] + share * (known[high] - known[low]))
    return starts, end


def _matched(words: Sequence[str], phones: Sequence[Phone]) -> dict[int, float]:
    """Word number -> start, for words that the voice names as they are written."""
    marks: dict[int, float] = {}
    at = 0
    for i, word in enumerate(words):
        plain = _letters(word)
        for k in range(at, len(phones)):
            named = _letters(phones[k].word)
            if named and named == plain and (k == 0 or phones[k - 1].word != phones[k].word or k == at):
                marks[i] = phones[k].start
                at = k + 1
                while at < len(phones) and phones[at].word == phones[k].word:
                    at += 1
                break
    return marks


def _letters(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum())


def _title(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
