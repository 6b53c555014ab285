"""Which parts of a model take part in a registration, and how."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatar3d.geometry.surface import edges
from avatar3d.models.candidates import INTERIOR
from avatar3d.models.linear import LinearModel
from avatar3d.typing import typed

WEIGHTS = {"ear": 0.3, "neck": 0.15, "scalp": 0.1, "eyelid": 0.5, "lips_inner": 0.3, "lacrimal": 0.1}
"""How much of a scan's point counts for the coefficients, by the region that it is nearest to."""
STIFFNESS = {
    "ear": 3.0,
    "scalp": 4.0,
    "neck": 2.0,
    "eyelid": 3.0,
    "lid_margin": 6.0,
    "lips_inner": 4.0,
    "lacrimal": 6.0,
}
"""Of the free-form displacement."""
NAMED = ("forehead", "brows", "eyelids", "nose", "cheeks", "lips_outer", "chin", "jaw", "ears", "neck", "scalp")
"""Regions that are reported, where a model has them."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Masks and weights of one model."""

    shell: Bool[Tensor, "v"]
    """The skin and whatever hangs together with it."""
    component: Int[Tensor, "v"]
    """Number of the part that each vertex hangs together with."""
    interior: Bool[Tensor, "v"]
    """Eyeballs, sockets, mouth: what scans do not show, or not as it is."""
    eyeballs: dict[str, Bool[Tensor, "v"]]
    """By side."""
    faces: Int[Tensor, "g 3"]
    """Faces that scan points may be nearest to: skin and eyeballs."""
    weight: Float[Tensor, "v"]
    """For the coefficients, 0..1."""
    free_weight: Float[Tensor, "v"]
    """For the free-form displacement, 0..1."""
    stiffness: Float[Tensor, "v"]
    rim: Bool[Tensor, "v"]
    """Where the model's skin ends: at the neck."""
    face: Bool[Tensor, "v"]
    """Where likeness is decided and measured."""
    regions: dict[str, Bool[Tensor, "v"]]
    """To report by."""


def regions_named(model: LinearModel, *prefixes: str) -> Tensor:
    """Vertices of all regions whose names begin so."""
    out = torch.zeros(len(model.template), dtype=torch.bool)
    for name, mask in model.regions.items():
        if name.startswith(prefixes):
            out |= mask
    return out


@typed
def model_parts(model: LinearModel) -> Parts:
    """Sorts a model's vertices by what a scan can say of them."""
    count, faces = len(model.template), model.faces.long()
    e = edges(faces).numpy()
    graph = coo_matrix((np.ones(len(e)), (e[:, 0], e[:, 1])), (count, count))
    component = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    eyeballs = {s: model.regions[f"eyeball_{s}"] for s in ("left", "right") if f"eyeball_{s}" in model.regions}
    balls = torch.zeros(count, dtype=torch.bool)
    for mask in eyeballs.values():
        balls |= mask
    skin_like = ~regions_named(model, *INTERIOR)
    shell = component == torch.bincount(component[skin_like]).argmax()
    rim_margin = regions_named(model, "lips_inner", "lid_margin")
    interior = ~skin_like | (~shell & ~balls)
    hidden = interior & ~balls & ~rim_margin
    allowed = ~hidden[faces].any(1)
    rim = _rim(faces[shell[faces].all(1)], count) & ~regions_named(model, "eye", "lid", "lip", "mouth")
    if "neck" in model.regions:
        rim &= model.regions["neck"] | (model.template[:, 1] < model.template[:, 1].quantile(0.3))
    weight, stiffness = torch.ones(count), torch.ones(count)
    for prefix, value in WEIGHTS.items():
        weight[regions_named(model, prefix)] = value
    for prefix, value in STIFFNESS.items():
        mask = regions_named(model, prefix)
        stiffness[mask] = stiffness[mask].clamp_min(value)
    if "neck" not in model.regions:
        weight[model.template[:, 1] < model.template[:, 1].quantile(0.05)] = 0.15
    free = torch.ones(count)
    free[interior] = 0
    weight[interior] = 0
    weight[rim], free[rim] = 0, 0
    face = model.regions.get("face", weight >= 0.3) & ~interior
    regions = {n: model.regions[n] & ~interior for n in NAMED if n in model.regions}
    return Parts(
        shell=shell, component=component, interior=interior, eyeballs=eyeballs, faces=faces[allowed], weight=weight,
        free_weight=free, stiffness=stiffness, rim=rim, face=face, regions=regions,
    )  # fmt: skip


def _rim(faces: Tensor, count: int) -> Tensor:
    """Vertices on edges of a single face."""
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    unique, times = torch.unique(pairs, dim=0, return_counts=True)
    out = torch.zeros(count, dtype=torch.bool)
    out[unique[times == 1].flatten()] = True
    return out
