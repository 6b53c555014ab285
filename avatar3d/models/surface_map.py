"""Where every vertex of one model lies on the surface of another.

Models are compared on one chart: the mean `head` with its mouth open, so that lips that touch are apart. Each known
mesh lies on it by its packaged table; what is between two meshes follows from that by nearest points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.candidates import INTERIOR
from avatar3d.models.landmark_file import topology_key
from avatar3d.models.linear import LinearModel
from avatar3d.models.registry import load
from avatar3d.models.tables import read_tables
from avatar3d.typing import typed

OPEN = 0.6
"""Of jawOpen, on the chart."""
OFF = 0.02
"""Vertices that lay so far off the bent head have no counterpart, metres."""
GAP = 0.0025
"""Distance on the chart up to which a vertex lies on a surface; large triangles cut corners, metres."""


@dataclass(frozen=True, kw_only=True)
class SurfaceMap:
    """For every vertex of a model, a point on another model's surface."""

    faces: Int[Tensor, "v"]
    weights: Float[Tensor, "v 3"]
    """Barycentric coordinates."""
    known: Bool[Tensor, "v"]
    """Vertices that have a counterpart: skin that both models have."""


_KEPT: dict[tuple[str, str], SurfaceMap] = {}


@typed
def surface_map(source: LinearModel, target: LinearModel) -> SurfaceMap:
    """Where the target's vertices lie on the source. Computed once per pair and process.

    Raises:
        ValueError: a mesh of which it is not known where it lies on `head`.
    """
    key = topology_key(source), topology_key(target)
    if key not in _KEPT:
        _KEPT[key] = _map(source, target)
    return _KEPT[key]


def _map(source: LinearModel, target: LinearModel) -> SurfaceMap:
    points, known = _chart(target)
    surface, usable = _chart(source)
    faces = usable[source.faces].all(1).nonzero()[:, 0]
    found = ops.nearest_on_mesh(points.double(), surface.double(), source.faces[faces])
    return SurfaceMap(
        faces=faces[found.face.long()],
        weights=found.barycentrics.float(),
        known=known & (found.distance < GAP),
    )


def _chart(model: LinearModel) -> tuple[Tensor, Tensor]:
    """Every vertex on the open-mouthed head, and which of them lie there."""
    head = load("head")
    opened = head.template + OPEN * head.expression_basis[head.expression_names.index("jawOpen")]
    if model.name == "head" and topology_key(model) == topology_key(head):
        inside = torch.zeros(len(opened), dtype=torch.bool)
        for name in INTERIOR:
            inside |= head.regions.get(name, inside)
        return opened, ~inside
    tables = read_tables(model.name)
    if tables is None or tables.topology != topology_key(model):
        raise ValueError(
            f"{model.name}: where this mesh of {len(model.template)} vertices lies on `head` is not known; expected "
            "head, flame, ict or arkit. tools/make_model_tables.py makes tables for further models."
        )
    at = points_on_faces(opened, head.faces, tables.head_faces, tables.head_weights)
    return at, tables.head_distance < OFF
