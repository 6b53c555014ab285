"""Eyes: what footage shows of irises, whites and lashes, and how they are painted.

Eyeballs are not baked, and neither are the edges of upper lids, which are seen folded and with lashes before them.
Their colours are measured and drawn afresh.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from avatar3d.appearance.chart import Chart
from avatar3d.appearance.regions import faces_in, region, skin_faces
from avatar3d.types import Rig
from avatar3d.types.face_points import EYE_CORNERS, IRIS, LIDS_LOWER, LIDS_UPPER

IRIS_RADIUS = 5.9e-3  # metres; 11.7 mm across in adults and children alike
PUPIL = 0.33  # of the iris
SMALL, LARGE, TOO_WIDE = 12.0, 24.0, 1.08
"""Radii in pixels up to which the network's irises are too wide by that factor, and from which they are right: by eye
in enlarged frames of four clips and six photographs."""
LID_SHADE, LID_REACH = 0.45, 4.5e-3
"""Share of the light that an upper lid takes from the eyeball at its edge, and how far below it that ends, metres."""
HANGING, HANGING_REACH = 0.85, (0.2e-3, 1.5e-3)
"""The same for lashes that hang before the eyeball."""
LASHES = (0.012, 0.010, 0.009)
UPPER_EDGE, LOWER_EDGE = (0.6e-3, 2.8e-3), (0.0, 1.0e-3)
"""Metres from a lid's edge to where lashes are dense and, for the darkest ones, to where they end."""
UPPER_DENSITY, LOWER_DENSITY = 0.9, 0.4


@dataclass(frozen=True, kw_only=True)
class EyeReading:
    """What one frame shows of one eye. Linear colours, with light and exposure divided out."""

    openness: float
    """Height of the opening over the iris' radius."""
    radius: float
    """Of the iris, pixels."""
    iris: np.ndarray
    sclera: np.ndarray | None = None
    size: float | None = None
    """Radius of the iris over the distance of the eyes."""
    lashes: float | None = None
    """How dark the upper lid's edge is, 0..1."""

    def scaled(self, factor: float) -> "EyeReading":
        return replace(self, iris=self.iris * factor, sclera=None if self.sclera is None else self.sclera * factor)


def pixels_within(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def read_eyes(image: np.ndarray, points: np.ndarray, level: np.ndarray) -> list[EyeReading]:
    """The open eyes of one picture.

    Args:
        image: Linear colours [h, w, 3].
        points: The 478 landmarks, pixels.
        level: Brightness of white in this picture's light [3].
    """
    out = []
    apart = float(np.linalg.norm(points[IRIS["left"][0]] - points[IRIS["right"][0]]))
    for side in ("left", "right"):
        corner, nasal = EYE_CORNERS[side]
        lid = points[[corner, *LIDS_UPPER[side], nasal, *LIDS_LOWER[side][::-1]]]
        centre, edge = points[IRIS[side][0]], points[list(IRIS[side][1:])]
        r = float(np.linalg.norm(edge - centre, axis=1).mean())
        opening = float(np.ptp(lid[:, 1]))
        if r < 2.5 or opening < 0.9 * r:
            continue
        colours, places = pixels_within(image, lid + (lid.mean(0) - lid) * 0.12)
        away = np.linalg.norm(places - centre, axis=1) / r
        iris = _iris(colours[(away > 0.2) & (away < 0.85)], r)
        if iris is None:
            continue
        white = colours[away > 1.25]
        too_wide = 1 + (TOO_WIDE - 1) * float(np.clip((LARGE - r) / (LARGE - SMALL), 0, 1))
        across = float(np.linalg.norm(edge[0] - edge[2])) / 2 / too_wide
        width = float(np.linalg.norm(points[corner] - points[nasal]))
        out.append(
            EyeReading(
                openness=opening / r, radius=r, iris=iris / level,
                sclera=np.median(white[white.mean(1) >= np.quantile(white.mean(1), 0.6)], 0) / level
                if len(white) >= 6 else None,
                size=across / apart if apart > 2 * width else None,
                lashes=_lashes(image, points, side, r),
            )
        )  # fmt: skip
    return out


def _iris(colours: np.ndarray, r: float) -> np.ndarray | None:
    """Colour of an iris from its pixels: pupil and highlights apart, and in small pictures, into whose irises the
    skin's red runs, the least red of them."""
    if len(colours) < 8:
        return None
    luma = colours.mean(1)
    usual = np.median(luma)
    colours = colours[(luma >= 0.4 * usual) & (luma <= 2 * usual)]  # black ones too
    red = colours[:, 0] / np.maximum(colours.mean(1), 1e-4)
    share = float(np.clip(0.25 + 0.75 * (r - 8) / 24, 0.25, 1))
    return np.median(colours[red <= np.quantile(red, share)], 0)


def _lashes(image: np.ndarray, points: np.ndarray, side: str, r: float) -> float | None:
    """How dark the upper lid's edge is against the skin below the eye, 0..1."""
    upper, lower = points[list(LIDS_UPPER[side][1:-1])], points[list(LIDS_LOWER[side][1:-1])]
    down = lower.mean(0) - upper.mean(0)
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    edge = _brightness(image, upper[None] - down * r * np.linspace(0, 0.4, 6)[:, None, None])
    skin = _brightness(image, lower[None] + down * r * np.linspace(0.9, 1.3, 3)[:, None, None])
    if edge is None or skin is None:
        return None
    ratio = np.median(edge.min(0)) / max(float(np.median(skin)), 1e-3)
    return float(np.clip((0.75 - ratio) / 0.5, 0, 1))


def _brightness(image: np.ndarray, at: np.ndarray) -> np.ndarray | None:
    """Square root of brightness at pixels; None where some lie outside."""
    i = np.floor(at).astype(int)
    if (i < 0).any() or (i >= np.array(image.shape[1::-1])).any():
        return None
    return np.sqrt(image[i[..., 1], i[..., 0]].mean(-1))


def _noise(phi: Tensor, seed: int, waves: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros_like(phi)
    for k in waves:
        out = out + torch.cos(k * phi + float(torch.rand((), generator=generator)) * 6.283) / len(waves) ** 0.5
    return out


def _step(x: Tensor, zero: float, one: float) -> Tensor:
    u = ((x - zero) / (one - zero)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def eyeball_colour(
    position: Tensor, centre: Tensor, radius: float, iris: Tensor, sclera: Tensor, iris_radius: float = IRIS_RADIUS
) -> Tensor:
    """Linear colour of points on an eyeball that looks along +z: pupil, iris with limbus, sclera."""
    d = torch.nn.functional.normalize(position - centre, dim=1)
    polar = torch.acos(d[:, 2].clamp(-1, 1))
    phi = torch.atan2(d[:, 1], d[:, 0])
    edge = float(np.arcsin(min(0.75, iris_radius / radius)))
    rho = polar / edge
    fibres = 0.55 * _noise(phi, 1, (31, 37, 53, 61, 79)) + 0.45 * _noise(phi + 0.4 * rho, 2, (9, 13, 17, 23))
    collar = torch.exp(-(((rho - PUPIL - 0.16) / 0.11) ** 2))
    pupil = (0.3 * iris).clamp_max(0.006)
    iris = iris * (1 + 0.16 * fibres + 0.35 * collar - 0.15 * (rho - 0.6))[:, None].clamp_min(0.3)
    iris = iris * (1 - 0.72 * _step(rho, 0.8, 1.0))[:, None]
    sclera = sclera * (1 - 0.30 * _step(polar, edge, 1.5))[:, None]
    sclera = sclera * torch.lerp(torch.ones(3), torch.tensor([1.0, 0.86, 0.82]), _step(polar, 0.8, 1.5)[:, None])
    out = torch.lerp(iris, sclera, _step(rho, 0.94, 1.08)[:, None])
    return torch.lerp(pupil.expand_as(out), out, _step(rho, PUPIL - 0.05, PUPIL + 0.05)[:, None])


def paint_eyes(
    rig: Rig,
    chart: Chart,
    face_mask: Tensor,
    iris: Tensor,
    sclera: Tensor,
    iris_size: float | None = None,
    lashes: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Texels (indices into the chart) and linear colours of the eyeballs.

    Args:
        rig: The rig.
        chart: The texels.
        face_mask: The eyeballs' faces; sides are told apart by x.
        iris: Its colour.
        sclera: Its colour.
        iris_size: Radius of an iris over the distance of the eyes; None for `IRIS_RADIUS`.
        lashes: How dark they are, 0..1.
    """
    faces = rig.faces.long()
    pick = chart.of_faces(face_mask)
    position = chart.interpolate(rig.neutral.float(), faces, pick)
    colour = torch.zeros(len(pick), 3)
    points = rig.neutral.float()[torch.unique(faces[face_mask])]
    balls = {
        side: fit_sphere(points[points[:, 0] * sign > 0])
        for side, sign in (("left", 1), ("right", -1))
        if int((points[:, 0] * sign > 0).sum()) >= 8
    }
    size = IRIS_RADIUS
    if iris_size is not None and len(balls) == 2:
        size = iris_size * float((balls["left"][0] - balls["right"][0]).norm())
    for side, (centre, radius) in balls.items():
        mine = position[:, 0] * (1 if side == "left" else -1) > 0
        colour[mine] = eyeball_colour(position[mine], centre, radius, iris, sclera, size)
        colour[mine] *= _under_lid(rig, side, position[mine], lashes)[:, None]
    return pick, colour


def _under_lid(rig: Rig, side: str, position: Tensor, lashes: float) -> Tensor:
    """Share of the light that the upper lid and lashes that hang from it leave to points of an eyeball: renderers cast
    no shadow there."""
    rim = _rim(rig, f"lid_margin_upper_{side}")
    if rim is None:
        return torch.ones(len(position))
    edge = np.interp(position[:, 0].numpy(), rim[:, 0].numpy(), rim[:, 1].numpy())
    below = torch.from_numpy(edge).float() - position[:, 1]
    hanging = 1 - HANGING * lashes * (1 - _step(below, *HANGING_REACH))
    return hanging * (1 - LID_SHADE * (1 - _step(below, 0.0, LID_REACH)))


def _rim(rig: Rig, name: str) -> Tensor | None:
    """Points of a lid's edge, by x, densely; None for rigs that do not know it."""
    mask = rig.regions.get(name)
    if mask is None or int(mask.sum()) < 3:
        return None
    points = rig.neutral.float()[mask]
    points = points[points[:, 0].argsort()]
    t = torch.linspace(0, 1, 9)[:-1, None]
    return torch.cat([*((1 - t) * a + t * b for a, b in zip(points[:-1], points[1:], strict=True)), points[-1:]])


def with_lashes(linear: Float[Tensor, "n 3"], rig: Rig, chart: Chart, lashes: float) -> Float[Tensor, "n 3"]:
    """Colours of all texels with lashes along the lids' edges, as dark as they were measured; as they are for rigs that
    do not know those edges."""
    skin = skin_faces(rig) & faces_in(rig, region(rig, "eyelid", "lid_margin", "lacrimal"))
    pick = chart.of_faces(skin)
    position = chart.interpolate(rig.neutral.float(), rig.faces.long(), pick)
    out = linear.clone()
    for row, (dense, end), density in (
        ("upper", UPPER_EDGE, UPPER_DENSITY * lashes), ("lower", LOWER_EDGE, LOWER_DENSITY * lashes)
    ):  # fmt: skip
        for side in ("left", "right"):
            rim = _rim(rig, f"lid_margin_{row}_{side}")
            if rim is None:
                continue
            away = torch.cdist(position, rim).amin(1)
            share = density * (1 - _step(away, dense, dense + (end - dense) * (0.4 + 0.6 * lashes)))
            out[pick] = torch.lerp(out[pick], torch.tensor(LASHES), share[:, None])
    return out


def fit_sphere(points: Float[Tensor, "n 3"]) -> tuple[Tensor, float]:
    """Least-squares centre and radius."""
    mean = points.mean(0)
    p = (points - mean).double()
    a = torch.cat([2 * p, torch.ones(len(p), 1, dtype=p.dtype)], 1)
    x = torch.linalg.lstsq(a, (p * p).sum(1)).solution
    return mean + x[:3].float(), float((x[3] + x[:3] @ x[:3]).clamp_min(1e-12).sqrt())
