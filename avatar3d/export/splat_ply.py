"""Splats -> PLY in 3D Gaussian splatting's layout, see `models.splat_ply`."""

from pathlib import Path

import numpy as np

from avatar3d.export.splat_check import Tolerance, check_cloud
from avatar3d.models.splat_cloud import SplatCloud
from avatar3d.models.splat_ply import property_names, read_splat_ply
from avatar3d.storage import replacing
from avatar3d.typing import typed

TOLERANCE = Tolerance(means=0.0, turn=1e-5, log_scales=1e-5, opacities=1e-5, sh=0.0)
LEAST = 1e-6
"""Opacities are kept this far from 0 and 1, where their logits would be infinite."""


@typed
def write_splat_ply(cloud: SplatCloud, path: str | Path) -> None:
    """Writes binary little-endian PLY and reads it back.

    Raises:
        ExportError: the file read back differs.
        FileError: it cannot be written.
    """
    path, n = Path(path), len(cloud.means)
    opacities = np.clip(cloud.opacities.astype(np.float64), LEAST, 1 - LEAST)
    columns = [
        cloud.means,
        np.zeros((n, 3)),
        cloud.sh[:, 0],
        cloud.sh[:, 1:].swapaxes(1, 2).reshape(n, 3 * (cloud.sh.shape[1] - 1)),
        np.log(opacities / (1 - opacities))[:, None],
        np.log(cloud.scales.astype(np.float64)),
        cloud.quats,
    ]
    table = np.ascontiguousarray(np.concatenate(columns, 1), dtype="<f4")
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {n}"]
    lines += [f"property float {name}" for name in property_names(cloud.sh.shape[1])]
    with replacing(path) as temporary:
        temporary.write_bytes(("\n".join([*lines, "end_header"]) + "\n").encode() + table.tobytes())
        check_cloud(read_splat_ply(temporary), cloud, TOLERANCE, path)
