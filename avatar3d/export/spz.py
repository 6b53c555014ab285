"""Splats <-> SPZ, Niantic's packed format, version 3: 20 bytes a splat and one a harmonic, gzipped.

Its axes are right, up, back: ours, seen from the front. https://github.com/nianticlabs/spz (format description).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from avatar3d.errors import FormatError
from avatar3d.export.splat_check import Tolerance, check_cloud, clipped
from avatar3d.models.splat_cloud import SplatCloud
from avatar3d.storage import replacing
from avatar3d.typing import typed

MAGIC, VERSION = 0x5053474E, 3
FRACTION_BITS = 20
"""Most fractional bits of a position: a micrometre. Large scenes get fewer, so that 24 bits hold them."""
COLOUR = 0.15
"""Share of 255 that one unit of the first harmonic takes."""


@typed
def write_spz(cloud: SplatCloud, path: str | Path) -> None:
    """Writes SPZ and reads it back.

    What the format cannot say is brought to the nearest that it can: scales under 45 micrometres, harmonics above the
    first beyond -1..1, opacities under 1/255 and over 254/255 (as 0 and 1 they would have no logit).

    Raises:
        ExportError: the file read back differs by more than the format's rounding.
        FileError: it cannot be written.
        ValueError: more than 2^32 splats, a degree above 3, or a scene of more than 4 km.
    """
    path, n = Path(path), len(cloud.means)
    reach = float(np.abs(cloud.means).max()) if n else 0.0
    bits = min(FRACTION_BITS, 22 - math.ceil(math.log2(max(reach, 1e-9))))
    if n >= 1 << 32 or cloud.degree > 3 or bits < 10:
        raise ValueError(f"{path.name}: {n} splats, degree {cloud.degree}, reach {reach:g} m; more than SPZ holds.")
    cloud = clipped(
        cloud, faintest=1 / 255, smallest=math.exp(-10), largest=math.exp(255 / 16 - 10), colour=0.5 / COLOUR,
        detail=127 / 128,
    )  # fmt: skip
    fixed = np.round(cloud.means.astype(np.float64) * (1 << bits)).astype(np.int32)
    parts = [
        struct.pack("<IIIBBBB", MAGIC, VERSION, n, cloud.degree, bits, 0, 0),
        fixed.astype("<i4").view(np.uint8).reshape(n, 3, 4)[..., :3].tobytes(),
        _byte(cloud.opacities * 255),
        _byte(cloud.sh[:, 0] * (COLOUR * 255) + 127.5),
        _byte((np.log(cloud.scales) + 10) * 16),
        _pack_quats(cloud.quats).tobytes(),
        _byte(cloud.sh[:, 1:] * 128 + 128),
    ]
    tolerance = Tolerance(
        means=0.51 / (1 << bits), turn=8e-3, log_scales=0.51 / 16, opacities=0.51 / 255, sh=0.51 / (COLOUR * 255)
    )
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(b"".join(parts), 9, mtime=0))
        check_cloud(read_spz(temporary), cloud, tolerance, path)


@typed
def read_spz(path: str | Path) -> SplatCloud:
    """Reads SPZ of version 2 or 3.

    Raises:
        FormatError: another version, not SPZ, or damaged.
    """
    path = Path(path)
    try:
        data = gzip.decompress(path.read_bytes())
        magic, version, n, degree, bits, _, _ = struct.unpack_from("<IIIBBBB", data)
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error) as error:
        raise FormatError(f"{path.name} is not SPZ of version 2 or 3, or is damaged ({error}).") from error
    if magic != MAGIC or version not in (2, 3) or degree > 3:
        raise FormatError(f"{path.name}: magic {magic:#x}, version {version}; expected SPZ of version 2 or 3.")
    k, at = (degree + 1) ** 2, 16
    sizes = (9 * n, n, 3 * n, 3 * n, (4 if version == 3 else 3) * n, 3 * (k - 1) * n)
    if len(data) < 16 + sum(sizes):
        raise FormatError(f"{path.name} is cut off: {len(data)} bytes instead of {16 + sum(sizes)}.")
    arrays = []
    for size in sizes:
        arrays.append(np.frombuffer(data, np.uint8, size, at))
        at += size
    positions, alphas, colours, scales, turns, higher = arrays
    wide = np.zeros((n, 3, 4), np.uint8)
    wide[..., 1:] = positions.reshape(n, 3, 3)
    means = (wide.view("<i4")[..., 0] >> 8) / float(1 << bits)
    dc = (colours.reshape(n, 1, 3) / 255.0 - 0.5) / COLOUR
    rest = (higher.reshape(n, k - 1, 3) - 128.0) / 128.0
    return SplatCloud(
        means=means.astype(np.float32),
        quats=(_unpack_quats(turns) if version == 3 else _unpack_first_three(turns)).astype(np.float32),
        scales=np.exp(scales.reshape(n, 3) / 16.0 - 10).astype(np.float32),
        opacities=(alphas / 255.0).astype(np.float32),
        sh=np.concatenate([dc, rest], 1).astype(np.float32),
    )


def _byte(values: np.ndarray) -> bytes:
    return np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()


def _pack_quats(quats: np.ndarray) -> np.ndarray:
    """uint32: two bits of which of x y z w is largest, then the others in order, each a sign and nine bits."""
    q = quats[:, [1, 2, 3, 0]].astype(np.float64)
    rows, largest = np.arange(len(q)), np.abs(q).argmax(1)
    q = q * np.where(q[rows, largest] < 0, -1, 1)[:, None]
    packed = largest.astype(np.uint32)
    for i in range(4):
        size = np.minimum(np.round(511 * np.abs(q[:, i]) * math.sqrt(2)), 511).astype(np.uint32)
        code = (packed << np.uint32(10)) | ((q[:, i] < 0).astype(np.uint32) << np.uint32(9)) | size
        packed = np.where(largest == i, packed, code)
    return packed.astype("<u4")


def _unpack_quats(data: np.ndarray) -> np.ndarray:
    packed = data.view("<u4").astype(np.uint32)
    largest, q = packed >> np.uint32(30), np.zeros((len(packed), 4))
    for i in (3, 2, 1, 0):
        stored = largest != i
        size = (packed & np.uint32(511)) / 511.0 / math.sqrt(2)
        value = np.where(packed & np.uint32(512), -size, size)
        q[:, i] = np.where(stored, value, 0)
        packed = np.where(stored, packed >> np.uint32(10), packed)
    q[np.arange(len(q)), largest] = np.sqrt(np.maximum(0, 1 - (q**2).sum(1)))
    return q[:, [3, 0, 1, 2]]


def _unpack_first_three(data: np.ndarray) -> np.ndarray:
    xyz = data.reshape(-1, 3) / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1, keepdims=True)))
    return np.concatenate([w, xyz], 1)
