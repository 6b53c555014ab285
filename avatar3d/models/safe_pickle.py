"""Reads model files that are pickles (FLAME, SMPL) without running anything that they ask for.

Allowed are Python's containers and numbers, numpy arrays, scipy's sparse matrices, and chumpy's array holders. Every
one of them is read into an inert record of this module, and the arrays are made of those records afterwards, so that
neither numpy's nor scipy's nor chumpy's own unpickling code runs. Anything else is refused before it is looked up.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse

from avatar3d.errors import FileError, FormatError


class Record:
    """What stands for an object of another library: its pickled attributes, nothing that acts."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> Any:
        """The array that the record describes; the record itself where it describes none."""
        return self


class _Dtype(Record):
    @property
    def is_object(self) -> bool:
        return self.arguments[0][:1] in ("O", "|") and "O" in self.arguments[0]

    def value(self) -> np.dtype:
        spec = self.arguments[0]
        if not isinstance(spec, str) or not re.fullmatch(r"[<>=|]?[biufcSU?]\d*", spec):
            raise pickle.UnpicklingError(f"an array of {spec!r}")
        dtype = np.dtype(spec)
        order = self.state[1] if self.state else "="
        return dtype.newbyteorder(order) if order in ("<", ">") else dtype


def _numbers(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without plain data")
    return np.frombuffer(raw, dtype.value()).reshape(shape, order=order).copy()


class _Array(Record):
    def value(self) -> Any:
        _, shape, dtype, fortran, data = self.state
        if isinstance(dtype, _Dtype) and dtype.is_object:
            if len(data) != 1:
                raise pickle.UnpicklingError("an array of Python objects")
            return _resolve(data[0])  # how .npz wraps a sparse matrix or a string
        return _numbers(data, dtype, shape, "F" if fortran else "C")


class _FromBuffer(Record):
    def value(self) -> np.ndarray:
        data, dtype, shape, order = self.arguments
        return _numbers(data, dtype, shape, order)


class _Scalar(Record):
    def value(self) -> Any:
        dtype, data = self.arguments
        return _numbers(data, dtype, (1,), "C")[0]


class _Sparse(Record):
    kind = ""

    def value(self) -> Any:
        s = {k: _resolve(v) for k, v in self.state.items()}
        shape = s.get("_shape", s.get("shape"))
        if self.kind == "coo":
            row, col = s["coords"] if "coords" in s else (s["row"], s["col"])
            return scipy.sparse.coo_matrix((s["data"], (row, col)), shape=shape)
        made = scipy.sparse.csc_matrix if self.kind == "csc" else scipy.sparse.csr_matrix
        return made((s["data"], s["indices"], s["indptr"]), shape=shape)


class _Chumpy(Record):
    def value(self) -> Any:
        state = self.state if isinstance(self.state, dict) else {}
        if "x" in state:  # chumpy.ch.Ch
            return _resolve(state["x"])
        if "a" in state and "idxs" in state:  # chumpy.reordering.Select
            index = np.asarray(_resolve(state["idxs"]))
            picked = np.asarray(_resolve(state["a"])).ravel()[index]
            shape = _resolve(state.get("preferred_shape"))
            return picked if shape is None else picked.reshape(shape)
        return self


class _CSC(_Sparse):
    kind = "csc"


class _CSR(_Sparse):
    kind = "csr"


class _COO(_Sparse):
    kind = "coo"


class _Ndarray(Record):
    """`numpy.ndarray` where a pickle names the class."""


def _new_array(*_: Any) -> _Array:
    return _Array()


def _new_object(cls: Any, *_: Any) -> Record:
    if isinstance(cls, type) and issubclass(cls, Record):
        return cls()
    raise pickle.UnpicklingError(f"an object of {cls!r}")


def _encode(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as `_codecs.encode(text, "latin1")`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


def _plain(kind: type) -> Any:
    def make(*items: Any) -> Any:
        return kind(*items[:1])

    return make


_ALLOWED = {
    "numpy.ndarray": _Ndarray,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _new_array,
    "numpy.core.multiarray.scalar": _Scalar,
    "numpy.core.numeric._frombuffer": _FromBuffer,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _new_object,
    "builtins.object": object,
    "builtins.set": _plain(set),
    "builtins.frozenset": _plain(frozenset),
    "builtins.bytes": lambda *_: b"",  # protocol 2 writes b"" as bytes()
}
_SPARSE = {f"{kind.kind}_{form}": kind for kind in (_CSC, _CSR, _COO) for form in ("matrix", "array")}
_PYTHON2 = {"copy_reg": "copyreg", "__builtin__": "builtins"}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{_PYTHON2.get(module, module)}.{name}".replace("numpy._core.", "numpy.core.", 1)
        if full in _ALLOWED:
            return _ALLOWED[full]
        if module.startswith("scipy.sparse.") and name in _SPARSE:
            return _SPARSE[name]
        if module.split(".")[0] == "chumpy":
            return _Chumpy
        raise pickle.UnpicklingError(f"`{module}.{name}`")


def _resolve(value: Any) -> Any:
    if isinstance(value, Record):
        return value.value()
    if isinstance(value, dict):
        return {k: _resolve(v) for k, v in value.items()}
    return type(value)(_resolve(v) for v in value) if isinstance(value, (list, tuple)) else value


def read_arrays(path: str | Path) -> dict[str, Any]:
    """The arrays of a model file by name, from `.pkl` (Python 2 or 3, with or without chumpy) or `.npz`.

    A chumpy expression that is no plain array comes back as an inert `Record`.

    Raises:
        FileError: there is no such file.
        FormatError: the file asks for anything but arrays (nothing of it has run), or is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path} does not exist or is a folder; a model file (.pkl or .npz) was expected.")
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        value = _read_npz(file, path) if zipped else _read_pickle(file, path)
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds a {type(value).__name__}; a model file holds arrays by name.")
    return value


def _read_npz(file: BinaryIO, path: Path) -> dict[str, Any]:
    out = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                with archive.zip.open(f"{name}.npy") as member:
                    np.lib.format.read_magic(member)
                    _, _, dtype = np.lib.format.read_array_header_1_0(member)
                    # object arrays are pickles within the .npz
                    out[name] = _read_pickle(member, path) if dtype.hasobject else archive[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path} is not a readable .npz of arrays: {error}") from error
    return out


def _read_pickle(file: Any, path: Path) -> Any:
    try:
        return _resolve(_Unpickler(file, encoding="latin1").load())
    except pickle.UnpicklingError as error:
        raise FormatError(
            f"{path} asks for {error}; a model file may hold numpy arrays and sparse matrices only.\n"
            "Nothing of it was run. Get the file from its official page again."
        ) from error
    except (EOFError, ValueError, LookupError, AttributeError, TypeError, MemoryError, OverflowError) as error:
        raise FormatError(f"{path} is damaged or no model file: {error}") from error
