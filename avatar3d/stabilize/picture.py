"""A picture of what moved: how far each part of the surface went from where it was, once the head is held still."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from avatar3d.geometry.transform import apply
from avatar3d.render import look_at, render_mesh, studio_light
from avatar3d.typing import typed

SIZE = 560
# dark blue, teal, green, yellow, red: light rises evenly up to yellow
_STOPS = torch.tensor(
    [[0.16, 0.18, 0.42], [0.12, 0.47, 0.55], [0.36, 0.73, 0.38], [0.98, 0.86, 0.25], [0.78, 0.1, 0.12]]
)


@typed
def motion_picture(
    stabilized: Float[Tensor, "t v 3"], faces: Int[Tensor, "f 3"], T_head_mesh: Float[Tensor, "4 4"], *, anchor: int = 0
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[Tensor, "v"]]:
    """The anchor's surface from the front and from its left, coloured by the motion that is left.

    Returns:
        The picture; and per vertex the root mean square distance over frames from where the anchor has it, in mm.
    """
    rest = stabilized[anchor].double()
    scale = float(torch.linalg.det(T_head_mesh[:3, :3]).pow(1 / 3))
    others = torch.arange(len(stabilized)) != anchor
    moved = (stabilized[others].double() - rest).square().sum(-1).mean(0).sqrt() * scale * 1e3
    top = nice(float(moved.quantile(0.98)) if moved.numel() else 1.0)
    place = (moved / top).clamp(0, 1) * (len(_STOPS) - 1)
    low = place.floor().clamp(max=len(_STOPS) - 2).long()
    colours = torch.lerp(_STOPS[low], _STOPS[low + 1], (place - low).float()[:, None])
    points = apply(T_head_mesh.double(), rest).float()
    used = points[faces.reshape(-1).long()]
    lowest, highest = used.amin(0), used.amax(0)
    middle = (lowest + highest) / 2
    distance = 3.2 * float((highest - lowest)[:2].max())
    eyes = [middle + distance * torch.tensor(d) for d in ((0.0, 0.0, 1.0), (0.75, 0.0, 0.66))]
    cameras = [look_at(middle, eye, SIZE, SIZE, field_of_view=0.36) for eye in eyes]
    drawn = render_mesh(points[None], faces, cameras, vertex_colours=colours[None], light=studio_light())
    views = [(255 * rgb.clamp(0, 1)).byte().numpy() for rgb in drawn.rgb]
    return np.concatenate([np.concatenate(views, 1), _legend(2 * SIZE, top)], 0), moved


@typed
def nice(value: float) -> float:
    """1, 2 or 5 times a power of ten, at least `value` and at least 0.01."""
    value = max(value, 0.01)
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(power * m for m in (1, 2, 5, 10) if power * m >= value * 0.999))


def _legend(width: int, top: float) -> np.ndarray:
    bar, height = width // 2, 52
    t = torch.linspace(0, len(_STOPS) - 1, bar)
    low = t.floor().clamp(max=len(_STOPS) - 2).long()
    ramp = (255 * torch.lerp(_STOPS[low], _STOPS[low + 1], (t - low)[:, None])).byte().numpy()
    picture = np.full((height, width, 3), 255, np.uint8)
    left = (width - bar) // 2
    picture[6:20, left : left + bar] = ramp
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for share in (0.0, 0.5, 1.0):
        draw.text((left + share * bar, 24), f"{share * top:g} mm", fill=(30, 30, 30), anchor="ma")
    draw.text((width // 2, 38), "motion that is left once the head is held still", fill=(30, 30, 30), anchor="ma")
    return np.asarray(image)
