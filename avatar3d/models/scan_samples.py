"""A scan as registration sees it: points spread evenly over its surface, with normals and an estimate of its noise."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.geometry.surface import face_normals
from avatar3d.geometry.transform import apply
from avatar3d.models.scan_visibility import visible_points
from avatar3d.types.mesh import Mesh
from avatar3d.typing import typed

RADIUS = 0.003
"""About a sample, within which normals are averaged, metres."""
NEIGHBOURS = 24
BORDER = 0.002
"""Samples so near to a hole's edge are marked, metres."""


@dataclass(frozen=True, kw_only=True)
class ScanSamples:
    """Oriented points of a scan, metres."""

    points: Float[Tensor, "n 3"]
    normals: Float[Tensor, "n 3"]
    """Unit; outwards, unless `signless`."""
    area: Float[Tensor, "n"]
    """Of the surface that a sample stands for, square metres."""
    border: Bool[Tensor, "n"]
    """Near the edge of the surface or of a hole."""
    noise: float
    """Typical distance of the scan's points from the smooth surface, metres."""
    signless: bool = False
    """Whether normals may point either way: clouds without normals."""

    def moved(self, T: Float[Tensor, "4 4"]) -> "ScanSamples":
        """Under a similarity."""
        scale = float(torch.linalg.det(T[:3, :3].double()).abs() ** (1 / 3))
        turned = self.normals @ (T[:3, :3] / scale).to(self.normals).T
        return replace(
            self, points=apply(T.to(self.points), self.points), normals=turned, area=self.area * scale**2,
            noise=self.noise * scale,
        )  # fmt: skip

    def at(self, index: Tensor) -> "ScanSamples":
        """Some of them; areas are not changed."""
        return replace(
            self, points=self.points[index], normals=self.normals[index], area=self.area[index],
            border=self.border[index],
        )  # fmt: skip

    def outwards(self, reference: Float[Tensor, "n 3"]) -> "ScanSamples":
        """With normals to the side of other ones."""
        sign = torch.where((self.normals * reference).sum(1, keepdim=True) < 0, -1.0, 1.0)
        return replace(self, normals=self.normals * sign, signless=False)


@typed
def sample_scan(
    mesh: Mesh,
    T_metres_scan: Float[Tensor, "4 4"],
    centre: Float[Tensor, "3"],
    *,
    reach: float = 0.2,
    count: int = 60_000,
    seed: int = 0,
) -> ScanSamples:
    """Spreads points over the part of a scan about a head.

    Args:
        mesh: A mesh or cloud.
        T_metres_scan: Brings it to metres.
        centre: Of the head, metres.
        reach: What is farther from the centre is left out, metres.
        count: Samples, at most.
        seed: Of the randomness.
    """
    v = apply(T_metres_scan.double(), mesh.vertices.double()).float()
    if mesh.faces is None:
        return _of_cloud(v, mesh, T_metres_scan, centre, reach, count, seed)
    faces = mesh.faces[((v[mesh.faces] - centre).norm(dim=2) < reach).all(1)]
    generator = torch.Generator().manual_seed(seed)
    flat = face_normals(v, faces)
    area = 0.5 * flat.norm(dim=1)
    total = float(area.sum())
    if total <= 0:
        return _none()
    chosen = torch.multinomial(
        (area / total).double(), min(count, max(2000, 4 * len(faces))), True, generator=generator
    )
    chosen = chosen.sort().values
    a, b = torch.rand(2, len(chosen), generator=generator)
    a, b = torch.where(a + b > 1, 1 - a, a), torch.where(a + b > 1, 1 - b, b)
    share = torch.stack([1 - a - b, a, b], 1)
    corners = v[faces[chosen]]
    points = (corners * share[..., None]).sum(1)
    outer = visible_points(v, mesh.faces, points, centre, reach)
    points, chosen = points[outer], chosen[outer]
    if len(points) < 16:
        return _none()
    own = normalize(flat[chosen], dim=1)
    tree = KDTree(points.numpy())
    distance, near = tree.query(points.numpy(), k=min(NEIGHBOURS, len(points)), distance_upper_bound=RADIUS, workers=2)
    missing = torch.from_numpy(~np.isfinite(distance))
    near = torch.from_numpy(np.where(np.isfinite(distance), near, np.arange(len(points))[:, None]))
    beside = own[near] * ((own[near] * own[:, None]).sum(2, keepdim=True) > -0.2)
    beside[missing] = 0
    normals = normalize(beside.sum(1) + own, dim=1)
    return ScanSamples(
        points=points, normals=normals, area=torch.full((len(points),), total / len(outer)),
        border=_near_border(v, faces, points),
        noise=max(_noise(points, near, missing, normals), _roughness(v, faces, flat)),
    )  # fmt: skip


def _none() -> ScanSamples:
    empty = torch.zeros(0, 3)
    return ScanSamples(points=empty, normals=empty, area=torch.zeros(0), border=torch.zeros(0).bool(), noise=0.0)


def _noise(points: Tensor, near: Tensor, missing: Tensor, normals: Tensor) -> float:
    """From how rough the surface is over a few samples: distances along the normal from a local plane."""
    off = ((points[near] - points[:, None]) * normals[:, None]).sum(2)
    off = torch.where(missing, torch.nan, off)
    rough = off.nanmean(1).abs()
    return float(1.4826 * rough.nanmedian().nan_to_num(0.0))


def _roughness(v: Tensor, faces: Tensor, flat: Tensor) -> float:
    """How far vertices lie off the mean of their neighbours, along the normal."""
    both = torch.cat([faces, faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]])
    count = len(v)
    times = torch.zeros(count).index_add_(0, both[:, 0], 2 * torch.ones(len(both)))
    total = torch.zeros(count, 3).index_add_(0, both[:, 0], v[both[:, 1]] + v[both[:, 2]])
    normal = torch.zeros(count, 3).index_add_(0, both[:, 0], flat.repeat(3, 1))
    used = times >= 10  # inner vertices, about
    off = ((v - total / times.clamp_min(1)[:, None]) * normalize(normal, dim=1)).sum(1)[used]
    # a mean of six neighbours errs too
    return float(1.4826 / 1.08 * (off - off.median()).abs().median()) if len(off) else 0.0


def _near_border(v: Tensor, faces: Tensor, points: Tensor) -> Tensor:
    """Samples beside edges of one face; vertices in one place count as one."""
    _, index = torch.unique((v / 1e-7).round().long(), dim=0, return_inverse=True)
    f = index[faces]
    pairs = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(1).values
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, which, times = torch.unique(pairs, dim=0, return_inverse=True, return_counts=True)
    lonely = ends[times[which] == 1]
    if not len(lonely):
        return torch.zeros(len(points), dtype=torch.bool)
    edge = torch.cat([v[lonely[:, 0]], v[lonely[:, 1]], v[lonely].mean(1)])
    distance, _ = KDTree(edge.numpy()).query(points.numpy(), distance_upper_bound=BORDER, workers=2)
    return torch.from_numpy(np.isfinite(distance))


def _of_cloud(v: Tensor, mesh: Mesh, T: Tensor, centre: Tensor, reach: float, count: int, seed: int) -> ScanSamples:
    inside = ((v - centre).norm(dim=1) < reach).nonzero()[:, 0]
    if len(inside) < 16:
        return _none()
    if len(inside) > count:
        order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))
        inside = inside[order[:count]]
    points = v[inside]
    distance, near = KDTree(points.numpy()).query(points.numpy(), k=min(NEIGHBOURS, len(points)), workers=2)
    near = torch.from_numpy(near)
    spread = torch.from_numpy(distance).float()
    q = points[near] - points[near].mean(1, keepdim=True)
    values, axes = torch.linalg.eigh(torch.einsum("nki,nkj->nij", q, q) / q.shape[1])
    normals = axes[:, :, 0]
    signless = mesh.normals is None
    if mesh.normals is not None:
        given = normalize(mesh.normals[inside] @ T[:3, :3].float().T, dim=1)
        normals = torch.where((normals * given).sum(1, keepdim=True) < 0, -normals, normals)
    # a point at an edge has its neighbours on one side
    lopsided = (points - points[near].mean(1)).norm(dim=1) / spread[:, -1].clamp_min(1e-9)
    # a smooth surface bends by about its radius squared over its curvature's
    noise = float((values[:, 0].clamp_min(0).sqrt()).median())
    return ScanSamples(
        points=points, normals=normals, area=(torch.pi * spread[:, -1].square() / near.shape[1]).clamp_max(1e-4),
        border=lopsided > 0.45, noise=noise, signless=signless,
    )  # fmt: skip


@typed
def nearest_samples(
    samples: ScanSamples, points: Float[Tensor, "v 3"], normals: Float[Tensor, "v 3"], lift: float = 0.006
) -> tuple[Int[Tensor, "v"], Float[Tensor, "v"]]:
    """For every point the nearest sample that faces the same way, and the distance to it, metres.

    Args:
        samples: The scan's.
        points: Of a model.
        normals: Theirs.
        lift: A difference of normals by 1 counts as this distance, metres.
    """
    tree = KDTree(torch.cat([samples.points, lift * samples.normals], 1).numpy())
    index = torch.from_numpy(tree.query(torch.cat([points, lift * normals], 1).numpy(), workers=2)[1])
    return index, (samples.points[index] - points).norm(dim=1)
