"""Dense correspondence of the `head` model to any other head with landmarks, and what is carried over along it.

The mean head is aligned to the other model by the landmarks that both have, bent onto it by a smooth warp through
them, and every vertex of the other model is given the nearest point of the bent head, upper and lower lip apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.geometry.surface import edges as mesh_edges
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.candidates import INTERIOR
from avatar3d.models.embedding import barycentric_grid
from avatar3d.models.linear import LinearModel
from avatar3d.typing import typed

ABOVE_MOUTH, BELOW_MOUTH = 164, 18
"""MediaPipe's points on the philtrum and under the lower lip."""
SMOOTH = (3e-3, 3e-4)
"""Regularisation of the warp: first stiff, to find landmarks that lie wrong."""
STEPS = 4
"""Subdivisions of a triangle's edge at which surfaces are sampled."""
REACH = 0.02
"""Distance between the bent head and a vertex from which nothing is carried over any more, metres."""


@dataclass(frozen=True, kw_only=True)
class Correspondence:
    """For every vertex of a model, a point on the `head` model's surface."""

    faces: Int[Tensor, "v"]
    weights: Float[Tensor, "v 3"]
    distance: Float[Tensor, "v"]
    """How far off the bent head the vertex lay, metres."""
    T_model_head: Float[Tensor, "4 4"]
    """Similarity between the mean shapes."""

    @property
    def share(self) -> Float[Tensor, "v"]:
        """How much of what is carried over holds, 0..1: nothing far off the head."""
        return (2 - 2 * self.distance / REACH).clamp(0, 1)


@typed
def correspond(head: LinearModel, model: LinearModel) -> Correspondence:
    """Finds the correspondence of two models that both have 478 landmarks.

    Raises:
        ValueError: one of them has none.
    """
    for m in (head, model):
        if "mediapipe478" not in m.landmarks:
            raise ValueError(f"{m.name} has no landmarks; compute them first (models.embedding.compute_embedding).")
    ours, theirs = (_landmark_points(m) for m in (head, model))
    sure, T = _sure(head) & _sure(model), alignment(head, model)
    aligned = apply(T, head.template)
    start, end = apply(T, ours)[sure], theirs[sure]
    bent = aligned + torch.from_numpy(_bend(start, end - start)(aligned.double().numpy())).float()

    skin = ~_interior(head)
    usable = skin[head.faces].all(1).nonzero()[:, 0]
    lower_head, lower_model = lower_lip(head), lower_lip(model)
    faces, bary, distance = _nearest(bent, head.faces, usable, lower_head, model, lower_model)
    inside = _interior(model)
    distance = torch.where(inside, torch.inf, distance)
    return Correspondence(faces=faces, weights=bary, distance=distance, T_model_head=T)


def _bend(points: Tensor, moves: Tensor) -> Callable[[np.ndarray], np.ndarray]:
    """A smooth field through displacements, without those that contradict their surroundings."""
    from scipy.interpolate import RBFInterpolator  # slow to import, and seldom needed

    at, by = points.double().numpy(), moves.double().numpy()
    for strength in (SMOOTH[0], *SMOOTH):
        # landmarks that are uncertain to within millimetres are not interpolated but approximated
        field = RBFInterpolator(at, by, kernel="thin_plate_spline", smoothing=strength)
        off = np.linalg.norm(field(at) - by, axis=1)
        keep = off < np.maximum(4 * np.median(off), 0.001)
        at, by = at[keep], by[keep]
    return field


@typed
def alignment(head: LinearModel, model: LinearModel) -> Float[Tensor, "4 4"]:
    """The similarity T_model_head between the mean shapes, by their landmarks."""
    sure = _sure(head) & _sure(model)
    residual = [m.landmarks["mediapipe478"].residual[sure].double() for m in (head, model)]
    ours, theirs = (_landmark_points(m)[sure].double() for m in (head, model))
    return procrustes(ours, theirs, (residual[0] + residual[1]) ** -2, with_scale=True).float()


def _landmark_points(model: LinearModel) -> Tensor:
    e = model.landmarks["mediapipe478"]
    return points_on_faces(model.template, model.faces, e.faces, e.weights)


def _sure(model: LinearModel) -> Tensor:
    """Landmarks on the skin that are well determined."""
    residual = model.landmarks["mediapipe478"].residual.clone()
    residual[468:] = torch.inf
    return residual < 0.06


def _interior(model: LinearModel) -> Tensor:
    out = torch.zeros(len(model.template), dtype=torch.bool)
    for name in INTERIOR:
        if name in model.regions:
            out |= model.regions[name]
    return out


@typed
def lower_lip(model: LinearModel) -> Bool[Tensor, "v"]:
    """Vertices that are nearer, over the surface, to the chin's side of the mouth than to the nose's."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    e = model.landmarks["mediapipe478"]
    seeds = [int(model.faces[e.faces[i]][e.weights[i].argmax()]) for i in (ABOVE_MOUTH, BELOW_MOUTH)]
    edges = mesh_edges(model.faces)
    length = (model.template[edges[:, 0]] - model.template[edges[:, 1]]).norm(dim=1)
    inside = _interior(model)
    keep = ~inside[edges].any(1)
    n = len(model.template)
    graph = coo_matrix((length[keep].numpy() + 1e-9, (edges[keep, 0].numpy(), edges[keep, 1].numpy())), shape=(n, n))
    far = dijkstra(graph.tocsr(), directed=False, indices=seeds)
    return torch.from_numpy(far[1] < far[0])


def _nearest(
    points: Tensor, faces: Tensor, usable: Tensor, lower: Tensor, model: LinearModel, model_lower: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest surface points that face the same way and lie on the same side of the mouth."""
    share = barycentric_grid(STEPS)
    triangles = points[faces[usable]]
    samples = torch.einsum("sk,fkc->fsc", share, triangles).reshape(-1, 3)
    normals = vertex_normals(points[None], faces)[0][faces[usable]].mean(1).repeat_interleave(len(share), 0)
    owner = usable.repeat_interleave(len(share))
    bary = share.repeat(len(usable), 1)
    side = lower[faces[usable]].float().mean(1).repeat_interleave(len(share)) > 0.5
    target_normals = vertex_normals(model.template[None], model.faces)[0]
    out_face = torch.zeros(len(model.template), dtype=torch.int64)
    out_bary = torch.full((len(model.template), 3), 1 / 3)
    out_distance = torch.full((len(model.template),), torch.inf)
    from scipy.spatial import KDTree

    # facing the same way counts like a centimetre: lids and lips have two sides
    lift = 0.01
    for low in (False, True):
        pick, want = side == low, model_lower == low
        if not pick.any() or not want.any():
            continue
        tree = KDTree(torch.cat([samples[pick], lift * normals[pick]], 1).numpy())
        query = torch.cat([model.template[want], lift * target_normals[want]], 1).numpy()
        index = torch.from_numpy(tree.query(query)[1])
        out_face[want], out_bary[want] = owner[pick][index], bary[pick][index]
        out_distance[want] = (samples[pick][index] - model.template[want]).norm(dim=1)
    return out_face, out_bary, out_distance


@typed
def carry_vectors(head: LinearModel, found: Correspondence, vectors: Float[Tensor, "k n 3"]) -> Float[Tensor, "k v 3"]:
    """Displacements of the head's vertices on the other model, turned and scaled with the alignment."""
    moved = points_on_faces(vectors, head.faces, found.faces, found.weights)
    return found.share[:, None] * (moved @ found.T_model_head[:3, :3].T)


@typed
def carry_regions(head: LinearModel, found: Correspondence, model: LinearModel) -> dict[str, Bool[Tensor, "v"]]:
    """The head's skin regions on the other model, beside the regions that it has itself."""
    out = {}
    near = found.distance < 0.5 * REACH
    for name, mask in head.regions.items():
        if name in INTERIOR or name.startswith(("iris", "pupil", "gums", "teeth", "tongue", "mouth_cavity")):
            continue
        value = points_on_faces(mask[:, None].float().repeat(1, 3), head.faces, found.faces, found.weights)[:, 0]
        out[name] = (value > 0.5) & near
    return out | model.regions


@typed
def carried_model(head: LinearModel, found: Correspondence, model: LinearModel, components: int = 40) -> LinearModel:
    """The other mesh with the head's identities, ARKit shapes and regions: a stand-in that moves like the head.

    Eyeballs go with the gaze and keep their shape; used to draw pictures of a mesh that has no shapes of its own.
    """
    identity = carry_vectors(head, found, head.identity_basis[:components])
    expression = carry_vectors(head, found, head.expression_basis)
    for side in ("left", "right"):
        ball, ours = model.regions.get(f"eyeball_{side}"), head.regions[f"eyeball_{side}"]
        if ball is None:
            continue
        identity[:, ball] = (head.identity_basis[:components, ours].mean(1) @ found.T_model_head[:3, :3].T)[:, None]
        for k, name in enumerate(head.expression_names):
            if name.startswith("eyeLook") and name.lower().endswith(side):
                R = ball_rotation(head, name, side)
                p = model.template[ball]
                centre = 0.5 * (p.amax(0) + p.amin(0))
                expression[k, ball] = (p - centre) @ (R.T - torch.eye(3))
    return replace(
        model,
        identity_basis=identity,
        joint_identity_basis=identity.new_zeros(components, len(model.joint_names), 3),
        expression_basis=expression,
        expression_names=head.expression_names,
        expression_scale=None,
        joint_expression_basis=None,
        regions=carry_regions(head, found, model),
    )


@typed
def ball_rotation(head: LinearModel, name: str, side: str) -> Float[Tensor, "3 3"]:
    """The rotation that an eyeLook shape of the `head` model gives its eyeball."""
    ball = head.regions[f"eyeball_{side}"]
    rest = head.template[ball]
    moved = rest + head.expression_basis[head.expression_names.index(name)][ball]
    return procrustes(rest - rest.mean(0), moved - moved.mean(0))[:3, :3]
