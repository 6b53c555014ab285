"""The second half of a registration: a smooth displacement of the vertices that takes what the coefficients leave."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix, csr_matrix, diags, identity, kron
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.geometry.surface import edges, face_normals, vertex_normals
from avatar3d.models.linear import LinearModel
from avatar3d.models.registration_eyes import EyeOpenings, eye_shift, of_eyes
from avatar3d.models.registration_parts import Parts
from avatar3d.models.scan_samples import ScanSamples, nearest_samples
from avatar3d.ops import nearest_on_mesh
from avatar3d.typing import typed

STAGES = (
    # bending, gate, scale; metres
    (30.0, 0.015, 0.006),
    (10.0, 0.012, 0.004),
    (4.0, 0.010, 0.003),
    (1.5, 0.008, 0.0025),
    (0.6, 0.006, 0.002),
    (0.25, 0.006, 0.002),
    (0.12, 0.005, 0.0015),
    (0.12, 0.005, 0.0015),
)
"""Stiff first, so that large differences move large parts, then finer. Bending is a multiple of what data weigh at a
vertex."""
REPAIRS = 5
"""Further rounds of the last stage while faces are turned over."""
MEMBRANE, HOLD = 0.01, 1e-4
"""Draws what no scan shows to its neighbours' displacement, and faintly to none."""
CELL = 12.5e-6
"""Area of the surface about a vertex of the face, square metres: what a weight of 1 stands for."""
QUIET, NOISE = 0.3e-3, 0.2e-3
"""Noise of a scan up to which it is followed, and the excess that doubles the stiffness, metres."""
BACKWARD = 0.3
"""Weight of vertices that look for the scan, beside scan points that look for the mesh."""
HAIR_REACH = 0.03
UNFOLDING = 300
"""Rounds of smoothing, at most."""
STUBBORN = 60
"""Rounds after which the corners of a face that stays turned over are moved alike."""
LARGEST = 0.03
"""Displacement that is allowed, metres."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Places of the mesh that should come to lie somewhere."""

    faces: Tensor
    weights: Tensor
    points: Tensor
    strength: Tensor


@typed
def fit_displacement(
    model: LinearModel,
    parts: Parts,
    samples: ScanSamples,
    start: Float[Tensor, "v 3"],
    openings: EyeOpenings,
    marks: Marks | None = None,
) -> Float[Tensor, "v 3"]:
    """Displaces the model's skin onto a scan.

    Minimises squared point-to-plane distances in both directions, robustly and gated by distance and normals, plus the
    bending of the displacement (its bi-Laplacian), coarse to fine. Faces that would turn over are smoothed.

    Args:
        model: The model.
        parts: Its parts.
        samples: The scan in model space.
        start: The model as the coefficients have it, metres.
        openings: Its lids' edges: what lies between them is not skin.
        marks: Landmarks, which guide lips and lids along the surface.
    """
    count = len(start)
    skin = samples.at((~of_eyes(openings, samples)).nonzero()[:, 0])
    system = _Smoothness(model, parts, start)
    moved = torch.zeros_like(start)
    trust = parts.free_weight.clone()
    for stage, (bending, gate, scale) in enumerate(STAGES + REPAIRS * STAGES[-1:]):
        if stage >= len(STAGES) and not flipped.any():
            break
        bending = max(bending, STAGES[-1][0] * (1 + (max(0.0, samples.noise - QUIET) / NOISE) ** 2))
        A, b, w = _rows(model, parts, trust, skin, start, moved, gate, max(scale, 2.5 * samples.noise))
        lhs = A.T @ diags(w) @ A + system.matrix(bending)
        rhs = A.T @ (w * b)
        if marks is not None and len(marks.points):
            P, gap, firm = _mark_rows(model, marks, start)
            lhs, rhs = lhs + P.T @ diags(firm) @ P, rhs + P.T @ (firm * gap)
        moved = torch.from_numpy(_solved(lhs, rhs)).float().view(count, 3)
        size = moved.norm(dim=1, keepdim=True)
        moved = moved * (LARGEST * torch.tanh(size / LARGEST) / size.clamp_min(1e-9))
        for side, ball in parts.eyeballs.items():
            moved[ball] = eye_shift(model, parts, start, moved, side, samples, openings)
        flipped = _turned(model, parts, start, moved)
        trust[flipped] *= 0.4
        system.stiffen(flipped)
    return moved


def _solved(lhs: csr_matrix, rhs: np.ndarray) -> np.ndarray:
    """The system is symmetric and positive definite: no pivoting, an ordering of its graph."""
    symmetric = {"SymmetricMode": True}
    return splu(lhs.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric).solve(rhs)


def _turned(model: LinearModel, parts: Parts, start: Tensor, moved: Tensor) -> Tensor:
    """Vertices [v] of skin faces that have turned over, or nearly."""
    faces = model.faces.long()
    skin = faces[parts.shell[faces].all(1)]
    before, after = (normalize(face_normals(x, skin), dim=1) for x in (start, start + moved))
    out = torch.zeros(len(start), dtype=torch.bool)
    out[skin[(before * after).sum(1) < 0.1].flatten()] = True
    return out


class _Smoothness:
    """Bending and stretching of a displacement over the skin; other parts are held still."""

    def __init__(self, model: LinearModel, parts: Parts, start: Tensor) -> None:
        count = len(start)
        e = edges(model.faces.long()).numpy()
        # stretched edges of the inside of the mouth couple as others do
        near = coo_matrix((np.ones(len(e)), (e[:, 0], e[:, 1])), (count, count)).tocsr()
        self._near = near + near.T
        degree = np.asarray(self._near.sum(1)).ravel().clip(1)
        self._laplacian = (identity(count) - diags(1 / degree) @ self._near).tocsr()
        self._membrane = (diags(degree) - self._near) / 6
        self._stiffness = parts.stiffness.double().numpy().copy()
        # a rim has half a neighbourhood: its umbrella would pull it inwards
        self._held = np.where(parts.shell.numpy(), HOLD, 1e4)

    def matrix(self, bending: float) -> csr_matrix:
        L = self._laplacian
        smooth = bending * L.T @ diags(self._stiffness) @ L + MEMBRANE * self._membrane + diags(self._held)
        return kron(smooth, identity(3)).tocsr()

    def stiffen(self, vertices: Tensor) -> None:
        """Where faces turned over."""
        if vertices.any():
            grown = vertices.double().numpy() + self._near @ vertices.double().numpy() > 0
            self._stiffness[grown] = (3 * self._stiffness[grown]).clip(max=300)


def _rows(
    model: LinearModel,
    parts: Parts,
    free: Tensor,
    samples: ScanSamples,
    start: Tensor,
    moved: Tensor,
    gate: float,
    scale: float,
) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Wanted displacements along normals: A d = b with weights."""
    v = start + moved
    normals = vertex_normals(v, model.faces)
    found = nearest_on_mesh(samples.points, v, parts.faces)
    corners = parts.faces[found.face.long()]
    share = found.barycentrics
    n_model = normalize((normals[corners] * share[..., None]).sum(1), dim=1)
    s = samples.outwards(n_model) if samples.signless else samples
    n = normalize(n_model + s.normals, dim=1)
    trust = (free[corners] * share).sum(1)
    loose = (_scalp(model)[corners].float() * share).sum(1)
    reach = gate + loose * (HAIR_REACH - gate)
    r = ((s.points - found.point) * n).sum(1)
    w = trust * (s.area / CELL) * (found.distance < reach) * (((s.normals * n_model).sum(1) - 0.4) / 0.4).clamp(0, 1)
    w = w / (1 + (r / (scale + loose * (0.01 - scale).__abs__())).square()).square()
    w = w * (1 - 0.7 * loose)
    use = (w > 1e-4).nonzero()[:, 0]
    c, share, n = corners[use], share[use], n[use]
    at_start = (start[c] * share[..., None]).sum(1)
    b = ((s.points[use] - at_start) * n).sum(1)
    A, b, w = _assembled(c, share, n, b, w[use], len(start))

    skin = (parts.free_weight > 0).nonzero()[:, 0]
    index, distance = nearest_samples(s, v[skin], normals[skin])
    towards = s.normals[index]
    alike = (towards * normals[skin]).sum(1)
    w2 = BACKWARD * free[skin] * (distance < gate) * ((alike - 0.6) / 0.3).clamp(0, 1)
    gap = ((s.points[index] - v[skin]) * towards).sum(1)
    w2 = w2 * ~s.border[index] / (1 + (gap / scale).square()).square()
    use = (w2 > 1e-4).nonzero()[:, 0]
    c = skin[use][:, None].expand(-1, 3)
    one = torch.tensor([1.0, 0, 0]).expand(len(use), 3)
    b2 = ((s.points[index[use]] - start[skin[use]]) * towards[use]).sum(1)
    A2, b2, w2 = _assembled(c, one, towards[use], b2, w2[use], len(start))
    return _stacked(A, A2), np.concatenate([b, b2]), np.concatenate([w, w2])


def _stacked(A: csr_matrix, B: csr_matrix) -> csr_matrix:
    from scipy.sparse import vstack

    return vstack([A, B]).tocsr()


def _assembled(
    corners: Tensor, share: Tensor, n: Tensor, b: Tensor, w: Tensor, count: int
) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    m = len(b)
    row = np.repeat(np.arange(m), 9)
    column = (3 * corners[:, :, None] + torch.arange(3)).reshape(-1).numpy()
    value = (share[:, :, None] * n[:, None]).reshape(-1).double().numpy()
    return csr_matrix((value, (row, column)), (m, 3 * count)), b.double().numpy(), w.double().numpy()


def _scalp(model: LinearModel) -> Tensor:
    return model.regions.get("scalp", torch.zeros(len(model.template), dtype=torch.bool))


def _mark_rows(model: LinearModel, marks: Marks, start: Tensor) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    corners = model.faces.long()[marks.faces.long()]
    n = len(corners)
    picks = csr_matrix(
        (marks.weights.double().numpy().ravel(), (np.repeat(np.arange(n), 3), corners.numpy().ravel())),
        (n, len(start)),
    )
    here = (start[corners] * marks.weights[..., None]).sum(1)
    gap = (marks.points - here).double().numpy().ravel()
    return kron(picks, identity(3)).tocsr(), gap, np.repeat(marks.strength.double().numpy(), 3)


def flipped_faces(before: Tensor, after: Tensor, faces: Tensor) -> Tensor:
    """Faces [f] whose normals turn by more than a right angle."""
    return (face_normals(before, faces) * face_normals(after, faces)).sum(1) <= 0


def unfolded(start: Tensor, moved: Tensor, parts: Parts, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The displacement with its folds smoothed out, and the vertices [v] where there were some.

    What is smoothed grows by a ring of vertices as long as faces stay turned over.
    """
    out, touched = moved, torch.zeros(len(start), dtype=torch.bool)
    skin = faces[parts.shell[faces].all(1)]
    pairs = torch.cat([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    both = torch.cat([pairs, pairs.flip(1)])
    times = torch.zeros(len(out)).index_add_(0, both[:, 0], torch.ones(len(both))).clamp_min(1)
    for turn in range(UNFOLDING):
        wrong = flipped_faces(start, start + out, skin)
        if not wrong.any():
            break
        here = torch.zeros_like(touched)
        here[skin[wrong].flatten()] = True
        touched |= here
        for _ in range(turn // 25):
            here[both[here[both[:, 0]], 1]] = True
        total = torch.zeros_like(out).index_add_(0, both[:, 0], out[both[:, 1]])
        out = torch.where(here[:, None], 0.5 * out + 0.5 * total / times[:, None], out)
        if turn >= STUBBORN:  # slivers fold at the slightest difference between their corners
            for face in skin[flipped_faces(start, start + out, skin)]:
                out[face] = out[face].mean(0)
    return out, touched
