"""PLY of splats in the layout of "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (Kerbl et al. 2023).

One float32 per property: x y z, nx ny nz (zero), f_dc_*, f_rest_* (channel by channel), opacity (before the sigmoid),
scale_* (logarithms), rot_* (wxyz). The format names no axes; ours stay as they are, +y up.
"""

from pathlib import Path

import numpy as np

from avatar3d.errors import FormatError
from avatar3d.models.splat_cloud import SplatCloud
from avatar3d.typing import typed


@typed
def read_splat_ply(path: str | Path) -> SplatCloud:
    """Reads splats from a binary little-endian PLY, whatever else it holds.

    Raises:
        FormatError: not such a file, or a property is missing.
    """
    path = Path(path)
    count, fields, start = read_ply_header(path)
    names = [name for name, _ in fields]
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest % 3 or round((rest // 3 + 1) ** 0.5) ** 2 != rest // 3 + 1:
        raise FormatError(f"{path.name} has {rest} properties f_rest_*; expected 0, 9, 24 or 45.")
    needed = [name for name in property_names(rest // 3 + 1) if not name.startswith("n")]
    missing = [name for name in needed if name not in names]
    if missing:
        raise FormatError(f"{path.name} holds no splats: it lacks {', '.join(missing[:4])}.")
    rows = np.fromfile(path, np.dtype(fields), count, offset=start)
    if len(rows) < count:
        raise FormatError(f"{path.name} is cut off: {len(rows)} of {count} splats.")

    def take(*wanted: str) -> np.ndarray:
        return np.stack([rows[name] for name in wanted], -1).astype(np.float32)

    quats = take(*(f"rot_{i}" for i in range(4)))
    dc = take(*(f"f_dc_{i}" for i in range(3)))[:, None]
    others = [f"f_rest_{i}" for i in range(rest)]
    higher = take(*others).reshape(count, 3, rest // 3).swapaxes(1, 2) if rest else np.zeros((count, 0, 3), np.float32)
    return SplatCloud(
        means=take("x", "y", "z"),
        quats=quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12),
        scales=np.exp(take("scale_0", "scale_1", "scale_2")),
        opacities=1 / (1 + np.exp(-rows["opacity"].astype(np.float32))),
        sh=np.concatenate([dc, higher], 1),
    )


def read_ply_header(path: Path) -> tuple[int, list[tuple[str, str]], int]:
    """Number of vertices, their properties as a numpy dtype, and where the first one starts.

    Raises:
        FormatError: not a binary little-endian PLY whose first element is `vertex`.
    """
    types = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
             "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
             "double": "f8", "float64": "f8"}  # fmt: skip
    with path.open("rb") as file:
        head = file.read(65536)
    end = head.find(b"end_header\n")
    lines = head[: max(end, 0)].decode("ascii", "replace").split("\n")
    if end < 0 or lines[0] != "ply" or "format binary_little_endian 1.0" not in lines:
        raise FormatError(f"{path.name} is not a binary little-endian PLY.")
    count, fields, elements = -1, [], 0
    for line in lines:
        words = line.split()
        if words[:1] == ["element"]:
            elements += 1
            if elements == 1 and words[1] == "vertex":
                count = int(words[2])
        elif words[:1] == ["property"] and elements == 1:
            if words[1] not in types:
                raise FormatError(f"{path.name}: property of type {words[1]}; expected plain numbers.")
            fields.append((words[2], "<" + types[words[1]]))
    if count < 0:
        raise FormatError(f"{path.name}: its first element is not `vertex`.")
    return count, fields, end + len(b"end_header\n")


def property_names(coefficients: int) -> list[str]:
    """Of a vertex with this many harmonics per colour, in the layout's order."""
    higher = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    return ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *higher, "opacity",
            *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]  # fmt: skip
