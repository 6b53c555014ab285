"""Phones of a recording whose words are known, by forced alignment with pocketsphinx (optional, BSD; English)."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.phones import ARPABET, SILENCE, Phone, articulations
from avatar3d.drive.speech.synthesis import transcribe
from avatar3d.errors import AvatarError, DependencyError
from avatar3d.typing import typed

_RATE = 16000
_FRAME = 0.01  # seconds
_EARLY = 0.005  # seconds by which its phones come early: measured on voices whose times are known
_PADDING = (0.3, 0.1, 0.205, 0.5, 0.403, 0.15)  # seconds of quiet put around, one attempt each
_FROM_IPA = {ipa: name for name, ipa in ARPABET.items() if ipa != SILENCE and name not in ("AX", "AXR", "DX", "IX")}
_PLAIN = {"ə": "AH", "ɚ": "ER", "ɜ": "ER", "ɐ": "AH", "a": "AA", "ɒ": "AA", "o": "OW", "e": "EH", "ɾ": "T", "r": "R",
          "ɫ": "L", "g": "G", "x": "K", "y": "UW", "ø": "ER", "œ": "ER", "ɨ": "IH", "ɲ": "N", "ʔ": "T", "ʁ": "R",
          "ɬ": "L", "ɡ": "G"}  # fmt: skip
_NEAREST = {"vowel": "AH", "bilabial": "B", "labiodental": "V", "dental": "TH", "alveolar": "T", "sibilant": "S",
            "lateral": "L", "rhotic": "R", "postalveolar": "SH", "palatal": "Y", "velar": "K", "uvular": "HH",
            "glottal": "HH", "labiovelar": "W", "bilabial_fricative": "V"}  # fmt: skip


@typed
def align(samples: Float[Tensor, "n"], text: str) -> tuple[Phone, ...]:
    """When each phone of a known text is heard in a recording of it.

    Args:
        samples: Speech at 16 kHz, full scale at -1 and 1.
        text: Exactly what is said, in English. Words that the dictionary lacks are pronounced by espeak-ng.

    Raises:
        DependencyError: the package `pocketsphinx` is missing.
        ValueError: no words.
        AvatarError: a word that nobody can pronounce, or a recording that does not say the text.
    """
    if not find_spec("pocketsphinx"):
        raise DependencyError("pocketsphinx", "speech", "Aligning words with a recording")
    words = re.findall(r"[\w']+", text.lower())
    if not words:
        raise ValueError(f"align: there are no words in {text[:40]!r}.")
    decoder = _decoder()
    unknown = [word for word in dict.fromkeys(words) if decoder.lookup_word(word) is None]
    spoken = dict(zip(unknown, _pronounced(unknown), strict=True))
    for quiet in _PADDING:
        found = _aligned(_padded(samples, quiet), words, spoken)
        if found is not None:
            return _shifted(found, quiet, len(samples) / _RATE)
    raise AvatarError(f"The recording does not say {text[:60]!r}.\nGive the exact words, or use `recognise`.")


def _decoder() -> Any:
    from pocketsphinx import Decoder

    return Decoder(lm=None, loglevel="FATAL")


def _padded(samples: Tensor, quiet: float) -> bytes:
    """16-bit sound at half scale between pauses of faint noise: digital silence has no spectrum."""
    wave = samples.numpy().astype(np.float64)
    wave = np.pad(wave * 0.5 / max(np.abs(wave).max(), 1e-4), int(quiet * _RATE)) * 32767
    return (wave + np.random.default_rng(0).normal(0, 1.5, len(wave))).astype(np.int16).tobytes()


def _aligned(pcm: bytes, words: Sequence[str], spoken: dict[str, str]) -> list[Phone] | None:
    """One attempt; none where the decoder's search dies, which hangs on where its frames happen to lie."""
    decoder = _decoder()
    for word, phones in spoken.items():
        decoder.add_word(word, phones, True)
    decoder.set_align_text(" ".join(words))
    try:
        _decode(decoder, pcm)
        if decoder.hyp() is None:
            return None
        decoder.set_alignment()
        _decode(decoder, pcm)
    except RuntimeError:
        return None
    out: list[Phone] = []
    for word in decoder.get_alignment():
        said = re.sub(r"\(\d+\)$", "", word.name)
        for phone in word:
            symbol = ARPABET.get(phone.name, SILENCE)
            start = phone.start * _FRAME
            spelled = "" if symbol == SILENCE else said
            out.append(Phone(symbol=symbol, start=start, end=start + phone.duration * _FRAME, word=spelled))
    said = [phone.word for i, phone in enumerate(out) if phone.word and (i == 0 or out[i - 1].word != phone.word)]
    return out if len(said) >= len(words) - _repeats(words) else None


def _repeats(words: Sequence[str]) -> int:
    """Words that follow themselves."""
    return sum(a == b for a, b in zip(words, words[1:], strict=False))


def _shifted(phones: Sequence[Phone], quiet: float, duration: float) -> tuple[Phone, ...]:
    """On the clock of the recording itself."""
    late = quiet - _EARLY
    moved = [replace(p, start=max(p.start - late, 0.0), end=min(p.end - late, duration)) for p in phones]
    return tuple(p for p in moved if p.end > p.start)


def _decode(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _pronounced(words: Sequence[str]) -> list[str]:
    """Words as ARPABET, by espeak-ng."""
    if not words:
        return []
    if not shutil.which("espeak-ng"):
        raise AvatarError(
            f"The dictionary lacks {', '.join(map(repr, words[:5]))}.\nInstall espeak-ng, which pronounces any word."
        )
    return [" ".join(_arpabet(ipa)) or "AH" for ipa in transcribe(words, "en-us")]


def _arpabet(ipa: str) -> list[str]:
    """IPA -> the nearest ARPABET phones, longest match first."""
    text = re.sub(r"[ˈˌː‿ \u0300-\u036f]", "", ipa)
    phones, at = [], 0
    while at < len(text):
        for length in (2, 1):
            piece = text[at : at + length]
            if len(piece) == length and (name := _FROM_IPA.get(piece) or _PLAIN.get(piece)):
                phones.append(name)
                break
        else:
            length = 1
            place = articulations(text[at])[0].place
            if place != "silence":
                phones.append(_NEAREST[place])
        at += length
    return phones
