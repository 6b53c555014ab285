"""Meshes whose vertices are known: where each one lies on the `head` model, and how ARKit's shapes move it.

Known by their number of vertices: the `head` model's own, FLAME's (5023), ARKit's (1220), ICT-FaceKit's whole or cut to
its first parts, and any mesh whose owner gives the correspondence. No model file is needed for that; where one is in
the assets folders, its own shapes are used.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d.errors import AssetError, FileError, FormatError
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply
from avatar3d.models import ict
from avatar3d.models.arkit import arkit_shapes, named_shapes
from avatar3d.models.correspondence import REACH, alignment
from avatar3d.models.landmark_file import topology_key
from avatar3d.models.linear import LinearModel
from avatar3d.models.registry import load
from avatar3d.models.tables import read_tables
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES
from avatar3d.typing import typed

COUNTS = {"flame": (5023,), "ict": (ict.VERTICES, ict.SHELLS, 17039, 14062, 11248, 9409, 6706), "arkit": (1220,)}
"""Vertices of the known meshes; of ICT's the first parts alone count, too (whole, head and neck, face, narrow face)."""
EYES = 0.1
"""What both eyeballs count together, beside the skin's 1."""
NEIGHBOURS = 5
WEIGHTS = {"lips_outer": 3.0, "lips_inner": 3.0, "eyelids": 2.0}
"""Lips and lids say more of an expression than cheeks."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A mesh with known vertices, in the space of the `head` model, metres, +y up, face along +z."""

    name: str
    reference: Float[Tensor, "v 3"]
    """A mean face in this topology."""
    shapes: Float[Tensor, "52 v 3"]
    """ARKit's displacements of it."""
    weights: Float[Tensor, "v"]
    """What every vertex says about expression and pose: its area, 0 where nothing is known. Sums to 1."""
    regions: dict[str, Bool[Tensor, "v"]] = field(default_factory=dict)
    head_faces: Int[Tensor, "v"]
    """The `head` model's face on which every vertex lies."""
    head_weights: Float[Tensor, "v 3"]
    known: Bool[Tensor, "v"]
    """Vertices that lie on `head`."""
    own: tuple[str, ...] = ()
    """Shapes that come from the mesh's own model; the others are `head`'s, carried over."""


@typed
def find_topology(vertices: int, name: str | None = None, *, assets: bool = True) -> Topology:
    """The known mesh with so many vertices.

    Args:
        vertices: Their number.
        name: Which mesh it is said to be: "head", "flame", "ict", "arkit"; by the number when left out.
        assets: Use the shapes of the user's own model file where there is one.

    Raises:
        FormatError: no known mesh has so many vertices.
    """
    head = load("head")
    counts = {"head": (len(head.template),), **COUNTS}
    found = [n for n, c in counts.items() if vertices in c and name in (None, n)]
    if not found:
        known = ", ".join(f"{n} {c[0]}" for n, c in counts.items())
        said = f", said to be {name}," if name else ""
        raise FormatError(
            f"A mesh of {vertices} vertices{said} is of no topology that is known ({known}). "
            "Pass its correspondence to the head model, or register the meshes first."
        )
    if found[0] == "head":
        return of_model(head)
    whole = _from_model(found[0]) if assets else None
    whole = _from_tables(found[0], head) if whole is None else whole
    return _cut(whole, vertices)


@typed
def of_correspondence(
    name: str, head_faces: Int[Tensor, "v"], head_weights: Float[Tensor, "v 3"], known: Bool[Tensor, "v"]
) -> Topology:
    """A mesh of any topology, of which it is known where its vertices lie on the `head` model.

    Args:
        name: What to call it.
        head_faces: Face of `head` for every vertex.
        head_weights: Barycentric coordinates on it.
        known: Vertices for which that holds.
    """
    out = _carried(name, load("head"), head_faces, head_weights, known, known.float(), {})
    if not any(bool(out.regions[f"eyeball_{side}"].any()) for side in ("left", "right")):
        gaze = torch.tensor([n.startswith("eyeLook") for n in ARKIT_NAMES])  # lids alone do not tell gaze from blinks
        out.shapes[gaze] = 0
    return out


@typed
def of_model(model: LinearModel) -> Topology:
    """The mesh of a model with ARKit shapes, its own or carried over, such as `head`, ICT or a FLAME file.

    Raises:
        ValueError: the model has neither ARKit shapes nor landmarks, or its mesh has no packaged correspondence.
    """
    head = load("head")
    if model.name == "head":
        faces, weights = _corners(model)
        known = torch.ones(len(model.template), dtype=torch.bool)
        T = torch.eye(4)
    else:
        tables = read_tables(model.name)
        if tables is None or tables.topology != topology_key(model):
            raise ValueError(f"{model.name}: where its vertices lie on `head` is not known.")
        faces, weights, known = tables.head_faces, tables.head_weights, torch.isfinite(tables.head_distance)
        T = torch.linalg.inv(alignment(head, model))
    reference = apply(T, model.template)
    return Topology(
        name=model.name,
        reference=reference,
        shapes=arkit_shapes(model) @ T[:3, :3].T,
        weights=skin_weights(reference, model.regions, known),
        regions=model.regions,
        head_faces=faces,
        head_weights=weights,
        known=known,
        own=tuple(n for n in model.expression_names if n in ARKIT_INDEX),
    )


def _from_model(name: str) -> Topology | None:
    try:
        return of_model(load(name))
    except (AssetError, FileError, FormatError, ValueError):
        return None


def _from_tables(name: str, head: LinearModel) -> Topology:
    tables = read_tables(name)
    assert tables is not None
    known = torch.isfinite(tables.head_distance)
    share = (2 - 2 * tables.head_distance / REACH).clamp(0, 1)
    out = _carried(name, head, tables.head_faces, tables.head_weights, known, share, tables.regions)
    return replace(out, shapes=torch.einsum("kj,jvc->kvc", tables.mixture, out.shapes))


def _carried(
    name: str,
    head: LinearModel,
    faces: Tensor,
    bary: Tensor,
    known: Tensor,
    share: Tensor,
    regions: dict[str, Tensor],
) -> Topology:
    def spread(values: Tensor) -> Tensor:
        return points_on_faces(values, head.faces, faces, bary)

    reference = spread(head.template)
    if not regions:
        masks = {n: spread(m[:, None].float().repeat(1, 3))[:, 0] > 0.5 for n, m in head.regions.items()}
        regions = {n: m & known for n, m in masks.items()}
    return Topology(
        name=name,
        reference=reference,
        shapes=spread(named_shapes(head)) * share[:, None],
        weights=skin_weights(reference, regions, known),
        regions=regions,
        head_faces=faces,
        head_weights=bary,
        known=known,
    )


def _corners(model: LinearModel) -> tuple[Tensor, Tensor]:
    """Every vertex as a corner of one of its faces."""
    face, weights = torch.zeros(len(model.template), dtype=torch.int64), torch.zeros(len(model.template), 3)
    for corner in range(3):
        face[model.faces[:, corner]] = torch.arange(len(model.faces))
    own = model.faces[face] == torch.arange(len(face))[:, None]
    weights[own] = 1
    return face, weights


def skin_weights(points: Tensor, regions: dict[str, Tensor], known: Tensor) -> Tensor:
    """Areas of the skin above the neck, from the distances to the next vertices, times what regions count."""
    skin = torch.zeros_like(known)
    for name in ("face", "scalp", "ears", "skull_attached"):
        skin |= regions.get(name, skin)
    balls = torch.zeros_like(known)
    for side in ("left", "right"):
        balls |= regions.get(f"eyeball_{side}", balls)
    skin = (skin if skin.any() else torch.ones_like(known)) & known & ~balls
    at = points[skin].double().numpy()
    distance, _ = KDTree(at).query(at, k=min(NEIGHBOURS, len(at)))
    area = torch.from_numpy(distance[:, 1:]).float().square().mean(1)
    out = torch.zeros(len(points))
    out[skin] = area.clamp(max=float(4 * area.median()))
    for name, value in WEIGHTS.items():
        if name in regions:
            out[regions[name]] *= value
    out = out / out.sum()
    if balls.any():
        out[balls] = EYES / int(balls.sum())
    return out / out.sum()


def _cut(whole: Topology, count: int) -> Topology:
    """The first vertices alone, or more vertices of which nothing is known."""
    had = len(whole.reference)
    if count == had:
        return whole

    def fit(x: Tensor, dim: int = 0) -> Tensor:
        if count < had:
            return x.narrow(dim, 0, count).contiguous()
        shape = list(x.shape)
        shape[dim] = count - had
        return torch.cat([x, x.new_zeros(shape)], dim)

    weights = fit(whole.weights)
    return replace(
        whole,
        reference=fit(whole.reference),
        shapes=fit(whole.shapes, 1),
        weights=weights / weights.sum(),
        regions={n: fit(m) for n, m in whole.regions.items()},
        head_faces=fit(whole.head_faces),
        head_weights=fit(whole.head_weights),
        known=fit(whole.known),
    )
