"""Text with directions in brackets -> what is said and what is done: `[happy 0.8] Hello! [pause 0.5] [look left]`.

- `[EMOTION]`, `[EMOTION 0.8]`: the mood from there on; `[neutral]` ends it; mixtures as `[happy:0.6,surprised:0.4]`.
- `[pause 0.5]`: seconds of silence.
- `[look left|right|up|down|away|camera 1.5]`: where the eyes go, for how many seconds.
- `[nod]`, `[shake]`, `[tilt left]`, `[blink]`, `[wink right]`, `[brows]`, `[frown]`, `[laugh]`, `[sigh]`; a number
  behind it is its strength.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from avatar3d.drive.speech.cues import DIRECTIONS, Cue
from avatar3d.drive.speech.emotion import parse_emotion
from avatar3d.errors import UsageError
from avatar3d.typing import typed

_ACTS = ("nod", "shake", "tilt", "blink", "wink", "brows", "frown", "laugh", "sigh")
_PAUSE = 0.5
_ACT_PAUSE = {"laugh": 1.8, "sigh": 2.4}
"""Seconds of silence that an act takes which nobody can speak through."""


@dataclass(frozen=True)
class Direction:
    """A cue at a place in the text."""

    word: int
    """How many words of the passage are said before it."""
    cue: Cue
    """What to do; its time counts from that place."""


@dataclass(frozen=True)
class Passage:
    """What is said in one breath, and the silence before it."""

    text: str
    """May be empty: silence alone."""
    pause: float
    """Seconds of silence before."""
    directions: tuple[Direction, ...]
    leading: tuple[Direction, ...]
    """Those in the pause; their cues' times count from its start."""


@typed
def parse_markup(text: str) -> tuple[Passage, ...]:
    """Passages of speech, parted by pauses, with what is done in each.

    Raises:
        ValueError: a bracket with unknown content, or one that is not closed.
    """
    if re.sub(r"\[[^\[\]]*\]", "", text).count("[") or re.sub(r"\[[^\[\]]*\]", "", text).count("]"):
        raise UsageError(f"A bracket is not closed in {_short(text)!r}; directions look like [pause 0.5].")
    passages: list[Passage] = []
    said, pause = "", 0.0
    inside: list[Direction] = []
    leading: list[Direction] = []

    def close() -> None:
        nonlocal said, pause, inside, leading
        passages.append(Passage(" ".join(said.split()), pause, tuple(inside), tuple(leading)))
        said, pause, inside, leading = "", 0.0, [], []

    for part in re.split(r"(\[[^\[\]]*\])", text):
        if not part.startswith("["):
            said += part
            continue
        name, values = _read(part)
        silence = _pause_of(part, name, values)
        if silence:
            if said.strip():
                close()
            cue = _cue(part, name, values, pause)
            if cue is not None:
                leading.append(Direction(0, cue))
            pause += silence
        elif said.strip():
            cue = _cue(part, name, values, 0.0)
            assert cue is not None
            inside.append(Direction(len(said.split()), cue))
        else:
            cue = _cue(part, name, values, pause)
            assert cue is not None
            leading.append(Direction(0, cue))
    if said.strip() or pause or leading or not passages:
        close()
    return tuple(passages)


@typed
def place_cues(directions: Sequence[Direction], words: Sequence[float | int], end: float | int) -> tuple[Cue, ...]:
    """Cues with their times.

    Args:
        directions: Of one passage.
        words: When each word begins, seconds.
        end: When the last one ends.
    """
    placed = []
    for direction in directions:
        time = float(words[direction.word]) if direction.word < len(words) else float(end)
        cue = direction.cue
        placed.append(Cue(time=time + cue.time, kind=cue.kind, value=cue.value, amount=cue.amount,
                          duration=cue.duration))  # fmt: skip
    return tuple(placed)


def _read(bracket: str) -> tuple[str, list[str]]:
    name, *values = bracket[1:-1].strip().lower().split() or [""]
    return name, values


def _pause_of(bracket: str, name: str, values: list[str]) -> float:
    """Seconds of silence that a direction brings."""
    if name in _ACT_PAUSE:
        return _ACT_PAUSE[name]
    if name != "pause":
        return 0.0
    seconds = _number(bracket, values[0]) if values else _PAUSE
    if not 0 < seconds <= 600 or len(values) > 1:
        raise UsageError(f"{bracket}: expected seconds of 0 to 600, as in [pause 0.5].")
    return seconds


def _cue(bracket: str, name: str, values: list[str], time: float) -> Cue | None:
    if name == "pause":
        return None
    if name == "look":
        if not values or values[0] not in DIRECTIONS or len(values) > 2:
            raise UsageError(f"{bracket}: expected [look {'|'.join(DIRECTIONS)}], with seconds behind if wanted.")
        duration = _number(bracket, values[1]) if len(values) > 1 else None
        return Cue(time=time, kind="look", value=values[0], duration=duration)
    if name in _ACTS:
        side = values.pop(0) if values and values[0] in ("left", "right") and name in ("tilt", "wink") else ""
        if len(values) > 1:
            raise UsageError(f"{bracket}: expected one number at most, its strength.")
        amount = _number(bracket, values[0]) if values else 1.0
        return Cue(time=time, kind=name, value=side, amount=amount, duration=_ACT_PAUSE.get(name))
    try:
        mood = name + "".join(f":{_number(bracket, value):g}" for value in values[:1])
        if not name or len(values) > 1:
            raise ValueError
        parse_emotion(mood)
    except ValueError:
        known = ", ".join(("pause", "look", *_ACTS))
        raise UsageError(f"{bracket} is no direction; expected an emotion (as in [happy 0.8]), {known}.") from None
    return Cue(time=time, kind="emotion", value=mood)


def _number(bracket: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{bracket}: {text!r} is not a number.") from None


def _short(text: str) -> str:
    return text if len(text) < 40 else text[:37] + "..."
