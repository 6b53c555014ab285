"""What is heard, as articulation: still in silence and noise, lips shut where they must be, apart where they must.

`Mouth` follows sound that arrives in pieces, by the streaming network alone. `whole_mouth` has all of a sound: both
ears hear it, and lips begin to close before they meet.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.amplitude import opened
from avatar3d.drive.speech.closure import lip_gap
from avatar3d.nets.speech_ear import hear_whole
from avatar3d.nets.speech_motion import CONTACTS, CURVES, REST, ROW, Heard, SpeechMotionNet, heard_in
from avatar3d.typing import typed

SURE = (0.15, 0.4)
"""Probabilities at which lips begin to close, and are closed, where the streaming network hears alone."""
BOTH = (0.07, 0.22)
"""The same for both ears together."""
_RIVAL = (1.5, 2.0)
"""How much the lower lip on the teeth (f, v) speaks against lips that meet: slope and offset, in logits."""
_VOWEL = (0.4, 0.7)
"""Probabilities of a vowel from where contacts yield, and are none."""
_QUICKEST, _FASTEST = 0.6, 6.0
"""Share of the way to contact, or from it, that lips go in a row; and millimetres, where they are wide open."""
_EDGE, _RUSH = 0.4, 8.0
"""Where all of a sound is known: share of the way to contact that lips go in a row; millimetres, next to a vowel."""
_AWAKE = (0.2, 0.6)
"""Probabilities of a voice at which a row counts as silence, and as speech; in between as a part of it."""
_OPEN = 1.6
"""How much further lips open than the network says: as far as tracked lips of the same speech do on average."""
_PATIENCE, _BRIEF, _FORGOTTEN = 15, 0.4, 0.05
"""Rows without a voice, after which the mouth goes to rest: shorter pauses leave it as it is. After a voice of fewer
rows, a share of them is enough, from this on: it may have been none. Rows without a voice make it shorter."""
_ATTACK, _RELEASE = 0.4, 0.15
"""Shares of the way to open and to close the gate, per row."""
_BLOCK = 500  # rows


@dataclass(frozen=True)
class Articulated:
    """Rows of articulation, 50 a second: what `Performer.push` takes."""

    curves: Float[Tensor, "t 52"]
    closed: Float[Tensor, "t"]
    touching: Float[Tensor, "t"]


class _Gate:
    """How much of the mouth is let through: all of it while somebody speaks."""

    def __init__(self) -> None:
        self._gate, self._quiet, self._spoken = 0.0, float(_PATIENCE), 0.0

    def __call__(self, voice: Tensor) -> Tensor:
        """Of the next rows' probabilities of a voice."""
        gates = torch.zeros(len(voice))
        for i, part in enumerate(_between(voice, _AWAKE).tolist()):
            self._quiet = (1 - part) * (self._quiet + 1)
            self._spoken = min(self._spoken * (1 - _FORGOTTEN * (1 - part)) + part, _PATIENCE)
            patience = self._spoken * (_BRIEF + (1 - _BRIEF) * self._spoken / _PATIENCE)
            wanted = min(max(patience - self._quiet, 0.0), 1.0)
            self._gate += (wanted - self._gate) * (_ATTACK if wanted > self._gate else _RELEASE)
            gates[i] = self._gate
        return (gates * 1.02 - 0.02).clamp(min=0)  # rest is rest, not nearly


class Mouth:
    """Articulation of 16 kHz sound that arrives in pieces."""

    def __init__(self) -> None:
        """Starts before the first sample, at rest."""
        self._net, self._gate = SpeechMotionNet(), _Gate()
        self._contacts = torch.zeros(2)

    @typed
    def push(self, samples: Float[Tensor, "n"]) -> Articulated:
        """The rows that these samples decide."""
        return self._settled(self._net.push(samples))

    def flush(self) -> Articulated:
        """What is left after the last sample."""
        return self._settled(self._net.flush())

    def _settled(self, heard: Heard) -> Articulated:
        gates, free = self._gate(heard.voice), _free(heard)
        contacts = _between(torch.stack([heard.closed, heard.labiodental], 1), SURE)
        curves = opened(heard.curves, _OPEN) * gates[:, None]
        steps = (_FASTEST / lip_gap(curves).clamp(min=1)).clamp(max=_QUICKEST)
        for i, (wanted, step) in enumerate(zip(contacts, steps, strict=True)):
            # lips take their time, but the middle of a vowel is open however short it is
            self._contacts = wanted.clamp(self._contacts - step, self._contacts + step).clamp(max=free[i])
            contacts[i] = self._contacts
        return Articulated(curves, contacts[:, 0] * gates, contacts[:, 1] * gates)


@typed
def whole_mouth(samples: Float[Tensor, "n"]) -> Articulated:
    """Articulation of all of a sound at 16 kHz: one row for each 20 ms that it touches."""
    return articulated(heard_whole(samples))


@typed
def heard_whole(samples: Float[Tensor, "n"]) -> Heard:
    """What both ears make of a sound: the mean of what they answer; whether somebody speaks, the first alone tells."""
    net, step = SpeechMotionNet(), _BLOCK * ROW
    parts = [net.raw(samples[i : i + step]) for i in range(0, len(samples), step)]
    rows = torch.cat([*parts, net.raw(torch.zeros(REST))])
    count = -(-len(samples) // ROW)
    first, second = rows[:count], hear_whole(samples)
    closed, teeth, voice = range(len(CURVES), len(CURVES) + len(CONTACTS))
    both = 0.5 * (first + second)
    both[:, voice] = first[:, voice]
    heard, (slope, offset) = heard_in(both, net.mouths), _RIVAL
    return replace(heard, closed=heard.closed * (slope * (both[:, closed] - both[:, teeth]) + offset).sigmoid())


@typed
def articulated(heard: Heard) -> Articulated:
    """The mouth, where all that is heard is known."""
    gates = _Gate()(heard.voice)
    curves = opened(heard.curves, _OPEN) * gates[:, None]
    gap = torch.cat([lip_gap(part) for part in curves.split(_BLOCK)]).clamp(min=1)[:, None]
    contacts = _between(torch.stack([heard.closed, heard.labiodental], 1), BOTH)
    contacts = _reached(contacts, (_FASTEST / gap).clamp(max=_EDGE)) * _free(heard)[:, None]
    contacts = _reached(contacts, (_RUSH / gap).clamp(max=1)) * gates[:, None]
    return Articulated(curves, contacts[:, 0], contacts[:, 1])


def _reached(contacts: Tensor, steps: Tensor) -> Tensor:
    """Contacts that begin before they are due, and end after, by so much of the way in each row."""
    out = contacts.clone()
    for _ in range(5):
        out[1:] = torch.maximum(out[1:], out[:-1] - steps[1:])
        out[:-1] = torch.maximum(out[:-1], out[1:] - steps[:-1])
    return out


def _free(heard: Heard) -> Tensor:
    """How far lips may be in contact: not at all in a vowel."""
    return 1 - _between(heard.vowel, _VOWEL)


def _between(values: Tensor, ends: tuple[float, float]) -> Tensor:
    return ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
