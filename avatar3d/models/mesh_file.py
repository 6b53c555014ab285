"""Mesh and point-cloud files as `Mesh`: what scans come as. Sequences of them: `models.mesh_sequence`."""

import re
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar3d.errors import DependencyError, FileError, FormatError
from avatar3d.models.mesh_obj import parse_obj
from avatar3d.types.mesh import Mesh

LARGEST_TEXTURE = 8192
"""Side in texels to which larger textures are shrunk."""


def read_mesh(path: Path | str) -> Mesh:
    """A mesh or point cloud from a file: .obj, .ply, .glb, .gltf, .stl, .off, .xyz, .npz, .npy.

    Vertices are exactly the file's, in its order (of STL, whose triangles share nothing, equal ones are joined; of
    GLB, those of its meshes one after the other, where the nodes place them). Polygons become fans of triangles. An OBJ
    or PLY without faces is a point cloud.

    Raises:
        FileError: the file cannot be read.
        FormatError: it is empty, cut off, not of its kind, or has vertices that are not finite.
        DependencyError: a Draco-compressed GLB and no decoder.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in READERS:
        raise FormatError(f"{path} is no mesh that can be read; expected one of {', '.join(sorted(READERS))}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise FormatError(f"{path} is empty (0 bytes); a mesh was expected.")
    try:
        mesh = READERS[kind](path, data)
    except (FileError, DependencyError):
        raise
    except Exception as error:  # readers of damaged files raise everything that there is
        reason = str(error).strip().splitlines()
        raise FormatError(
            f"{path} cannot be read as {kind[1:].upper()}: {reason[0] if reason else type(error).__name__}. "
            "Is it cut off or damaged?"
        ) from error
    return _checked(path, mesh)


def _checked(path: Path, mesh: Mesh) -> Mesh:
    if not len(mesh.vertices):
        raise FormatError(f"{path} has no vertices.")
    wrong = int((~torch.isfinite(mesh.vertices)).any(1).sum())
    if wrong:
        raise FormatError(f"{path} has {wrong} vertices that are not finite (NaN or infinite); remove them.")
    if mesh.faces is not None:
        if not len(mesh.faces):
            raise FormatError(f"{path} has no faces.")
        if int(mesh.faces.min()) < 0 or int(mesh.faces.max()) >= len(mesh.vertices):
            raise FormatError(f"{path} has faces that name vertices which are not there; is it cut off?")
    return mesh


def _obj(path: Path, data: bytes) -> Mesh:
    parts = parse_obj(path, data)
    cloud = not len(parts.faces)
    uvs, uv_faces, texture = None, None, None
    if not cloud and parts.uv_faces is not None:
        uvs, uv_faces = parts.uvs, parts.uv_faces
        pictures = [_opened(p) for p in parts.textures]
        if pictures:
            uvs, uv_faces, texture = _one_texture(uvs, uv_faces, pictures, parts.material)
    return _mesh(
        path, parts.vertices, None if cloud else parts.faces, uvs=uvs, uv_faces=uv_faces, texture=texture,
        colours=parts.colours, normals=parts.normals,
    )  # fmt: skip


def _mesh(
    path: Path,
    vertices: Any,
    faces: Any = None,
    *,
    uvs: Any = None,
    uv_faces: Any = None,
    texture: np.ndarray | None = None,
    colours: Any = None,
    normals: Any = None,
) -> Mesh:
    """A `Mesh` of arrays; colours are 0..1 or bytes."""
    if colours is not None:
        colours = np.asarray(colours)[:, :3]
        if colours.dtype.kind == "f":
            colours = (colours.clip(0, 1) * 255).round()
        colours = torch.from_numpy(colours.astype(np.uint8))
    if normals is not None:
        n = torch.from_numpy(np.array(normals, dtype=np.float32))
        length = n.norm(dim=1, keepdim=True)
        normals = n / length.clamp_min(1e-12) if torch.isfinite(length).all() and (length > 1e-6).all() else None
    return Mesh(
        vertices=torch.from_numpy(np.array(vertices, dtype=np.float64).reshape(-1, 3)),
        faces=None if faces is None else as_faces(faces),
        uvs=None if uvs is None else torch.from_numpy(np.array(uvs, dtype=np.float32)),
        uv_faces=None if uv_faces is None else as_faces(uv_faces),
        texture=None if texture is None else torch.from_numpy(texture.copy()),
        colours=colours,
        normals=normals,
        name=path.name,
    )


def as_faces(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64).reshape(-1, 3))


def _opened(picture: Path | Image.Image) -> np.ndarray:
    """A texture as bytes, sRGB."""
    try:
        image = Image.open(picture) if isinstance(picture, Path) else picture
        image = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError(
            f"{picture} cannot be read as a picture, and the mesh's material names it: {error}."
        ) from None
    if max(image.size) > LARGEST_TEXTURE:
        image.thumbnail((LARGEST_TEXTURE, LARGEST_TEXTURE))
    return np.asarray(image)


def _one_texture(
    uvs: np.ndarray, uv_faces: np.ndarray, pictures: list[np.ndarray], of_face: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Several textures side by side in one, with coordinates to match; faces without one see the first."""
    if len(pictures) == 1:
        return uvs, uv_faces, pictures[0]
    height, width = max(p.shape[0] for p in pictures), sum(p.shape[1] for p in pictures)
    atlas = np.zeros((height, width, 3), dtype=np.uint8)
    out, corners, left = [], np.empty_like(uv_faces), 0
    for i, picture in enumerate(pictures):
        h, w = picture.shape[:2]
        atlas[:h, left : left + w] = picture
        mine = of_face == i if i else of_face <= 0
        local = uvs[uv_faces[mine]].reshape(-1, 2)
        u, v = local[:, 0] - np.floor(local[:, 0]), local[:, 1] - np.floor(local[:, 1])
        start = sum(map(len, out))
        out.append(np.stack([(left + u * w) / width, 1 - (1 - v) * h / height], 1))
        corners[mine] = start + np.arange(3 * int(mine.sum())).reshape(-1, 3)
        left += w
    return np.concatenate(out), corners, atlas


def _by_trimesh(path: Path, data: bytes) -> Mesh:
    """PLY, OFF and STL."""
    import trimesh

    kind = path.suffix.lower()[1:]
    if kind == "ply":
        _check_ply(path, data)
    resolver = trimesh.resolvers.FilePathResolver(str(path))
    keywords: dict[str, Any] = {"process": False, "maintain_order": True}
    scene = trimesh.load_scene(BytesIO(data), file_type=kind, resolver=resolver, **keywords)
    parts = list(scene.geometry.values())
    if len(parts) != 1:
        raise FormatError(f"{path} has {len(parts) or 'no'} meshes; expected one.")
    part = parts[0]
    if not hasattr(part, "faces"):
        colours = getattr(part, "colors", None)
        return _mesh(path, part.vertices, colours=colours if colours is not None and len(colours) else None)
    if not len(part.faces):
        if kind == "stl":
            raise FormatError(f"{path} has no faces.")
        return _mesh(path, part.vertices, colours=_colours(part))
    if kind == "stl":
        vertices, index = np.unique(np.asarray(part.vertices), axis=0, return_inverse=True)
        return _mesh(path, vertices, index.reshape(-1)[np.asarray(part.faces)])
    uvs, picture = _textured(part)
    return _mesh(
        path, part.vertices, part.faces, uvs=uvs, uv_faces=None if uvs is None else part.faces,
        texture=None if picture is None else _opened(picture), colours=_colours(part),
        normals=part._cache.cache.get("vertex_normals"),
    )  # fmt: skip


def _check_ply(path: Path, data: bytes) -> None:
    if not data.startswith(b"ply"):
        raise FormatError(f"{path} does not begin as a PLY file does; it is of another kind or damaged.")


def _colours(part: Any) -> np.ndarray | None:
    visual = part.visual
    return visual.vertex_colors if visual.defined and visual.kind == "vertex" else None


def _textured(part: Any) -> tuple[np.ndarray | None, Image.Image | None]:
    """Texture coordinates and picture of a trimesh, where it has them."""
    if part.visual.kind != "texture" or part.visual.uv is None:
        return None, None
    material = part.visual.material
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    return np.asarray(part.visual.uv)[:, :2], picture


def _gltf(path: Path, data: bytes) -> Mesh:
    """All meshes of the file where its nodes put them, one after the other."""
    import trimesh

    if b"KHR_draco_mesh_compression" in data:
        try:
            import DracoPy  # type: ignore[import-not-found]  # noqa: F401
        except ImportError:
            raise DependencyError("DracoPy", "scan", f"{path} is compressed with Draco: reading it") from None
    resolver = trimesh.resolvers.FilePathResolver(str(path))
    keywords: dict[str, Any] = {"process": False, "merge_primitives": False}
    scene = trimesh.load_scene(BytesIO(data), file_type=path.suffix.lower()[1:], resolver=resolver, **keywords)
    order = {name: i for i, name in enumerate(scene.geometry)}  # the file's
    nodes = [(order[scene.graph[n][1]], natural_key(str(n)), n) for n in scene.graph.nodes_geometry]
    placed = []
    for _, _, node in sorted(nodes):
        transform, name = scene.graph[node]
        part = scene.geometry[name]
        if hasattr(part, "vertices") and len(part.vertices):
            placed.append((transform, part))
    if not placed:
        raise FormatError(f"{path} has no meshes.")
    vertices = np.concatenate([p.vertices @ T[:3, :3].T + T[:3, 3] for T, p in placed])
    if not all(hasattr(p, "faces") for _, p in placed):
        return _mesh(path, vertices)
    start = np.cumsum([0] + [len(p.vertices) for _, p in placed])
    flipped = [np.linalg.det(T[:3, :3]) < 0 for T, _ in placed]
    faces = [p.faces[:, ::-1] if f else p.faces for (_, p), f in zip(placed, flipped, strict=True)]
    faces = np.concatenate([f + s for f, s in zip(faces, start, strict=False)])
    looks = [_textured(p) for _, p in placed]
    colours = [_colours(p) for _, p in placed]
    uvs, uv_faces, texture = None, None, None
    if any(picture is not None for _, picture in looks):
        # parts without a texture show its first texel
        uvs = np.concatenate([np.zeros((len(p.vertices), 2)) if u is None else u
                              for (u, _), (_, p) in zip(looks, placed, strict=True)])  # fmt: skip
        pictures = [picture for _, picture in looks if picture is not None]
        unique = list({id(p): p for p in pictures}.values())
        number = [-1 if p is None else [id(q) for q in unique].index(id(p)) for _, p in looks]
        of_face = np.repeat(number, [len(p.faces) for _, p in placed])
        uvs, uv_faces, texture = _one_texture(uvs, faces, [_opened(p) for p in unique], of_face)
    whole = np.concatenate(colours) if all(c is not None for c in colours) else None  # type: ignore[arg-type]
    return _mesh(path, vertices, faces, uvs=uvs, uv_faces=uv_faces, texture=texture, colours=whole)


def _xyz(path: Path, data: bytes) -> Mesh:
    """Rows x y z, and red green blue or a normal behind them."""
    lines = [line for line in data.decode("latin1").replace(",", " ").splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith(("#", "//"))]
    if lines and len(lines[0].split()) == 1:
        lines = lines[1:]  # the number of points
    rows = np.array([line.split()[:6] for line in lines], dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise FormatError(f"{path}: rows of x y z were expected.")
    more = rows[:, 3:6] if rows.shape[1] >= 6 else None
    if more is None:
        return _mesh(path, rows[:, :3])
    if np.allclose(np.linalg.norm(more, axis=1), 1, atol=0.02):
        return _mesh(path, rows[:, :3], normals=more)
    return _mesh(path, rows[:, :3], colours=more / 255 if more.max() > 1 else more)


POINTS = ("vertices", "verts", "points", "v", "xyz", "arr_0")
FACES = ("faces", "triangles", "f")


def _numpy(path: Path, data: bytes) -> Mesh:
    arrays = read_arrays(path, data)
    vertices = first_of(arrays, POINTS)
    if vertices is None or vertices.ndim != 2 or vertices.shape[1] != 3:
        given = ", ".join(f"{k} {v.shape}" for k, v in arrays.items())
        raise FormatError(f"{path} holds {given or 'nothing'}; an array `vertices` [v, 3] was expected.")
    colours = first_of(arrays, ("colours", "colors", "rgb"))
    return _mesh(
        path, vertices, first_of(arrays, FACES), colours=colours, normals=first_of(arrays, ("normals",))
    )  # fmt: skip


def read_arrays(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(BytesIO(data), allow_pickle=False)
        return {"arr_0": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path} cannot be read as numpy arrays: {error}") from error


def first_of(arrays: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    return next((arrays[n] for n in names if n in arrays), None)


READERS: dict[str, Callable[[Path, bytes], Mesh]] = {
    ".obj": _obj, ".ply": _by_trimesh, ".off": _by_trimesh, ".stl": _by_trimesh, ".glb": _gltf, ".gltf": _gltf,
    ".xyz": _xyz, ".npz": _numpy, ".npy": _numpy,
}  # fmt: skip
"""By suffix."""


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts frame2 before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]
