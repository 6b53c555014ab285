"""The second ear, for sound that is there as a whole: it hears seconds back and ahead, so files have it, streams not.

The encoder is that of the phoneme recogniser `hama` 1.7.0 (Apache-2.0), a conformer of four blocks on 80 log-mel bands
(Gulati et al., Conformer, 2020), as it is; what the mouth does is read off it by a few convolutions, which
`tools/train_speech_ear.py` trains. Rows and outputs are those of `speech_motion`.
"""

import json
from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from avatar3d.errors import AssetError
from avatar3d.nets.mel import HOP, SAMPLE_RATE
from avatar3d.nets.registry import weights
from avatar3d.nets.speech_motion import CLASSES, CONTACTS, CURVES, ROW, feed_forward
from avatar3d.typing import typed

OUTPUTS = len(CURVES) + len(CONTACTS) + len(CLASSES)
WIDTH, BLOCKS = 144, 4
TAPPED = (1, 3)
"""Blocks whose output is read."""
_HEADS, _TAPS, _BANDS, _WINDOW = 4, 31, 80, 400
_READ = 128
_PIECE, _MARGIN = 20 * SAMPLE_RATE // ROW, 2 * SAMPLE_RATE // ROW
"""Rows that are heard at a time, and rows on both sides that are heard with them."""
_PEAK, _BOOST = 0.8, 10.0
"""Full scale that the loudest sample is brought to; a quiet piece no more than so many times as much as the loudest."""


class _EncoderBlock(nn.Module):
    """A conformer block that looks both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = feed_forward(), feed_forward()
        self.attend = nn.ModuleDict(
            {"norm": nn.LayerNorm(WIDTH), "into": nn.Linear(WIDTH, 3 * WIDTH), "out": nn.Linear(WIDTH, WIDTH)}
        )
        self.convolve = nn.ModuleDict(
            {
                "norm": nn.LayerNorm(WIDTH),
                "into": nn.Linear(WIDTH, 2 * WIDTH),
                "depth": nn.Conv1d(WIDTH, WIDTH, _TAPS, padding=_TAPS // 2, groups=WIDTH),
                "out": nn.Linear(WIDTH, WIDTH),
            }
        )
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Rows `[b, t, 144]`."""
        x = x + 0.5 * self.before(x)
        parts = self.attend["into"](self.attend["norm"](x)).unflatten(2, (3, _HEADS, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.attend["out"](seen.transpose(1, 2).flatten(2))
        gated = functional.glu(self.convolve["into"](self.convolve["norm"](x)), 2)
        x = x + self.convolve["out"](functional.silu(self.convolve["depth"](gated.mT).mT))
        return self.norm(x + 0.5 * self.after(x))


class Encoder(nn.Module):
    """Sound `[b, n]` at 16 kHz -> what is heard inside `[b, n / 320, 288]`, row i around sample `320 i`."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = nn.Parameter(torch.zeros(_WINDOW // 2 + 1, _BANDS))
        self.front = nn.Conv1d(_BANDS, WIDTH, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(_EncoderBlock() for _ in range(BLOCKS))

    def forward(self, sound: Tensor) -> Tensor:
        """For speech whose loudest samples are near full scale."""
        around = functional.pad(sound[:, None], (_WINDOW // 2, _WINDOW // 2), mode="reflect")[:, 0]
        windows = around.unfold(1, _WINDOW, HOP) * torch.hann_window(_WINDOW).to(sound)
        power = torch.fft.rfft(windows).abs().square()
        x = functional.gelu(self.front((power @ self.bands).clamp(min=1e-10).log().mT).mT)
        taken = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in TAPPED:
                taken.append(x)
        return torch.cat(taken, 2)


class Reader(nn.Module):
    """What is heard inside `[b, t, 288]` -> raw outputs `[b, t, 35]`, as `speech_motion.SpeechNet` gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv1d(len(TAPPED) * WIDTH, _READ, 5, padding=2)
        self.between = nn.Conv1d(_READ, _READ, 5, padding=2)
        self.far = nn.Conv1d(_READ, _READ, 5, padding=4, dilation=2)
        self.out = nn.Linear(_READ, OUTPUTS)

    def forward(self, inside: Tensor) -> Tensor:
        """Curves, logits of contacts, logits of classes."""
        x = functional.gelu(self.into(inside.mT))
        x = x + functional.gelu(self.between(x))
        x = x + functional.gelu(self.far(x))
        return self.out(x.mT)


@typed
@torch.inference_mode()
def hear_whole(samples: Float[Tensor, "n"]) -> Float[Tensor, "t 35"]:
    """Raw outputs for every row that the samples touch, row i at (i + 0.5) / 50 s.

    Args:
        samples: Speech at 16 kHz, full scale at -1 and 1, at any level.

    Raises:
        AssetError: the packaged weights are missing or damaged.
    """
    count = -(-len(samples) // ROW)
    parts = list(_pieces(samples, count))
    return torch.cat(parts) if parts else samples.new_zeros(0, OUTPUTS)


def _pieces(samples: Tensor, count: int) -> Iterator[Tensor]:
    encoder, reader, _ = load_ear()
    loudest = float(samples.abs().max()) if len(samples) else 0.0
    for first in range(0, count, _PIECE):
        last = min(first + _PIECE, count)
        begin, end = max(first - _MARGIN, 0), min(last + _MARGIN, count)
        # rows of ours are around samples 320 i + 160
        piece = samples[begin * ROW + ROW // 2 : end * ROW + ROW // 2].float()
        piece = functional.pad(piece, (0, (end - begin) * ROW - len(piece)))
        piece = piece * (_PEAK / max(float(piece.abs().max()), loudest / _BOOST, 1e-4))
        rows = reader(encoder(piece[None]))[0]
        yield rows[first - begin : last - begin]


@lru_cache(maxsize=1)
def load_ear() -> tuple[Encoder, Reader, Tensor]:
    """The encoder, what reads it, and the average mouth of every class [15, 17].

    Raises:
        AssetError: the packaged weights are missing or damaged.
    """
    path = weights("speech_ear")
    with safe_open(path, framework="pt") as file:
        meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    if meta.get("format") != "avatar3d.speech_ear" or meta.get("curves") != list(CURVES):
        raise AssetError(f"{path} is not a speech ear of this version. Reinstall avatar3d.")
    mouths = tensors.pop("mouths")
    encoder, reader = Encoder(), Reader()
    for name, net in (("encoder", encoder), ("reader", reader)):
        net.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
        net.requires_grad_(False)
        net.eval()
    return encoder, reader, mouths
