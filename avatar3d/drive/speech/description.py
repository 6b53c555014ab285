"""A free description of how something is said -> action units, by a small table; no language model.

Adverbs and adjectives are known by their stems, so "weary", "wearily" and "weariness" are one entry. Words that
strengthen or weaken apply to the next known word, "no" and "without" remove it.
"""

import re
from dataclasses import dataclass

from avatar3d.drive.speech.facs import EMOTION_UNITS, HEAD_POSES, MOVEMENT
from avatar3d.typing import typed


@dataclass(frozen=True)
class Description:
    """What words ask for."""

    units: dict[str, float]
    """Action units and their strengths."""
    pose: tuple[float, float, float]
    """Rotation vector of the head, radians."""
    movement: float
    """Amount of head motion, beside 1."""
    pace: float
    """Its speed, beside 1."""
    unknown: tuple[str, ...]
    """Words that the table does not have."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """One entry of the table."""

    units: dict[str, float]
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    movement: float = 1.0
    pace: float = 1.0


def _emotion(label: str) -> Manner:
    return Manner(units=EMOTION_UNITS[label], pose=HEAD_POSES[label], movement=MOVEMENT[label])


MANNERS: dict[str, Manner] = {
    "forced smil": Manner(units={"AU12": 0.55, "AU14": 0.35, "AU24": 0.1}),
    "polite smil": Manner(units={"AU12": 0.4}),
    "warm smil": Manner(units={"AU6": 0.6, "AU12": 0.6}),
    "smil": Manner(units={"AU6": 0.4, "AU12": 0.65}),
    "grin": Manner(units={"AU6": 0.6, "AU12": 0.95}),
    "smirk": Manner(units={"R12": 0.5, "R14": 0.6, "R2": 0.3}),
    "weary|weari|tired|exhaust|sleepy|sleepi|drows": Manner(
        units={"AU43": 0.35, "AU1": 0.25, "AU15": 0.25}, pose=(0.07, 0.0, 0.03), movement=0.6, pace=0.6),
    "happy|happi|joy|cheer|glad|delight|merr": _emotion("happy"),
    "sad|sorrow|grie|mourn|melanchol|unhapp": _emotion("sad"),
    "ang|furi|rage|irritat|annoy": _emotion("angry"),
    "surpris|astonish|amaz|startl": _emotion("surprised"),
    "fear|afraid|scare|terrif|fright": _emotion("fearful"),
    "disgust|revolt|repuls": _emotion("disgusted"),
    "contempt|scorn|disdain|arrogan|sneer": _emotion("contempt"),
    "warm|friendl|kind": Manner(units={"AU6": 0.4, "AU12": 0.4}, pose=(0.0, 0.0, -0.04)),
    "calm|relax|seren|gentl|soft|neutral": Manner(units={}, movement=0.75, pace=0.75),
    "excit|enthusias|lively|livel|eager|energ": Manner(
        units={"AU1": 0.35, "AU2": 0.4, "AU5": 0.25, "AU12": 0.35, "AU6": 0.25}, movement=1.5, pace=1.4),
    "nervous|anxious|anxi|worr|tens": Manner(
        units={"AU1": 0.5, "AU4": 0.35, "AU20": 0.25, "AU24": 0.2}, movement=1.1, pace=1.6),
    "seriou|stern|strict|grave": Manner(units={"AU4": 0.45, "AU24": 0.25}, pose=(0.03, 0.0, 0.0), movement=0.75),
    "thought|pensiv|ponder": Manner(
        units={"AU4": 0.3, "AU7": 0.25, "AU17": 0.15}, pose=(0.0, 0.03, 0.05), movement=0.8),
    "doubt|sceptic|skeptic|suspici": Manner(units={"L2": 0.6, "AU4": 0.25, "AU7": 0.3, "AU14": 0.25}),
    "confus|puzzl|perplex": Manner(units={"AU4": 0.5, "AU1": 0.4, "AU7": 0.2}, pose=(0.0, 0.0, 0.08)),
    "shy|sheepish|embarrass|ashamed|bashful": Manner(
        units={"AU12": 0.25, "AU14": 0.3, "AU1": 0.25}, pose=(0.1, 0.06, 0.03), movement=0.7),
    "proud|proudl|confiden": Manner(units={"AU12": 0.25, "AU14": 0.15}, pose=(-0.06, 0.0, 0.0)),
    "bored|bore|indifferen": Manner(units={"AU43": 0.3, "AU14": 0.2}, movement=0.5, pace=0.6),
    "frown": Manner(units={"AU4": 0.7}),
    "pout": Manner(units={"AU17": 0.6, "AU18": 0.3, "AU15": 0.3}),
    "raised brow|raised eyebrow": Manner(units={"AU1": 0.6, "AU2": 0.7}),
    "squint": Manner(units={"AU7": 0.7, "AU6": 0.3}),
    "wide eye|wide-eye": Manner(units={"AU5": 0.8}),
    "half-closed eye|heavy lid|heavy-lid": Manner(units={"AU43": 0.4}),
    "trembl": Manner(units={"AU20": 0.3, "AU17": 0.3}, movement=1.1, pace=2.0),
    "slow": Manner(units={}, movement=0.85, pace=0.6),
    "quick|hast|fast": Manner(units={}, movement=1.1, pace=1.5),
    "still|motionless|stiff": Manner(units={}, movement=0.35),
}  # fmt: skip
"""Stems, separated by "|", -> what they do. Entries of two words go before those of one."""

_DEGREES = {
    "very": 1.4, "extremely": 1.6, "really": 1.3, "deeply": 1.4, "quite": 1.1, "rather": 1.0, "somewhat": 0.6,
    "slightly": 0.45, "little": 0.5, "bit": 0.5, "hint": 0.4, "faint": 0.4, "faintly": 0.4, "mildly": 0.5,
    "broad": 1.4, "broadly": 1.4, "big": 1.3, "no": 0.0, "not": 0.0, "without": 0.0,
}  # fmt: skip
_PLAIN = frozenset(
    "a an and as at be but by face he her his i in is it its like look looking looks manner mood of on or person says "
    "saying she slight some speak speaking speaks spoken talk talking talks that the their they this to tone voice way "
    "were while who with you".split()
)
_DEGREES["slight"] = 0.5


@typed
def describe(text: str) -> Description:
    """What "wearily, with a forced smile" asks of a face.

    Strengths of the same action unit do not add up: the strongest counts. Unknown words are returned, not guessed.
    """
    words = re.findall(r"[a-z][a-z-]*", text.lower())
    units: dict[str, float] = {}
    pose, movement, pace = [0.0, 0.0, 0.0], 1.0, 1.0
    unknown: list[str] = []
    degree, i = 1.0, 0
    while i < len(words):
        word = words[i]
        manner, used = _entry(words, i)
        if manner is None:
            if word in _DEGREES:
                degree = _DEGREES[word] if degree == 1.0 else degree * _DEGREES[word]
            elif word not in _PLAIN:
                unknown.append(word)
                degree = 1.0
            i += 1
            continue
        for unit, strength in manner.units.items():
            units[unit] = max(units.get(unit, 0.0), min(1.0, strength * degree))
        pose = [p + degree * q for p, q in zip(pose, manner.pose, strict=True)]
        movement *= manner.movement ** min(1.0, degree)
        pace *= manner.pace ** min(1.0, degree)
        degree, i = 1.0, i + used
    units = {unit: x for unit, x in units.items() if x > 0}
    return Description(units, (pose[0], pose[1], pose[2]), max(0.2, movement), max(0.3, min(3.0, pace)), tuple(unknown))


def _entry(words: list[str], i: int) -> tuple[Manner | None, int]:
    """The entry that begins at a word, and how many words it takes: two before one."""
    for used in (2, 1):
        part = " ".join(words[i : i + used])
        for stems, manner in MANNERS.items():
            for stem in stems.split("|"):
                if stem.count(" ") == used - 1 and len(words) >= i + used and _begins(part, stem):
                    return manner, used
    return None, 1


def _begins(part: str, stem: str) -> bool:
    """Whether each word begins with its stem; short stems only whole words with an ending of their own."""
    pairs = list(zip(part.split(), stem.split(), strict=True))
    return all(word.startswith(s) and (len(s) > 3 or word in (s, *_SHORT.get(s, ()))) for word, s in pairs)


_SHORT = {
    "sad": ("sadly", "sadness", "sadder"), "joy": ("joyful", "joyfully", "joyous", "joyously"),
    "ang": ("angry", "angrily", "anger", "angered"), "shy": ("shyly", "shyness"),
}  # fmt: skip
