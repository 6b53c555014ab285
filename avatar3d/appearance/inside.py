"""What lies behind lids and lips: clean textures whose colours are measured in the footage.

They are not baked: lids, lashes and lips cast over them in every frame and would stay on them when they move. Eyes are
in `eyes`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.appearance.chart import Chart
from avatar3d.appearance.eyes import EyeReading, pixels_within, read_eyes
from avatar3d.appearance.light import shade
from avatar3d.appearance.observe import Observation
from avatar3d.types import Rig

# MediaPipe's landmark numbers
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)

WIDEST = 6
"""Eyes that tell the colour of irises at least: those that are open the widest."""
FINE, COARSE = 30.0, 10.0
"""Radii of an iris in pixels from which its whites' hue is its own, and up to which it is the skin's beside it."""
SHADED = 0.88
"""Share of the light that reaches the whites where they are read: the lid's shade, which is painted, takes the rest."""
IRIS_SIZES = (0.082, 0.106)
"""Bounds of an iris' radius over the distance of the eyes; 5.9 over 63 mm is usual."""
USUAL_LASHES = 0.55
DEFAULT_IRIS = (0.060, 0.034, 0.020)
DEFAULT_SCLERA = (0.52, 0.48, 0.45)
DEFAULT_TEETH = (0.56, 0.51, 0.43)
TONGUE = (0.30, 0.085, 0.080)
CAVITY = (0.085, 0.018, 0.016)
SOCKET = (0.22, 0.085, 0.075)  # the lining behind the lids' edges
GUM = (0.34, 0.115, 0.105)
SHADOW = 0.018
"""Metres behind the lips at which the inside of a mouth has half the light: renderers cast no shadow there."""

FRONT_TEETH, CHEEK_SHADOW = 3e-3, 1.4e-2
"""Metres by which an arch recedes before cheeks shade it, and from there to half the light."""
GAP_SHADE = 0.45
"""Share of the light that the gap between two teeth takes."""


@dataclass(frozen=True)
class Tints:
    """What eyes show, and linear colours of what lies behind lids and lips, with light and exposure divided out."""

    iris: Float[Tensor, "3"]
    sclera: Float[Tensor, "3"]
    teeth: Float[Tensor, "3"]
    iris_size: float | None = None
    """Radius over the distance of the eyes; None where it was not read."""
    lashes: float = USUAL_LASHES
    """How dark the upper lids' edges are, 0..1."""


@dataclass(frozen=True)
class Readings:
    """What single frames showed: linear colours with light and exposure divided out."""

    eyes: list[EyeReading]
    teeth: list

    def scaled(self, factor: float) -> "Readings":
        return Readings([eye.scaled(factor) for eye in self.eyes], [c * factor for c in self.teeth])

    @property
    def sclera_level(self) -> float | None:
        """Median brightness of the sclera, where enough frames showed it."""
        whites = [e.sclera.mean() for e in self.eyes if e.sclera is not None]
        return float(np.median(whites)) if len(whites) >= 4 else None


def measure_inside(
    observations: list[Observation],
    landmarks: Float[Tensor, "t n 2"] | None,
    gain: Float[Tensor, "f 3"],
    light: Float[Tensor, "9 3"],
) -> Readings:
    """What the frames show of eyes and teeth.

    Args:
        observations: The chosen frames.
        landmarks: All 478 landmarks of every frame of the footage, pixels of the whole frame.
        gain: Gain of every observation.
        light: World irradiance.
    """
    eyes, teeth = [], []
    for seen, g in zip(observations, gain, strict=True):
        if landmarks is None or landmarks.shape[1] < 478 or landmarks[seen.frame].isnan().any():
            continue
        points = landmarks[seen.frame].double().numpy() - np.array(seen.origin)
        image = seen.image.numpy()
        towards = torch.nn.functional.normalize(seen.towards - seen.vertices.mean(0), dim=0)
        level = (g * shade(towards[None], light)[0]).numpy()
        eyes += read_eyes(image, points, level)
        lips = points[list(INNER_LIPS)]
        if np.ptp(lips[:, 1]) > 6 and np.ptp(lips[:, 1]) > 0.12 * np.ptp(lips[:, 0]):
            pixels, _ = pixels_within(image, lips + (lips.mean(0) - lips) * 0.1)
            # teeth are bright and nearly grey, lips and tongue are red
            grey = pixels[pixels[:, 1] > 0.62 * pixels[:, 0]]
            if len(grey) > 12 and len(grey) > 0.12 * len(pixels):
                bright = grey[grey.mean(1) >= np.quantile(grey.mean(1), 0.7)]
                teeth.append(np.median(bright, 0) / level)
    return Readings(eyes=eyes, teeth=teeth)


def settle_tints(readings: Readings) -> Tints:
    """Medians within plausible bounds; typical colours where nothing was read."""
    eyes = sorted(readings.eyes, key=lambda e: -e.openness)
    wide = eyes[: max(WIDEST, len(eyes) // 2)]
    whites = [e.sclera for e in eyes if e.sclera is not None]
    sizes = [e.size for e in wide if e.size is not None]
    lashes = [e.lashes for e in wide if e.lashes is not None]
    fine = float(np.median([e.radius for e in wide])) if wide else 0.0
    greying = 0.25 + 0.45 * min(1.0, max(0.0, (FINE - fine) / (FINE - COARSE)))
    white = _settle([w / SHADED for w in whites], DEFAULT_SCLERA, 0.20, 0.66, greying)
    return Tints(
        iris=_settle([e.iris for e in wide], DEFAULT_IRIS, 0.012, 0.20, 0.0),
        sclera=white,
        iris_size=float(np.clip(np.median(sizes), *IRIS_SIZES)) if sizes else None,
        lashes=float(np.median(lashes)) if lashes else USUAL_LASHES,
        teeth=_settle(
            readings.teeth, torch.tensor(DEFAULT_TEETH) * white / torch.tensor(DEFAULT_SCLERA), 0.22, 0.62, 0.3
        ),
    )


def _settle(samples: list, default: tuple | Tensor, low: float, high: float, greying: float) -> Tensor:
    """Median, brought into a plausible range of brightness and drawn to the default's hue."""
    usual = torch.as_tensor(default)
    if not samples:
        return usual
    colour = torch.from_numpy(np.median(np.array(samples), 0)).float().clamp_min(1e-3)
    level = colour.mean()
    colour = torch.lerp(colour / level, usual / usual.mean(), greying)
    return colour * level.clamp(low, high)


def paint_mouth(
    rig: Rig, chart: Chart, masks: dict[str, Tensor], tints: Tints, gaps: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Texels and linear colours of cavity, tongue, teeth, gums, and of the lining behind the lids.

    Args:
        rig: The rig.
        chart: The texels.
        masks: Face masks `[f]` of "mouth_cavity", "tongue", "teeth", "gum", "eye_socket"; missing ones are skipped.
        tints: Measured colours.
        gaps: Vertices `[v]` between two teeth, where the model tells.
    """
    faces, out = rig.faces.long(), []
    inner = torch.zeros(len(faces), dtype=torch.bool)
    for name, mask in masks.items():
        if name != "eye_socket":
            inner |= mask
    if not inner.any():
        return out
    z = rig.neutral[torch.unique(faces[inner])][:, 2]
    front, back = float(z.max()), float(z.min())
    for name, mask in masks.items():
        pick = chart.of_faces(mask)
        if not len(pick):
            continue
        position = chart.interpolate(rig.neutral.float(), faces, pick)
        behind = (front - position[:, 2]).clamp_min(0)[:, None]
        depth = (behind / max(front - back, 1e-6)).clamp_max(1)
        shade_behind = 1 / (1 + (behind / SHADOW).square())
        if name == "mouth_cavity":
            colour = torch.tensor(CAVITY) * (0.25 + 1.35 * shade_behind)
        elif name == "tongue":
            grain = 1 + 0.06 * torch.sin(position[:, :1] * 5200) * torch.sin(position[:, 2:] * 4700)
            colour = torch.tensor(TONGUE) * shade_behind * grain
        elif name == "eye_socket":
            colour = torch.tensor(SOCKET).expand(len(pick), 3)
        elif name == "gum":
            colour = torch.tensor(GUM) * (1 - 0.8 * depth)
        else:
            # the arch darkens towards the molars, in the shadow of the cheeks
            along = (position[:, 2].max() - FRONT_TEETH - position[:, 2:]).clamp_min(0)
            colour = tints.teeth / (1 + (along / CHEEK_SHADOW).square())
            if gaps is not None:
                gap = chart.interpolate(gaps[:, None].float(), faces, pick)
                colour = colour * (1 - GAP_SHADE * gap.pow(5))
        out.append((pick, colour))
    return out
