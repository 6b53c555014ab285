"""The network that hears what a mouth does: log-mel frames -> lips, jaw and tongue, contacts and voice.

Strided and dilated convolutions and a recurrent layer, all looking back only; an answer is given `LOOKAHEAD` rows late,
so that what follows a sound (rounding, a closure) is heard before it is shown. Trained by `tools/train_speech.py`.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from avatar3d.errors import AssetError
from avatar3d.nets.mel import FEATURES, HOP, SAMPLE_RATE, MelFrames, Normaliser
from avatar3d.nets.registry import weights
from avatar3d.types.arkit import ARKIT_INDEX
from avatar3d.typing import typed

ROW = 2 * HOP
"""Samples of a row: 50 a second."""
LOOKAHEAD = 4
"""Rows that are heard beyond the one that is given."""
CURVES = (
    "jawOpen", "jawForward", "mouthClose", "mouthPucker", "mouthFunnel", "mouthStretch", "mouthSmile", "mouthDimple",
    "mouthUpperUp", "mouthShrugUpper", "mouthLowerDown", "mouthShrugLower", "mouthRollLower", "mouthRollUpper",
    "mouthPress", "cheekPuff", "tongueOut",
)  # fmt: skip
"""What is predicted; a name without side stands for both."""
CONTACTS = ("closed", "labiodental", "voice")
"""Probabilities: the lips meet, the lower lip is on the teeth, someone speaks."""
CLASSES = (
    "silence", "bilabial", "labiodental", "dental", "tongue", "sibilant", "postalveolar", "rhotic", "labiovelar",
    "back", "open", "half", "close", "half_round", "close_round",
)  # fmt: skip
"""Kinds of sound that the network also tells apart; this is what teaches it to hear."""

_WIDTH, _HIDDEN = 192, 224
_SHARE = 0.6
"""How much of the answer is the average mouth of the kinds of sound that were heard; the rest is heard directly."""
_GAIN = 1.2
"""What is unsure is answered by halves; this makes up for it on the whole."""
_DILATIONS = (1, 2, 4)


class SpeechNet(nn.Module):
    """Features `[b, t, 41]` at 100 a second -> outputs `[b, t / 2, ...]`, with the state to go on from."""

    def __init__(self, width: int = _WIDTH, hidden: int = _HIDDEN) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden
        self.front = nn.Conv1d(FEATURES, width, 6, stride=2)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d) for d in _DILATIONS)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(len(_DILATIONS) + 1))
        self.recurrent = nn.GRU(width, hidden, batch_first=True)
        self.out = nn.Linear(width + hidden, len(CURVES) + len(CONTACTS) + len(CLASSES))

    def begin(self, batch: int) -> list[Tensor]:
        """The state before any sound."""
        new = next(self.parameters()).new_zeros
        past = [new(batch, FEATURES, 4)] + [new(batch, self.width, 2 * d) for d in _DILATIONS]
        return [*past, new(1, batch, self.hidden)]

    def forward(self, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Raw outputs: curves, logits of contacts, logits of classes; an even number of frames."""
        x = torch.cat([state[0], features.mT], 2)
        after = [x[:, :, -4:]]
        x = functional.silu(self.norms[0](self.front(x).mT).mT)
        for i, block in enumerate(self.blocks):
            padded = torch.cat([state[i + 1], x], 2)
            after.append(padded[:, :, -2 * _DILATIONS[i] :])
            x = x + functional.silu(self.norms[i + 1](block(padded).mT).mT)
        y, hidden = self.recurrent(x.mT, state[-1])
        return self.out(torch.cat([x.mT, y], 2)), [*after, hidden]


@dataclass(frozen=True)
class Heard:
    """What the network makes of a stretch of sound: one row per 20 ms, row i at (i + 0.5) / 50 s."""

    curves: Float[Tensor, "t 52"]
    """ARKit coefficients of the mouth."""
    closed: Float[Tensor, "t"]
    """Probability that the lips meet."""
    labiodental: Float[Tensor, "t"]
    """Probability that the lower lip is on the upper teeth."""
    voice: Float[Tensor, "t"]
    """Probability that someone speaks."""


class SpeechMotionNet:
    """Hears 16 kHz sound in pieces of any length; one object per sound."""

    def __init__(self) -> None:
        """Starts before the first sample.

        Raises:
            AssetError: the packaged weights are missing or damaged.
        """
        self._net, prior, self._mouths = _load()
        self._mel, self._normaliser = MelFrames(), Normaliser(prior)
        self._frames = torch.zeros(0, FEATURES)
        self._state = self._net.begin(1)
        self._skip = LOOKAHEAD

    @typed
    @torch.inference_mode()
    def push(self, samples: Float[Tensor, "n"]) -> Heard:
        """The rows that these samples decide: `LOOKAHEAD` rows behind what was heard."""
        frames = self._mel(samples.float()).numpy()
        frames = torch.cat([self._frames, torch.from_numpy(self._normaliser(frames))])
        whole = len(frames) // 2 * 2
        self._frames = frames[whole:]
        if not whole:
            return self._heard(torch.zeros(0, len(CURVES) + len(CONTACTS) + len(CLASSES)))
        rows, self._state = self._net(frames[None, :whole], self._state)
        dropped = min(self._skip, whole // 2)
        self._skip -= dropped
        return self._heard(rows[0, dropped:])

    def flush(self) -> Heard:
        """What is left after the last sample."""
        return self.push(torch.zeros((LOOKAHEAD + 1) * ROW - 1))

    def _heard(self, rows: Tensor) -> Heard:
        n, m = len(CURVES), len(CURVES) + len(CONTACTS)
        average = rows[:, m:].softmax(1) @ self._mouths
        curves = _GAIN * ((1 - _SHARE) * rows[:, :n].clamp(0, 1) + _SHARE * average)
        contacts = rows[:, n:m].sigmoid()
        return Heard(spread(curves.clamp(0, 1)), contacts[:, 0], contacts[:, 1], contacts[:, 2])


@typed
def spread(values: Float[Tensor, "t c"]) -> Float[Tensor, "t 52"]:
    """Columns of `CURVES` -> the 52, the same on both sides."""
    out = values.new_zeros(len(values), len(ARKIT_INDEX))
    for i, name in enumerate(CURVES):
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_INDEX:
                out[:, ARKIT_INDEX[full]] = values[:, i]
    return out


@lru_cache(maxsize=1)
def _load() -> tuple[SpeechNet, np.ndarray, Tensor]:
    """The network, the prior spectrum, and the average mouth of every class [15, 17]."""
    path = weights("speech_motion")
    with safe_open(path, framework="pt") as file:
        meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    if meta.get("format") != "avatar3d.speech_motion" or meta.get("curves") != list(CURVES):
        raise AssetError(f"{path} is not a speech network of this version. Reinstall avatar3d.")
    prior, mouths = tensors.pop("prior").double().numpy(), tensors.pop("mouths")
    net = SpeechNet(meta["width"], meta["hidden"])
    net.load_state_dict(tensors)
    net.requires_grad_(False)
    return net.eval(), prior, mouths


assert SAMPLE_RATE == 50 * ROW
