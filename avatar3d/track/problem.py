"""A model as the tracker sees it: its rows at the landmarks, how far each is trusted, bounds and priors."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.geometry.transform import posed_rest_transforms
from avatar3d.models.linear import LinearModel
from avatar3d.ops import LandmarkRows
from avatar3d.track import scheme
from avatar3d.track.config import TrackConfig
from avatar3d.track.told import slopes
from avatar3d.types.arkit import ARKIT_INDEX

SCHEME = "mediapipe478"
_UNSEEN = ("tongueOut", "cheekPuff")
"""Coefficients that landmarks cannot tell."""
_JOINTS = {"jaw": 3, "eye_left": 2, "eye_right": 2}
"""Joints that a model without ARKit shapes turns, and about how many axes (x, y, z)."""
_JOINT_SIGMA = {"jaw": 0.2, "eye_left": 0.3, "eye_right": 0.3}
_PROBE = 0.15


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything about a model that does not depend on the footage. Float64."""

    model: LinearModel
    origin: Float[Tensor, "3"]
    """Point of model space that poses turn about: the middle of the landmarks."""
    rows: LandmarkRows
    sigma: Float[Tensor, "l"]
    """Error of every landmark relative to the typical one; infinite for those that the model does not have."""
    pair_sigma: Float[Tensor, "p"]
    """Error of every pair's difference, share of the inter-ocular distance."""
    normals: Float[Tensor, "l 3"]
    rigid: Bool[Tensor, "l"]
    """Landmarks that hardly move against the skull."""
    interocular: float
    """Distance of the outer eye corners of the mean face, metres."""
    growth: Float[Tensor, "k"]
    """How the identity changes the size of the face: it is that of the mean face times 1 + growth . identity."""
    lower: Float[Tensor, "e"]
    upper: Float[Tensor, "e"]
    ridge: Float[Tensor, "e"]
    """Inverse variance of the prior on every expression coefficient."""
    l1: Float[Tensor, "e"]
    told: Float[Tensor, "52 e"]
    """Coefficients over those of the detector's network."""
    told_precision: Float[Tensor, "e"]
    """Inverse variance of a coefficient about what the network tells; zero where it is not asked."""
    joints: tuple[tuple[str, int], ...] = ()
    """Joint and axis of the expression columns behind the model's own."""

    @property
    def expressions(self) -> int:
        return self.rows.expression_basis.shape[2]

    @property
    def is_arkit(self) -> bool:
        return self.model.expression_names[0] in ARKIT_INDEX


def make_problem(model: LinearModel, config: TrackConfig) -> Problem:
    """Gathers a model's landmark rows.

    Raises:
        ValueError: the model has no embedding of the 478 landmarks.
    """
    if SCHEME not in model.landmarks:
        raise ValueError(f"Model {model.name!r} has no embedding of the landmarks {SCHEME!r}; it cannot be tracked.")
    embedding = model.landmarks[SCHEME]
    faces, weights = embedding.faces, embedding.weights.double()

    def at_landmarks(vertices: Tensor) -> Tensor:
        return points_on_faces(vertices.double(), model.faces, faces, weights)

    usable = torch.isfinite(embedding.residual)
    template = at_landmarks(model.template)
    origin = template[usable].mean(0)
    columns = [at_landmarks(model.expression_basis)]
    arkit = model.expression_names[0] in ARKIT_INDEX
    joints = () if arkit else tuple((j, a) for j, n in _JOINTS.items() if j in model.joint_names for a in range(n))
    if joints:
        columns.append(torch.stack([_joint_column(model, at_landmarks, *joint) for joint in joints]))
    expression = torch.cat(columns).permute(1, 2, 0)
    scale = model.expression_scale
    k = model.identity_basis.shape[0]
    rows = LandmarkRows(
        points=(template - origin).contiguous(),
        identity_basis=at_landmarks(model.identity_basis).permute(1, 2, 0).contiguous(),
        expression_basis=expression.contiguous(),
        expression_scale=torch.zeros(k, dtype=torch.float64) if scale is None else scale.double(),
        pairs=torch.tensor(scheme.LID_PAIRS + scheme.LIP_PAIRS),
    )
    cloud = rows.points[usable]
    e = expression.shape[2]
    lower, upper = torch.full((e,), -torch.inf).double(), torch.full((e,), torch.inf).double()
    l1, ridge = torch.zeros(e).double(), torch.ones(e).double()
    if arkit:
        lower[:], upper[:], l1[:] = 0, 1, config.l1
        ridge[:] = config.expression_sigma**-2
        for i, name in enumerate(model.expression_names):
            if name in _UNSEEN:
                upper[i] = 0
    for i, (joint, _) in enumerate(joints):
        ridge[e - len(joints) + i] = _JOINT_SIGMA[joint] ** -2
    told = slopes(model.expression_names) if arkit else torch.zeros(len(ARKIT_INDEX), e).double()
    lids = len(scheme.LID_PAIRS)
    pair_sigma = torch.full((lids + len(scheme.LIP_PAIRS),), config.lip_sigma).double()
    pair_sigma[:lids] = config.lid_sigma
    return Problem(
        model=model,
        origin=origin,
        rows=rows,
        sigma=_sigmas(embedding.residual.double()),
        pair_sigma=pair_sigma,
        normals=_normals(model, at_landmarks, template - origin),
        rigid=usable & torch.tensor([i not in scheme.MOVING for i in range(scheme.COUNT)]),
        interocular=float((template[scheme.RIGHT_EYE] - template[scheme.LEFT_EYE]).norm()),
        growth=torch.einsum("lc,lck->k", cloud, rows.identity_basis[usable]) / cloud.square().sum(),
        lower=lower,
        upper=upper,
        ridge=ridge,
        l1=l1,
        told=told,
        told_precision=told.amax(0).sign() * config.told_sigma**-2,
        joints=joints,
    )


def _sigmas(residual: Tensor) -> Tensor:
    """The embedding's own error, relative to the median, times what each part of the face deserves."""
    usable = torch.isfinite(residual)
    factor = (residual / residual[usable].median()).clamp(0.5, 1.7)
    factor[list(scheme.LIDS + scheme.LIPS_INNER + scheme.IRISES)] *= 0.5
    return torch.where(usable, factor, torch.inf)


def _normals(model: LinearModel, at_landmarks, points: Tensor) -> Tensor:
    """Where the skin faces, smoothed by the direction from within the head: lids and lips turn every way."""
    surface = at_landmarks(vertex_normals(model.template.double(), model.faces))
    outward = points + torch.tensor([0, 0, 0.06], dtype=torch.float64)
    unit = torch.nn.functional.normalize
    return unit(unit(surface, dim=-1) + unit(outward, dim=-1), dim=-1)


def _joint_column(model: LinearModel, at_landmarks, joint: str, axis: int) -> Tensor:
    """Displacement of the landmarks per radian of a joint's rotation (secant over a small angle)."""
    rest = model.joint_template.double()[None]
    rotations = torch.zeros(1, len(model.joint_names), 3, dtype=torch.float64)
    rotations[0, model.joint_index(joint), axis] = _PROBE
    R = rotvec_to_matrix(rotations)
    vertices = model.template.double()
    if model.pose_basis is not None:
        feature = (R[:, 1:] - torch.eye(3).double()).flatten(1)
        vertices = vertices + (feature @ model.pose_basis.double().flatten(1)).view_as(vertices)
    maps = posed_rest_transforms(model.joint_parents, rest, R)[0]
    blended = torch.einsum("vj,jrc->vrc", model.skinning_weights.double(), maps[:, :3])
    moved = (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
    return (at_landmarks(moved) - at_landmarks(model.template)) / _PROBE
