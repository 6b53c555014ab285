"""Phones with times, and what lips, jaw and tongue do in each: any IPA symbol becomes one or more articulations.

The inventory is the International Phonetic Alphabet (revised 2020) plus the ASCII spellings that espeak-ng prints for
sounds without a symbol of their own. An unknown symbol falls to its nearest: by its base letter, else to a schwa.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from avatar3d.typing import typed

SILENCE = "_"
"""Symbol of a pause."""


@dataclass(frozen=True, kw_only=True)
class Phone:
    """One speech sound and when it is heard."""

    symbol: str
    """IPA, without stress marks; diphthongs and affricates are one symbol (`aɪ`, `tʃ`); `SILENCE` for a pause."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    stress: int = 0
    """2 primary, 1 secondary, 0 none; only vowels carry it, and only where the source knows it."""
    word: str = ""
    """The word it belongs to, as written; empty where the source does not tell."""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Sound whose phones are known."""

    samples: Float[Tensor, "n"]
    """Full scale at -1 and 1."""
    rate: int
    """Samples per second."""
    phones: tuple[Phone, ...]
    """In order of time."""
    text: str = ""

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, kw_only=True)
class Articulation:
    """What the visible articulators do in (a part of) a phone."""

    place: str
    """One of `PLACES`."""
    height: float = 0.5
    """Vowels: 0 open .. 1 close."""
    front: float = 0.5
    """Vowels: 0 back .. 1 front."""
    rounding: float = 0.0
    """0 spread or neutral .. 1 round; consonants too (`kʷ`)."""
    nasal: bool = False
    voiced: bool = True
    """Told of labials only: a voiceless plosive parts the lips earlier in its time."""
    share: float = 1.0
    """Part of the phone's time."""

    @property
    def closes(self) -> bool:
        """Whether the lips meet."""
        return self.place == "bilabial"


PLACES = (
    "silence", "vowel", "bilabial", "bilabial_fricative", "labiodental", "dental", "alveolar", "sibilant", "lateral",
    "rhotic", "postalveolar", "palatal", "velar", "uvular", "glottal", "labiovelar",
)  # fmt: skip

_CONSONANTS = {
    "bilabial": "pbmɓʘʙ",
    "bilabial_fricative": "ɸβ",
    "labiodental": "fvɱʋⱱ",
    "dental": "θðǀ",
    "alveolar": "tdnɾrɗǃʈɖɳɽ",
    "sibilant": "sz",
    "lateral": "lɫɬɮɭʟʎǁɺꞎ",
    "rhotic": "ɹɻ",
    "postalveolar": "ʃʒʂʐɧ",
    "palatal": "cɟɲçʝjɕʑǂʄ",
    "velar": "kɡgŋxɣɰɠ",
    "uvular": "qɢɴχʁʀʛħʕʢʡ",
    "glottal": "hɦʔ",
    "labiovelar": "wʍɥ",
}
PLACE_OF = {symbol: place for place, symbols in _CONSONANTS.items() for symbol in symbols}
"""Consonant letter -> place."""

# letter: (height 0 open..1 close, front 0 back..1 front, rounding 0..1); rows of the IPA chart
VOWELS: dict[str, tuple[float, float, float]] = {
    "i": (1.0, 1.0, 0), "y": (1.0, 1.0, 0.9), "ɨ": (1.0, 0.5, 0), "ʉ": (1.0, 0.5, 0.9), "ɯ": (1.0, 0.0, 0),
    "u": (1.0, 0.0, 1.0), "ɪ": (0.83, 0.85, 0), "ʏ": (0.83, 0.85, 0.7), "ʊ": (0.83, 0.15, 0.65),
    "e": (0.67, 1.0, 0), "ø": (0.67, 1.0, 0.8), "ɘ": (0.67, 0.5, 0), "ɵ": (0.67, 0.5, 0.7), "ɤ": (0.67, 0.0, 0),
    "o": (0.67, 0.0, 0.85), "ə": (0.62, 0.5, 0), "ɚ": (0.55, 0.5, 0.25), "ɛ": (0.33, 0.9, 0), "œ": (0.33, 0.9, 0.6),
    "ɜ": (0.4, 0.5, 0.1), "ɝ": (0.45, 0.5, 0.3), "ɞ": (0.33, 0.5, 0.5), "ʌ": (0.3, 0.3, 0), "ɔ": (0.33, 0.0, 0.6),
    "æ": (0.15, 0.9, 0), "ɐ": (0.3, 0.5, 0), "a": (0.0, 0.7, 0), "ɶ": (0.0, 0.9, 0.4), "ɑ": (0.0, 0.0, 0),
    "ɒ": (0.05, 0.0, 0.35),
}  # fmt: skip

_LOOKALIKES = {"ε": "ɛ", "ɩ": "ɪ", "ɷ": "ʊ", "ı": "i", "ʦ": "ts", "ʧ": "tʃ", "ʤ": "dʒ", "ʣ": "dz"}
_ASCII = {
    "s.": "ʂ",
    "ts.": "tʂ",
    "z.": "ʐ",
    "i.": "ɨ",
    "o-": "ɤ",
    "ə-": "ə",
    "s-": "s",
    "q-": "ɡ",
    "sx": "ɧ",
    "r.": "ɻ",
}

ARPABET: dict[str, str] = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AX": "ə", "AXR": "ɚ", "AY": "aɪ", "B": "b", "CH": "tʃ",
    "D": "d", "DH": "ð", "DX": "ɾ", "EH": "ɛ", "ER": "ɝ", "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ",
    "IX": "ɨ", "IY": "i", "JH": "dʒ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ",
    "P": "p", "PAU": SILENCE, "R": "ɹ", "S": "s", "SH": "ʃ", "SIL": SILENCE, "T": "t", "TH": "θ", "UH": "ʊ",
    "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
"""The Carnegie Mellon phone set, which flite and pocketsphinx print, in IPA."""

_LENGTH = {"ː": 2.0, "ˑ": 1.5, "̆": 0.5, "̯": 0.6}
_STRESS = re.compile(r"[ˈˌ'ˈˌ0-9˥˦˧˨˩]")


@typed
def articulations(symbol: str) -> tuple[Articulation, ...]:
    """What the mouth does in one phone, in order; the shares sum to 1. Never fails.

    Args:
        symbol: IPA, with or without diacritics, length, stress and tone marks; several letters are parts of one phone.
    """
    text = _STRESS.sub("", unicodedata.normalize("NFC", symbol))
    text = _ASCII.get(text, text)
    for odd, plain in _LOOKALIKES.items():
        text = text.replace(odd, plain)
    if not any(unicodedata.category(char)[0] == "L" for char in text):
        return (Articulation(place="silence"),)
    parts: list[Articulation] = []
    for char in text:
        parts += _letter(char)
        alone = unicodedata.category(char) in ("Mn", "Lm")
        marks = char if alone else unicodedata.normalize("NFD", char)[1:]
        for mark in marks:
            if parts and (changed := _modified(parts[-1], mark)) is not None:
                parts[-1] = changed
    return _timed(parts or [_vowel("ə")])


def _letter(char: str) -> list[Articulation]:
    if char in PLACE_OF:
        nasal = char in "mɱnɳɲŋɴ"
        rounding = {"w": 0.9, "ʍ": 0.9, "ɥ": 0.9, "ɹ": 0.35, "ɻ": 0.3}.get(char, 0.0)
        return [Articulation(place=PLACE_OF[char], nasal=nasal, voiced=char not in "pɸ", rounding=rounding, height=0.8)]
    if char in VOWELS:
        return [_vowel(char)]
    base = unicodedata.normalize("NFKD", char)[0].lower()
    if unicodedata.category(char)[0] != "L" or unicodedata.category(char) == "Lm" or base == char:
        return []  # a mark of its own, or a letter that nobody knows
    return _letter(base)


def _vowel(char: str) -> Articulation:
    height, front, rounding = VOWELS[char]
    return Articulation(place="vowel", height=height, front=front, rounding=rounding)


def _modified(part: Articulation, mark: str) -> Articulation | None:
    """What a diacritic after (or over) a letter changes; none where nothing is seen of it."""
    if mark in _LENGTH:
        return replace(part, share=part.share * _LENGTH[mark])
    if mark in "ʷᵝ̹":  # labialised, compressed, more rounded
        return replace(part, rounding=max(part.rounding, 0.6 if mark == "ʷ" else 0.4))
    if mark == "̜":
        return replace(part, rounding=part.rounding * 0.5)
    if mark == "̃":
        return replace(part, nasal=True)
    step = {"̞": (-0.1, 0.0), "̝": (0.1, 0.0), "̟": (0.0, 0.2), "̠": (0.0, -0.2)}.get(mark)
    if step is not None:
        return replace(part, height=_unit(part.height + step[0]), front=_unit(part.front + step[1]))
    if mark == "̈":
        return replace(part, front=0.5 * (part.front + 0.5))
    return None


def _timed(parts: Sequence[Articulation]) -> tuple[Articulation, ...]:
    """Shares of the phone's time: affricates are one gesture, glides are short, the rest is even."""
    merged: list[Articulation] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last is not None and last.place == "alveolar" and part.place in ("sibilant", "postalveolar", "palatal"):
            merged[-1] = replace(part, share=last.share + part.share)
        else:
            merged.append(part)
    vowels = [p for p in merged if p.place == "vowel"]
    weights = []
    for i, part in enumerate(merged):
        weight = part.share
        if len(merged) > 1 and part.place == "vowel" and len(vowels) > 1:
            opener = max(v.height for v in vowels) - part.height
            weight *= 0.6 + 0.8 * _unit(2 * opener) + (0.2 if i == 0 else 0.0)
        weights.append(weight)
    total = sum(weights)
    return tuple(replace(part, share=weight / total) for part, weight in zip(merged, weights, strict=True))


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)
