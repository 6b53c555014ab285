"""Wavefront OBJ as arrays, fast enough for a folder of a hundred and fifty shapes of the same topology."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar3d.errors import FileError, FormatError


@dataclass(frozen=True)
class ObjMesh:
    """Positions, texture coordinates and polygons; `-1` fills the last corner of triangles in `quads`."""

    vertices: np.ndarray
    """[v, 3] float64, in the file's units."""
    uvs: np.ndarray
    """[u, 2]"""
    quads: np.ndarray
    """[f, 4] vertex index of every corner."""
    uv_quads: np.ndarray
    """[f, 4] texture index of every corner; -1 everywhere where the file has none."""


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_positions(path: str | Path) -> np.ndarray:
    """The vertices of an OBJ file, nothing else: `[v, 3]` float64.

    Raises:
        FileError: the file cannot be read.
        FormatError: a vertex that is no three numbers.
    """
    path = Path(path)
    data = b"\n" + _bytes(path)
    first, last = data.find(b"\nv "), data.rfind(b"\nv ")
    if first < 0:
        raise FormatError(f"{path} has no vertices; a Wavefront OBJ was expected.")
    end = data.find(b"\n", last + 1)
    block = data[first : end if end > 0 else len(data)]
    try:
        if block.count(b"\n") != block.count(b"\nv "):  # other lines in between
            block = b"\n" + b"\n".join(line for line in block.split(b"\n") if line.startswith(b"v "))
        with warnings.catch_warnings():  # numpy only warns of text that is no number
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(block.replace(b"\nv ", b" ").decode("ascii"), sep=" ")
        return numbers.reshape(block.count(b"\nv "), -1)[:, :3]
    except (ValueError, DeprecationWarning) as error:
        raise FormatError(f"{path} has a vertex that is no three numbers: {error}.") from error


def read_obj(path: str | Path) -> ObjMesh:
    """An OBJ file of triangles and quads.

    Raises:
        FileError: the file cannot be read.
        FormatError: no faces, polygons of more than four corners, or indices out of range.
    """
    path = Path(path)
    vertices = read_positions(path)
    uvs, quads, uv_quads = [], [], []
    try:
        for line in _bytes(path).decode("latin1").splitlines():
            if line.startswith("vt "):
                uvs.append(line.split()[1:3])
            elif line.startswith("f "):
                corners = [c.split("/") for c in line.split()[1:]]
                if not 3 <= len(corners) <= 4:
                    raise ValueError(f"a polygon of {len(corners)} corners")
                pad = [0] * (4 - len(corners))
                quads.append([int(c[0]) for c in corners] + pad)
                uv_quads.append([int(c[1]) if len(c) > 1 and c[1] else 0 for c in corners] + pad)
        mesh = ObjMesh(vertices, np.array(uvs, dtype=np.float64).reshape(-1, 2),
                       np.array(quads).reshape(-1, 4) - 1, np.array(uv_quads).reshape(-1, 4) - 1)  # fmt: skip
    except ValueError as error:
        raise FormatError(f"{path}: {error}; triangles and quads were expected.") from error
    if not len(mesh.quads) or mesh.quads.max() >= len(vertices) or mesh.uv_quads.max() >= max(len(mesh.uvs), 1):
        raise FormatError(f"{path} has no faces, or faces that name vertices which are not there.")
    return mesh


def triangulate(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles `[f, 3]` as positions into the flattened corners of `[q, 4]` quads, and the quad of each.

    `quads.ravel()[triangles]` are vertex indices, `uv_quads.ravel()[triangles]` texture indices.
    """
    first = 4 * np.arange(len(quads))[:, None]
    real = quads[:, 3] >= 0
    both = np.concatenate([first + [0, 1, 2], (first + [0, 2, 3])[real]])
    quad = np.concatenate([np.arange(len(quads)), np.flatnonzero(real)])
    order = np.argsort(quad, kind="stable")
    return both[order], quad[order]
