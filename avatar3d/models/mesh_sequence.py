"""Meshes of one topology over time, as `MeshSequence`: files, a folder of them, or arrays."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.errors import FileError, FormatError
from avatar3d.models.mesh_file import FACES, POINTS, READERS, as_faces, first_of, natural_key, read_arrays, read_mesh
from avatar3d.models.obj import read_positions
from avatar3d.types.mesh import Mesh, MeshSequence
from avatar3d.typing import typed

ARRAYS = (".npz", ".npy")


@typed
def read_mesh_sequence(source: Path | str | Sequence[Path | str]) -> MeshSequence:
    """Frames of one topology: files as given, a folder's meshes in natural order of their names, or an .npz.

    An .npz holds `vertices` [t, v, 3] (or is its only array of three axes), and may hold `faces` and `fps`.

    Raises:
        FileError: nothing there, or a file that cannot be read.
        FormatError: a file that is no mesh, or frames of different topology.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            paths = [p for p in path.iterdir() if p.suffix.lower() in READERS and not p.name.startswith(".")]
            # arrays may lie beside meshes
            paths = [p for p in paths if p.suffix.lower() not in ARRAYS] or paths
            kinds = sorted({p.suffix.lower() for p in paths})
            if len(kinds) > 1:
                raise FormatError(f"{path} has meshes of several kinds ({', '.join(kinds)}); keep one of them there.")
            if not paths:
                raise FileError(f"{path} has no meshes ({', '.join(sorted(READERS))}).")
            return _frames(sorted(paths, key=lambda p: natural_key(p.name)))
        if path.suffix.lower() in ARRAYS:
            return _array_sequence(path)
        return _frames([path])
    if not source:
        raise FileError("No meshes were given.")
    return _frames([Path(p) for p in source])


def _array_sequence(path: Path) -> MeshSequence:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error
    arrays = read_arrays(path, data)
    cubes = {k: a for k, a in arrays.items() if a.ndim == 3 and a.shape[2] == 3 and a.dtype.kind == "f"}
    vertices = first_of(cubes, POINTS)
    if vertices is None and len(cubes) == 1:
        vertices = next(iter(cubes.values()))
    if vertices is None or not len(vertices):
        given = ", ".join(f"{k} {v.shape}" for k, v in arrays.items())
        raise FormatError(f"{path} holds {given or 'nothing'}; an array `vertices` [t, v, 3] was expected.")
    if not np.isfinite(vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(vertices).all((1, 2)))[0])
        raise FormatError(f"{path} has vertices that are not finite (NaN or infinite), first in frame {bad}.")
    faces, fps = first_of(arrays, FACES), first_of(arrays, ("fps",))
    return MeshSequence(
        vertices=torch.from_numpy(vertices.astype(np.float32)),
        faces=None if faces is None else as_faces(faces),
        names=tuple(f"{i:05d}" for i in range(len(vertices))),
        fps=None if fps is None else float(fps),
    )


def _frames(paths: list[Path]) -> MeshSequence:
    first = read_mesh(paths[0])
    same = _faces_digest(paths[0])
    frames = [first.vertices.float()]
    for path in paths[1:]:
        if same is not None and path.suffix.lower() == ".obj" and _faces_digest(path) == same:
            frames.append(_positions(path, len(first.vertices)))
            continue
        mesh = read_mesh(path)
        _check_same(paths[0], first, path, mesh)
        frames.append(mesh.vertices.float())
    return MeshSequence(
        vertices=torch.stack(frames), faces=first.faces, names=tuple(p.name for p in paths), fps=None
    )  # fmt: skip


def _check_same(a_path: Path, a: Mesh, b_path: Path, b: Mesh) -> None:
    def about(m: Mesh) -> str:
        return f"{len(m.vertices)} vertices, {0 if m.faces is None else len(m.faces)} faces"

    equal = len(a.vertices) == len(b.vertices) and (a.faces is None) == (b.faces is None)
    if equal and a.faces is not None and b.faces is not None:
        equal = torch.equal(a.faces, b.faces)
        if not equal and len(a.faces) == len(b.faces):
            raise FormatError(
                f"{b_path.name} has other faces than {a_path.name}, with as many vertices; meshes of one topology, in "
                "the same order, were expected."
            )
    if not equal:
        raise FormatError(
            f"{b_path.name} ({about(b)}) has another topology than {a_path.name} ({about(a)}); meshes of one topology "
            "were expected."
        )


def _faces_digest(path: Path) -> bytes | None:
    """Tells whether two OBJ files have the same faces, without reading them as numbers."""
    if path.suffix.lower() != ".obj":
        return None
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.startswith(b"f ")]
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error
    return hashlib.sha256(b"\n".join(lines)).digest()


def _positions(path: Path, count: int) -> Tensor:
    vertices = torch.from_numpy(read_positions(path).copy()).float()
    if len(vertices) != count or not torch.isfinite(vertices).all():
        what = f"{len(vertices)} vertices" if len(vertices) != count else "vertices that are not finite"
        raise FormatError(f"{path.name} has {what}; {count} finite ones were expected, as the first mesh has.")
    return vertices
