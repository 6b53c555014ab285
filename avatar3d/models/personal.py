"""One person's own model, and how that person's face departs from its shapes, shared out among them."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.surface import edges
from avatar3d.models.candidates import INTERIOR
from avatar3d.models.linear import LinearModel
from avatar3d.types import Rig
from avatar3d.typing import typed

DOUBT = 0.03
"""Squared ratio of what a registration errs by to what a shape departs by: coefficients of 0.17 are half believed."""
FADE = 6
"""Rings of vertices over which correctives fade at the edge of the face."""


@typed
def personal_model(model: LinearModel, rig: Rig) -> LinearModel:
    """A model that has one identity, the rig's, and the rig's shapes as its expressions."""
    v, j = rig.neutral.shape[0], len(rig.joint_names)
    return replace(
        model, template=rig.neutral, identity_basis=torch.zeros(1, v, 3), expression_basis=rig.shapes,
        expression_names=rig.shape_names, expression_scale=None, joint_template=rig.joint_positions,
        joint_identity_basis=torch.zeros(1, j, 3), joint_expression_basis=None, pose_basis=None,
    )  # fmt: skip


@typed
def shares(coefficients: Float[Tensor, "t k"]) -> Float[Tensor, "k t"]:
    """What each of k shapes takes of what was seen in t faces, by regularised least squares.

    Of all corrections per shape whose sums, weighted by the faces' coefficients, give what was seen, the smallest; a
    shape that no face shows gets none. With `c` the coefficients of any face, `c @ shares` is how much of each seen
    face is in it.
    """
    C = coefficients.double()
    gram = C @ C.T + DOUBT * torch.eye(len(C), dtype=C.dtype)
    return torch.linalg.solve(gram, C).T.to(coefficients)


@typed
def corrective_shapes(
    rig: Rig, coefficients: Float[Tensor, "t s"], departures: Float[Tensor, "t v 3"]
) -> Float[Tensor, "s v 3"]:
    """What to add to a rig's shapes so that they make the faces that were seen.

    Lids, eyeballs and the inside of the mouth keep their shapes: their contacts were made with care.

    Args:
        rig: The rig.
        coefficients: Of its shapes, for every face.
        departures: Of each face from neutral and shapes, metres.
    """
    telling = shares(coefficients)
    telling[torch.tensor([n.startswith(("eyeLook", "tongue")) for n in rig.shape_names])] = 0
    return torch.einsum("st,tvc->svc", telling, departures) * _open_face(rig)[:, None]


def _open_face(rig: Rig) -> Tensor:
    """1 on the skin of the face, 0 on lids, eyes and inside the mouth, fading at the edges."""

    def named(*prefixes: str) -> Tensor:
        out = torch.zeros(len(rig.neutral), dtype=torch.bool)
        for name, mask in rig.regions.items():
            if name.startswith(prefixes):
                out |= mask
        return out

    kept = named(*INTERIOR, "eyelid", "lid_margin", "lacrimal") & ~named("lips_inner")
    face = named("face") if "face" in rig.regions else ~kept
    open_face = (face & ~kept).float()
    e = edges(rig.faces.long())
    i, j = torch.cat([e[:, 0], e[:, 1]]), torch.cat([e[:, 1], e[:, 0]])
    degree = torch.zeros(len(open_face)).index_add(0, i, torch.ones(len(i))).clamp_min(1)
    weight = open_face
    for _ in range(FADE):
        mean = torch.zeros_like(weight).index_add(0, i, weight[j]) / degree
        weight = torch.minimum(open_face, 0.5 * weight + 0.5 * mean)
    return weight
