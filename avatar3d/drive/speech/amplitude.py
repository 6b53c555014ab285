"""How far a mouth that follows a recording opens: as far as tracked lips do.

Articulation averages what it is not sure of, so lips that follow a recording open too little. What is opened here is
closed again by the projections of `closure` where lips must meet.
"""

from jaxtyping import Float
from torch import Tensor

from avatar3d.types.arkit import ARKIT_NAMES
from avatar3d.typing import typed

OPENING = tuple(i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("jawOpen", "mouthUpperUp", "mouthClose")))
"""Curves that part the lips; and mouthClose, which is measured by the jaw."""


@typed
def opened(curves: Float[Tensor, "t 52"], gain: float) -> Float[Tensor, "t 52"]:
    """Curves whose openings are `gain` times as large; a mouth at rest stays so."""
    out = curves.clone()
    out[:, OPENING] = (gain * out[:, OPENING]).clamp(0, 1)
    return out
