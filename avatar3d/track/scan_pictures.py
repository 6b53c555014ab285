"""Pictures of scans: any mesh or point cloud from any side, shaded so that the landmark networks see a face in it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import conv2d, normalize, pad

from avatar3d import ops
from avatar3d.geometry.surface import edges, vertex_normals
from avatar3d.types.mesh import Mesh

RADIUS = 0.13
"""Metres that 90 percent of a scan are scaled to lie within, for drawing: its units are not known yet."""
FIELD_OF_VIEW = math.radians(24)
BACKGROUND = 0.5
MOST_FACES = 150_000
"""Of a drawing; finer scans are drawn coarser."""
MOST_POINTS = 60_000
"""Of a cloud that is drawn."""
NEIGHBOURS = 12
"""Of a point of a cloud, by which its normal is found."""
DISC_BLUR = 0.7
"""Standard deviation of that smoothing in radii."""
SURFEL = 1.6
"""Radius of the disc that stands for a point of a cloud, in distances to its neighbours."""


@dataclass(frozen=True, kw_only=True)
class Drawable:
    """A scan as triangles in drawing units about the origin: p_drawn = (p_scan - centre) / unit."""

    points: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    normals: Float[Tensor, "v 3"]
    colours: Float[Tensor, "v 3"] | None
    """sRGB 0..1."""
    uv_corners: Float[Tensor, "f 3 2"] | None
    texture: UInt8[Tensor, "h w 3"] | None
    centre: Float[Tensor, "3"]
    unit: float
    disc: float = 0.0
    """Radius of the discs that stand for points, over which pictures are smoothed; 0 for a mesh."""

    def to_scan(self, points: Tensor) -> Tensor:
        """Drawing units to the scan's own."""
        return points.double() * self.unit + self.centre


@dataclass(frozen=True, kw_only=True)
class ScanPicture:
    """A picture of a scan, and where on it every pixel lies."""

    image: UInt8[np.ndarray, "h w 3"]
    surface: Float[Tensor, "h w 3"]
    """Drawing units; NaN beside the scan."""
    facing: Float[Tensor, "h w"]
    """Cosine between the surface and the line of sight, 0..1."""
    R: Float[Tensor, "3 3"]
    """Drawing axes to camera axes (OpenCV)."""
    target: Float[Tensor, "3"]
    distance: float
    focal: float

    def pixels_of(self, points: Tensor) -> Tensor:
        """Pixels of points in drawing units."""
        p = (points.float() - self.target) @ self.R.T
        size = self.image.shape[0]
        return self.focal * p[:, :2] / (p[:, 2:] + self.distance) + size / 2

    def lift(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Surface points [n, 3] that pixels [n, 2] show, NaN where they show none, and how they face the camera."""
        size = self.image.shape[0]
        cell = pixels.floor().long()
        best = torch.full((len(pixels),), torch.inf)
        point, facing = torch.full((len(pixels), 3), torch.nan), torch.zeros(len(pixels))
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                at = cell + torch.tensor([dx, dy])
                inside = ((at >= 0) & (at < size)).all(1)
                x, y = at.clamp(0, size - 1).unbind(1)
                here = self.surface[y, x]
                off = (at + 0.5 - pixels).norm(dim=1)
                better = inside & torch.isfinite(here[:, 0]) & (off < best)
                best = torch.where(better, off, best)
                point = torch.where(better[:, None], here, point)
                facing = torch.where(better, self.facing[y, x], facing)
        return point, facing


def make_drawable(mesh: Mesh, smoothing: int = 0) -> Drawable:
    """Prepares a scan for drawing.

    Args:
        mesh: The scan.
        smoothing: Rounds in which vertices are drawn to their neighbours' mean, for noisy scans.
    """
    v = mesh.vertices.double()
    centre = v.median(0).values
    reach = (v - centre).norm(dim=1)
    # floaters and floors count for little
    unit = float(reach.kthvalue(max(1, int(0.9 * len(reach)))).values) / RADIUS or 1.0
    points = ((v - centre) / unit).float()
    if mesh.faces is None:
        return _surfels(mesh, points, centre, unit, smoothing)
    colours = None if mesh.colours is None else mesh.colours.float() / 255
    faces, uv_corners, texture = mesh.faces, None, None
    if mesh.texture is not None and mesh.uvs is not None and mesh.uv_faces is not None:
        texture = mesh.texture
        uv_corners = mesh.uvs[mesh.uv_faces]
        colours = None
    if len(faces) > MOST_FACES:
        points, faces, kept, colours = _coarser(points, faces, colours)
        uv_corners = None if uv_corners is None else uv_corners[kept]
    points = _smoothed(points, faces, smoothing)
    normals = vertex_normals(points, faces)
    return Drawable(points=points, faces=faces.int(), normals=normals, colours=colours, uv_corners=uv_corners,
                    texture=texture, centre=centre, unit=unit)  # fmt: skip


def _smoothed(points: Tensor, faces: Tensor, rounds: int) -> Tensor:
    if not rounds:
        return points
    _, index = torch.unique(points, dim=0, return_inverse=True)  # seams of textures stay closed
    e = edges(index[faces])
    both = torch.cat([e, e.flip(1)])
    count = int(index.max()) + 1
    p = torch.zeros(count, 3).index_copy_(0, index, points)
    times = torch.zeros(count).index_add_(0, both[:, 0], torch.ones(len(both)))[:, None]
    for _ in range(rounds):
        mean = torch.zeros_like(p).index_add_(0, both[:, 0], p[both[:, 1]]) / times.clamp_min(1)
        p = torch.where(times > 0, 0.5 * p + 0.5 * mean, p)
    return p[index]


def _coarser(points: Tensor, faces: Tensor, colours: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The mesh with vertices joined within cells of a grid that leaves about `MOST_FACES` faces."""
    cell = 2 * RADIUS / 180
    for _ in range(6):
        key, index = torch.unique((points / cell).round().long(), dim=0, return_inverse=True)
        joined = index[faces]
        keep = (joined[:, 0] != joined[:, 1]) & (joined[:, 1] != joined[:, 2]) & (joined[:, 2] != joined[:, 0])
        if keep.sum() <= MOST_FACES:
            break
        cell *= 1.4
    count = torch.bincount(index, minlength=len(key)).clamp_min(1)[:, None]
    mean = torch.zeros(len(key), 3).index_add_(0, index, points) / count
    if colours is not None:
        colours = torch.zeros(len(key), 3).index_add_(0, index, colours) / count
    return mean, joined[keep], keep.nonzero()[:, 0], colours


def _surfels(mesh: Mesh, points: Tensor, centre: Tensor, unit: float, smoothing: int) -> Drawable:
    """A cloud as small squares along its surface."""
    pick = torch.arange(len(points))
    if len(points) > MOST_POINTS:
        pick = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:MOST_POINTS]
    p = points[pick]
    if len(p) < 16:
        corners = torch.zeros(0, 3, dtype=torch.int32)
        return Drawable(points=p, faces=corners, normals=p, colours=None, uv_corners=None, texture=None,
                        centre=centre, unit=unit)  # fmt: skip
    for _ in range(smoothing // 8):  # onto the plane through the neighbours: features stay
        near = torch.from_numpy(KDTree(p.numpy()).query(p.numpy(), k=min(2 * NEIGHBOURS, len(p)))[1])
        n = _axes(p, near)[:, :, 0]
        p = p + n * ((p[near].mean(1) - p) * n).sum(1, keepdim=True)
    distance, near = KDTree(p.numpy()).query(p.numpy(), k=min(NEIGHBOURS, len(p)))
    axes = _axes(p, torch.from_numpy(near))
    radius = SURFEL * torch.from_numpy(np.median(distance[:, 1:5], 1)).float()
    radius = radius.clamp_max(4 * float(radius.median()))[:, None]
    u, w, n = axes[:, :, 2] * radius, axes[:, :, 1] * radius, axes[:, :, 0]
    corners = torch.stack([p - u - w, p + u - w, p + u + w, p - u + w], 1).reshape(-1, 3)
    first = 4 * torch.arange(len(p))[:, None]
    faces = torch.cat([first + torch.tensor([0, 1, 2]), first + torch.tensor([0, 2, 3])])
    # neighbours smooth the shading; axes have no sign
    m = n[torch.from_numpy(near)]
    n = normalize((m * (m * n[:, None]).sum(2, keepdim=True).sign()).sum(1), dim=1)
    colours = None if mesh.colours is None else (mesh.colours[pick].float() / 255).repeat_interleave(4, 0)
    return Drawable(points=corners, faces=faces.int(), normals=n.repeat_interleave(4, 0), colours=colours,
                    uv_corners=None, texture=None, centre=centre, unit=unit, disc=float(radius.median()))  # fmt: skip


def _axes(p: Tensor, near: Tensor) -> Float[Tensor, "n 3 3"]:
    """Columns: the normal, then two axes of the plane through the neighbours."""
    q = p[near] - p[near].mean(1, keepdim=True)
    return torch.linalg.eigh(torch.einsum("nki,nkj->nij", q, q)).eigenvectors


def camera_axes(towards: Tensor, up: Tensor) -> Float[Tensor, "3 3"]:
    """Rotation from drawing axes to those of a camera that looks against `towards`, `up` upwards in the picture."""
    forward = -normalize(towards.float(), dim=0)
    right = torch.linalg.cross(forward, up.float())
    right = normalize(right, dim=0)
    return torch.stack([right, torch.linalg.cross(forward, right), forward])


def draw(
    scan: Drawable, R: Float[Tensor, "3 3"], target: Float[Tensor, "3"], width: float, size: int, headlight: float = 1.0
) -> ScanPicture:
    """A square picture of a scan.

    Args:
        scan: What to draw.
        R: Drawing axes to camera axes.
        target: What is in the middle, drawing units.
        width: What the picture shows at the target's distance, drawing units.
        size: Side, pixels.
        headlight: Share of the light that comes from the camera; the rest comes from above in the picture.
    """
    focal = size / 2 / math.tan(FIELD_OF_VIEW / 2)
    distance = width / 2 / math.tan(FIELD_OF_VIEW / 2)
    p = (scan.points - target) @ R.T + torch.tensor([0.0, 0, distance])
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    raster = ops.rasterize(p[None], scan.faces, K[None], size, size)
    seen = raster.triangle[0] >= 0
    face = raster.triangle[0].clamp_min(0).long()
    bary = raster.barycentrics[0]
    corners = scan.faces.long()[face]
    flat_n = normalize((scan.normals[corners] * bary[..., None]).sum(2), dim=-1) @ R.T
    # both sides are lit: windings may be either way round
    flat_n = torch.where(flat_n[..., 2:] > 0, -flat_n, flat_n)
    surface = (scan.points[corners] * bary[..., None]).sum(2)
    if scan.disc:
        sigma = DISC_BLUR * scan.disc * focal / distance
        flat_n = normalize(_blurred(flat_n, seen, sigma), dim=-1)
        surface = _blurred(surface, seen, sigma)
    facing = -flat_n[..., 2]
    if scan.texture is not None and scan.uv_corners is not None:
        uv = (scan.uv_corners[face] * bary[..., None]).sum(2)
        h, w = scan.texture.shape[:2]
        column = (uv[..., 0].remainder(1) * w).long().clamp(0, w - 1)
        row = ((1 - uv[..., 1].remainder(1)) * h).long().clamp(0, h - 1)
        colour = scan.texture[row, column].float() / 255
    else:
        above = (0.75 * facing - 0.66 * flat_n[..., 1]).clamp_min(0)
        light = (0.12 + 0.88 * (headlight * facing + (1 - headlight) * above)).clamp(0, 1)
        if scan.colours is not None:
            colour = (scan.colours[corners] * bary[..., None]).sum(2) * (0.4 + 0.6 * light[..., None])
        else:
            colour = light[..., None] ** (1 / 1.6) * torch.tensor([0.86, 0.74, 0.68])
    image = torch.where(seen[..., None], colour, torch.tensor(BACKGROUND))
    surface = torch.where(seen[..., None], surface, torch.nan)
    return ScanPicture(
        image=(255 * image.clamp(0, 1)).round().to(torch.uint8).numpy(),
        surface=surface,
        facing=torch.where(seen, facing, 0.0),
        R=R,
        target=target,
        distance=distance,
        focal=focal,
    )


def _blurred(image: Tensor, seen: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur [h, w, 3] that stays within what is seen."""
    reach = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-reach, reach + 1).float()
    kernel = torch.exp(-0.5 * (x / max(sigma, 0.3)).square())
    kernel = kernel / kernel.sum()
    planes = torch.cat([image * seen[..., None], seen[..., None].float()], -1).permute(2, 0, 1)[:, None]
    planes = conv2d(pad(planes, (reach, reach, 0, 0)), kernel.view(1, 1, 1, -1))
    planes = conv2d(pad(planes, (0, 0, reach, reach)), kernel.view(1, 1, -1, 1))[:, 0].permute(1, 2, 0)
    return planes[..., :3] / planes[..., 3:].clamp_min(1e-6)
