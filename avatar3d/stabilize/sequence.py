"""Head motion of a set or sequence of meshes of one person, by any of the methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.errors import UsageError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import invert_rigid, procrustes
from avatar3d.stabilize.align import moved, robust_procrustes
from avatar3d.stabilize.graph import Edges, average
from avatar3d.stabilize.learned import Compared, View, compare_many, view
from avatar3d.stabilize.regions import skull_attached, upper_face
from avatar3d.stabilize.welded import ONE, welded
from avatar3d.typing import typed

Method = Literal["learned", "full", "upper", "skull", "robust"]
METHODS: tuple[str, ...] = get_args(Method)
CHUNK = 8
FEW, VIEWS = 8, 3
"""So few meshes are looked at from several slightly different frames, whose patches differ."""
DOUBT = 0.5e-3
"""Metres of error at which the confidence is a half."""
LEAST = 1e-3
"""Metres, beyond five times the doubt, by which vertices that move as one may move against the estimate."""


@dataclass(frozen=True, kw_only=True)
class Stabilized:
    """Where the skull is in every frame."""

    T_frame_anchor: Float[Tensor, "t 4 4"]
    """The skull's motion from the anchor's frame to every frame, in the meshes' units; float64."""
    confidence: Float[Tensor, "t"]
    """0..1; 1 for the anchor."""
    T_head_mesh: Float[Tensor, "4 4"]
    """Similarity from the anchor's mesh to the mean head's frame, metres."""
    anchor: int
    pairs: int
    """Pairs of frames that were compared."""
    welded: Int[Tensor, "t"]
    """Vertices that move with the skull exactly, and alone tell its motion; 0 where none do."""

    @typed
    def apply(self, vertices: Float[Tensor, "t v 3"]) -> Float[Tensor, "t v 3"]:
        """The frames without head motion: every skull where the anchor's is."""
        return moved(invert_rigid(self.T_frame_anchor), vertices.double()).to(vertices)


@typed
def stabilize_meshes(
    vertices: Float[Tensor, "t v 3"],
    faces: Int[Tensor, "f 3"],
    *,
    method: Method = "learned",
    anchor: int = 0,
    references: int = 6,
    smooth: bool = True,
    welds: bool = True,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Stabilized:
    """Finds the skull's motion in meshes of one person in one topology.

    The learned method compares every frame with several reference frames, spread evenly, and with its neighbour, and
    averages; few frames are all compared with each other, from several views each. Where some vertices then move as one
    to a thousandth of a millimetre, as rigs leave them, and captures do not, they have the last word. The other methods
    compare every frame with the anchor.

    Args:
        vertices: Any unit and orientation.
        faces: Triangles.
        method: "learned"; or Procrustes over all vertices ("full"), the upper face ("upper") or the skin that is
            attached to the skull ("skull"), or robust over all vertices ("robust").
        anchor: The frame that stays where it is.
        references: Frames that all others are compared with.
        smooth: A weak prior on the acceleration between frames; makes no difference to frames that are no sequence.
        welds: Whether vertices that move with the skull exactly are looked for.
        progress: Called with stage, done, total.

    Raises:
        ValueError: fewer than two meshes, vertices that are not finite, or no such anchor.
        TrackingError: the surface is not that of a face.
    """
    check(vertices, faces)
    n = len(vertices)
    if not 0 <= anchor < n:
        raise UsageError(f"stabilize: anchor {anchor} of {n} meshes; expected 0 to {n - 1}.")
    seen = view(vertices[anchor], faces)
    if method != "learned":
        T = _against_anchor(vertices, seen, method, anchor)
        return Stabilized(T_frame_anchor=T, confidence=_agreement(vertices, T, seen), T_head_mesh=seen.T_head_mesh,
                          anchor=anchor, pairs=n - 1, welded=torch.zeros(n, dtype=torch.long))  # fmt: skip
    chosen = [anchor] + [f for f in torch.linspace(0, n - 1, min(references, n)).round().long().tolist() if f != anchor]
    first: dict[int, Compared] = {}
    edges: list[tuple[int, int, Compared]] = []
    steps = len(chosen) + (n if n > len(chosen) else 0)
    for done, reference in enumerate(chosen):
        T_head_mesh = seen.T_head_mesh
        if done:
            T_head_mesh = T_head_mesh @ invert_rigid(first[reference].T_other_view)
        others = [i for i in range(n) if i != reference]
        for turn in range(VIEWS if n <= FEW else 1):
            is_seen = not done and not turn
            now = seen if is_seen else view(vertices[reference], faces, T_head_mesh=_jolt(turn) @ T_head_mesh)
            for a in range(0, len(others), CHUNK):
                found = compare_many(now, vertices[others[a : a + CHUNK]])
                edges += [(reference, i, c) for i, c in zip(others[a : a + CHUNK], found, strict=True)]
            if is_seen:
                first = {i: c for _, i, c in edges}
        progress("stabilize", done + 1, steps)
    if n > len(chosen):
        for i in range(n - 1):
            T_head_mesh = seen.T_head_mesh
            if i != anchor:
                T_head_mesh = T_head_mesh @ invert_rigid(first[i].T_other_view)
            near = view(vertices[i], faces, T_head_mesh=T_head_mesh)
            edges.append((i, i + 1, compare_many(near, vertices[i + 1 : i + 2])[0]))
            progress("stabilize", len(chosen) + i + 1, steps)
    progress("stabilize", steps, steps)
    # about the middle of the head, in metres, errors of rotation and translation are the least entangled
    S = seen.T_head_mesh.clone()
    S[:3, 3] -= torch.tensor([0.0, 0.03, 0.04], dtype=S.dtype)
    back = torch.linalg.inv(S)
    start = torch.stack([S @ first[i].T_other_view @ back if i != anchor else torch.eye(4).to(S) for i in range(n)])
    graph = Edges(
        start=torch.tensor([e[0] for e in edges]), end=torch.tensor([e[1] for e in edges]),
        T_end_start=torch.stack([S @ e[2].T_other_view @ back for e in edges]),
        error=torch.tensor([e[2].error for e in edges], dtype=S.dtype).clamp_min(2e-5),
    )  # fmt: skip
    T, doubt = average(graph, start, anchor=anchor, smooth=smooth)
    least = torch.full((n,), 1.0, dtype=S.dtype)
    for i, j, c in edges:
        least[j] = min(least[j], c.error)
        least[i] = min(least[i], c.error)
    doubt = torch.maximum(doubt, 0.5 * least)
    doubt[anchor] = 0
    T = back @ T @ S
    count = torch.zeros(n, dtype=torch.long)
    for i in range(n) if welds else ():
        exact = _exact(seen, vertices[i], T[i], float(doubt[i])) if i != anchor else None
        if exact is not None:
            T[i], count[i] = exact
            doubt[i] = ONE
    return Stabilized(T_frame_anchor=T, confidence=1 / (1 + (doubt / DOUBT).square()), T_head_mesh=seen.T_head_mesh,
                      anchor=anchor, pairs=len(edges), welded=count)  # fmt: skip


def _exact(seen: View, other: Tensor, T: Tensor, doubt: float) -> tuple[Tensor, int] | None:
    """T_other_view by vertices that move as one, near an estimate of it, and how many they are."""
    back = seen.T_head_mesh @ invert_rigid(T)
    found = welded(seen.located, moved(back, other.double()[seen.index]).numpy(), LEAST + 5 * doubt)
    if found is None:
        return None
    exact = torch.linalg.inv(back) @ torch.from_numpy(found[0]) @ seen.T_head_mesh
    U, _, Vt = torch.linalg.svd(exact[:3, :3])
    exact[:3, :3] = U @ Vt  # rounding taken out
    return exact, found[1]


def _jolt(turn: int) -> Tensor:
    """A few degrees, millimetres and percent, others each turn; none at first."""
    T = torch.eye(4, dtype=torch.float64)
    if turn:
        w, t, size = torch.randn(7, generator=torch.Generator().manual_seed(turn), dtype=torch.float64).split([3, 3, 1])
        T[:3, :3], T[:3, 3] = (1 + 0.04 * size) * rotvec_to_matrix(0.07 * w), 0.004 * t
    return T


@typed
def check(vertices: Float[Tensor, "t v 3"], faces: Int[Tensor, "f 3"]) -> None:
    """Meshes that cannot be stabilised fail here.

    Raises:
        ValueError: fewer than two meshes, vertices that are not finite, or a surface without any area.
    """
    if len(vertices) < 2:
        raise ValueError("stabilize: one mesh was given; two or more of one person in one topology were expected.")
    bad = (~torch.isfinite(vertices)).flatten(1).any(1).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(f"stabilize: mesh {bad[0]} has vertices that are not finite (NaN or infinite); remove them.")
    none = (_areas(vertices, faces) > 0).any(1).logical_not().nonzero()[:, 0].tolist()
    if none or not len(faces):
        raise ValueError(f"stabilize: mesh {(none or [0])[0]} has no surface: none of its faces has an area.")


@typed
def surface_faults(vertices: Float[Tensor, "t v 3"], faces: Int[Tensor, "f 3"], names: tuple[str, ...]) -> list[str]:
    """What a person should know of the surfaces, a line for the first mesh with faces that have no area."""
    empty = (_areas(vertices, faces) == 0).sum(1)
    bad = empty.nonzero()[:, 0].tolist()
    if not bad:
        return []
    more = f" ({len(bad)} meshes have such faces)" if len(bad) > 1 else ""
    return [f"{names[bad[0]]}: {int(empty[bad[0]])} of {len(faces)} faces have no area and say nothing{more}."]


def _areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """[t, f] twice the faces' areas; 0 where that is rounding error."""
    a, b, c = (vertices[:, faces[:, i].long()].double() for i in range(3))
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
    size = (vertices.amax(1) - vertices.amin(1)).norm(dim=-1).double()
    return torch.where(area > 1e-10 * size.square()[:, None], area, torch.zeros_like(area))


def _against_anchor(vertices: Tensor, seen: View, method: str, anchor: int) -> Tensor:
    weight = torch.zeros(vertices.shape[1], dtype=torch.float64)
    weight[seen.index] = 1
    if method == "upper":
        weight *= upper_face(moved(seen.T_head_mesh, seen.vertices))
    elif method == "skull":
        weight *= skull_attached(moved(seen.T_head_mesh, seen.vertices))
    if weight.sum() < 3:
        raise ValueError(f"stabilize: the meshes show nothing that method {method!r} could align; use 'learned'.")
    solve = robust_procrustes if method == "robust" else procrustes
    T = torch.stack([solve(seen.vertices, other.double(), weight) for other in vertices])
    T[anchor] = torch.eye(4).to(T)
    return T


def _agreement(vertices: Tensor, T: Tensor, seen: View) -> Tensor:
    """A confidence for methods that tell none: how still the stillest third of the surface is."""
    still = moved(invert_rigid(T), vertices.double()) - seen.vertices
    size = still[:, seen.index].norm(dim=-1) * torch.linalg.det(seen.T_head_mesh[:3, :3]).pow(1 / 3)
    return 1 / (1 + (size.quantile(0.33, dim=1) / DOUBT).square())
