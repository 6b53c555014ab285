"""How far a neutral face is from a scan of the person: the crop and protocol of the NoW benchmark.

Sanyal et al., "Learning to Regress 3D Face Shape and Expression from an Image without 3D Supervision" (CVPR 2019).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import apply, make_transform, procrustes
from avatar3d.typing import typed

NOW_LANDMARKS = (33, 133, 362, 263, 2, 61, 291)
"""The seven points of the first alignment in MediaPipe's scheme: right eye's outer and inner corner, left eye's inner
and outer corner, nose bottom, right and left mouth corner (the subject's)."""
NOSE_BRIDGE = 168
REFINE = 2000
"""Points of the scan, evenly chosen, that the alignment is refined on; all of the crop are measured."""
OUTER_RIGHT, OUTER_LEFT, NOSE_BOTTOM = 0, 3, 4
"""Of the seven."""


@dataclass(frozen=True, kw_only=True)
class SurfaceErrors:
    """Unsigned distances of scan points from a surface after alignment, millimetres."""

    distances: Float[Tensor, "n"]
    cropped: Bool[Tensor, "p"]
    """Which points of the scan were measured."""
    T_scan_mesh: Float[Tensor, "4 4"]
    """The alignment, with its scale."""

    @property
    def median(self) -> float:
        return float(self.distances.median())

    @property
    def mean(self) -> float:
        return float(self.distances.mean())

    @property
    def std(self) -> float:
        return float(self.distances.std())


@typed
def now_crop(
    scan: Float[Tensor, "p 3"], landmarks: Float[Tensor, "7 3"], nose_bridge: Float[Tensor, "3"]
) -> Bool[Tensor, "p"]:
    """Points of a scan within the benchmark's sphere about the face.

    Args:
        scan: Points.
        landmarks: `NOW_LANDMARKS` on the scan.
        nose_bridge: Between the eyes, on the scan.
    """
    outer = (landmarks[OUTER_RIGHT] - landmarks[OUTER_LEFT]).norm()
    nose = nose_bridge - landmarks[NOSE_BOTTOM]
    centre = landmarks[NOSE_BOTTOM] + 0.3 * nose
    return (scan - centre).norm(dim=1) <= 1.4 * 0.5 * (outer + nose.norm())


@typed
def now_errors(
    scan: Float[Tensor, "p 3"],
    scan_landmarks: Float[Tensor, "7 3"],
    nose_bridge: Float[Tensor, "3"],
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    landmarks: Float[Tensor, "7 3"],
    *,
    with_scale: bool = True,
    iterations: int = 30,
) -> SurfaceErrors:
    """Distances of a scan's points from an estimated surface.

    The surface is brought onto the scan by its seven landmarks (Procrustes), then by the least squares of the distances
    themselves (Gauss-Newton on rotation, translation and scale).

    Args:
        scan: Points of the true face, metres.
        scan_landmarks: `NOW_LANDMARKS` on it.
        nose_bridge: Between the eyes, on it.
        vertices: The estimate, metres.
        faces: Its triangles.
        landmarks: `NOW_LANDMARKS` on it.
        with_scale: False for the metrical variant: the estimate keeps its size.
        iterations: Steps of the refinement at most.
    """
    cropped = now_crop(scan, scan_landmarks, nose_bridge)
    points = scan[cropped].double()
    T = procrustes(landmarks.double(), scan_landmarks.double(), with_scale=with_scale)
    vertices, tree = vertices.double(), ops.face_tree(vertices.double(), faces)
    corners = vertices[faces]
    normals = torch.nn.functional.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1
    )
    few = points[:: max(1, len(points) // REFINE)]

    def measure(T: Tensor) -> tuple[float, Tensor, Tensor]:
        """Mean square distance, nearest points and their normals, on the scan's side."""
        found = ops.nearest_on_mesh(apply(torch.linalg.inv(T), few), vertices, faces, tree=tree)
        scale = _scale(T)
        facing = normals[found.face] @ (T[:3, :3] / scale).T
        return float((scale * found.distance).square().mean()), apply(T, found.point), facing

    cost, nearest, facing = measure(T)
    damping = 1e-6
    for _ in range(iterations):
        trial = _step(few, nearest, facing, damping, with_scale) @ T
        new, *rest = measure(trial)
        if new < cost:
            gain, T, cost, (nearest, facing), damping = cost - new, trial, new, rest, damping / 10
            if gain < 1e-4 * cost:
                break
        else:
            damping *= 30
            if damping > 1e3:
                break
    distance = ops.nearest_on_mesh(apply(torch.linalg.inv(T), points), vertices, faces, tree=tree).distance
    return SurfaceErrors(distances=1e3 * _scale(T) * distance, cropped=cropped, T_scan_mesh=T)


def _scale(T: Tensor) -> float:
    return float(torch.linalg.det(T[:3, :3])) ** (1 / 3)


def _step(points: Tensor, nearest: Tensor, normals: Tensor, damping: float, with_scale: bool) -> Tensor:
    """The move of the surface, [4, 4], that one damped Gauss-Newton step makes on the distances along its normals."""
    middle = nearest.mean(0)
    arm = nearest - middle
    # surface point q moves by w x a + t + s a; the residual n . (p - q) loses n . that
    columns = [torch.linalg.cross(arm, normals), normals]
    if with_scale:
        columns.append((arm * normals).sum(1, keepdim=True))
    J = torch.cat(columns, 1)
    residual = ((points - nearest) * normals).sum(1)
    H = J.T @ J
    # angles and scales move points by their distance from the middle
    unit = torch.full((len(H),), float(arm.square().sum()), dtype=J.dtype)
    unit[3:6] = len(arm)
    x = torch.linalg.solve(H + damping * torch.diag(unit), J.T @ residual)
    factor = 1 + x[6] if with_scale else torch.ones_like(x[0])
    A = factor * rotvec_to_matrix(x[:3])
    return make_transform(A, middle + x[3:6] - A @ middle)
