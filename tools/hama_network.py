"""The recogniser of the package `hama` (1.7, Apache-2.0) as torch tensors: what it hears inside, and its weights.

A conformer of four blocks, 144 wide, on 80 log-mel bands; 50 rows a second, row i around i * 20 ms. The speech network
begins from its weights (`train_speech.py`), and `speech_recordings.py` aligns by what it hears.
"""

import struct
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avatar3d.nets.mel import HOP, WINDOW

BLOCKS = 4
HEADS = 4
_PREFIX = "acoustic_model.model."
_LINEARS, _DEPTHWISE = (829, 838, 847, 856), (804, 807, 810, 813)
"""By block, numbers in the names of the arrays that the exporter left without a better one."""
_LINEAR = {"ffn1.fc1": 0, "ffn1.fc2": 1, "attn.in_proj": 2, "attn.out_proj": 6, "ffn2.fc1": 7, "ffn2.fc2": 8}

PARTS = {
    "before.0": "ffn1.norm", "before.1": "ffn1.fc1", "before.3": "ffn1.fc2", "after.0": "ffn2.norm",
    "after.1": "ffn2.fc1", "after.3": "ffn2.fc2", "attend.norm": "attn_norm", "attend.into": "attn.in_proj",
    "attend.out": "attn.out_proj", "convolve.norm": "conv.norm", "convolve.into": "conv.pointwise1",
    "convolve.depth": "conv.depthwise", "convolve.out": "conv.pointwise2", "norm": "norm",
}  # fmt: skip
"""Our names of a block's parts, and hama's."""


@lru_cache(maxsize=1)
def arrays() -> dict[str, Tensor]:
    """Every array of the package's file, float32, by its name there."""
    data = resources.files("hama.assets").joinpath("asr_waveform.hama").read_bytes()
    if data[:8] != b"HAMAPK\x01\x02":
        raise SystemExit("The package hama holds weights of another format; version 1.7.0 is expected.")
    (count,) = struct.unpack_from("<I", data, 8)
    entries, at = [], 12
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        kind, axes = data[at], data[at + 1]
        shape = struct.unpack_from(f"<{axes}I", data, at + 2)
        start, size = struct.unpack_from("<QQ", data, at + 2 + 4 * axes)
        at += 18 + 4 * axes
        entries.append((name, kind, shape, start, size))
    base = len(data) - max(start + size for *_, start, size in entries)
    out = {}
    for name, kind, shape, start, _ in entries:
        values = np.frombuffer(data, np.float16 if kind else np.float32, int(np.prod(shape)), base + start)
        out[name.removeprefix(_PREFIX)] = torch.from_numpy(values.reshape(shape).astype(np.float32))
    return out


@lru_cache(maxsize=BLOCKS)
def block_weights(index: int) -> dict[str, Tensor]:
    """Weights of one block by plain names; matrices as `nn.Linear` and `nn.Conv1d` hold them."""
    named = arrays()
    out = {n.removeprefix(f"blocks.{index}."): v for n, v in named.items() if n.startswith(f"blocks.{index}.")}
    out["attn.in_proj.bias"] = out.pop("attn.in_proj_bias")
    for name, step in _LINEAR.items():
        out[f"{name}.weight"] = named[f"onnx::MatMul_{_LINEARS[index] + step}"].T.contiguous()
    out["conv.depthwise.weight"] = named[f"onnx::Conv_{_DEPTHWISE[index]}"]
    out["conv.depthwise.bias"] = named[f"onnx::Conv_{_DEPTHWISE[index] + 1}"]
    return out


def log_mel(samples: Tensor) -> Tensor:
    """Its 80 bands, natural logarithm of power; frame j around sample 160 j. For speech near full scale."""
    padded = functional.pad(samples[None, None], (WINDOW // 2, WINDOW // 2), mode="reflect")
    parts = [functional.conv1d(padded, arrays()[f"stft_{k}_kernel"], stride=HOP) for k in ("real", "imag")]
    power = parts[0].square() + parts[1].square()
    return (power[0].T @ arrays()["mel_fb"]).clamp(min=1e-10).log()


@torch.inference_mode()
def heard(samples: Tensor) -> tuple[list[Tensor], Tensor]:
    """What every block makes of 16 kHz speech [t, 144], and the logits of its 191 tokens [t, 191]."""
    named = arrays()
    x = functional.conv1d(log_mel(samples).T[None], named["onnx::Conv_801"], named["onnx::Conv_802"], 2, 1)
    x = functional.gelu(x)[0].T
    blocks = []
    for index in range(BLOCKS):
        x = _block(x, block_weights(index))
        blocks.append(x)
    return blocks, x @ named["proj.weight"][:, :, 0].T + named["proj.bias"]


@torch.inference_mode()
def heard_inside(x: Tensor) -> Tensor:
    """What the last block makes of `[b, t, 144]` after the first convolution and its activation."""
    for index in range(BLOCKS):
        x = _block(x, block_weights(index))
    return x


def _block(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    def norm(y: Tensor, name: str) -> Tensor:
        return functional.layer_norm(y, y.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(y: Tensor, name: str) -> Tensor:
        return functional.linear(y, w[f"{name}.weight"], w[f"{name}.bias"])

    x = x + 0.5 * linear(functional.silu(linear(norm(x, "ffn1.norm"), "ffn1.fc1")), "ffn1.fc2")
    parts = linear(norm(x, "attn_norm"), "attn.in_proj").unflatten(-1, (3, HEADS, -1))
    query, key, value = parts.movedim(-3, 0).transpose(-3, -2)
    seen = functional.scaled_dot_product_attention(query, key, value)
    x = x + linear(seen.transpose(-3, -2).flatten(-2), "attn.out_proj")
    y = norm(x, "conv.norm").mT
    y = functional.glu(functional.conv1d(y, w["conv.pointwise1.weight"], w["conv.pointwise1.bias"]), -2)
    y = functional.conv1d(y, w["conv.depthwise.weight"], w["conv.depthwise.bias"], padding=15, groups=y.shape[-2])
    y = functional.conv1d(functional.silu(y), w["conv.pointwise2.weight"], w["conv.pointwise2.bias"])
    x = x + y.mT
    x = x + 0.5 * linear(functional.silu(linear(norm(x, "ffn2.norm"), "ffn2.fc1")), "ffn2.fc2")
    return norm(x, "norm")


def front(features: list[Tensor], samples: list[Tensor], taps: int) -> tuple[Tensor, Tensor]:
    """Its first convolution for our features: kernel [144, 41, taps] and bias.

    The linear map that takes our features to its bands best (least squares over `samples`) is put before its kernel.

    Args:
        features: Of each sound, 100 frames a second.
        samples: The sounds, 16 kHz.
        taps: Frames of the kernel, of which the last three are set.
    """
    ours = torch.cat([torch.cat([f, torch.ones(len(f), 1)], 1) for f in features])
    bands = torch.cat([log_mel(s)[: len(f)] for f, s in zip(features, samples, strict=True)])
    to_bands = torch.linalg.lstsq(ours, bands).solution
    kernel, bias = arrays()["onnx::Conv_801"], arrays()["onnx::Conv_802"]
    whole = torch.einsum("obt,fb->oft", kernel, to_bands)
    out = torch.zeros(len(kernel), ours.shape[1] - 1, taps)
    out[:, :, taps - 3 :] = whole[:, :-1]
    return out, bias + whole[:, -1].sum(1)
