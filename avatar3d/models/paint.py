"""Plausible colours for a model's vertices, so that a landmark network sees a face in a picture of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.models.linear import LinearModel
from avatar3d.typing import typed


@dataclass(frozen=True, kw_only=True)
class Palette:
    """sRGB colours, 0..1."""

    skin: tuple[float, float, float] = (0.78, 0.60, 0.51)
    lips: tuple[float, float, float] = (0.66, 0.38, 0.36)
    hair: tuple[float, float, float] = (0.20, 0.14, 0.11)
    iris: tuple[float, float, float] = (0.33, 0.22, 0.14)
    sclera: tuple[float, float, float] = (0.90, 0.88, 0.87)
    mouth: tuple[float, float, float] = (0.30, 0.10, 0.10)
    teeth: tuple[float, float, float] = (0.88, 0.86, 0.80)


LASHES, LASH_LENGTH, LASH_DARKER = 0.9, 2.5e-3, 0.4
"""Density at a lid's edge, metres to where they end, and their colour over that of the hair."""
LID_SHADE, SHADE_LENGTH = 0.4, 4.5e-3
"""Share of the light that a lid takes from the eyeball at its edge, and metres to where that ends."""
SKINS = ((0.87, 0.70, 0.62), (0.80, 0.61, 0.52), (0.72, 0.53, 0.42), (0.60, 0.42, 0.32), (0.45, 0.31, 0.24),
         (0.34, 0.23, 0.18))  # fmt: skip
HAIRS = ((0.10, 0.08, 0.07), (0.22, 0.15, 0.11), (0.38, 0.26, 0.17), (0.55, 0.42, 0.28), (0.60, 0.58, 0.56))
IRISES = ((0.28, 0.17, 0.10), (0.36, 0.25, 0.15), (0.35, 0.42, 0.48), (0.33, 0.40, 0.28))


def random_palette(rng: torch.Generator) -> Palette:
    """Skin from light to dark, hair, iris."""

    def pick(options: tuple) -> tuple:
        return options[int(torch.randint(len(options), (), generator=rng))]

    skin = pick(SKINS)
    redness = 0.7 + 0.2 * float(torch.rand((), generator=rng))
    lips = (skin[0] * 0.86, skin[1] * redness * 0.86, skin[2] * redness * 0.92)
    hair = pick(HAIRS if skin[0] > 0.65 else HAIRS[:2])
    return Palette(skin=skin, lips=lips, hair=hair, iris=pick(IRISES if skin[0] > 0.65 else IRISES[:2]))


@typed
def paint(
    model: LinearModel, palette: Palette, hair: bool = True, vertices: Float[Tensor, "v 3"] | None = None
) -> Float[Tensor, "v 3"]:
    """sRGB colour of every vertex, from the model's regions; regions that it lacks stay skin.

    Args:
        model: The model.
        palette: Colours.
        hair: Whether the scalp is drawn as hair.
        vertices: Posed vertices do not matter here; the rest shape of another person may be given, metres.
    """
    rest = model.template if vertices is None else vertices
    out = torch.tensor(palette.skin).repeat(len(rest), 1)

    def fill(colour: tuple, *names: str, share: float = 1.0) -> None:
        for name in names:
            if name in model.regions:
                mask = model.regions[name]
                out[mask] = torch.lerp(out[mask], torch.tensor(colour), share)

    if hair:
        fill(palette.hair, "scalp")
    if "brows" in model.regions:  # they do not meet
        apart = model.regions["brows"] & (rest[:, 0].abs() > 0.012)
        out[apart] = torch.lerp(out[apart], torch.tensor(palette.hair), 0.75)
    fill(palette.lips, "lips_outer")
    fill(palette.lips, "lips_inner")
    fill(palette.mouth, "mouth_cavity", "mouth_socket", "gums_tongue")
    fill((0.62, 0.33, 0.32), "tongue", "gums_upper", "gums_lower")
    fill(palette.teeth, "teeth", "teeth_upper", "teeth_lower")
    fill((0.62, 0.33, 0.32), "gums_upper", "gums_lower")
    fill((0.25, 0.12, 0.10), "eye_socket_left", "eye_socket_right")
    for side in ("left", "right"):
        fill(palette.sclera, f"eyeball_{side}")
        iris, pupil = eye_zones(model, side)
        out[iris] = torch.tensor(palette.iris)
        out[pupil] = torch.tensor((0.03, 0.03, 0.03))
        _lash(model, out, palette, side)
    return out


def _lash(model: LinearModel, colours: Tensor, palette: Palette, side: str) -> None:
    """Lashes along an upper lid, and its shade on the eyeball: without them a landmark network takes the lid's edge for
    higher than it is, by 1.2 mm, and the iris for lower."""
    rim, lid, ball = (model.regions.get(f"{n}_{side}") for n in ("lid_margin_upper", "eyelid_upper", "eyeball"))
    if rim is None or lid is None or ball is None or int(rim.sum()) < 3:
        return
    edge = model.template[rim]
    edge = edge[edge[:, 0].argsort()]
    away = torch.cdist(model.template, edge).amin(1)
    share = LASHES * (1 - away / LASH_LENGTH).clamp(0, 1) * lid
    share[rim] = LASHES
    colours.lerp_(torch.tensor(palette.hair) * LASH_DARKER, share[:, None])
    x, y = model.template[ball, 0], model.template[ball, 1]
    right = torch.searchsorted(edge[:, 0].contiguous(), x.contiguous()).clamp(1, len(edge) - 1)
    a, b = edge[right - 1], edge[right]
    t = ((x - a[:, 0]) / (b[:, 0] - a[:, 0]).clamp_min(1e-6)).clamp(0, 1)
    below = torch.lerp(a[:, 1], b[:, 1], t) - y
    colours[ball] *= (1 - LID_SHADE * (1 - below / SHADE_LENGTH).clamp(0, 1))[:, None]


@typed
def eye_zones(model: LinearModel, side: str) -> tuple[Bool[Tensor, "v"], Bool[Tensor, "v"]]:
    """Iris and pupil of an eyeball: the model's own regions, else the front of the ball (11.7 and 4 mm wide)."""
    none = torch.zeros(len(model.template), dtype=torch.bool)
    ball = model.regions.get(f"eyeball_{side}")
    if ball is None:
        return none, none
    iris, pupil = model.regions.get(f"iris_{side}"), model.regions.get(f"pupil_{side}")
    if iris is not None and pupil is not None:
        return iris, pupil
    points = model.template
    centre = 0.5 * (points[ball].amax(0) + points[ball].amin(0))
    d = points - centre
    off_axis, front = d[:, :2].norm(dim=1), ball & (d[:, 2] > 0)
    radius = float(d[ball].norm(dim=1).median())
    return front & (off_axis < 0.49 * radius), front & (off_axis < 0.17 * radius)
