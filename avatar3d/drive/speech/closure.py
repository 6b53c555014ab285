"""Lips that meet, whatever is added to them: the gap between the lips as a function of the 52 curves, and its closing.

Vertices are linear in the curves, so the gap in each of seven columns across the mouth costs one small matrix product.
Measured on the mean head of the model `head`; avatars carry the same shapes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.models.head import load_head
from avatar3d.types.arkit import ARKIT_INDEX
from avatar3d.typing import typed

_COLUMNS = (0.0, 5.4, 10.7, 15.4)  # distance from the middle, mm; beyond are the corners
_PRESSED = 0.3  # closed lips overlap by this much, mm
_TOUCHING = 0.2  # from the lower lip to the upper incisors, mm
_PARTING = ("mouthUpperUp", "mouthLowerDown", "mouthFunnel", "mouthShrugUpper")
_FADED = 0.85  # share of the parting curves that a full closure takes away
_EASY_JAW = 0.1  # jawOpen over which lips do not easily meet
_MM_PER_JAW = 35.0  # opening in the middle of the mouth per unit of jawOpen
_CLOSE, _JAW = ARKIT_INDEX["mouthClose"], ARKIT_INDEX["jawOpen"]


@dataclass(frozen=True)
class _Rim:
    """Lip vertices by column: neutral heights in mm, and millimetres per unit of each curve."""

    upper: Float[Tensor, "u"]
    upper_basis: Float[Tensor, "52 u"]
    upper_column: Int[Tensor, "u"]
    lower: Float[Tensor, "l"]
    lower_basis: Float[Tensor, "52 l"]
    lower_column: Int[Tensor, "l"]
    teeth: float
    """Height of the edges of the upper incisors, mm."""
    columns: int


@lru_cache(maxsize=1)
def _rim() -> _Rim:
    head = load_head()
    rest, basis = head.template * 1000, head.expression_basis * 1000
    columns = sorted({sign * x for x in _COLUMNS for sign in (-1, 1)})

    def gather(names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        mask = torch.stack([head.regions[name] for name in names]).any(0)
        vertices, which = [], []
        for column, x in enumerate(columns):
            near = (mask & ((rest[:, 0] - x).abs() < 1.0)).nonzero()[:, 0]
            vertices.append(near)
            which.append(torch.full_like(near, column))
        index = torch.cat(vertices)
        return rest[index, 1], basis[:, index, 1], torch.cat(which)

    upper = gather(("lips_inner_upper", "lips_outer_upper"))
    lower = gather(("lips_inner_lower", "lips_outer_lower"))
    incisors = head.regions["teeth_upper"] & (rest[:, 0].abs() < 7)
    front = incisors & (rest[:, 2] > rest[incisors, 2].max() - 4)
    return _Rim(*upper, *lower, teeth=float(rest[front, 1].min()), columns=len(columns))


@typed
def column_gaps(curves: Float[Tensor, "t 52"]) -> Float[Tensor, "t c"]:
    """Height of the opening between the lips in seven columns from the subject's right to the left, mm.

    Counted from the neutral head, whose lips rest on one another; negative where they press or roll further.
    """
    upper, lower = _edges(curves)
    rest_upper, rest_lower = _edges(curves.new_zeros(1, len(ARKIT_INDEX)))
    return (upper - lower) - (rest_upper - rest_lower)


def _edges(curves: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest point of the upper lip and the highest of the lower one in each column, mm."""
    rim = _rim()
    upper = rim.upper.to(curves) + curves @ rim.upper_basis.to(curves)
    lower = rim.lower.to(curves) + curves @ rim.lower_basis.to(curves)
    top = _extreme(upper, rim.upper_column.to(curves.device), rim.columns, "amin")
    return top, _extreme(lower, rim.lower_column.to(curves.device), rim.columns, "amax")


def _extreme(heights: Tensor, column: Tensor, columns: int, how: str) -> Tensor:
    out = heights.new_zeros(len(heights), columns)
    return out.scatter_reduce(1, column.expand_as(heights), heights, how, include_self=False)


@typed
def lip_gap(curves: Float[Tensor, "t 52"]) -> Float[Tensor, "t"]:
    """The widest opening between the lips, mm; 0 where they meet all along."""
    return column_gaps(curves).amax(1).clamp(min=0)


@typed
def tooth_gap(curves: Float[Tensor, "t 52"]) -> Float[Tensor, "t"]:
    """Height from the lower lip up to the edges of the upper incisors in the middle of the mouth, mm; 0 at contact."""
    return _below_teeth(curves).amax(1).clamp(min=0)


def _below_teeth(curves: Tensor) -> Tensor:
    rim = _rim()
    middle = rim.columns // 2
    return rim.teeth - _edges(curves)[1][:, middle : middle + 1]


@typed
def close_lips(curves: Float[Tensor, "t 52"], closed: Float[Tensor, "t"]) -> Float[Tensor, "t 52"]:
    """Makes the lips meet where they must, by the smallest change that does it.

    What parts the lips (raised upper lip, lowered lower lip, funnel) fades, a wide open jaw comes half-way up, and
    mouthClose takes the rest; smile, pucker and asymmetry stay. Rows that are closed already are not touched.

    Args:
        curves: ARKit coefficients.
        closed: 0 free .. 1 the lips meet all along; in between the opening shrinks in proportion.
    """
    return _reach(curves, closed, column_gaps, _PRESSED, _PARTING)


@typed
def open_lips(curves: Float[Tensor, "t 52"], wanted: Float[Tensor, "t"]) -> Float[Tensor, "t 52"]:
    """Keeps lips at least so far apart (pursing presses them together), by lowering the jaw as much as that takes.

    Args:
        curves: ARKit coefficients.
        wanted: The least opening, mm.
    """
    short = (wanted - column_gaps(curves).amax(1)).clamp(min=0)
    changed = curves.clone()
    for _ in range(2):
        changed[:, _JAW] = (changed[:, _JAW] + short * (wanted > 0) / _MM_PER_JAW).clamp(max=1)
        short = (wanted - column_gaps(changed).amax(1)).clamp(min=0)
    return changed


@typed
def touch_teeth(curves: Float[Tensor, "t 52"], touching: Float[Tensor, "t"]) -> Float[Tensor, "t 52"]:
    """Brings the lower lip up to the upper incisors (f, v) where it must; the upper lip stays out of the way.

    Args:
        curves: ARKit coefficients.
        touching: 0 free .. 1 contact.
    """
    return _reach(curves, touching, _below_teeth, _TOUCHING, ("mouthLowerDown",))


def _reach(
    curves: Tensor, amount: Tensor, gaps: Callable[[Tensor], Tensor], below: float, fading: Sequence[str]
) -> Tensor:
    """Shrinks gaps in proportion to `amount`, to `-below` mm at 1: fades curves, then the jaw, then mouthClose."""
    amount = amount.clamp(0, 1)[:, None]
    before = gaps(curves)
    wanted = (1 - amount) * before - amount * below
    needed = amount * (before - wanted).amax(1, keepdim=True).clamp(0, 1)  # all of it from 1 mm on
    changed = curves.clone()
    fade = [i for name, i in ARKIT_INDEX.items() if name.startswith(tuple(fading))]
    changed[:, fade] *= 1 - needed * _FADED
    jaw = changed[:, _JAW : _JAW + 1]
    changed[:, _JAW : _JAW + 1] = jaw - 0.5 * needed * (jaw - _EASY_JAW).clamp(min=0)
    unit = changed.new_zeros(1, changed.shape[1])
    unit[0, _CLOSE] = 1
    slope = (gaps(0 * unit) - gaps(unit)).clamp(min=1.0)
    for _ in range(4):
        short = ((gaps(changed) - wanted) / slope).amax(1, keepdim=True).clamp(min=0)
        changed = changed + short * unit * (amount > 0)
    changed[:, _CLOSE].clamp_(max=1)
    return torch.where(amount > 0, changed, curves)
