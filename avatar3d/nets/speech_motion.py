"""The network that hears what a mouth does: log-mel frames -> lips, jaw and tongue, contacts and voice.

A conformer whose attention looks back only and whose convolutions look ahead one row each, the last two; an answer is
given `LOOKAHEAD` rows late, so that what follows a sound (rounding, a closure) is heard before it is shown. Trained by
`tools/train_speech.py`, from the weights of a phoneme recogniser on.
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
from avatar3d.nets.mel import BANDS, FEATURES, HOP, SAMPLE_RATE, MelFrames, Normaliser
from avatar3d.nets.registry import weights
from avatar3d.types.arkit import ARKIT_INDEX
from avatar3d.typing import typed

ROW = 2 * HOP
"""Samples of a row: 50 a second."""
LOOKAHEAD = 5
"""Rows that are heard beyond the one that is given."""
REST = (LOOKAHEAD + 1) * ROW - 1
"""Samples of silence after which all rows are given."""
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

VOWELS = CLASSES.index("open")
"""The first of the classes that are vowels; so are all after it."""
_SHARE = 0.6
"""How much of the answer is the average mouth of the kinds of sound that were heard; the rest is heard directly."""
_GAIN = 1.2
"""What is unsure is answered by halves; this makes up for it on the whole."""
_WIDTH, _WIDE, _HEADS, _HIDDEN = 144, 576, 4, 96
_TAPS = 6  # frames that a row begins with: two of its own and four before
_PAST, _AHEAD = 15, (1, 1, 1, 2)  # rows that the convolution of each block reaches back and ahead
_MEMORY = 100
"""Rows that attention reaches back."""
_WARPS = (-0.07, 0.0, 0.07)
"""Every sound is heard as if of longer and of shorter vocal tracts too; the mean of the answers is given."""


class _Block(nn.Module):
    """A conformer block (Gulati et al., Conformer, 2020) whose convolution looks ahead a little; as many rows late."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self.before, self.after = feed_forward(), feed_forward()
        self.attend = nn.ModuleDict(
            {"norm": nn.LayerNorm(_WIDTH), "into": nn.Linear(_WIDTH, 3 * _WIDTH), "out": nn.Linear(_WIDTH, _WIDTH)}
        )
        self.convolve = nn.ModuleDict(
            {
                "norm": nn.LayerNorm(_WIDTH),
                "into": nn.Linear(_WIDTH, 2 * _WIDTH),
                "depth": nn.Conv1d(_WIDTH, _WIDTH, _PAST + 1 + ahead, groups=_WIDTH),
                "out": nn.Linear(_WIDTH, _WIDTH),
            }
        )
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Rows `[b, t, 144]`, with what is kept of the rows before: keys and values, and the convolution's input."""
        keys, gates, late = state
        x = x + 0.5 * self.before(x)
        query, new = self.attend["into"](self.attend["norm"](x)).split([_WIDTH, 2 * _WIDTH], 2)
        keys = torch.cat([keys, new], 1)
        x = x + self.attend["out"](_attention(query, keys))
        gated = functional.glu(self.convolve["into"](self.convolve["norm"](x)), 2)
        gates, late = torch.cat([gates, gated], 1), torch.cat([late, x], 1)
        count = x.shape[1]
        y = functional.silu(self.convolve["depth"](gates.mT).mT)
        x = late[:, :count] + self.convolve["out"](y)
        x = self.norm(x + 0.5 * self.after(x))
        return x, [keys[:, -_MEMORY:], gates[:, count:], late[:, count:]]


def feed_forward() -> nn.Sequential:
    """The part of a conformer block before and after the others."""
    return nn.Sequential(
        nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _WIDE), nn.SiLU(), nn.Linear(_WIDE, _WIDTH)
    )  # fmt: skip


def _attention(query: Tensor, keys: Tensor) -> Tensor:
    """Every row sees itself and `_MEMORY` rows before; no positions: the convolutions know them."""
    count, all_ = query.shape[1], keys.shape[1]
    behind = torch.arange(all_ - count, all_)[:, None] - torch.arange(all_)
    q, k, v = (part.unflatten(2, (_HEADS, -1)).transpose(1, 2) for part in (query, *keys.chunk(2, 2)))
    seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind <= _MEMORY))
    return seen.transpose(1, 2).flatten(2)


class SpeechNet(nn.Module):
    """Features `[b, t, 41]` at 100 a second -> outputs `[b, t / 2, ...]`, with the state to go on from.

    Every block answers as many rows late as it looks ahead, so an answer has heard the sum of them beyond its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(FEATURES, _WIDTH, _TAPS, stride=2)
        self.blocks = nn.ModuleList(_Block(ahead) for ahead in _AHEAD)
        self.recurrent = nn.GRU(_WIDTH, _HIDDEN, batch_first=True)
        self.out = nn.Linear(_WIDTH + _HIDDEN, len(CURVES) + len(CONTACTS) + len(CLASSES))

    def begin(self, batch: int) -> list[Tensor]:
        """The state before any sound."""
        new = next(self.parameters()).new_zeros
        rows = [shape for n in _AHEAD for shape in ((0, 2 * _WIDTH), (_PAST + n, _WIDTH), (n, _WIDTH))]
        return [new(batch, FEATURES, _TAPS - 2), *(new(batch, *shape) for shape in rows), new(1, batch, _HIDDEN)]

    def forward(self, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Raw outputs: curves, logits of contacts, logits of classes; an even number of frames."""
        x, after = self.heard(features, state)
        y, hidden = self.recurrent(x, state[-1])
        return self.out(torch.cat([x, y], 2)), [*after, hidden]

    def heard(self, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What the blocks make of it `[b, t / 2, 144]`, with their state."""
        x = torch.cat([state[0], features.mT], 2)
        after = [x[:, :, 2 - _TAPS :]]
        x = functional.gelu(self.front(x).mT)
        for i, block in enumerate(self.blocks):
            x, kept = block(x, state[3 * i + 1 : 3 * i + 4])
            after += kept
        return x, after


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
    vowel: Float[Tensor, "t"]
    """Probability of a vowel, in which lips are apart."""


class SpeechMotionNet:
    """Hears 16 kHz sound in pieces of any length; one object per sound."""

    def __init__(self) -> None:
        """Starts before the first sample.

        Raises:
            AssetError: the packaged weights are missing or damaged.
        """
        self._net, prior, self.mouths = _load()
        self._mel, self._normaliser = MelFrames(), Normaliser(prior)
        self._frames = torch.zeros(len(_WARPS), 0, FEATURES)
        self._state = self._net.begin(len(_WARPS))
        self._skip = LOOKAHEAD

    @typed
    def push(self, samples: Float[Tensor, "n"]) -> Heard:
        """The rows that these samples decide: `LOOKAHEAD` rows behind what was heard."""
        return heard_in(self.raw(samples), self.mouths)

    def flush(self) -> Heard:
        """What is left after the last sample."""
        return self.push(torch.zeros(REST))

    @typed
    @torch.inference_mode()
    def raw(self, samples: Float[Tensor, "n"]) -> Float[Tensor, "t 35"]:
        """The outputs behind `push`: curves, logits of contacts and of classes; a silence of `REST` gives the last."""
        mel = self._mel(samples.float())
        frames = torch.from_numpy(self._normaliser((mel @ _warps()).numpy()))
        frames = torch.cat([self._frames, frames], 1)
        whole = frames.shape[1] // 2 * 2
        self._frames = frames[:, whole:]
        if not whole:
            return torch.zeros(0, len(CURVES) + len(CONTACTS) + len(CLASSES))
        rows, self._state = self._net(frames[:, :whole], self._state)
        dropped = min(self._skip, whole // 2)
        self._skip -= dropped
        return rows[:, dropped:].mean(0)


@lru_cache(maxsize=1)
def _warps() -> Float[Tensor, "w 40 40"]:
    """Log-mel frames -> those of other vocal tracts: bands between their neighbours, the highest held."""
    out = torch.zeros(len(_WARPS), BANDS, BANDS)
    for matrix, warp in zip(out, _WARPS, strict=True):
        at = (torch.arange(BANDS) * (1 + warp)).clamp(max=BANDS - 1)
        low = at.floor().long().clamp(max=BANDS - 2)
        matrix[low, torch.arange(BANDS)] = 1 - (at - low)
        matrix[low + 1, torch.arange(BANDS)] += at - low
    return out


@typed
def heard_in(rows: Float[Tensor, "t 35"], mouths: Float[Tensor, "15 17"]) -> Heard:
    """What raw outputs mean, with the average mouth of every class."""
    n, m = len(CURVES), len(CURVES) + len(CONTACTS)
    contacts, vowel = rows[:, n:m].sigmoid(), rows[:, m:].softmax(1)[:, VOWELS:].sum(1)
    closed, labiodental = (contacts[:, :2] * (1 - vowel)[:, None]).T  # no vowel is shut
    return Heard(spread(answered(rows, mouths).clamp(0, 1)), closed, labiodental, contacts[:, 2], vowel)


def answered(rows: Tensor, mouths: Tensor, gain: float = _GAIN) -> Tensor:
    """Curves `[..., 17]` of raw outputs: heard directly, and as the average mouth of the kinds of sound heard."""
    average = rows[..., len(CURVES) + len(CONTACTS) :].softmax(-1) @ mouths
    return gain * ((1 - _SHARE) * rows[..., : len(CURVES)].clamp(0, 1) + _SHARE * average)


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
    net = SpeechNet()
    net.load_state_dict(tensors)
    net.requires_grad_(False)
    return net.eval(), prior, mouths


assert SAMPLE_RATE == 50 * ROW and sum(_AHEAD) == LOOKAHEAD
