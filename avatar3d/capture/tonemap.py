"""Wide-gamut and HDR video to sRGB, as a table that FFmpeg applies (65 steps a side, tetrahedral interpolation).

Display-referred light relative to diffuse white: 203 cd/m2 for HDR (ITU-R BT.2408). Below the knee
nothing changes, so skin keeps its tone; highlights roll off to white.
"""

import atexit
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from avatar3d.typing import typed

Transfer = Literal["pq", "hlg", "sdr"]
Primaries = Literal["bt709", "bt2020", "p3"]

WHITE = 203.0
"""cd/m2 of diffuse white."""
PEAK = 1000.0 / WHITE
"""Highlights at and above this many times diffuse white become white."""
KNEE = 0.7
STEPS = 65

# Linear RGB to linear BT.709 RGB; both sides have the D65 white point (ITU-R BT.2087; SMPTE EG 432-1).
_TO_BT709 = {
    "bt709": np.eye(3),
    "bt2020": np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
    ),
    "p3": np.array([[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]]),
}


@typed
def to_srgb(signal: Float[np.ndarray, "*b 3"], transfer: Transfer, primaries: Primaries) -> Float[np.ndarray, "*b 3"]:
    """Coded RGB 0..1 to sRGB 0..1.

    Args:
        signal: Full-range R'G'B'.
        transfer: "pq" (SMPTE ST 2084), "hlg" (ITU-R BT.2100, shown on a 1000 cd/m2 display), or "sdr" (taken as sRGB).
        primaries: Gamut of the signal.
    """
    light = {"pq": _pq, "hlg": _hlg, "sdr": _srgb_to_linear}[transfer](signal) @ _TO_BT709[primaries].T
    light = np.maximum(light, 0)
    if transfer != "sdr":
        # By the brightest channel, so that hue is kept and no channel clips.
        brightest = light.max(axis=-1, keepdims=True)
        light = light * _shoulder(brightest) / np.maximum(brightest, 1e-9)
    return _linear_to_srgb(np.clip(light, 0, 1))


def _shoulder(x: np.ndarray) -> np.ndarray:
    """Identity up to KNEE, then a rational curve of equal slope that reaches 1 at PEAK."""
    t = np.clip((x - KNEE) / (PEAK - KNEE), 0, 1)
    slope = (PEAK - KNEE) / (1 - KNEE)
    # f(0) = 0, f'(0) = slope, f(1) = 1
    return np.where(x <= KNEE, x, KNEE + (1 - KNEE) * slope * t / (1 + (slope - 1) * t))


def _pq(signal: np.ndarray) -> np.ndarray:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    e = np.power(signal, 1 / m2)
    return np.power(np.maximum(e - c1, 0) / (c2 - c3 * e), 1 / m1) * 10000 / WHITE


def _hlg(signal: np.ndarray) -> np.ndarray:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return scene * np.power(np.maximum(luminance, 1e-9), 0.2)[..., None] * 1000 / WHITE


def _srgb_to_linear(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.power(x, 1 / 2.4) - 0.055)


@lru_cache(maxsize=8)
def cube_file(transfer: Transfer, primaries: Primaries) -> Path:
    """A .cube file of `to_srgb`, for FFmpeg's `lut3d`; removed when the process ends."""
    axis = np.linspace(0, 1, STEPS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red varies fastest in the file
    table = to_srgb(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer, primaries)
    digits = np.array([f"{level / 10000:.4f} ".encode() for level in range(10001)])
    text = digits[np.rint(table * 10000).astype(np.int64)].view(np.uint8).reshape(len(table), -1)
    text[:, -1] = ord("\n")
    # `lut3d` parses its arguments: a plain name in the temporary folder needs no escaping on POSIX.
    with tempfile.NamedTemporaryFile(prefix="avatar3d_", suffix=".cube", delete=False) as file:
        file.write(f"LUT_3D_SIZE {STEPS}\n".encode() + text.tobytes())
    path = Path(file.name)
    atexit.register(path.unlink, missing_ok=True)
    return path
