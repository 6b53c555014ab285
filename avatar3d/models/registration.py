"""Model-to-scan registration: a scan's identity, expression and free-form shape on a model's topology."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import TrackingError
from avatar3d.geometry.surface import face_normals, points_on_faces
from avatar3d.geometry.transform import apply, make_transform, procrustes
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.models.registration_coefficients import (
    LANDMARK_DISCOUNT,
    LANDMARKS_OF_ONE,
    Coefficients,
    LandmarkTargets,
    fit_coefficients,
    posed,
)
from avatar3d.models.registration_eyes import eye_openings
from avatar3d.models.registration_freeform import Marks, fit_displacement, flipped_faces, unfolded
from avatar3d.models.registration_inside import settle_inside
from avatar3d.models.registration_parts import Parts, model_parts
from avatar3d.models.scan_samples import ScanSamples, sample_scan
from avatar3d.ops import nearest_on_mesh, pose_joints
from avatar3d.types.mesh import Mesh
from avatar3d.typing import typed

UNITS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""Metres."""
SURE_SIZE = 0.22
"""Logarithm of a head's size against the mean up to which a scan is in the unit that comes nearest; beyond that its
scale is arbitrary, and it is made as large as a usual head."""


@dataclass(frozen=True, kw_only=True)
class Units:
    """In which a scan is."""

    name: str
    """A key of `UNITS`, or "unknown"."""
    metres: float
    """Of one unit of the scan."""
    size: float
    """The head's size in that unit, relative to the mean head."""


@typed
def find_units(metres_per_unit: float) -> Units:
    """The unit of a scan whose head would be of mean size if one unit were so many metres."""
    near = sorted((abs(math.log(metres_per_unit / m)), name) for name, m in UNITS.items() if name not in ("dm", "ft"))
    off, name = near[0]
    if off > SURE_SIZE:
        off, name = min((abs(math.log(metres_per_unit / m)), n) for n, m in UNITS.items())
    if off > SURE_SIZE:
        return Units(name="unknown", metres=metres_per_unit, size=1.0)
    return Units(name=name, metres=UNITS[name], size=UNITS[name] / metres_per_unit)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A model brought onto a scan."""

    identity: Float[Tensor, "k"]
    expression: Float[Tensor, "e"]
    """The model's own; zero for a face at rest."""
    offsets: Float[Tensor, "v 3"]
    """Of the neutral vertices, metres."""
    joint_offsets: Float[Tensor, "j 3"]
    """Of the joints at rest, metres: eyes go with their lids."""
    vertices: Float[Tensor, "v 3"]
    """Posed like the scan, in model space."""
    coefficients_only: Float[Tensor, "v 3"]
    """The same before the free-form half."""
    T_model_scan: Float[Tensor, "4 4"]
    """float64; scan units and axes to model space."""
    units: Units
    flipped: int
    """Faces that the free-form half turned over."""
    landmarks: int
    """That took part."""
    samples: ScanSamples = field(repr=False)
    """The scan in model space."""


@typed
def register(
    model: LinearModel,
    scan: Mesh,
    landmarks: Float[Tensor, "n 3"],
    sigma: Float[Tensor, "n"],
    embedding: LandmarkEmbedding,
    *,
    samples: int = 60_000,
    seed: int = 0,
    resting: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Registration:
    """Fits a model to a scan: coefficients first, then a free-form displacement.

    Args:
        model: A model with landmarks.
        scan: Mesh or cloud, in any units and axes.
        landmarks: On the scan, in its units and axes; NaN where unknown.
        sigma: Their errors as shares of the inter-ocular distance; infinite where unknown.
        embedding: Where the model has these landmarks.
        samples: Points that are spread over the scan.
        seed: Of that.
        resting: Whether the scan is at rest: a small expression is then the person's shape. If not, the model is one
            of the person and only the expression is sought.
        progress: Called with stage, done, total.

    Raises:
        TrackingError: the landmarks do not lie as a face's do, or no surface is where they are.
    """
    parts = model_parts(model)
    usual = _initial(model, landmarks.double(), sigma, embedding)
    per_unit = float(torch.linalg.det(usual[:3, :3]) ** (1 / 3))
    units = find_units(per_unit)
    # a head of another size lies about the same middle
    middle = landmarks[torch.isfinite(landmarks).all(1)].double().mean(0)
    A = usual[:3, :3] * (units.metres / per_unit)
    T = make_transform(A, apply(usual, middle[None])[0] - A @ middle)
    centre = model.template[parts.weight > 0.05].mean(0)
    surface = sample_scan(scan, T, centre, reach=0.24, count=samples, seed=seed)
    if len(surface.points) < 200:
        raise TrackingError(
            f"{scan.name or 'The scan'} has {len(surface.points)} points of surface about its face; a scan of a head "
            "was expected."
        )
    surface = _right_side_out(model, parts, surface)
    marks = LandmarkTargets(
        points=apply(T, landmarks.double()).float(), sigma=sigma * 0.09, embedding=embedding,
        count=LANDMARK_DISCOUNT if resting else LANDMARKS_OF_ONE,
    )  # fmt: skip
    start = Coefficients(
        identity=torch.zeros(len(model.identity_basis)), expression=torch.zeros(len(model.expression_basis)),
        jaw=torch.zeros(3), T_model_scan=T,
    )  # fmt: skip
    c = fit_coefficients(model, parts, surface, marks, start)
    if progress:
        progress("registration", 2, 4)
    change = (c.T_model_scan @ torch.linalg.inv(T)).float()
    surface = surface.moved(change)
    if surface.signless:
        surface = _oriented(model, parts, surface, posed(model, c))
    points = apply(change, marks.points)
    v = posed(model, c)
    openings = eye_openings(points, marks.sigma)
    moved = fit_displacement(model, parts, surface, v, openings, _marks(model, v, points, marks.sigma, embedding))
    if progress:
        progress("registration", 3, 4)
    moved, joints = settle_inside(model, parts, v, moved, surface, openings)
    moved, _ = unfolded(v, moved, parts, model.faces.long())
    vertices = v + moved
    if resting and not _is_shown(model, parts, c):  # what the expression did is then part of the shape
        c = _at_ease(c)
        moved = vertices - posed(model, c)
    skin = model.faces.long()[parts.shell[model.faces.long()].all(1)]
    if progress:
        progress("registration", 4, 4)
    return Registration(
        identity=c.identity, expression=c.expression, offsets=_at_rest(model, c, moved), joint_offsets=joints,
        vertices=vertices, coefficients_only=v, T_model_scan=c.T_model_scan, units=units,
        flipped=int(flipped_faces(v, vertices, skin).sum()), landmarks=int(torch.isfinite(sigma).sum()),
        samples=surface,
    )  # fmt: skip


def _initial(model: LinearModel, landmarks: Tensor, sigma: Tensor, embedding: LandmarkEmbedding) -> Tensor:
    """The similarity T_model_scan by landmarks, robustly."""
    known = torch.isfinite(landmarks).all(1) & torch.isfinite(sigma) & torch.isfinite(embedding.residual)
    if known.sum() < 6:
        raise TrackingError(f"{int(known.sum())} landmarks are known on the scan; at least 6 are needed.")
    source = landmarks[known]
    target = points_on_faces(model.template, model.faces, embedding.faces, embedding.weights)[known].double()
    w = 1 / (embedding.residual[known].double().square() + sigma[known].double().square() + 0.02**2)
    usual = torch.ones_like(w)
    T = procrustes(source, target, w, with_scale=True)
    for _ in range(10):
        T = procrustes(source, target, w * usual, with_scale=True)
        off = (apply(T, source) - target).norm(dim=1)
        usual = 1 / (1 + (off / off.median().clamp_min(1e-6) / 2).square())
    return T


def _is_shown(model: LinearModel, parts: Parts, c: Coefficients) -> bool:
    """Whether the scan shows an expression; small ones are the person's shape."""
    shown = posed(model, c) - posed(model, _at_ease(c))
    telling = torch.zeros_like(parts.face)
    for name in ("lips_outer", "eyelids", "brows"):  # a chin's length and an open jaw look alike
        telling |= parts.regions.get(name, torch.zeros_like(telling))
    where = telling if telling.any() else parts.face
    return float(shown[where].norm(dim=1).max()) > LEAST_EXPRESSION


def _at_ease(c: Coefficients) -> Coefficients:
    return replace(c, expression=0 * c.expression, jaw=0 * c.jaw)


LEAST_EXPRESSION = 0.008
"""Displacement of lips, lids or brows that an expression must make, metres."""


def _right_side_out(model: LinearModel, parts: Parts, samples: ScanSamples) -> ScanSamples:
    """With normals outwards: scans may be wound either way round."""
    found = nearest_on_mesh(samples.points, model.template, parts.faces)
    n = face_normals(model.template, parts.faces)[found.face.long()]
    near = found.distance < NEAR
    alike = torch.nn.functional.normalize(n, dim=1) * samples.normals
    if samples.signless or float(alike[near].sum()) >= 0:
        return samples
    return replace(samples, normals=-samples.normals)


NEAR = 0.015
"""Distance of a scan from the mean head at which its sides are told apart, metres."""


def _oriented(model: LinearModel, parts: Parts, samples: ScanSamples, v: Tensor) -> ScanSamples:
    """Normals outwards, by those of the nearest faces."""
    found = nearest_on_mesh(samples.points, v, parts.faces)
    return samples.outwards(face_normals(v, parts.faces)[found.face.long()])


GUIDED = 0.05
"""Residual of a landmark's embedding up to which it guides the free-form half."""
GUIDE_STRENGTH = 0.15


def _marks(model: LinearModel, v: Tensor, points: Tensor, sigma: Tensor, embedding: LandmarkEmbedding) -> Marks:
    """Landmarks that are sure on both sides."""
    here = points_on_faces(v, model.faces, embedding.faces, embedding.weights)
    off = (points - here).norm(dim=1)
    error = embedding.residual.clamp_min(0.01)
    use = (error < GUIDED) & (sigma < 0.004) & (off < 0.006)
    index = use.nonzero()[:, 0]
    strength = GUIDE_STRENGTH * (0.015 / error[index]).clamp_max(1).square() * (0.002 / sigma[index].clamp_min(0.002))
    return Marks(
        faces=embedding.faces[index], weights=embedding.weights[index], points=points[index], strength=strength
    )  # fmt: skip


def _at_rest(model: LinearModel, c: Coefficients, moved: Tensor) -> Tensor:
    """A displacement of posed vertices as one of the neutral ones."""
    if "jaw" not in model.joint_names or not bool(c.jaw.any()):
        return moved
    rotations = torch.zeros(1, len(model.joint_names), 3)
    rotations[0, model.joint_index("jaw")] = c.jaw
    maps = pose_joints(model.joint_parents, model.joints(c.identity[None], c.expression[None]), rotations).T_posed_rest
    M = torch.einsum("vj,jab->vab", model.skinning_weights, maps[0, :, :3, :3])
    return torch.linalg.solve(M, moved[:, :, None])[:, :, 0]
