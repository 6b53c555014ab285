"""Detail of a scan that the avatar's mesh is too coarse for, as displacements and a normal map in its UVs.

Every texel of the skin is taken along its normal to the scan's surface. What is slow in that is the mesh's business
(registration left it), what is quick is wrinkles and pores, and noise: a band between the two is kept.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.appearance.chart import Chart, build_chart
from avatar3d.appearance.regions import faces_in, region, skin_faces
from avatar3d.geometry.surface import face_normals, vertex_normals
from avatar3d.geometry.tangents import bend_of, split_corners, vertex_tangents
from avatar3d.geometry.transform import apply
from avatar3d.ops import nearest_on_mesh
from avatar3d.types import Rig
from avatar3d.types.mesh import Mesh
from avatar3d.typing import typed

NEAR = 0.002
"""Displacements beyond that are holes, hair, or where registration failed, metres."""
FINE, COARSE = 0.0004, 0.006
"""Standard deviations of the Gaussians between which detail lies, metres."""
FADE = 0.0015
"""Slopes fade within so much of the edges of what a scan shows, metres."""
SPACING = 0.35
"""Of the scan's own edges: what is finer than that is between its vertices."""
ROUGHEST = 0.2
"""Median lean of normals that skin has at most; rougher is noise, and more is smoothed away."""
STEEPEST = 1.0
"""Slope at which normals stop to tilt."""
FLAT = (128, 128, 255)
HEMS = ("lips_inner", "lid_margin", "lacrimal")


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Images in the rig's UVs, row 0 the top."""

    displacement: Float[Tensor, "h w"]
    """Along the normal, metres; 0 where nothing is known."""
    normals: UInt8[Tensor, "h w 3"]
    """Tangent space as glTF has it: x along u, y along v (up), z out; (128, 128, 255) is flat. Relative to
    `geometry.tangents`."""
    slopes: Float[Tensor, "h w 2"]
    """The same as numbers: x / z and y / z; 0 is flat."""
    known: Bool[Tensor, "h w"]


@typed
def scan_detail(
    scan: Mesh, T_model_scan: Float[Tensor, "4 4"], posed: Float[Tensor, "v 3"], rig: Rig, *, size: int = 1024
) -> Detail | None:
    """The detail of a registered scan; None for a point cloud, which has no surface, and for a scan
    that is too coarse or too noisy to have any.

    Args:
        scan: The scan.
        T_model_scan: Brings it to model space.
        posed: The registered vertices, posed as the scan, model space.
        rig: The avatar's, in one texture.
        size: Side of the images.
    """
    if scan.faces is None:
        return None
    chart, faces = build_chart(rig, size), rig.faces.long()
    hems = faces_in(rig, region(rig, *HEMS))  # thin folds that scans show as they happened to lie
    pick = chart.of_faces(skin_faces(rig) & ~hems)
    n = normalize(chart.interpolate(vertex_normals(posed, faces), faces, pick), dim=1)
    where = _rounded(posed, faces[chart.face[pick].long()], chart.weights[pick], vertex_normals(posed, faces))
    points = apply(T_model_scan.double(), scan.vertices.double()).float()
    found = nearest_on_mesh(where, points, scan.faces)
    across = face_normals(points, scan.faces)[found.face.long().clamp_min(0)]
    sided = (normalize(across, dim=1) * n).sum(1)
    near = found.distance < NEAR
    sided = sided * (1.0 if float(sided[near].sum()) >= 0 else -1.0)  # wound either way round
    gap = found.point - where
    along = (gap * n).sum(1)
    aside = (gap - along[:, None] * n).norm(dim=1)  # large beyond the scan's edges
    good = near & (sided > 0.5) & (aside < NEAR / 2)

    value, mask = torch.zeros(chart.count), torch.zeros(chart.count, dtype=torch.bool)
    value[pick], mask[pick] = along.where(good, 0), good
    known = chart.image(mask.float()) > 0
    raw, seen = chart.image(value).numpy(), known.numpy()
    per_texel = _texel_size(rig, posed, chart, pick)
    # at its holes and fringes a scan is worst; slopes fade there, as displacements that fade would slope
    inside = gaussian_filter(seen.astype(np.float32), FADE / per_texel)
    sure = torch.from_numpy((2 * inside - 1).clip(0, 1) * seen)[..., None]
    fine = max(FINE, SPACING * _spacing(points, scan.faces[found.face.long()[good]]))
    while bool(known.any()) and fine < COARSE / 2:
        displacement = torch.from_numpy(_band(raw, seen, fine / per_texel, COARSE / per_texel))
        slopes = sure * _slopes(displacement, known, rig, posed, chart)
        lean = slopes[known].norm(dim=1)
        if float((lean / (1 + lean.square()).sqrt()).median()) < ROUGHEST:
            return Detail(displacement=displacement, normals=_normals(slopes), slopes=slopes, known=known)
        fine *= 2  # noise, not skin
    return None


def _spacing(points: Tensor, faces: Tensor) -> float:
    """Median edge of the scan's faces that were hit."""
    if not len(faces):
        return 0.0
    corners = points[faces]
    return float((corners - corners.roll(1, 1)).norm(dim=2).median())


def _rounded(posed: Tensor, corners: Tensor, weights: Tensor, normals: Tensor) -> Tensor:
    """The surface that smooth shading pretends: points of flat faces lifted towards the corners' tangent planes.

    Boubekeur and Alexa, "Phong tessellation" (2008), with the share that is exact on a sphere. Without it the faces'
    flatness would come out as detail.
    """
    p = (posed[corners] * weights[..., None]).sum(1)
    height = ((posed[corners] - p[:, None]) * normals[corners]).sum(2)
    return p + 0.5 * (weights[..., None] * height[..., None] * normals[corners]).sum(1)


def _texel_size(rig: Rig, posed: Tensor, chart: Chart, pick: Tensor) -> float:
    """Metres per texel on the skin, in the median."""
    p_u, p_v = _derivatives(rig, posed)
    area = torch.linalg.cross(p_u, p_v).norm(dim=1)[chart.face[pick].long()]
    return float(area.median().sqrt()) / chart.size


def _derivatives(rig: Rig, posed: Tensor) -> tuple[Tensor, Tensor]:
    """Of positions in u and v (up), per face, metres per unit of the texture."""
    a, b, c = posed[rig.faces.long()].unbind(1)
    ua, ub, uc = rig.uvs[rig.uv_faces.long()].unbind(1)
    e1, e2, d1, d2 = b - a, c - a, ub - ua, uc - ua
    det = d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1]
    det = torch.where(det.abs() < 1e-12, torch.full_like(det, 1e-12), det)[:, None]
    return (e1 * d2[:, 1:] - e2 * d1[:, 1:]) / det, (e2 * d1[:, :1] - e1 * d2[:, :1]) / det


def _band(value: np.ndarray, known: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """What lies between two Gaussians, over the known texels alone."""

    def smooth(sigma: float) -> np.ndarray:
        total = gaussian_filter(known.astype(np.float32), sigma)
        return gaussian_filter(np.where(known, value, 0).astype(np.float32), sigma) / np.maximum(total, 1e-6)

    return np.where(known, smooth(fine) - smooth(coarse), 0).astype(np.float32)


def _slopes(d: Tensor, known: Tensor, rig: Rig, posed: Tensor, chart: Chart) -> Tensor:
    """The displaced surface's normals in the undisplaced one's tangent space, x and y over z."""

    def slope(dim: int) -> Tensor:
        """Per texel towards higher indices, from neighbours that are known."""
        ahead, behind = d.roll(-1, dim), d.roll(1, dim)
        a, b = known.roll(-1, dim) & known, known.roll(1, dim) & known
        step = torch.where(a, ahead - d, 0) + torch.where(b, d - behind, 0)
        return step / (a.float() + b.float()).clamp_min(1)

    flat = chart.texel
    d_u = slope(1).reshape(-1)[flat] * chart.size
    d_v = -slope(0).reshape(-1)[flat] * chart.size
    p_u, p_v = (x[chart.face.long()] for x in _derivatives(rig, posed))
    a, b, c = (p_u * p_u).sum(1), (p_u * p_v).sum(1), (p_v * p_v).sum(1)
    det = (a * c - b * b).clamp_min(1e-20)
    gradient = p_u * ((c * d_u - b * d_v) / det)[:, None] + p_v * ((a * d_v - b * d_u) / det)[:, None]
    length = gradient.norm(dim=1, keepdim=True)
    gradient = gradient * (STEEPEST / length.clamp_min(1e-9)).clamp_max(1)
    vertex, uv, corners = split_corners(rig.faces, rig.uvs, rig.uv_faces)
    smooth = vertex_normals(posed, rig.faces)[vertex]
    tangents = vertex_tangents(posed[vertex], smooth, rig.uvs[uv].to(posed), corners)
    smooth, tangents = chart.interpolate(smooth, corners), chart.interpolate(tangents, corners)
    bend = bend_of(smooth, tangents, normalize(smooth, dim=1) - gradient)
    slopes = bend[:, :2] / bend[:, 2:].clamp_min(0.1)
    return chart.image(slopes * (STEEPEST / slopes.norm(dim=1, keepdim=True).clamp_min(STEEPEST)))


def _normals(slopes: Tensor) -> Tensor:
    """As a picture."""
    bend = normalize(torch.cat([slopes, torch.ones_like(slopes[..., :1])], -1), dim=-1)
    return (127.5 * bend + 128).floor().clamp(0, 255).to(torch.uint8)
