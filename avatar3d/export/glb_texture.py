"""Pictures for a GLB's material: base colour, and how rough each part is."""

import io

import numpy as np
from PIL import Image, ImageDraw

from avatar3d.types import Rig

SMALLEST = 512
"""Pixels; smaller base-colour textures are enlarged to this."""
_SKIN = 0.6
_ROUGHNESS = {
    "scalp": 0.75,
    "lip": 0.45,
    "mouth_cavity": 0.5,
    "gum": 0.35,
    "tongue": 0.35,
    "teeth": 0.25,
    "eyeball": 0.12,
}
"""By part of a region's name; later ones win. Wet parts shine."""


def base_color_jpeg(albedo: np.ndarray) -> bytes:
    """sRGB JPEG without chroma subsampling, quality 95, of at least `SMALLEST` pixels a side."""
    image = Image.fromarray(albedo)
    scale = SMALLEST / min(image.size)
    if scale > 1:
        image = image.resize([max(SMALLEST, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=95, subsampling=0, optimize=True)
    return out.getvalue()


def normal_png(normals: np.ndarray) -> bytes:
    """Tangent-space normals as a PNG, which loses nothing."""
    out = io.BytesIO()
    Image.fromarray(normals).save(out, format="PNG", optimize=True)
    return out.getvalue()


def roughness_png(rig: Rig, size: int = 512) -> bytes | None:
    """Metallic-roughness picture (green roughness, blue metallic) in the rig's UVs; None without any wet region."""
    parts = [(_ROUGHNESS[key], mask) for key in _ROUGHNESS for name, mask in rig.regions.items() if key in name]
    if not parts:
        return None
    level = Image.new("L", (size, size), round(255 * _SKIN))
    draw = ImageDraw.Draw(level)
    corners = (rig.uvs.numpy() * [1, -1] + [0, 1])[rig.uv_faces.numpy()] * size
    faces = rig.faces.numpy()
    for roughness, mask in parts:
        for triangle in corners[mask.numpy()[faces].all(1)]:
            draw.polygon([tuple(corner) for corner in triangle.tolist()], fill=round(255 * roughness))
    zero, one = Image.new("L", level.size, 0), Image.new("L", level.size, 255)
    out = io.BytesIO()
    Image.merge("RGB", (one, level, zero)).save(out, format="PNG", optimize=True)
    return out.getvalue()
