"""How far a registered model is from its scan, in millimetres."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply
from avatar3d.models.linear import LinearModel
from avatar3d.models.registration_parts import Parts
from avatar3d.models.scan_visibility import visible_points
from avatar3d.ops import nearest_on_mesh
from avatar3d.types.mesh import Mesh
from avatar3d.typing import typed

FACE_REACH = 1.4
"""Radius of the face region about the nose, as NoW crops scans: of half the eyes' distance and the nose's length."""
REACH = 0.3
"""Of a head about its middle, metres."""
BESIDE = 0.02
"""Distance from which a point of the scan is of nothing that the model has, metres; outside the face region only."""


@dataclass(frozen=True, kw_only=True)
class SurfaceDistance:
    """Unsigned distances of a scan's points from a surface, millimetres."""

    median: float
    p95: float
    points: int


@typed
def visible_scan(scan: Mesh, T_model_scan: Float[Tensor, "4 4"]) -> Float[Tensor, "n 3"]:
    """A scan's own points in model space, without those that no face names and those that lie within it."""
    if scan.faces is None:
        return apply(T_model_scan.double(), scan.vertices.double()).float()
    used, corners = scan.faces.unique(return_inverse=True)
    points = apply(T_model_scan.double(), scan.vertices[used].double()).float()
    return points[visible_points(points, corners.view(-1, 3), points, points.median(0).values, REACH)]


@typed
def face_crop(model: LinearModel, vertices: Float[Tensor, "v 3"], points: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
    """Points within a sphere about the face: NoW's crop, by the model's own landmarks."""
    e = model.landmarks["mediapipe478"]
    right, left, bridge, bottom = points_on_faces(vertices, model.faces, e.faces, e.weights)[[33, 263, 168, 2]]
    nose = bridge - bottom
    radius = FACE_REACH * 0.5 * ((right - left).norm() + nose.norm())
    return (points - bottom - 0.3 * nose).norm(dim=1) <= radius


@typed
def measure_surface(
    model: LinearModel, parts: Parts, vertices: Float[Tensor, "v 3"], points: Float[Tensor, "n 3"]
) -> dict[str, SurfaceDistance]:
    """Distances of all points in the face region ("face"), and by the model's region that points are nearest to.

    Args:
        model: The model.
        parts: Its parts.
        vertices: Posed as the scan, metres.
        points: The scan's own, in the same space.
    """
    points = points[(points - vertices.mean(0)).norm(dim=1) < REACH]
    if not len(points):
        return {}
    found = nearest_on_mesh(points, vertices, model.faces)
    corners = model.faces.long()[found.face.long()]
    nearest = corners.gather(1, found.barycentrics.argmax(1, keepdim=True))[:, 0]
    out = {"face": _summary(found.distance[face_crop(model, vertices, points)])}
    on = (found.distance < BESIDE) & ~parts.rim[nearest]
    for name, mask in parts.regions.items():
        mine = on & mask[nearest]
        if mine.sum() >= 10:
            out[name] = _summary(found.distance[mine])
    return out


def _summary(distance: Tensor) -> SurfaceDistance:
    if not len(distance):
        return SurfaceDistance(median=float("nan"), p95=float("nan"), points=0)
    d = distance.double() * 1e3
    return SurfaceDistance(median=float(d.median()), p95=float(torch.quantile(d[: 10**7], 0.95)), points=len(d))
