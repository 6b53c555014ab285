"""Which vertices may bear which landmark: lips told apart by how the jaw moves them, lids by the blink."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.models.linear import LinearModel
from avatar3d.models.paint import eye_zones
from avatar3d.types import face_points as points
from avatar3d.typing import typed

INTERIOR = (
    "eyeball_left", "eyeball_right", "eye_socket_left", "eye_socket_right", "mouth_cavity", "mouth_socket", "teeth",
    "teeth_upper", "teeth_lower", "gums_upper", "gums_lower", "gums_tongue", "tongue",
)  # fmt: skip


@typed
def jaw_share(model: LinearModel) -> Float[Tensor, "v"] | None:
    """How far each vertex goes along when the mouth opens, 0..1, or None for a model whose mouth does not open."""
    if "jawOpen" in model.expression_names:
        down = -model.expression_basis[model.expression_names.index("jawOpen")][:, 1]
        return (down / down.max()).clamp(0, 1)
    if "jaw" in model.joint_names:
        return model.skinning_weights[:, model.joint_index("jaw")].clone()
    return None


def _motion(model: LinearModel, name: str) -> Tensor | None:
    if name not in model.expression_names:
        return None
    length = model.expression_basis[model.expression_names.index(name)].norm(dim=1)
    return length / length.max()


@typed
def candidate_vertices(model: LinearModel, seen: Bool[Tensor, "v"]) -> Bool[Tensor, "478 v"]:
    """Masks of the vertices that may bear each landmark.

    Args:
        model: The model.
        seen: Vertices that pictures of the face show.
    """
    inside = torch.zeros_like(seen)
    for name in INTERIOR:
        if name in model.regions:
            inside |= model.regions[name]
    skin = seen & ~inside
    for name in ("mouth_cavity", "eye_socket_left", "eye_socket_right"):  # their rims are lip and lid
        if name in model.regions and name in ("mouth_cavity",):
            skin |= seen & model.regions[name] & model.regions.get("lips_inner", torch.zeros_like(seen))
    out = skin.repeat(points.COUNT, 1)

    share = jaw_share(model)
    if share is not None:
        for rows, keep in ((points.LIPS_UPPER, share < UPPER_LIP), (points.LIPS_LOWER, share > LOWER_LIP)):
            loose = share < 0.5 if rows is points.LIPS_UPPER else share > 0.2
            for row in rows:
                for i, point in enumerate(row):
                    out[point] &= loose if i in (0, len(row) - 1) else keep
    for side, name in (("left", "eyeBlinkLeft"), ("right", "eyeBlinkRight")):
        blink = _motion(model, name)
        margin = model.regions.get(f"lid_margin_upper_{side}")
        if margin is not None and (skin & margin).any():
            # in photographs these points are at the lashes; on lids without any the network sets them up to 2 mm higher
            for point in points.LIDS_UPPER[side]:
                out[point] &= margin
        elif blink is not None:
            for point in points.LIDS_UPPER[side][1:-1]:
                out[point] &= blink > 0.45
        if blink is not None:
            for point in points.LIDS_LOWER[side]:
                out[point] &= blink < 0.35
        ball = model.regions.get(f"eyeball_{side}")
        iris, _ = eye_zones(model, side)
        for point in points.IRIS[side]:
            out[point] = iris if iris.any() else torch.zeros_like(seen)
            if ball is not None and iris.any():
                centre = model.template[iris].mean(0)
                reach = (model.template[iris] - centre).norm(dim=1).max()
                out[point] = ball & ((model.template - centre).norm(dim=1) < 1.3 * reach)
    return out


UPPER_LIP, LOWER_LIP = 0.3, 0.4
"""Shares of the jaw's motion below and above which a vertex is upper and lower lip."""
