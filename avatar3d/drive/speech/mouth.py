"""What the speech network hears, as articulation: still in silence and noise, lips shut where they must be."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.speech.amplitude import opened
from avatar3d.nets.speech_motion import Heard, SpeechMotionNet
from avatar3d.typing import typed

_SURE = (0.2, 0.5)
"""Probabilities at which lips begin to close, and are closed."""
_QUICKEST = 0.4
"""Share of the way to contact, or from it, that lips go in a row."""
_AWAKE = 0.4
"""Probability of a voice from where the mouth moves."""
_OPEN = 1.6
"""How much further lips open than the network says: as far as tracked lips of the same speech do on average."""
_PATIENCE, _BRIEF = 15, 0.6
"""Rows without a voice, after which the mouth goes to rest: shorter pauses leave it as it is. After a voice of fewer
rows, this share of them is enough: it may have been none."""
_ATTACK, _RELEASE = 0.4, 0.12
"""Shares of the way to open and to close the gate, per row."""


@dataclass(frozen=True)
class Articulated:
    """Rows of articulation, 50 a second: what `Performer.push` takes."""

    curves: Float[Tensor, "t 52"]
    closed: Float[Tensor, "t"]
    touching: Float[Tensor, "t"]


class Mouth:
    """Articulation of 16 kHz sound that arrives in pieces."""

    def __init__(self) -> None:
        """Starts before the first sample, at rest."""
        self._net = SpeechMotionNet()
        self._gate, self._quiet, self._spoken = 0.0, _PATIENCE, 0
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
        for i, voice in enumerate(heard.voice.tolist()):
            self._quiet = 0 if voice > _AWAKE else self._quiet + 1
            if self._quiet == 0:
                self._spoken = min(self._spoken + 1, _PATIENCE)
            patience = self._spoken if self._spoken == _PATIENCE else _BRIEF * self._spoken
            wanted = 1.0 if self._quiet < patience else 0.0
            if not wanted:
                self._spoken = 0
            self._gate += (wanted - self._gate) * (_ATTACK if wanted > self._gate else _RELEASE)
            gates[i] = self._gate
        gates = (gates * 1.02 - 0.02).clamp(min=0)  # rest is rest, not nearly
        contacts = _between(torch.stack([heard.closed, heard.labiodental], 1), _SURE)
        for i, wanted in enumerate(contacts):
            self._contacts = wanted.clamp(self._contacts - _QUICKEST, self._contacts + _QUICKEST)
            contacts[i] = self._contacts
        return Articulated(
            opened(heard.curves, _OPEN) * gates[:, None],
            contacts[:, 0] * gates,
            contacts[:, 1] * gates,
        )


def _between(values: Tensor, ends: tuple[float, float]) -> Tensor:
    return ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
