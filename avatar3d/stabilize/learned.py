"""The learned method: the rigid motion of the skull between two meshes of one person in one topology.

A `View` holds what is known of one mesh: where it lies on the mean head, and its patches. The other meshes are then
compared with it one by one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.errors import TrackingError
from avatar3d.geometry.rotation import skew
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.transform import invert_rigid
from avatar3d.nets.stabilizer import Look, Patches, look, neighbours
from avatar3d.stabilize import packaged
from avatar3d.stabilize.align import moved, robust_procrustes
from avatar3d.stabilize.locate import FEWEST, locate
from avatar3d.stabilize.patches import MOST, cells, chosen, group, means
from avatar3d.stabilize.regions import upper_face
from avatar3d.typing import typed

FOREHEAD = (0.0, 0.08, 0.09)
"""In the mean head's frame, metres: where errors are told."""
LOOKS = 2
"""Looks at each pair; a third changes nothing that matters."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a comparison of a mesh with a view found."""

    T_other_view: Float[Tensor, "4 4"]
    """The skull's motion, in the meshes' own frame and units; float64."""
    error: float
    """How far off it may be at the forehead, metres of the mean head: by the network's own doubt, and by how well the
    patches that count agree."""
    weight: Float[Tensor, "p"]
    """Share of each patch in the fit."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One mesh, located and cut into patches."""

    vertices: Float[Tensor, "v 3"]
    T_head_mesh: Float[Tensor, "4 4"]
    """A similarity to the mean head's frame, metres."""
    index: Int[Tensor, "u"]
    """Vertices that are in a face."""
    number: Int[Tensor, "u"]
    """Patch of each of them."""
    kept: Int[Tensor, "p"]
    """Patches that are looked at."""
    x: Float[Tensor, "p 3"]
    normal: Float[Tensor, "p 3"]
    count: Float[Tensor, "p"]
    near: Int[Tensor, "1 p k"]
    """Neighbours of every patch."""
    patches: int


@typed
def view(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], *, T_head_mesh: Float[Tensor, "4 4"] | None = None
) -> View:
    """Locates a mesh and cuts it into patches; the other meshes of the person are then compared with it.

    Args:
        vertices: Positions, any unit.
        faces: Triangles; vertices that are in none are left out.
        T_head_mesh: Where the face lies, where that is known; found when left out.

    Raises:
        TrackingError: this is not the surface of a face.
    """
    vertices = vertices.double()
    used = torch.zeros(len(vertices), dtype=torch.bool)
    used[faces.reshape(-1).long()] = True
    index = used.nonzero()[:, 0]
    centred = vertices - vertices[index].mean(0)
    normals = vertex_normals(centred, faces)[index]
    T = locate(vertices[index], normals) if T_head_mesh is None else T_head_mesh.double()
    x = moved(T, vertices[index])
    R = T[:3, :3] / torch.linalg.det(T[:3, :3]).pow(1 / 3)
    number, patches = group(cells(x[None]))
    both, counts = means(torch.cat([x, normals @ R.mT], -1)[None], number, patches)
    kept = chosen(counts, MOST, torch.Generator().manual_seed(0))[0]
    if len(kept) < FEWEST:
        raise TrackingError(f"stabilize: the surface falls into {len(kept)} patches of 1 cm; a face was expected.")
    x, normal = both[0, kept, :3], torch.nn.functional.normalize(both[0, kept, 3:], dim=-1)
    near = neighbours(x[None].float(), torch.ones(1, len(x), dtype=torch.bool))
    return View(vertices=vertices, T_head_mesh=T, index=index, number=number[0], patches=patches, kept=kept,
                x=x, normal=normal, count=counts[0, kept], near=near)  # fmt: skip


@typed
def compare(seen: View, other: Float[Tensor, "v 3"], *, steps: int = LOOKS) -> Compared:
    """The skull's motion from the view to another mesh of the same topology.

    Raises:
        ValueError: the other mesh has another number of vertices.
    """
    return compare_many(seen, other[None], steps=steps)[0]


@typed
def compare_many(seen: View, others: Float[Tensor, "t v 3"], *, steps: int = LOOKS) -> list[Compared]:
    """The skull's motion from the view to each of several meshes.

    Raises:
        ValueError: the other meshes have another number of vertices.
    """
    if others.shape[1] != len(seen.vertices):
        raise ValueError(
            f"stabilize: {others.shape[1]} vertices, and {len(seen.vertices)} were expected: meshes of one topology."
        )
    b, T_head_mesh = len(others), seen.T_head_mesh
    gone = moved(T_head_mesh, others[:, seen.index].double())
    number = seen.number.expand(b, -1)
    y = means(gone, number, seen.patches)[0][:, seen.kept]
    x, count = seen.x.expand(b, -1, -1), seen.count.expand(b, -1)
    # from the upper face, where that is seen: an open jaw turns a robust fit of everything by degrees
    upper = seen.count * upper_face(seen.x)
    trusted = upper if int((upper > 0).sum()) >= FEWEST else seen.count
    align = torch.stack([robust_procrustes(p, seen.x, trusted, iterations=8) for p in y])
    y = moved(align, y)
    off = moved(align, gone) - moved(T_head_mesh, seen.vertices[seen.index])
    square = means(off.square().sum(-1, keepdim=True), number, seen.patches)[0][:, seen.kept, 0]
    spread = (square - (y - x).square().sum(-1)).clamp_min(0).sqrt()
    patches = Patches(
        x=x.float(), y=y.float(), normal=seen.normal.float().expand(b, -1, -1), spread=spread.float(),
        count=count.float(), mask=torch.ones(b, y.shape[1], dtype=torch.bool),
    )  # fmt: skip
    with torch.no_grad():
        last = look(packaged.networks()[1], patches, seen.near.expand(b, -1, -1), steps=steps)[-1]
    weight = last.weight / last.weight.sum(1, keepdim=True)
    error = (weight * last.log_error.exp()).sum(1).maximum(_standard_error(patches, last, weight))
    T = torch.linalg.inv(T_head_mesh) @ invert_rigid(align) @ last.T_y_x.double() @ T_head_mesh
    U, _, V = torch.linalg.svd(T[:, :3, :3])
    T[:, :3, :3] = U @ V  # rounding taken out
    return [Compared(T_other_view=t, error=float(e), weight=w) for t, e, w in zip(T, error, weight, strict=True)]


def _standard_error(patches: Patches, last: Look, weight: Tensor) -> Tensor:
    """[b] how far the forehead may be off by what the patches disagree, metres: few of them, close together, leave the
    rotation open."""
    T = last.T_y_x
    left = moved(invert_rigid(T), patches.y) - patches.x - last.own
    w = weight[..., None]
    centre = (w * patches.x).sum(1, keepdim=True)
    apart = patches.x - centre
    left = left - (w * left).sum(1, keepdim=True)
    count = 1 / weight.square().sum(1)
    variance = (w * left.square()).sum((1, 2)) / 3 / (count - 2).clamp_min(1)
    S = (apart * w).mT @ apart
    eye = torch.eye(3)
    inertia = S.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] * eye - S + 1e-9 * eye
    K = skew(torch.tensor(FOREHEAD) - centre[:, 0])
    turn = (K @ torch.linalg.inv(inertia) @ K.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (variance * (3 + turn)).sqrt()
