"""Mesh files moved rigidly: everything but positions and normals stays as it was, byte for byte where it is text."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import FormatError
from avatar3d.typing import typed

_PLY_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
              "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4",
              "uint32": "u4", "float32": "f4", "float64": "f8"}  # fmt: skip


@typed
def move_file(source: Path, target: Path, T: Float[Tensor, "4 4"]) -> None:
    """Writes `source` to `target` with every vertex x at T x, in the file's own units. OBJ, PLY and GLB.

    Raises:
        FormatError: a kind of file that cannot be written, or that cannot be understood.
    """
    kind = source.suffix.lower()
    if kind not in MOVERS:
        raise FormatError(f"{source.name}: {kind or 'this'} files cannot be written; use {', '.join(sorted(MOVERS))}.")
    try:
        target.write_bytes(MOVERS[kind](source.read_bytes(), T.double().numpy()))
    except (ValueError, IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise FormatError(f"{source} cannot be moved: {error}. Is it damaged?") from error


@typed
def copy_materials(source: Path, folder: Path) -> None:
    """Copies the material files that an OBJ names, and the pictures that those name, where they lie beside it."""
    if source.suffix.lower() != ".obj":
        return
    head = source.read_bytes()
    for library in re.findall(rb"^mtllib[ \t]+(.+?)[ \t\r]*$", head, re.MULTILINE):
        material = _beside(source, library)
        if material is None:
            continue
        _copy(material, folder)
        for name in re.findall(rb"^[ \t]*(?:map_\w+|bump|norm|disp)[ \t]+(?:.*[ \t])?(\S+)[ \t\r]*$",
                               material.read_bytes(), re.MULTILINE):  # fmt: skip
            picture = _beside(source, name)
            if picture is not None:
                _copy(picture, folder)


def _beside(source: Path, name: bytes) -> Path | None:
    text = name.decode("utf-8", "replace")
    path = source.parent / text
    return path if Path(text).name == text and path.is_file() else None


def _copy(path: Path, folder: Path) -> None:
    if not (folder / path.name).exists():
        shutil.copyfile(path, folder / path.name)


def _moved(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]


def _obj(data: bytes, T: np.ndarray) -> bytes:
    lines = data.split(b"\n")
    for key, translated in ((b"v", True), (b"vn", False)):
        rows = [i for i, line in enumerate(lines) if line[: len(key)] == key and line[len(key) : len(key) + 1] in b" \t"
                and len(line) > len(key)]  # fmt: skip
        if not rows:
            continue
        words = [lines[i].split() for i in rows]
        numbers = np.array([w[1:4] for w in words], dtype=np.float64)
        numbers = _moved(numbers, T) if translated else numbers @ T[:3, :3].T
        for i, w, (x, y, z) in zip(rows, words, numbers.tolist(), strict=True):
            end = b"\r" if lines[i].endswith(b"\r") else b""
            rest = b"".join(b" " + word for word in w[4:])
            lines[i] = key + f" {x:.9g} {y:.9g} {z:.9g}".encode() + rest + end
    return b"\n".join(lines)


def _ply(data: bytes, T: np.ndarray) -> bytes:
    match = re.search(rb"end_header\r?\n", data)
    if not data.startswith(b"ply") or match is None:
        raise ValueError("no PLY header")
    header = data[: match.end()].decode("ascii").split("\n")
    form = next(line.split()[1] for line in header if line.startswith("format"))
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in header:
        words = line.split()
        if words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    name, count, properties = elements[0]
    if name != "vertex" or any(p[0] == "list" for p in properties):
        raise ValueError("a PLY whose vertices come first was expected")
    names = [p[1] for p in properties]
    groups = [("x", "y", "z"), ("nx", "ny", "nz")]
    body = data[match.end() :]
    if form == "ascii":
        lines = body.split(b"\n")
        table = [line.split() for line in lines[:count]]
        for group in groups:
            if set(group) <= set(names):
                at = [names.index(n) for n in group]
                values = np.array([[row[i] for i in at] for row in table], dtype=np.float64)
                values = _moved(values, T) if group[0] == "x" else values @ T[:3, :3].T
                for row, value in zip(table, values.tolist(), strict=True):
                    for i, v in zip(at, value, strict=True):
                        row[i] = f"{v:.9g}".encode()
        return data[: match.end()] + b"\n".join([b" ".join(row) for row in table] + lines[count:])
    order = "<" if form == "binary_little_endian" else ">"
    dtype = np.dtype([(p[1], order + _PLY_TYPES[p[0]]) for p in properties])
    vertices = np.frombuffer(body, dtype, count).copy()
    for group in groups:
        if set(group) <= set(names):
            values = np.stack([vertices[n] for n in group], 1).astype(np.float64)
            values = _moved(values, T) if group[0] == "x" else values @ T[:3, :3].T
            for n, column in zip(group, values.T, strict=True):
                vertices[n] = column
    return data[: match.end()] + vertices.tobytes() + body[vertices.nbytes :]


def _glb(data: bytes, T: np.ndarray) -> bytes:
    """A root node above the scene's nodes; the buffers stay as they are."""
    magic, version, _, length, kind = struct.unpack_from("<IIIII", data)
    if magic != 0x46546C67 or kind != 0x4E4F534A:
        raise ValueError("no GLB header")
    document = json.loads(data[20 : 20 + length])
    matrix = [float(v) for v in T.T.reshape(-1)]
    for scene in document.get("scenes", []):
        document.setdefault("nodes", []).append({"name": "stabilized", "matrix": matrix,
                                                 "children": scene.get("nodes", [])})  # fmt: skip
        scene["nodes"] = [len(document["nodes"]) - 1]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    return struct.pack("<IIIII", magic, version, 20 + len(text) + len(rest), len(text), kind) + text + rest


MOVERS: dict[str, Callable[[bytes, np.ndarray], bytes]] = {".obj": _obj, ".ply": _ply, ".glb": _glb}
"""By suffix."""


@typed
def move_arrays(source: Path, target: Path, T: Float[Tensor, "t 4 4"]) -> None:
    """Writes an .npz (or .npy) with frames [t, v, 3] moved; its other arrays stay.

    Raises:
        FormatError: it has no array of that many frames.
    """
    loaded = np.load(BytesIO(source.read_bytes()), allow_pickle=False)
    arrays = {"vertices": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    found = [k for k, a in arrays.items() if a.ndim == 3 and a.shape[::2] == (len(T), 3) and a.dtype.kind == "f"]
    if not found:
        raise FormatError(f"{source} has no array [{len(T)}, v, 3] to move.")
    key = "vertices" if "vertices" in found else found[0]
    R, t = T[:, :3, :3].double().numpy(), T[:, :3, 3].double().numpy()
    arrays[key] = (arrays[key] @ R.transpose(0, 2, 1) + t[:, None]).astype(arrays[key].dtype)
    with target.open("wb") as file:
        if source.suffix.lower() == ".npy":
            np.save(file, arrays[key])
        else:
            np.savez(file, **arrays)  # type: ignore[arg-type]
