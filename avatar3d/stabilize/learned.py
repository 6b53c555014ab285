"""The learned method: the rigid motion of the skull between two meshes of one person in one topology.

A `View` holds what is known of one mesh: where it lies on the mean head, and its patches. The other meshes are then
compared with it one by one.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar3d.errors import TrackingError
from avatar3d.geometry.surface import vertex_normals
from avatar3d.nets.stabilizer import Patches, Still, at_rest, first, glance, look, neighbours
from avatar3d.stabilize import packaged
from avatar3d.stabilize.align import moved, robust_fit
from avatar3d.stabilize.locate import FEWEST, locate
from avatar3d.stabilize.patches import MOST, cells, chosen, group, means
from avatar3d.stabilize.regions import upper_face
from avatar3d.typing import typed

FOREHEAD = (0.0, 0.08, 0.09)
"""In the mean head's frame, metres: where errors are told."""
LOOKS = 2
"""Looks at each pair; a third changes nothing that matters."""
DOUBTED = 0.7e-3
"""Metres of expected error at which half of what the network adds to the robust fit of the upper face is believed:
noise on a narrow face leads it astray."""

SURELY = 0.999
"""Shares above this are all."""

Held = TypeVar("Held", Patches, Still)


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
    average: csr_array
    """[p, u]: means over the vertices of each patch that is looked at."""
    located: np.ndarray
    """[u, 3] the vertices in the mean head's frame, metres."""
    trusted: np.ndarray
    """[p] weights of the first, robust fit."""
    x: Float[Tensor, "p 3"]
    count: Float[Tensor, "p"]
    patches: Patches
    """As they are seen; unmoved."""
    near: tuple[Int[Tensor, "1 _ j"], Int[Tensor, "1 p k"]]
    """Neighbours of the patches of a first glance among themselves, and of all."""
    still: tuple[Still, Still]
    """Features of both that no motion changes."""


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
    located, count = x.numpy(), counts[0, kept]
    x, normal = both[0, kept, :3], torch.nn.functional.normalize(both[0, kept, 3:], dim=-1)
    at = x[None].float()
    seen = Patches(x=at, y=at, normal=normal[None].float(), spread=0 * at[..., 0], count=count[None].float(),
                   mask=torch.ones(1, len(x), dtype=torch.bool))  # fmt: skip
    both = first(seen, glance(len(x))), seen
    near = neighbours(both[0].x, both[0].mask), neighbours(both[1].x, both[1].mask)
    row = torch.full((patches,), -1)
    row[kept] = torch.arange(len(kept))
    row = row[number[0]]
    inside = (row >= 0).nonzero()[:, 0]
    share = (1 / count)[row[inside]]
    average = csr_array((share.numpy(), (row[inside].numpy(), inside.numpy())), shape=(len(kept), len(index)))
    # from the upper face, where that is seen: an open jaw turns a robust fit of everything by degrees
    upper = count * upper_face(x)
    trusted = upper if int((upper > 0).sum()) >= FEWEST else count
    return View(vertices=vertices, T_head_mesh=T, index=index, average=average, located=located,
                trusted=trusted.numpy(), x=x, count=count, patches=seen, near=near,
                still=(at_rest(both[0], near[0]), at_rest(both[1], near[1])))  # fmt: skip


@typed
def compare(seen: View, other: Float[Tensor, "v 3"], *, steps: int = LOOKS) -> Compared:
    """The skull's motion from the view to another mesh of the same topology.

    Raises:
        ValueError: the other mesh has another number of vertices.
    """
    return _compare(seen, other[None], steps)[0]


@typed
def compare_many(seen: View, others: Float[Tensor, "t v 3"], *, steps: int = LOOKS) -> list[Compared]:
    """The skull's motion from the view to each of several meshes.

    Raises:
        ValueError: the other meshes have another number of vertices.
    """
    return _compare(seen, others, steps)


def _compare(seen: View, others: Tensor, steps: int) -> list[Compared]:
    if others.shape[1] != len(seen.vertices):
        raise ValueError(
            f"stabilize: {others.shape[1]} vertices, and {len(seen.vertices)} were expected: meshes of one topology."
        )
    b, x = len(others), seen.x.numpy()
    H = seen.T_head_mesh.numpy()
    aligned, spread, align = [], [], []
    for other in others[:, seen.index].double().numpy():
        gone = other @ H[:3, :3].T + H[:3, 3]
        y = seen.average @ gone
        R, t = robust_fit(y, x, seen.trusted, iterations=6)
        y = y @ R.T + t
        off = gone @ R.T + t - seen.located
        square = seen.average @ np.einsum("uc,uc->u", off, off)
        aligned.append(y)
        spread.append(np.sqrt((square - np.square(y - x).sum(1)).clip(0)))
        align.append(_matrix(R, t))
    y, off = (torch.from_numpy(np.stack(v)).float() for v in (aligned, spread))
    patches = _many(replace(seen.patches, y=y, spread=off), b)
    near = seen.near[0].expand(b, -1, -1), seen.near[1].expand(b, -1, -1)
    still = _many(seen.still[0], b), _many(seen.still[1], b)
    with torch.inference_mode():
        last = look(packaged.networks()[1], patches, near, still, steps=steps)[-1]
        weight = last.weight / last.weight.sum(1, keepdim=True)
        doubt = (weight * last.log_error.exp()).sum(1).tolist()
    found = []
    for i, step in enumerate(last.T_y_x.double().numpy()):
        w = weight[i].double().numpy()
        error = max(doubt[i], _standard_error(x, aligned[i], last.own[i].double().numpy(), w, step))
        step = _partly(step, 1 / (1 + (error / DOUBTED) ** 4), w @ x)
        T = np.linalg.inv(align[i] @ H) @ step @ H
        U, _, Vt = np.linalg.svd(T[:3, :3])
        T[:3, :3] = U @ Vt  # rounding taken out
        found.append(Compared(T_other_view=torch.from_numpy(T), error=error, weight=weight[i]))
    return found


def _many(held: Held, b: int) -> Held:
    """The same for all of a batch."""
    return type(held)(**{k: v.expand(b, *v.shape[1:]) for k, v in vars(held).items()}) if b > 1 else held


def _matrix(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


def _partly(T: np.ndarray, share: float, about: np.ndarray) -> np.ndarray:
    """A share of a motion: of its turn, and of how it moves a point."""
    if share > SURELY:
        return T
    R = Rotation.from_rotvec(share * Rotation.from_matrix(T[:3, :3]).as_rotvec()).as_matrix()
    moved_by = share * (T[:3, :3] @ about + T[:3, 3] - about)
    return _matrix(R, about + moved_by - R @ about)


def _standard_error(x: np.ndarray, y: np.ndarray, own: np.ndarray, weight: np.ndarray, T: np.ndarray) -> float:
    """How far the forehead may be off by what the patches disagree, metres: few of them, close together, leave the
    rotation open."""
    left = (y - T[:3, 3]) @ T[:3, :3] - x - own
    left -= weight @ left
    centre = weight @ x
    apart = x - centre
    count = 1 / (weight @ weight)
    variance = float(weight @ np.einsum("pc,pc->p", left, left)) / 3 / max(count - 2, 1)
    S = (apart * weight[:, None]).T @ apart
    lever = np.array(FOREHEAD) - centre
    K = np.cross(np.eye(3), lever)  # its transpose times itself is all that is asked for
    turn = np.trace(K.T @ np.linalg.solve((np.trace(S) + 1e-9) * np.eye(3) - S, K))
    return float(np.sqrt(variance * (3 + turn)))
