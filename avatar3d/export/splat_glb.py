"""Splats -> GLB with KHR_gaussian_splatting: points whose attributes are splats; other readers draw the points.

https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting (ratified 2026). The
format's axes are ours.
"""

from pathlib import Path

import numpy as np
import pygltflib as gl

from avatar3d import __version__
from avatar3d.errors import FormatError
from avatar3d.export.glb_buffer import GlbBuffer
from avatar3d.export.splat_check import Tolerance, check_cloud
from avatar3d.models.glb_reader import GlbReader
from avatar3d.models.splat_cloud import SH_C0, SplatCloud
from avatar3d.storage import replacing
from avatar3d.typing import typed

EXTENSION = "KHR_gaussian_splatting"
TOLERANCE = Tolerance(means=0.0, turn=1e-5, log_scales=1e-6, opacities=0.0, sh=0.0)


@typed
def write_splat_glb(cloud: SplatCloud, path: str | Path, manifest: dict | None = None) -> None:
    """Writes one mesh of points with the extension, and reads it back.

    Args:
        cloud: At least one splat.
        path: Where to.
        manifest: Goes into `asset.extras`.

    Raises:
        ExportError: the file read back differs.
        FileError: it cannot be written.
        ValueError: no splats: the format has no empty accessors.
    """
    path = Path(path)
    if not len(cloud.means):
        raise ValueError(f"{path.name}: there are no splats, and glTF cannot hold none.")
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective",
                 "sortingMethod": "cameraDistance"}  # fmt: skip
    document = gl.GLTF2(
        asset=gl.Asset(generator=f"avatar3d {__version__}", version="2.0", extras=manifest or {}),
        extensionsUsed=[EXTENSION], scene=0, scenes=[gl.Scene(nodes=[0])], nodes=[gl.Node(mesh=0, name="splats")],
    )  # fmt: skip
    buffer = GlbBuffer(document)
    attributes = {"POSITION": buffer.array(_float(cloud.means), gl.ARRAY_BUFFER, bounds=True)}
    attributes["COLOR_0"] = buffer.array(_point_colors(cloud), gl.ARRAY_BUFFER)
    document.accessors[-1].normalized = True
    columns = {"ROTATION": cloud.quats[:, [1, 2, 3, 0]], "SCALE": cloud.scales, "OPACITY": cloud.opacities}
    columns |= {name: cloud.sh[:, i] for i, name in enumerate(_harmonics(cloud.degree))}
    for name, values in columns.items():
        attributes[f"{EXTENSION}:{name}"] = buffer.array(_float(values), gl.ARRAY_BUFFER)
    primitive = gl.Primitive(mode=gl.POINTS, extensions={EXTENSION: extension})
    primitive.attributes = gl.Attributes()
    vars(primitive.attributes).update(attributes)
    document.meshes = [gl.Mesh(name="splats", primitives=[primitive])]
    buffer.finish()
    with replacing(path) as temporary:
        document.save_binary(str(temporary))
        check_cloud(read_splat_glb(temporary), cloud, TOLERANCE, path)


@typed
def read_splat_glb(path: str | Path) -> SplatCloud:
    """Reads the splats of a GLB whose first mesh has them as plain float accessors.

    Raises:
        FormatError: it has none.
    """
    reader = GlbReader(path)
    primitives = reader.document.meshes[0].primitives if reader.document.meshes else []
    if not primitives or EXTENSION not in (primitives[0].extensions or {}):
        raise FormatError(f"{Path(path).name} holds no {EXTENSION}.")
    attributes = vars(primitives[0].attributes)

    def take(name: str) -> np.ndarray:
        if attributes.get(name) is None:
            raise FormatError(f"{Path(path).name}: {EXTENSION} without {name}.")
        return np.array(reader.accessor(attributes[name]), np.float32)

    degree = max(d for d in range(4) if d == 0 or f"{EXTENSION}:SH_DEGREE_{d}_COEF_0" in attributes)
    return SplatCloud(
        means=take("POSITION"),
        quats=take(f"{EXTENSION}:ROTATION")[:, [3, 0, 1, 2]],
        scales=take(f"{EXTENSION}:SCALE"),
        opacities=take(f"{EXTENSION}:OPACITY"),
        sh=np.stack([take(f"{EXTENSION}:{name}") for name in _harmonics(degree)], 1),
    )


def _harmonics(degree: int) -> list[str]:
    return [f"SH_DEGREE_{d}_COEF_{m}" for d in range(degree + 1) for m in range(2 * d + 1)]


def _float(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _point_colors(cloud: SplatCloud) -> np.ndarray:
    """Linear colour and opacity of every point, 8 bits, for readers that do not know the extension."""
    srgb = np.clip(0.5 + SH_C0 * cloud.sh[:, 0].astype(np.float64), 0, 1)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return (np.concatenate([linear, cloud.opacities[:, None]], 1) * 255 + 0.5).astype(np.uint8)
