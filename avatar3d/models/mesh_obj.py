"""Wavefront OBJ of any kind as a `Mesh`: polygons, materials with textures, vertex colours, point clouds.

Beside `models.obj`, which reads the strict quads of model files fast.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar3d.errors import FormatError

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".tga")


@dataclass(frozen=True)
class ObjParts:
    """What an OBJ holds, as numpy arrays; polygons are fans of triangles."""

    vertices: np.ndarray
    """[v, 3] float64"""
    colours: np.ndarray | None
    """[v, 3] float, 0..1"""
    normals: np.ndarray | None
    """[v, 3], where there are as many as vertices and faces name them alike"""
    faces: np.ndarray
    """[f, 3]"""
    uvs: np.ndarray
    """[u, 2]"""
    uv_faces: np.ndarray | None
    """[f, 3], None where a corner has none"""
    material: np.ndarray
    """[f] index into `textures`, -1 for none"""
    textures: list[Path]
    """Files that exist."""


def _numbers(lines: list[bytes], what: str, path: Path) -> np.ndarray:
    """Rows of the numbers behind the keywords of lines."""
    rows = [line.split()[1:] for line in lines]
    if len({len(r) for r in rows}) > 1:
        width = min(len(r) for r in rows)
        rows = [r[:width] for r in rows]
    try:
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    except ValueError as error:
        raise FormatError(f"{path} has a {what} that is no numbers ({error}); is the file damaged?") from error


def parse_obj(path: Path, data: bytes) -> ObjParts:
    """Reads the content of an OBJ file.

    Raises:
        FormatError: lines that cannot be read, or faces that name what is not there.
    """
    lines = data.replace(b"\\\n", b" ").replace(b"\\\r\n", b" ").splitlines()
    found: dict[bytes, list[bytes]] = {b"v": [], b"vt": [], b"vn": [], b"f": []}
    materials: list[tuple[int, str]] = []
    libraries: list[str] = []
    for line in lines:
        key = line[:2].strip()
        if key in found and line[len(key) : len(key) + 1].isspace():
            found[key].append(line)
        elif line.startswith(b"usemtl"):
            materials.append((len(found[b"f"]), line[6:].strip().decode("utf-8", "replace")))
        elif line.startswith(b"mtllib"):
            libraries.append(line[6:].strip().decode("utf-8", "replace"))
    if not found[b"v"]:
        raise FormatError(f"{path} has no vertices; a Wavefront OBJ of a mesh was expected.")
    v = _numbers(found[b"v"], "vertex", path)
    if v.shape[1] < 3:
        raise FormatError(f"{path} has a vertex of {v.shape[1]} numbers; expected 3. Is the file cut off?")
    colours = v[:, -3:] if v.shape[1] in (6, 7) else None
    if colours is not None and colours.max() > 1.0:
        colours = colours / 255
    uvs = _numbers(found[b"vt"], "texture coordinate", path)[:, :2] if found[b"vt"] else np.zeros((0, 2))
    counts = (len(v), len(uvs), len(found[b"vn"]))
    corners, polygon = _corners(found[b"f"], counts, path)
    triangles, owner = _fans(polygon)
    faces = corners[triangles, 0]
    uv_faces = corners[triangles, 1] if len(uvs) and (corners[:, 1] >= 0).all() and len(corners) else None
    normals = None
    if counts[2] == len(v) and ((corners[:, 2] < 0) | (corners[:, 2] == corners[:, 0])).all():
        normals = _numbers(found[b"vn"], "normal", path)[:, :3]
    material, textures = _materials(path, materials, libraries, len(polygon), len(data))
    return ObjParts(v[:, :3], colours, normals, faces, uvs, uv_faces, material[owner], textures)


def _corners(lines: list[bytes], counts: tuple[int, int, int], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Indices `[corners, 3]` of vertex, texture coordinate and normal (-1 for none), and corners of each polygon."""
    if not lines:
        return np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int64)
    body = [line[1:] for line in lines]
    polygon = np.array([len(b.split()) for b in body])
    first = body[0].split()[0]
    fields = first.count(b"/") + 1
    total = int(polygon.sum())
    text = b" ".join(body)
    out = np.full((total, 3), -1, dtype=np.int64)
    try:
        if polygon.min() < 3:
            raise ValueError(f"a face of {polygon.min()} corners")
        if fields > 3 or text.count(b"/") != total * (fields - 1):
            raise _Mixed
        separated = text.replace(b"//", b" 0 ").replace(b"/", b" ")
        values = np.array(separated.split(), dtype=np.int64)
        if len(values) != total * fields:
            raise _Mixed
        raw = values.reshape(total, fields)
    except _Mixed:
        raw = np.zeros((total, 3), dtype=np.int64)
        fields = 3
        for i, token in enumerate(text.split()):
            for j, part in enumerate(token.split(b"/")[:3]):
                if part:
                    raw[i, j] = _integer(part, path)
    except ValueError as error:
        raise FormatError(f"{path} has a face that cannot be read ({error}); is the file cut off?") from error
    for j in range(fields):
        column = raw[:, j]
        # counted from the end where negative: as all vertices of common files come before their faces
        out[:, j] = np.where(column > 0, column - 1, np.where(column < 0, counts[j] + column, -1))
    out[:, 1:][out[:, 1:] >= np.array(counts[1:])] = -1
    if out[:, 0].min() < 0 or out[:, 0].max() >= counts[0]:
        raise FormatError(
            f"{path} has faces that name vertices which are not there (it has {counts[0]}); is the file cut off?"
        )
    return out, polygon


class _Mixed(Exception):
    """Faces are not all written alike."""


def _integer(text: bytes, path: Path) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise FormatError(f"{path} has a face that cannot be read ({error}).") from error


def _fans(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles `[f, 3]` as positions among the corners, and the polygon of each."""
    first = np.concatenate([[0], np.cumsum(polygon)[:-1]]) if len(polygon) else np.zeros(0, dtype=np.int64)
    per = polygon - 2
    owner = np.repeat(np.arange(len(polygon)), per)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(per) - per, per)
    start = first[owner] if len(owner) else np.zeros(0, dtype=np.int64)
    return np.stack([start, start + step + 1, start + step + 2], 1).astype(np.int64), owner


def _materials(
    path: Path, uses: list[tuple[int, str]], libraries: list[str], polygons: int, size: int
) -> tuple[np.ndarray, list[Path]]:
    """For every polygon the number of its texture, and the textures."""
    pictures: dict[str, Path] = {}
    for library in libraries:
        file = path.parent / library
        if not file.is_file():
            continue
        name = ""
        for line in file.read_text("utf-8", "replace").splitlines():
            words = line.split(maxsplit=1)
            if len(words) == 2 and words[0] == "newmtl":
                name = words[1].strip()
            elif len(words) == 2 and words[0] in ("map_Kd", "map_Ka") and name not in pictures:
                picture = _picture(file.parent, words[1])
                if picture is not None:
                    pictures[name] = picture
    textures = list(dict.fromkeys(pictures.values()))
    out = np.full(polygons, -1)
    for i, (start, name) in enumerate(uses):
        end = uses[i + 1][0] if i + 1 < len(uses) else polygons
        if name in pictures:
            out[start:end] = textures.index(pictures[name])
    if not textures:
        # a scan often comes with a picture of its own name, and a material file that is lost or names another
        beside = [f for f in (path.with_suffix(s) for s in (*_IMAGES, *map(str.upper, _IMAGES))) if f.is_file()]
        if beside:
            return np.zeros(polygons, dtype=int), beside[:1]
    return out, textures


def _picture(folder: Path, text: str) -> Path | None:
    """The file of a `map_Kd` line, whose options come before the name; None where it is not there."""
    words = text.strip().replace("\\", "/").split()
    for start in range(len(words)):
        name = " ".join(words[start:])
        for candidate in (folder / name, folder / Path(name).name):
            if candidate.is_file():
                return candidate
    return None
