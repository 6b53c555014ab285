"""Eyeballs and the inside of the mouth: clean textures whose colours are measured in the footage.

They are not baked: lids, lashes and lips cast over them in every frame and would stay on them when they move.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from avatar3d.appearance.chart import Chart
from avatar3d.appearance.light import shade
from avatar3d.appearance.observe import Observation
from avatar3d.types import Rig

# MediaPipe's landmark numbers
EYES = (
    (468, (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)),
    (473, (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)),
)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)

IRIS_RADIUS = 5.9e-3  # metres; 11.7 mm across in adults and children alike
PUPIL = 0.36  # of the iris
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
    """Linear colours of what lies behind lids and lips, with light and exposure divided out."""

    iris: Float[Tensor, "3"]
    sclera: Float[Tensor, "3"]
    teeth: Float[Tensor, "3"]


@dataclass(frozen=True)
class Readings:
    """Linear colours `[3]` that single frames showed, with light and exposure divided out."""

    iris: list
    sclera: list
    teeth: list

    def scaled(self, factor: float) -> "Readings":
        return Readings(*([c * factor for c in colours] for colours in (self.iris, self.sclera, self.teeth)))

    @property
    def sclera_level(self) -> float | None:
        """Median brightness of the sclera, where enough frames showed it."""
        return float(np.median([c.mean() for c in self.sclera])) if len(self.sclera) >= 4 else None


def _pixels(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours `[n, 3]` and positions `[n, 2]` of the pixels within a polygon."""
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(points.min(0)), 0, [width, height]).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(0)), 0, [width, height]).astype(int)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 2))
    canvas = Image.new("1", (int(x1 - x0), int(y1 - y0)))
    ImageDraw.Draw(canvas).polygon([tuple(p - 0.5 - (x0, y0)) for p in points], fill=1)
    rows, columns = np.nonzero(np.asarray(canvas))
    return image[rows + y0, columns + x0], np.stack([columns + x0, rows + y0], 1) + 0.5


def measure_inside(
    observations: list[Observation],
    landmarks: Float[Tensor, "t n 2"] | None,
    gain: Float[Tensor, "f 3"],
    light: Float[Tensor, "9 3"],
) -> Readings:
    """Colours of iris, sclera and teeth in the frames that show them.

    Args:
        observations: The chosen frames.
        landmarks: All 478 landmarks of every frame of the footage, pixels of the whole frame.
        gain: Gain of every observation.
        light: World irradiance.
    """
    irises, scleras, teeth = [], [], []
    for seen, g in zip(observations, gain, strict=True):
        if landmarks is None or landmarks.shape[1] < 478 or landmarks[seen.frame].isnan().any():
            continue
        points = landmarks[seen.frame].double().numpy() - np.array(seen.origin)
        image = seen.image.numpy()
        towards = torch.nn.functional.normalize(seen.towards - seen.vertices.mean(0), dim=0)
        level = (g * shade(towards[None], light)[0]).numpy()
        for centre, lids in EYES:
            c = points[centre]
            r = np.linalg.norm(points[centre + 1 : centre + 5] - c, axis=1).mean()
            lid = points[list(lids)]
            opening = np.ptp(lid[:, 1])
            if r < 2.5 or opening < 0.9 * r:
                continue
            colours, places = _pixels(image, lid + (lid.mean(0) - lid) * 0.12)
            d = np.linalg.norm(places - c, axis=1) / r
            ring, white = colours[(d > 0.5) & (d < 0.85)], colours[d > 1.25]
            if len(ring) >= 8:
                irises.append(np.median(ring, 0) / level)
            if len(white) >= 6:
                luma = white.mean(1)
                scleras.append(np.median(white[luma >= np.quantile(luma, 0.6)], 0) / level)
        lips = points[list(INNER_LIPS)]
        if np.ptp(lips[:, 1]) > 6 and np.ptp(lips[:, 1]) > 0.12 * np.ptp(lips[:, 0]):
            pixels, _ = _pixels(image, lips + (lips.mean(0) - lips) * 0.1)
            # teeth are bright and nearly grey, lips and tongue are red
            grey = pixels[pixels[:, 1] > 0.62 * pixels[:, 0]]
            if len(grey) > 12 and len(grey) > 0.12 * len(pixels):
                bright = grey[grey.mean(1) >= np.quantile(grey.mean(1), 0.7)]
                teeth.append(np.median(bright, 0) / level)
    return Readings(iris=irises, sclera=scleras, teeth=teeth)


def settle_tints(readings: Readings) -> Tints:
    """Medians within plausible bounds; typical colours where nothing was read."""
    white = _settle(readings.sclera, DEFAULT_SCLERA, 0.20, 0.66, 0.25)
    return Tints(
        iris=_settle(readings.iris, DEFAULT_IRIS, 0.012, 0.20, 0.0),
        sclera=white,
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


def _noise(phi: Tensor, seed: int, waves: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros_like(phi)
    for k in waves:
        out = out + torch.cos(k * phi + float(torch.rand((), generator=generator)) * 6.283) / len(waves) ** 0.5
    return out


def _step(x: Tensor, zero: float, one: float) -> Tensor:
    u = ((x - zero) / (one - zero)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def eyeball_colour(position: Tensor, centre: Tensor, radius: float, tints: Tints) -> Tensor:
    """Linear colour of points on an eyeball that looks along +z: pupil, iris with limbus, sclera."""
    d = torch.nn.functional.normalize(position - centre, dim=1)
    polar = torch.acos(d[:, 2].clamp(-1, 1))
    phi = torch.atan2(d[:, 1], d[:, 0])
    edge = float(np.arcsin(min(0.75, IRIS_RADIUS / radius)))
    rho = polar / edge
    fibres = 0.55 * _noise(phi, 1, (31, 37, 53, 61, 79)) + 0.45 * _noise(phi + 0.4 * rho, 2, (9, 13, 17, 23))
    collar = torch.exp(-(((rho - PUPIL - 0.16) / 0.11) ** 2))
    iris = tints.iris * (1 + 0.16 * fibres + 0.35 * collar - 0.15 * (rho - 0.6))[:, None].clamp_min(0.3)
    iris = iris * (1 - 0.72 * _step(rho, 0.8, 1.0))[:, None]
    sclera = tints.sclera * (1 - 0.30 * _step(polar, edge, 1.5))[:, None]
    sclera = sclera * torch.lerp(torch.ones(3), torch.tensor([1.0, 0.86, 0.82]), _step(polar, 0.8, 1.5)[:, None])
    out = torch.lerp(iris, sclera, _step(rho, 0.94, 1.08)[:, None])
    pupil = (0.3 * tints.iris).clamp_max(0.006)
    return torch.lerp(pupil.expand_as(out), out, _step(rho, PUPIL - 0.05, PUPIL + 0.05)[:, None])


def paint_eyes(rig: Rig, chart: Chart, face_mask: Tensor, tints: Tints) -> tuple[Tensor, Tensor]:
    """Texels (indices into the chart) and linear colours of the eyeballs, sides told apart by x."""
    faces = rig.faces.long()
    pick = chart.of_faces(face_mask)
    position = chart.interpolate(rig.neutral.float(), faces, pick)
    colour = torch.zeros(len(pick), 3)
    corners = torch.unique(faces[face_mask])
    for side in (1, -1):
        mine = position[:, 0] * side > 0
        points = rig.neutral.float()[corners]
        points = points[points[:, 0] * side > 0]
        if len(points) < 8 or not mine.any():
            continue
        centre, radius = fit_sphere(points)
        colour[mine] = eyeball_colour(position[mine], centre, radius, tints)
    return pick, colour


def fit_sphere(points: Float[Tensor, "n 3"]) -> tuple[Tensor, float]:
    """Least-squares centre and radius."""
    mean = points.mean(0)
    p = (points - mean).double()
    a = torch.cat([2 * p, torch.ones(len(p), 1, dtype=p.dtype)], 1)
    x = torch.linalg.lstsq(a, (p * p).sum(1)).solution
    return mean + x[:3].float(), float((x[3] + x[:3] @ x[:3]).clamp_min(1e-12).sqrt())


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
