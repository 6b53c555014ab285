"""Piper voices (VITS networks in ONNX files) with the phone durations that the network itself decides.

The exported graph gives only sound; the tensor of durations inside it is named as a second output by appending to the
file's bytes: repeated fields of a protocol buffer merge, so the model on disk stays as it is.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar3d.drive.speech.phones import SILENCE, VOWELS, Phone, Speech
from avatar3d.errors import AssetError, DependencyError

_DURATIONS = "/Ceil_output_0"  # frames of each input symbol, as Piper's exporter names it
_HOP = 256  # samples a frame
_MARKS = "ː ˑ ʰ ʲ ʷ ̃ ̩ ̯ ̪ ˞".split()
_PAUSES = "^$ ,.;:!?—…"
_PLOSIVES = frozenset("pbtdkɡ")
_CLOSURE = 0.06  # seconds of quiet before a plosive that may be its own
_QUIET = 0.02  # of the loudest 5 ms
_GAP = 0.12  # seconds: a shorter space is a boundary, not a pause


def speak(text: str, path: Path, *, speed: float, transcribe: Callable[[Sequence[str], str], list[str]]) -> Speech:
    """Speaks with a Piper voice.

    Args:
        text: What to say.
        path: The voice's .onnx, with its .onnx.json beside it.
        speed: 1 is the voice's own.
        transcribe: Clauses and espeak-ng voice -> IPA with stress marks.
    """
    session, config = _voice(path)
    clauses = [c for c in re.split(r"(?<=[,.;:!?])\s+", text.strip()) if re.search(r"\w", c)]
    if not clauses:
        raise ValueError(f"There is nothing to say in {text[:40]!r}; expected words.")
    spoken = transcribe(clauses, config["espeak"]["voice"])
    ipa = " ".join(
        said.strip() + (clause[-1] if clause[-1] in ",.;:!?" else "")
        for said, clause in zip(spoken, clauses, strict=True)
    )
    table = config["phoneme_id_map"]
    letters = ["^", *(c for c in ipa if c in table), "$"]
    ids = [table["_"][0]]
    ids = [i for letter in letters for i in (table[letter][0], table["_"][0])][:-1]
    inference = config["inference"]
    scales = np.array([inference["noise_scale"], inference["length_scale"] / speed, inference["noise_w"]], np.float32)
    feed = {"input": np.array([ids], np.int64), "input_lengths": np.array([len(ids)], np.int64), "scales": scales}
    if config.get("num_speakers", 1) > 1:
        feed["sid"] = np.zeros(1, np.int64)
    sound, durations = session.run([session.get_outputs()[0].name, _DURATIONS], feed)
    samples, frames = sound.reshape(-1).astype(np.float32), durations.reshape(-1)
    rate = config["audio"]["sample_rate"]
    ends = np.cumsum(frames) * _HOP / rate
    phones = _with_closures(_phones(letters, ends), samples, rate)
    return Speech(samples=torch.from_numpy(samples), rate=rate, phones=tuple(phones), text=text)


def _phones(letters: list[str], ends: np.ndarray) -> list[Phone]:
    """Letters and the blanks between them -> phones; a blank begins the next phone (so the sound itself
    says: both ways of finding phones in it agree), stress marks and word gaps go half to either side."""
    blanks = range(1, len(ends) - 1, 2)
    bounds = [0.0, *(float(ends[i - 1]) for i in blanks), float(ends[-1])]
    items: list[list] = []  # symbol, start, end, stress
    stress = 0
    for letter, start, end in zip(letters, bounds, bounds[1:], strict=False):
        last = items[-1] if items else None
        if letter in _MARKS and last:
            last[0], last[2] = last[0] + letter, end
        elif letter in "ˈˌ" or (letter == " " and end - start < _GAP):
            stress = {"ˈ": 2, "ˌ": 1}.get(letter, stress)
            if last:
                last[2] = 0.5 * (start + end)
        elif letter in _PAUSES:
            if last and last[0] == SILENCE:
                last[2] = end
            else:
                items.append([SILENCE, last[2] if last else start, end, 0])
        elif last and last[0] + letter in ("tʃ", "dʒ"):
            last[0], last[2] = last[0] + letter, end
        else:
            vowel = letter in VOWELS
            items.append([letter, last[2] if last else start, end, stress if vowel else 0])
            stress = 0 if vowel else stress
    return [Phone(symbol=s, start=a, end=b, stress=n) for s, a, b, n in items if b > a]


def _with_closures(phones: list[Phone], samples: np.ndarray, rate: int) -> list[Phone]:
    """The quiet that ends what comes before a plosive is its closure: the network often counts it there."""
    out: list[Phone] = []
    step = rate // 200
    level = np.sqrt(np.square(samples[: len(samples) // step * step].reshape(-1, step)).mean(1))
    quiet = level < _QUIET * level.max()
    for phone in phones:
        before = out[-1] if out else None
        if before and phone.symbol[0] in _PLOSIVES and before.symbol != SILENCE:
            first = max(before.start + 0.5 * (before.end - before.start), phone.start - _CLOSURE)
            at = min(int(phone.start * 200), len(quiet))
            while at > 0 and quiet[at - 1] and (at - 1) / 200 >= first:
                at -= 1
            if at / 200 < phone.start:
                out[-1] = replace(before, end=at / 200)
                phone = replace(phone, start=at / 200)
        out.append(phone)
    return out


@lru_cache(maxsize=2)
def _voice(path: Path) -> tuple[Any, dict]:
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise DependencyError("onnxruntime", "speech", "A Piper voice") from error
    try:
        model, config = path.read_bytes(), json.loads(Path(f"{path}.json").read_text())
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} cannot be read as a Piper voice ({error}); expected .onnx and .onnx.json.") from error
    onnxruntime.set_seed(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(model + _as_output(_DURATIONS), options)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise AssetError(f"{path} is not a Piper voice whose durations can be read ({error}).") from error
    return session, config


def _as_output(name: str) -> bytes:
    """A protocol-buffer fragment: ModelProto.graph (7) . GraphProto.output (12) . ValueInfoProto.name (1)."""
    text = name.encode()
    value = b"\x0a" + bytes([len(text)]) + text
    graph = b"\x62" + bytes([len(value)]) + value
    return b"\x3a" + bytes([len(graph)]) + graph
