"""What the speech network hears, as articulation: still in silence and noise, lips shut where they must be."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.amplitude import opened
from avatar3d.drive.speech.closure import lip_gap
from avatar3d.nets.speech_motion import Heard, SpeechMotionNet
from avatar3d.typing import typed

SURE, CERTAIN = (0.2, 0.5), (0.6, 0.9)
"""Probabilities at which lips begin to close, and are closed; CERTAIN where another ear hears closures too."""
_QUICKEST, _FASTEST = 0.6, 6.0
"""Share of the way to contact, or from it, that lips go in a row; and millimetres, where they are wide open."""
_AWAKE = (0.2, 0.6)
"""Probabilities of a voice at which a row counts as silence, and as speech; in between as a part of it."""
_OPEN = 1.6
"""How much further lips open than the network says: as far as tracked lips of the same speech do on average."""
_PATIENCE, _BRIEF, _FORGOTTEN = 15, 0.4, 0.05
"""Rows without a voice, after which the mouth goes to rest: shorter pauses leave it as it is. After a voice of fewer
rows, a share of them is enough, from this on: it may have been none. Rows without a voice make it shorter."""
_ATTACK, _RELEASE = 0.4, 0.15
"""Shares of the way to open and to close the gate, per row."""


@dataclass(frozen=True)
class Articulated:
    """Rows of articulation, 50 a second: what `Performer.push` takes."""

    curves: Float[Tensor, "t 52"]
    closed: Float[Tensor, "t"]
    touching: Float[Tensor, "t"]


class Mouth:
    """Articulation of 16 kHz sound that arrives in pieces."""

    def __init__(self, sure: tuple[float, float] = SURE) -> None:
        """Starts before the first sample, at rest.

        Args:
            sure: Probabilities of contact from where lips begin to close, and are closed.
        """
        self._sure = sure
        self._net = SpeechMotionNet()
        self._gate, self._quiet, self._spoken = 0.0, float(_PATIENCE), 0.0
        self._contacts = torch.zeros(2)

    @typed
    def push(self, samples: Float[Tensor, "n"]) -> Articulated:
        """The rows that these samples decide."""
        return self._settled(self._net.push(samples))

    def flush(self) -> Articulated:
        """What is left after the last sample."""
        return self._settled(self._net.flush())

    def _settled(self, heard: Heard) -> Articulated:
        gates = torch.zeros(len(heard.voice))
        for i, voice in enumerate(_between(heard.voice, _AWAKE).tolist()):
            self._quiet = (1 - voice) * (self._quiet + 1)
            self._spoken = min(self._spoken * (1 - _FORGOTTEN * (1 - voice)) + voice, _PATIENCE)
            patience = self._spoken * (_BRIEF + (1 - _BRIEF) * self._spoken / _PATIENCE)
            wanted = min(max(patience - self._quiet, 0.0), 1.0)
            self._gate += (wanted - self._gate) * (_ATTACK if wanted > self._gate else _RELEASE)
            gates[i] = self._gate
        gates = (gates * 1.02 - 0.02).clamp(min=0)  # rest is rest, not nearly
        contacts = _between(torch.stack([heard.closed, heard.labiodental], 1), self._sure)
        curves = opened(heard.curves, _OPEN) * gates[:, None]
        steps = (_FASTEST / lip_gap(curves).clamp(min=1)).clamp(max=_QUICKEST)
        for i, (wanted, step) in enumerate(zip(contacts, steps, strict=True)):
            self._contacts = wanted.clamp(self._contacts - step, self._contacts + step)
            contacts[i] = self._contacts
        return Articulated(curves, contacts[:, 0] * gates, contacts[:, 1] * gates)


def _between(values: Tensor, ends: tuple[float, float]) -> Tensor:
    return ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
