"""The first half of a registration: identity, expression and pose by point-to-plane distances and landmarks."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.models.registration_parts import Parts
from avatar3d.models.scan_samples import ScanSamples
from avatar3d.ops import nearest_on_mesh, solve_normal_equations
from avatar3d.typing import typed

SIGMA = 1e-3
"""Of a point on the surface, metres; identity spaces miss faces by about that much."""
OBSERVATIONS = 350
"""Independent ones that a whole scan counts for: neighbouring points err together."""
LANDMARK_DISCOUNT = 25.0
"""Landmarks, too: all together count for so many. Of a known person they tell what slides along the surface, such as
brows, and count for more."""
LANDMARKS_OF_ONE = 300.0
LANDMARK_SIGMA = 2e-3
EXPRESSION_SIGMA = 0.4
EXPRESSION_L1 = 4.0
"""Cost of a coefficient at 1, as half squared sigmas: what a scan does not need stays at rest."""
GATES = (0.03, 0.025, 0.02, 0.016, 0.013, 0.011, 0.01, 0.009, 0.008)
"""Distance up to which points count, step by step, metres; the last one stays."""
SCALES = (0.008, 0.006, 0.005, 0.004, 0.003, 0.0025, 0.002, 0.002, 0.002)
"""Distance from which they count less."""
STILL = ("eyeLook", "tongue")
"""Expressions that a surface does not show."""
SAMPLES = 6000
LANDMARK_STEPS, SURFACE_STEPS = 6, 16


@dataclass(frozen=True, kw_only=True)
class LandmarkTargets:
    """Landmarks of a scan that the model has too."""

    points: Float[Tensor, "n 3"]
    """In model space, metres."""
    sigma: Float[Tensor, "n"]
    """Metres; infinite for those that do not count."""
    embedding: LandmarkEmbedding
    count: float = LANDMARK_DISCOUNT
    """Independent observations that all together count for."""


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """A model posed like a scan, and where the scan then lies."""

    identity: Float[Tensor, "k"]
    expression: Float[Tensor, "e"]
    jaw: Float[Tensor, "3"]
    """Rotation vector, for models that open their mouths by a joint."""
    T_model_scan: Float[Tensor, "4 4"]
    """float64; a similarity."""


@typed
def posed(model: LinearModel, c: Coefficients) -> Float[Tensor, "v 3"]:
    """The model's vertices, metres."""
    rotations = None
    if "jaw" in model.joint_names and bool(c.jaw.any()):
        rotations = torch.zeros(1, len(model.joint_names), 3)
        rotations[0, model.joint_index("jaw")] = c.jaw
    return model.forward(c.identity[None], c.expression[None], rotations).vertices[0]


@typed
def fit_coefficients(
    model: LinearModel,
    parts: Parts,
    samples: ScanSamples,
    landmarks: LandmarkTargets,
    start: Coefficients,
) -> Coefficients:
    """Gauss-Newton on distances along normals and on landmarks, with the model's prior; landmarks alone at first.

    Args:
        model: The model.
        parts: Its parts.
        samples: The scan as `start.T_model_scan` places it.
        landmarks: Likewise.
        start: Where to start.
    """
    if len(samples.points) > SAMPLES:
        pick = torch.randperm(len(samples.points), generator=torch.Generator().manual_seed(1))[:SAMPLES]
        samples = samples.at(pick)
    unknown = _Unknowns(model)
    now, T = start, torch.eye(4, dtype=torch.float64)
    for step in range(-LANDMARK_STEPS, SURFACE_STEPS):
        at = min(max(step, 0), len(GATES) - 1)
        gate, scale = GATES[at] if step >= 0 else 0.0, SCALES[at]
        moved = samples.moved(T)
        marks = replace(landmarks, points=apply(T.float(), landmarks.points))
        delta, change = _step(model, parts, unknown, moved, marks, now, gate, max(scale, 2 * samples.noise))
        now = replace(
            now, identity=now.identity + delta[: unknown.k],
            expression=now.expression.index_add(0, unknown.free, delta[unknown.k : unknown.k + len(unknown.free)]),
            jaw=now.jaw + (delta[unknown.k + len(unknown.free) :] if unknown.jaw else 0.0),
        )  # fmt: skip
        T = change @ T
    return replace(now, T_model_scan=T @ start.T_model_scan)


class _Unknowns:
    """What is solved for, and its bounds."""

    def __init__(self, model: LinearModel) -> None:
        self.k = len(model.identity_basis)
        names = model.expression_names
        free = [i for i, n in enumerate(names) if not n.startswith(STILL)]
        self.free = torch.tensor(free, dtype=torch.long)
        self.named = any(n == "jawOpen" for n in names)
        self.jaw = not self.named and "jaw" in model.joint_names


def _step(
    model: LinearModel, parts: Parts, unknown: _Unknowns, samples: ScanSamples, marks: LandmarkTargets,
    now: Coefficients, gate: float, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    v = posed(model, now)
    columns = _columns(model, unknown, now, v)
    normals = vertex_normals(v, model.faces)
    middle = samples.points.mean(0)
    rows, r, w = _surface_rows(parts, samples, v, normals, columns, middle, gate, scale)
    marks_rows, marks_r, marks_w = _landmark_rows(model, marks, v, columns, middle, alone=gate == 0)
    J, r, w = torch.cat([rows, marks_rows]), torch.cat([r, marks_r]), torch.cat([w, marks_w])
    H = (J.T @ (J * w[:, None])).double()
    g = -(J.T @ (w * r)).double()
    n, e, k = len(g), len(unknown.free), unknown.k
    H.diagonal()[:k] += 1
    g[:k] += now.identity.double()
    lower, upper = torch.full((n,), -torch.inf).double(), torch.full((n,), torch.inf).double()
    if e:
        x = now.expression[unknown.free].double()
        sigma = EXPRESSION_SIGMA if unknown.named else 1.0
        H.diagonal()[k : k + e] += sigma**-2
        g[k : k + e] += x / sigma**2
        if unknown.named:
            # the more landmarks count, the more errors of theirs shapes could follow together
            g[k : k + e] += 0.5 * EXPRESSION_L1 * max(1.0, marks.count / LANDMARK_DISCOUNT) ** 0.5
            lower[k : k + e], upper[k : k + e] = -x, 1 - x
    if unknown.jaw:
        H.diagonal()[k + e : k + e + 3] += 0.15**-2
        g[k + e : k + e + 3] += now.jaw.double() / 0.15**2
    H.diagonal().add_(1e-9 * H.diagonal().mean())
    x, _ = solve_normal_equations(H[None].contiguous(), g[None], lower[None], upper[None])
    x = x[0]
    pose = x[k + e + 3 * unknown.jaw :]
    R = rotvec_to_matrix(pose[:3])
    centre = middle.double()
    change = make_transform(R, centre + pose[3:6] - R @ centre)
    return x[: k + e + 3 * unknown.jaw].float(), change


def _columns(model: LinearModel, unknown: _Unknowns, now: Coefficients, v: Tensor) -> Tensor:
    """Derivatives of all vertices [q, v, 3] by identity, expression and jaw."""
    columns = [model.identity_basis]
    if len(unknown.free):
        columns.append(model.expression_basis[unknown.free] * model.scale(now.identity[None])[0])
    if unknown.jaw:
        for axis in range(3):
            turned = replace(now, jaw=now.jaw + 0.02 * torch.eye(3)[axis])
            columns.append((posed(model, turned) - v)[None] / 0.02)
    return torch.cat(columns)


def _surface_rows(
    parts: Parts,
    samples: ScanSamples,
    v: Tensor,
    normals: Tensor,
    columns: Tensor,
    middle: Tensor,
    gate: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    found = nearest_on_mesh(samples.points, v, parts.faces)
    corners = parts.faces[found.face.long()]
    share = found.barycentrics
    n_model = normalize((normals[corners] * share[..., None]).sum(1), dim=1)
    s = samples.outwards(n_model) if samples.signless else samples
    alike = (s.normals * n_model).sum(1)
    n = normalize(n_model + s.normals, dim=1)
    gap = s.points - found.point
    r = (gap * n).sum(1)
    trust = (parts.weight[corners] * share).sum(1)
    # hair stands out from the skull
    w = trust * s.area * (found.distance < gate) * ((alike - 0.3) / 0.5).clamp(0, 1)
    w = w / (1 + (r / scale).square()).square()
    use = (w > 0).nonzero()[:, 0]
    total = float((trust * s.area)[found.distance < 0.02].sum())
    w = w[use] * (OBSERVATIONS / max(total, 1e-9) / SIGMA**2)
    n, share, corners, p = n[use], share[use], corners[use], s.points[use]
    q = len(columns)
    rows = columns.new_zeros(len(use), q)
    for c in range(3):
        rows += torch.einsum("qnc,nc->nq", columns[:, corners[:, c]], n * share[:, c, None])
    about = p - middle
    # the scan moves, not the model
    rows = torch.cat([rows, -torch.linalg.cross(about, n), -n], 1)
    return rows, r[use], w


def _landmark_rows(
    model: LinearModel, marks: LandmarkTargets, v: Tensor, columns: Tensor, middle: Tensor, *, alone: bool
) -> tuple[Tensor, Tensor, Tensor]:
    e = marks.embedding
    here = points_on_faces(v, model.faces, e.faces, e.weights)
    gap = marks.points - here
    ear = 0.09
    sigma = (e.residual * ear).square() + marks.sigma.square() + LANDMARK_SIGMA**2
    use = (torch.isfinite(sigma) & torch.isfinite(gap).all(1)).nonzero()[:, 0]
    gap, sigma = gap[use], sigma[use]
    off = gap.norm(dim=1) / sigma.sqrt()
    # an open mouth is far from where it starts
    w = 1 / sigma / (1 + (off / (12 if alone else 2)).square())
    w = w * ((4 if alone else 1) * marks.count / max(1, len(use)))
    D = points_on_faces(columns, model.faces, e.faces[use], e.weights[use])  # [q, n, 3]
    rows = D.permute(1, 2, 0).reshape(3 * len(use), -1)
    about = marks.points[use] - middle
    turned = torch.linalg.cross(torch.eye(3).expand(len(use), 3, 3), about[:, None].expand(-1, 3, -1))  # [n, axis, 3]
    pose = torch.cat([-turned.mT, -torch.eye(3).expand(len(use), 3, 3)], 2)
    return torch.cat([rows, pose.reshape(3 * len(use), 6)], 1), gap.reshape(-1), w.repeat_interleave(3)
