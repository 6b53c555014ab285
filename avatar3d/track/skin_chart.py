"""The skin of the face as a grid of points: where a picture is compared with what the other pictures saw there.

The mean head is unrolled about a vertical axis behind the face. Points of that map are points of the surface, given
by a triangle and barycentric coordinates, so they move with identity and expression, linearly. Eyes, lids, ears,
scalp, neck and everything within the mouth are left out: landmarks know them better, or they are no skin.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.models.linear import LinearModel
from avatar3d.ops import rasterize

SPACING = 2.5e-3
"""Of the map, metres on the mean head."""
EVERY = 2
"""Of the map's rows and columns: what is compared. Tangents reach to the neighbours in between."""
AXIS = 0.105
"""Metres from the tip of the nose back to the axis."""
RADIUS = 0.08
"""At which angles are lengths."""
REACH = 0.12
"""Farthest point of the map to either side, metres at that radius."""
NO_SKIN = (
    "eyeball", "iris", "pupil", "teeth", "gums", "tongue", "mouth_cavity", "eye_socket", "lacrimal", "lips_inner",
    "eyelid", "ear", "scalp", "neck",
)  # fmt: skip
_FAR = 10.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A linear model's rows at points of its surface, float32."""

    points: Float[Tensor, "n 3"]
    identity: Float[Tensor, "n 3 k"]
    expression: Float[Tensor, "n 3 e"]


@dataclass(frozen=True, kw_only=True)
class SkinChart:
    """Points of a model's face."""

    face: Int[Tensor, "n"]
    weights: Float[Tensor, "n 3"]
    here: Rows
    across: Rows
    """Difference between the neighbours on either side, towards the subject's left."""
    down: Rows
    """Difference between the neighbours below and above."""


def is_charted(model: LinearModel) -> bool:
    """Whether the model tells its face from the rest, so that it can be unrolled."""
    return "face" in model.regions and any(name.startswith("eyeball") for name in model.regions)


def make_chart(model: LinearModel) -> SkinChart:
    """Unrolls a model's face."""
    v = model.template.double()
    skin = torch.ones(len(v), dtype=torch.bool)
    for name, mask in model.regions.items():
        if name.startswith(NO_SKIN):
            skin &= ~mask
    axis = float(v[model.regions["face"], 2].max()) - AXIS
    side = torch.atan2(v[:, 0], v[:, 2] - axis) * RADIUS
    out = (v[:, 0].square() + (v[:, 2] - axis).square()).sqrt()
    corners = model.faces.long()
    chosen = torch.nonzero(skin[corners].all(1) & (side[corners].abs() < REACH).all(1))[:, 0]
    used = corners[chosen].unique()
    left, top = float(side[used].min()), float(v[used, 1].max())
    width = int((float(side[used].max()) - left) / SPACING) + 1
    height = int((top - float(v[used, 1].min())) / SPACING) + 1
    depth = _FAR - out  # far from the axis is near to the eye; so far away that perspective does not matter
    points = torch.stack([(side - left) / SPACING * depth, (top - v[:, 1]) / SPACING * depth, depth], 1).float()
    raster = rasterize(points[None], model.faces[chosen].contiguous(), torch.eye(3)[None], width, height)
    triangle = raster.triangle[0].long()
    face, weights = chosen[triangle.clamp_min(0)], raster.barycentrics[0]
    ok = triangle >= 0
    y, x = torch.nonzero(ok[1:-1, 1:-1] & ok[:-2, 1:-1] & ok[2:, 1:-1] & ok[1:-1, :-2] & ok[1:-1, 2:]).unbind(1)
    sparse = (y % EVERY == 0) & (x % EVERY == 0)
    y, x = y[sparse] + 1, x[sparse] + 1

    def rows(dy: int, dx: int) -> Rows:
        at, share = corners[face[y + dy, x + dx]], weights[y + dy, x + dx]

        def gather(values: Tensor) -> Tensor:
            return (values[..., at, :] * share[:, :, None]).sum(-2)

        return Rows(
            points=gather(model.template),
            identity=gather(model.identity_basis).permute(1, 2, 0).contiguous(),
            expression=gather(model.expression_basis).permute(1, 2, 0).contiguous(),
        )

    return SkinChart(
        face=face[y, x], weights=weights[y, x], here=rows(0, 0),
        across=_difference(rows(0, 1), rows(0, -1)), down=_difference(rows(1, 0), rows(-1, 0)),
    )  # fmt: skip


def _difference(a: Rows, b: Rows) -> Rows:
    return Rows(points=a.points - b.points, identity=a.identity - b.identity, expression=a.expression - b.expression)
