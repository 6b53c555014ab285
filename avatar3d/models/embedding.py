"""Where MediaPipe's 478 landmarks lie on a model's surface, learned from pictures of the model itself.

For every landmark the surface point is taken that comes closest, in a robust sense, to where the landmark network
puts it over many views, identities and expressions. A landmark and its mirror image are solved together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.models.candidates import candidate_vertices
from avatar3d.models.iris_landmarks import centred_irises
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.models.views import DEFAULT_VIEWS, Detect, View, ViewConfig, face_box, random_views
from avatar3d.types.face_points import COUNT, EYE_CORNERS, mirror_points
from avatar3d.types.landmarks import IBUG68_FROM_MEDIAPIPE
from avatar3d.typing import typed

SIGMAS = (0.06, 0.03, 0.02)
"""Distance at which an observation counts half, as a fraction of the inter-ocular distance: wide first, then sharp."""
REACH = 0.15
"""How far from the last place the next search goes, as a fraction of the inter-ocular distance."""
BEST = 4
"""Vertices around which the surface is searched."""
STEPS = 6
"""Subdivisions of a triangle's edge in that search."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Pictures of a model with detected landmarks; distances in units of the inter-ocular distance."""

    pixels: Float[Tensor, "n v 2"]
    """Every vertex."""
    landmarks: Float[Tensor, "n 478 2"]
    facing: Float[Tensor, "n v"]
    angles: Float[Tensor, "n 3"]
    seen: Bool[Tensor, "v"]
    """Vertices that some pictures show."""
    expression: Float[Tensor, "n e"]


@typed
def observe(
    model: LinearModel, detect: Detect, count: int, seed: int = 0, config: ViewConfig = DEFAULT_VIEWS
) -> Observations:
    """Draws pictures of a model and detects the landmarks in them; those without a face are left out.

    Raises:
        ValueError: the network sees a face in less than a third of the pictures.
    """
    found: list[tuple[View, Tensor]] = []
    times_seen = torch.zeros(len(model.template))
    for view in random_views(model, count, seed, config):
        points = detect(view.image, face_box(model, view))
        if points is not None:
            found.append((view, points.float()))
            times_seen[torch.unique(model.faces[view.seen])] += 1
    if len(found) < count / 3:
        raise ValueError(f"The landmark network sees a face in {len(found)} of {count} pictures of {model.name}.")
    scale = _interocular(found)
    per_metre = torch.tensor([v.per_metre for v, _ in found]) * scale
    return Observations(
        pixels=torch.stack([v.pixels for v, _ in found]) / per_metre[:, None, None],
        landmarks=torch.stack([p for _, p in found]) / per_metre[:, None, None],
        facing=torch.stack([v.facing for v, _ in found]),
        angles=torch.tensor([v.angles for v, _ in found]),
        seen=times_seen > 0.02 * len(found),
        expression=torch.stack([v.expression for v, _ in found]),
    )


def _interocular(found: Iterable[tuple[View, Tensor]]) -> float:
    """Distance of the outer eye corners, metres: the median over pictures from the front."""
    a, b = EYE_CORNERS["right"][0], EYE_CORNERS["left"][0]
    frontal = sorted(found, key=lambda f: abs(f[0].angles[0]) + abs(f[0].angles[1]))
    near = frontal[: max(3, len(frontal) // 6)]
    return float(torch.tensor([float((p[a] - p[b]).norm()) / v.per_metre for v, p in near]).median())


@typed
def solve_embedding(model: LinearModel, seen: Observations) -> LandmarkEmbedding:
    """The surface points that explain the observations best."""
    allowed = candidate_vertices(model, seen.seen)
    weights = torch.ones(len(seen.landmarks), COUNT)
    corner = model.mirror
    partner = mirror_points()
    faces_of, tracks = _faces_of_vertices(model), _tracks(seen)
    result: tuple[Tensor, Tensor] | None = None
    for sigma in SIGMAS:
        cost = _vertex_cost(seen, weights, allowed, sigma)
        if corner is not None:
            cost = cost + cost[partner][:, corner]
        faces, barycentric = torch.zeros(COUNT, dtype=torch.int64), torch.full((COUNT, 3), 1 / 3)
        for i in range(COUNT):
            j = int(partner[i])
            if not allowed[i].any():
                continue
            if corner is not None and j < i:
                faces[i], barycentric[i] = _mirrored(model, faces_of, int(faces[j]), barycentric[j])
            else:
                faces[i], barycentric[i] = _search(model, tracks, weights, cost[i], allowed[i], faces_of, i, j, sigma)
        result = faces, barycentric
        facing = gather(seen.facing[..., None], model.faces[result[0]], result[1])[..., 0]
        weights = facing.clamp(0.05, 0.7)
        at = gather(model.template[None], model.faces[faces], barycentric)[0]
        reach = REACH * (at[EYE_CORNERS["right"][0]] - at[EYE_CORNERS["left"][0]]).norm()
        close = allowed & (torch.cdist(at, model.template) < reach)
        allowed = torch.where(close.any(1, keepdim=True), close, allowed)
    assert result is not None
    missing = ~allowed.any(1)
    residual = embedding_error(model, seen, *result, weights)
    return LandmarkEmbedding(faces=result[0], weights=result[1], residual=torch.where(missing, torch.inf, residual))


@typed
def embedding_error(
    model: LinearModel,
    seen: Observations,
    faces: Int[Tensor, "478"],
    barycentric: Float[Tensor, "478 3"],
    weights: Float[Tensor, "n 478"] | None = None,
) -> Float[Tensor, "478"]:
    """Mean distance between each landmark and its surface point, as a fraction of the inter-ocular distance.

    Args:
        model: The model.
        seen: Observations.
        faces: Face of every landmark.
        barycentric: Place on it.
        weights: What each observation counts; alike by default.
    """
    distance = (gather(seen.pixels, model.faces[faces], barycentric) - seen.landmarks).norm(dim=-1)
    weights = torch.ones_like(distance) if weights is None else weights
    return (weights * distance).sum(0) / weights.sum(0)


def gather(values: Tensor, corners: Tensor, bary: Tensor) -> Tensor:
    """Values [n, v, c] of vertices at surface points [m]: [n, m, c]."""
    return torch.stack([values[:, corners[:, k]] * bary[:, k, None] for k in range(3)]).sum(0)


@dataclass(frozen=True)
class Tracks:
    """Observations with one row per point: all x, then all y."""

    pixels: Tensor
    landmarks: Tensor


def _tracks(seen: Observations) -> Tracks:
    def rows(points: Tensor) -> Tensor:
        return points.permute(1, 2, 0).flatten(1).contiguous()

    return Tracks(rows(seen.pixels), rows(seen.landmarks))


def _robust(square: Tensor, sigma: float) -> Tensor:
    return square / (square + sigma * sigma)


def _vertex_cost(seen: Observations, weights: Tensor, allowed: Tensor, sigma: float) -> Tensor:
    """Robust cost [478, v] of putting each landmark at each vertex; infinite where it may not be."""
    some = allowed.any(0).nonzero()[:, 0]
    total = torch.zeros(COUNT, len(some))
    for n in range(len(seen.landmarks)):
        square = torch.cdist(seen.landmarks[n], seen.pixels[n, some]).square_()
        total.addcmul_(weights[n, :, None], _robust(square, sigma))
    cost = torch.full(allowed.shape, torch.inf)
    cost[:, some] = total / weights.sum(0)[:, None]
    return cost.masked_fill(~allowed, torch.inf)


def _faces_of_vertices(model: LinearModel) -> list[list[int]]:
    out: list[list[int]] = [[] for _ in range(len(model.template))]
    for f, corners in enumerate(model.faces.tolist()):
        for v in corners:
            out[v].append(f)
    return out


def barycentric_grid(steps: int) -> Tensor:
    """Barycentric coordinates spread evenly over a triangle, its edges included."""
    i, j = torch.meshgrid(torch.arange(steps + 1), torch.arange(steps + 1), indexing="ij")
    keep = i + j <= steps
    a, b = i[keep] / steps, j[keep] / steps
    return torch.stack([a, b, 1 - a - b], 1)


def _search(
    model: LinearModel,
    tracks: Tracks,
    weights: Tensor,
    cost: Tensor,
    allowed: Tensor,
    faces_of: list[list[int]],
    i: int,
    j: int,
    sigma: float,
) -> tuple[int, Tensor]:
    """The best point of the triangles about the best vertices; of the midline's edges for a central landmark."""
    if i == j and model.mirror is not None:
        middle = allowed & (model.mirror == torch.arange(len(allowed)))
        allowed = middle if middle.any() else allowed
        cost = cost.masked_fill(~allowed, torch.inf)
    around = sorted({f for v in cost.topk(BEST, largest=False).indices.tolist() for f in faces_of[v]})
    corners = model.faces[around]

    def total(corners: Tensor, bary: Tensor) -> Tensor:
        out = _point_cost(tracks, weights, corners, bary, i, sigma)
        if model.mirror is not None:
            out = out + _point_cost(tracks, weights, model.mirror[corners], bary, j, sigma)
        # a point may use only corners that the landmark may use
        usable = ((bary[None] < 1e-6) | allowed[corners][:, None]).all(-1)
        return out.masked_fill(~usable, torch.inf)

    grid = barycentric_grid(STEPS)
    best = int(total(corners, grid).argmin())
    face, centre = best // len(grid), grid[best % len(grid)]
    fine = centre + (grid - 1 / 3) * (1.5 / STEPS)
    fine = torch.cat([centre[None], fine[(fine >= -1e-6).all(1)].clamp_min(0)])
    centre = fine[int(total(corners[face : face + 1], fine).argmin())]
    return around[face], centre / centre.sum()


def _point_cost(tracks: Tracks, weights: Tensor, corners: Tensor, bary: Tensor, landmark: int, sigma: float) -> Tensor:
    """Robust cost [f, g] of the points bary [g, 3] on triangles of corners [f, 3] for one landmark."""
    n = tracks.landmarks.shape[1] // 2
    at = torch.matmul(bary, tracks.pixels[corners])
    square = (at - tracks.landmarks[landmark]).square_()
    square = square[..., :n].add_(square[..., n:])
    w = weights[:, landmark]
    return (_robust(square, sigma) @ w) / w.sum()


def _mirrored(model: LinearModel, faces_of: list[list[int]], face: int, bary: Tensor) -> tuple[int, Tensor]:
    """The mirror image of a surface point, on whichever triangle has it."""
    corners = model.mirror[model.faces[face]]  # type: ignore[index]
    wanted = corners.tolist()
    strongest = wanted[int(bary.argmax())]
    for f in faces_of[strongest]:
        own = model.faces[f].tolist()
        if set(own) == set(wanted):
            return f, torch.stack([bary[wanted.index(v)] for v in own])
    # the quad is cut along its other diagonal: the nearest place on the triangles around
    goal = bary @ model.template[corners]
    around = faces_of[strongest]
    triangles = model.template[model.faces[around]]
    grid = barycentric_grid(24)
    distance = (torch.einsum("gk,fkc->fgc", grid, triangles) - goal).norm(dim=-1)
    at = int(distance.argmin())
    return around[at // len(grid)], grid[at % len(grid)]


@typed
def compute_embedding(
    model: LinearModel, detect: Detect, views: int = 600, seed: int = 0
) -> dict[str, LandmarkEmbedding]:
    """Landmark embeddings "mediapipe478" and "ibug68" of any model, from pictures of itself.

    Args:
        model: The model; its regions (eyeballs, lips, brows) make its pictures readable.
        detect: The landmark network.
        views: Pictures to learn from.
        seed: Of the pictures.

    Raises:
        ValueError: the network does not see faces in the pictures.
    """
    return with_ibug(centred_irises(model, solve_embedding(model, observe(model, detect, views, seed))))


@typed
def with_ibug(embedding: LandmarkEmbedding) -> dict[str, LandmarkEmbedding]:
    """Both schemes from the larger one: iBUG's points are the nearest of MediaPipe's."""
    index = torch.tensor(IBUG68_FROM_MEDIAPIPE)
    small = LandmarkEmbedding(
        faces=embedding.faces[index], weights=embedding.weights[index], residual=embedding.residual[index]
    )
    return {"mediapipe478": embedding, "ibug68": small}
