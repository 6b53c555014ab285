"""Arrays and facts in one compressed block that a web page carries: written here, read here and by page/data.js.

docs/page.md describes the layout. Numbers are stored as integers with a step, so that the error of every array is
known: half a step.
"""

import base64
import gzip
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import FormatError
from avatar3d.typing import typed

MAGIC = b"A3DP"
VERSION = 1
_TYPES = {"u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16, "u32": np.uint32, "f32": np.float32}


@dataclass
class Block:
    """Arrays by name, and anything that JSON can say beside them."""

    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    @typed
    def add(self, name: str, values: np.ndarray, **decoding: Any) -> None:
        """Appends an array as it is. Wider numbers are stored plane by plane, lowest bytes first: that packs better."""
        kind = next((key for key, dtype in _TYPES.items() if values.dtype == dtype), None)
        if kind is None:
            raise ValueError(f"Block: {name} is {values.dtype}; expected one of {', '.join(_TYPES)}.")
        planes = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).view(np.uint8)
        planes = planes.reshape(-1, values.dtype.itemsize).T
        self.arrays[name] = {"type": kind, "shape": list(values.shape), "at": len(self.content), **decoding}
        self.content += planes.tobytes()

    @typed
    def add_steps(
        self, name: str, values: Float[Tensor, "..."], *, bits: int = 16, step: float | None = None, columns: int = 0
    ) -> float:
        """Appends numbers as integers: value = zero + step * integer.

        Args:
            name: Of the array.
            values: Finite.
            bits: 8 or 16, signed.
            step: Spacing of what can be stored, where it is the same for all and zero must stay zero; by default
                the range of the values divided by what the integers can count.
            columns: How many trailing axes have a step and zero of their own.

        Returns:
            Largest error.

        Raises:
            ValueError: values are not finite, or too large for `step`.
        """
        array = values.detach().double().numpy()
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: not every number is finite; the avatar is damaged.")
        top = 2 ** (bits - 1) - 1
        if step is None:
            over = tuple(range(array.ndim - columns))
            low, high = (f(array, axis=over) if array.size else np.zeros(array.shape[array.ndim - columns :])
                         for f in (np.min, np.max))  # fmt: skip
            zero, steps = (low + high) / 2, np.maximum((high - low) / (2 * top), 1e-12)
        else:
            zero, steps = np.zeros(()), np.asarray(step)
        zero, steps = (x.astype(np.float32).astype(np.float64) for x in (zero, steps))
        integers = np.rint((array - zero) / steps)
        if integers.size and np.abs(integers).max() > top + 1:
            raise ValueError(f"{name}: {np.abs(array).max():.3g} is too large for steps of {step:.3g} in {bits} bits.")
        integers = integers.clip(-top, top)
        error = float(np.abs(integers * steps + zero - array).max()) if integers.size else 0.0
        self.add(name, integers.astype(np.int8 if bits == 8 else np.int16), zero=zero.flatten().tolist(),
                 step=steps.flatten().tolist(), error=error)  # fmt: skip
        return error

    @typed
    def text(self) -> str:
        """The block as base64 of gzip. The same block gives the same text."""
        header = json.dumps({**self.facts, "arrays": self.arrays}, separators=(",", ":"), allow_nan=False).encode()
        raw = MAGIC + struct.pack("<II", VERSION, len(header)) + header + self.content
        return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode()


@typed
def read_block(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `Block.text` wrote: its facts, and its arrays as the numbers that they stand for.

    Raises:
        FormatError: not such a block, or a newer version.
    """
    try:
        raw = gzip.decompress(base64.b64decode(text, validate=True))
        magic, (version, length) = raw[:4], struct.unpack("<II", raw[4:12])
        facts = json.loads(raw[12 : 12 + length])
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"{magic!r} version {version}")
        arrays = {name: _decode(entry, raw[12 + length :]) for name, entry in facts["arrays"].items()}
    except (ValueError, KeyError, EOFError, OSError, struct.error) as error:
        raise FormatError(f"Not a page of avatar3d, version {VERSION} ({error}); export it again.") from error
    return facts, arrays


def _decode(entry: dict[str, Any], content: bytes) -> np.ndarray:
    dtype = np.dtype(_TYPES[entry["type"]]).newbyteorder("<")
    shape, width = entry["shape"], dtype.itemsize
    count = int(np.prod(shape))
    planes = np.frombuffer(content, np.uint8, count * width, entry["at"]).reshape(width, count)
    values = np.ascontiguousarray(planes.T).view(dtype).reshape(shape)
    if "step" not in entry:
        return values
    zero, step = (np.asarray(entry[k], np.float32) for k in ("zero", "step"))
    trailing = next(n for n in range(len(shape) + 1) if int(np.prod(shape[len(shape) - n :])) == len(step))
    zero, step = (x.reshape(shape[len(shape) - trailing :]) for x in (zero, step))
    return values.astype(np.float32) * step + zero
