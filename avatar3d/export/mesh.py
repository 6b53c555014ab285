"""The neutral identity as a plain mesh: OBJ with texture coordinates, PLY with vertex colours."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image

from avatar3d.errors import ExportError
from avatar3d.geometry.surface import vertex_normals
from avatar3d.storage import replacing
from avatar3d.types import Avatar, TextureSet
from avatar3d.typing import typed

TOLERANCE = 1e-6
"""Metres: what six decimals keep."""


@typed
def write_obj(avatar: Avatar, path: str | Path) -> None:
    """Writes the neutral mesh in model space, metres, with UVs; an .mtl and a .png beside it where there is a texture,
    and another .png where there is a normal map (`norm`, from the extension for physically based rendering).

    The .obj is complete without the others.

    Raises:
        ExportError: the file read back differs.
        FileError: it cannot be written.
    """
    path, rig = Path(path), avatar.rig
    lines = ["# avatar3d: neutral identity, metres, +y up, face along +z"]
    textured = isinstance(avatar.appearance, TextureSet)
    if textured:
        lines += [f"mtllib {path.stem}.mtl", "usemtl skin"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in rig.neutral.tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in rig.uvs.tolist()]
    corners = zip((rig.faces + 1).tolist(), (rig.uv_faces + 1).tolist(), strict=True)
    lines += ["f " + " ".join(f"{v}/{t}" for v, t in zip(vs, ts, strict=True)) for vs, ts in corners]
    with contextlib.ExitStack() as files:  # all of them, or none
        temporary = files.enter_context(replacing(path))
        temporary.write_text("\n".join(lines) + "\n")
        _check(temporary.read_bytes(), "obj", avatar, path)
        if textured:
            _write_material(avatar.appearance, path, files)  # type: ignore[arg-type]


@typed
def write_ply(avatar: Avatar, path: str | Path) -> None:
    """Writes the neutral mesh in model space, metres, with normals and, where there is a texture, vertex colours.

    Raises:
        ExportError: the file read back differs.
        FileError: it cannot be written.
    """
    path, rig = Path(path), avatar.rig
    colors = _vertex_colors(avatar) if isinstance(avatar.appearance, TextureSet) else None
    mesh = trimesh.Trimesh(
        rig.neutral.double().numpy(),
        rig.faces.numpy(),
        vertex_normals=vertex_normals(rig.neutral, rig.faces).double().numpy(),
        vertex_colors=colors,
        process=False,
    )
    with replacing(path) as temporary:
        temporary.write_bytes(mesh.export(file_type="ply", vertex_normal=True))  # type: ignore[arg-type]
        _check(temporary.read_bytes(), "ply", avatar, path)


def _write_material(texture: TextureSet, path: Path, files: contextlib.ExitStack) -> None:
    png, mtl = path.with_suffix(".png"), path.with_suffix(".mtl")
    Image.fromarray(texture.albedo.numpy()).save(files.enter_context(replacing(png)), format="PNG")
    lines = ["newmtl skin", "Kd 1 1 1", "Ks 0.04 0.04 0.04", "illum 2", f"map_Kd {png.name}"]
    if texture.normals is not None:
        bumps = path.with_name(f"{path.stem}_normals.png")
        Image.fromarray(texture.normals.numpy()).save(files.enter_context(replacing(bumps)), format="PNG")
        lines.append(f"norm {bumps.name}")
    files.enter_context(replacing(mtl)).write_text("\n".join(lines) + "\n")


def _vertex_colors(avatar: Avatar) -> np.ndarray:
    """Texture at every vertex, the mean of its corners' texels."""
    rig, albedo = avatar.rig, avatar.appearance.albedo.numpy()  # type: ignore[union-attr]
    h, w = albedo.shape[:2]
    column = (rig.uvs[:, 0].numpy() * w).astype(int).clip(0, w - 1)
    row = ((1 - rig.uvs[:, 1].numpy()) * h).astype(int).clip(0, h - 1)
    corner_colors = albedo[row, column].astype(np.float64)[rig.uv_faces.flatten().numpy()]
    total, count = np.zeros((len(rig.neutral), 3)), np.zeros(len(rig.neutral))
    np.add.at(total, rig.faces.flatten().numpy(), corner_colors)
    np.add.at(count, rig.faces.flatten().numpy(), 1)
    return (total / np.maximum(count, 1)[:, None]).round().astype(np.uint8)


def _check(data: bytes, kind: str, avatar: Avatar, path: Path) -> None:
    """Compares the surface, triangle by triangle, as trimesh reads it."""
    mesh: Any = trimesh.load(io.BytesIO(data), file_type=kind, process=False, force="mesh")
    back = torch.from_numpy(np.array(mesh.triangles, dtype=np.float64))
    expected = avatar.rig.neutral.double()[avatar.rig.faces.long()]
    if back.shape != expected.shape or (back - expected).abs().max() > TOLERANCE:
        raise ExportError(f"{path.name} read back differs from the avatar; it was not kept.")
