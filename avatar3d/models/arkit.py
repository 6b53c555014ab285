"""ARKit's 52 coefficients <-> a model's own expression, with what is lost on the way.

Models with ARKit's names convert by name. For others (FLAME) the ARKit shapes of the `head` model are carried over by
dense correspondence, and the model's expression and jaw that come closest to them are solved for; and back. Both are
done for the mean identity: expressions do not depend on identity in any of our models.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.data import packaged
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.correspondence import (
    Correspondence,
    ball_rotation,
    carry_regions,
    carry_vectors,
    correspond,
)
from avatar3d.models.head import load_head
from avatar3d.models.landmark_file import with_landmarks
from avatar3d.models.linear import LinearModel
from avatar3d.models.tables import packaged_correspondence
from avatar3d.ops import solve_normal_equations
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Track
from avatar3d.typing import typed

NOISE = 0.001
"""Standard deviation of a face vertex in the fits, metres, for `OBSERVATIONS` independent ones."""
OBSERVATIONS = 300
ARKIT_OBSERVATIONS = 60
"""The same where ARKit's coefficients are sought, which overlap: what they cannot follow should not drive them up."""
ARKIT_SIGMA = 0.5
OPPOSITES = (
    ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("eyeBlink", "eyeWide"), ("mouthSmile", "mouthFrown"),
    ("eyeLookUp", "eyeLookDown"), ("eyeLookIn", "eyeLookOut"), ("browDown", "browOuterUp"),
)  # fmt: skip
"""Coefficients of which one is at work, at most; of those with sides, on each side."""
JAW_SIGMA = 0.2
"""Radians."""
STEPS = 12
BATCH = 128
_KEPT = "_arkit_shapes"


@dataclass(frozen=True, kw_only=True)
class ModelExpression:
    """What moves a model's face."""

    expression: Float[Tensor, "t e"]
    """Coefficients in the model's own terms."""
    joints: dict[str, Float[Tensor, "t 3"]] = field(default_factory=dict)
    """Rotation vectors of jaw, eye_left and eye_right, where the model's expression does not move them."""


@typed
def named_shapes(model: LinearModel) -> Float[Tensor, "52 v 3"]:
    """The model's expressions that bear ARKit names, in Apple's order; zero for those that it lacks, metres."""
    out = torch.zeros(len(ARKIT_NAMES), *model.template.shape)
    for row, name in enumerate(model.expression_names):
        if name in ARKIT_INDEX:
            out[ARKIT_INDEX[name]] = model.expression_basis[row]
    return out


@typed
def arkit_shapes(model: LinearModel) -> Float[Tensor, "52 v 3"]:
    """Displacements of the model's mean head for the 52 ARKit coefficients at 1, metres.

    Its own where it has them by name; the others are the `head` model's, carried over by correspondence: lids that
    close and lips that part on a mesh that came without such shapes. The eyes of a model without eyeLook shapes turn
    about their joints. A model with some ARKit shapes whose mesh is not known keeps zeros for those that it lacks.

    Raises:
        ValueError: the model has no ARKit shapes and no landmarks by which to find the correspondence.
    """
    own = [ARKIT_INDEX[n] for n in model.expression_names if n in ARKIT_INDEX]
    if len(own) == len(ARKIT_NAMES):
        return named_shapes(model)
    kept = vars(model)  # computed once per model
    if _KEPT not in kept:
        kept[_KEPT] = _completed(model, own)
    return kept[_KEPT]


def _completed(model: LinearModel, own: list[int]) -> Tensor:
    head, found = _to_head(model, required=not own)
    if found is None:
        return named_shapes(model)
    shapes = carry_vectors(head, found, named_shapes(head))
    for name, side, R in gaze_rotations(head):
        ball, joint = model.regions.get(f"eyeball_{side}"), f"eye_{side}"
        if ball is not None and joint in model.joint_names:
            p = model.template[ball] - model.joint_template[model.joint_index(joint)]
            shapes[ARKIT_INDEX[name], ball] = p @ (R.T - torch.eye(3))
    shapes[own] = named_shapes(model)[own]
    return shapes


def _head() -> LinearModel:
    return with_landmarks(load_head(), packaged("models/assets/head_landmarks.safetensors"))


def _to_head(model: LinearModel, *, required: bool) -> tuple[LinearModel, Correspondence | None]:
    head = _head()
    if "mediapipe478" in model.landmarks:
        known = packaged_correspondence(head, model)
        if known is not None or required:
            return head, known or correspond(head, model)
    if required:
        raise ValueError(
            f"{model.name} has neither ARKit shapes nor landmarks, so ARKit cannot be expressed in it. "
            "Compute its landmarks with models.embedding.compute_embedding."
        )
    return head, None


def gaze_rotations(head: LinearModel | None = None) -> list[tuple[str, str, Tensor]]:
    """Name, side and rotation matrix of the eight eyeLook shapes at 1."""
    head = load_head() if head is None else head
    names = [n for n in ARKIT_NAMES if n.startswith("eyeLook")]
    sides = ["left" if n.endswith("Left") else "right" for n in names]
    return [(n, s, ball_rotation(head, n, s)) for n, s in zip(names, sides, strict=True)]


def _is_named(model: LinearModel) -> bool:
    return any(n in ARKIT_INDEX for n in model.expression_names)


@dataclass(frozen=True)
class _Face:
    """The vertices by which expressions are compared."""

    index: Tensor
    model: LinearModel
    weights: Tensor
    shapes: Tensor


def _face(model: LinearModel) -> _Face:
    shapes = arkit_shapes(model)
    mask = model.regions.get("face")
    if mask is None and not _is_named(model):
        head, found = _to_head(model, required=True)
        assert found is not None
        mask = carry_regions(head, found, model).get("face")
    if mask is None or not mask.any():
        mask = shapes.norm(dim=2).amax(0) > 5e-4
    index = mask.nonzero()[:, 0]
    part = part_of(model, index)
    # every vertex alike, except that lips and lids say more than cheeks
    weights = torch.ones(len(index))
    for name, value in (("lips_outer", 3.0), ("lips_inner", 3.0), ("eyelids", 2.0)):
        if name in model.regions:
            weights[model.regions[name][index]] = value
    return _Face(index, part, weights / weights.sum(), shapes[:, index])


def part_of(model: LinearModel, index: Tensor) -> LinearModel:
    """The model of some vertices, with one identity at most."""
    return replace(
        model,
        template=model.template[index],
        identity_basis=model.identity_basis[:1, index],
        expression_basis=model.expression_basis[:, index],
        joint_identity_basis=model.joint_identity_basis[:1],
        pose_basis=None if model.pose_basis is None else model.pose_basis[:, index],
        skinning_weights=model.skinning_weights[index],
        regions={},
        mirror=None,
        landmarks={},
    )


def _posed(model: LinearModel, expression: Tensor, joints: dict[str, Tensor]) -> Tensor:
    """Displacement [t, n, 3] from the template."""
    t = len(expression)
    zero = expression.new_zeros(t, 3)
    rotations = torch.stack([joints.get(n, zero) for n in model.joint_names], 1)
    posed = model.forward(expression.new_zeros(t, 1), expression, rotations if joints else None)
    return posed.vertices - model.template


def _rms(difference: Tensor, weights: Tensor) -> Tensor:
    return (difference.square().sum(-1) @ weights).sqrt()


@typed
def arkit_to_model(model: LinearModel, arkit: Float[Tensor, "t 52"]) -> tuple[ModelExpression, Float[Tensor, "t"]]:
    """The model's own expression for ARKit coefficients.

    Args:
        model: The model.
        arkit: Coefficients in Apple's order.

    Returns:
        Expression (and jaw and eye rotations, where the model's expression has none of them), and for every frame
        what the model cannot follow: the root-mean-square distance over the face's vertices, metres.
    """
    if _is_named(model):
        expression = torch.zeros(len(arkit), len(model.expression_names))
        for i, name in enumerate(model.expression_names):
            if name in ARKIT_INDEX:
                expression[:, i] = arkit[:, ARKIT_INDEX[name]]
        face = _face(model)
        gone = face.shapes - named_shapes(model)[:, face.index]
        return ModelExpression(expression=expression), _rms(torch.einsum("ts,snc->tnc", arkit, gone), face.weights)
    face = _face(model)
    goals = (torch.einsum("ts,snc->tnc", chunk, face.shapes) for chunk in arkit.split(BATCH))
    chunks = [solve_expression(face.model, goal, face.weights) for goal in goals]
    joints = {"jaw": torch.cat([c[1] for c in chunks])} if "jaw" in model.joint_names else {}
    for side in ("left", "right"):
        if f"eye_{side}" in model.joint_names:
            joints[f"eye_{side}"] = gaze_vector(arkit, side)
    found = ModelExpression(expression=torch.cat([c[0] for c in chunks]), joints=joints)
    return found, torch.cat([c[2] for c in chunks])


@typed
def solve_expression(
    model: LinearModel, goal: Float[Tensor, "t n 3"], weights: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "t e"], Float[Tensor, "t 3"], Float[Tensor, "t"]]:
    """The expression and jaw that move a model's vertices as wanted: Gauss-Newton with the derivatives at rest.

    Args:
        model: A model, or the part of it that counts.
        goal: Wanted displacements of the mean identity, metres.
        weights: What every vertex counts; their sum is 1.

    Returns:
        Expression, the jaw's rotation vector (zero where there is no jaw), and the root-mean-square distance that is
        left, metres.
    """
    t = len(goal)
    e, jaw = len(model.expression_basis), "jaw" in model.joint_names
    columns = [model.expression_basis]
    if jaw:
        for axis in range(3):
            turned = torch.zeros(1, 3)
            turned[0, axis] = 0.1
            columns.append(_posed(model, torch.zeros(1, e), {"jaw": turned}) / 0.1)
    J = torch.cat(columns).flatten(1)
    W = weights.repeat_interleave(3) * OBSERVATIONS / NOISE**2
    prior = torch.cat([torch.ones(e), torch.full((3 * jaw,), JAW_SIGMA**-2)])
    H = torch.linalg.inv(((J * W) @ J.T + torch.diag(prior)).double()).float()
    x = torch.zeros(t, len(J))
    for _ in range(STEPS):
        joints = {"jaw": x[:, e:]} if jaw else {}
        gap = goal - _posed(model, x[:, :e], joints)
        x = x + ((gap.flatten(1) * W) @ J.T - x * prior) @ H
    joints = {"jaw": x[:, e:]} if jaw else {}
    gap = goal - _posed(model, x[:, :e], joints)
    return x[:, :e], x[:, e:] if jaw else torch.zeros(t, 3), _rms(gap, weights)


@typed
def model_to_arkit(
    model: LinearModel, expression: Float[Tensor, "t e"], joints: dict[str, Float[Tensor, "t 3"]] | None = None
) -> tuple[Float[Tensor, "t 52"], Float[Tensor, "t"]]:
    """ARKit coefficients, 0..1, for a model's own expression.

    Args:
        model: The model.
        expression: Coefficients in the model's own terms.
        joints: Rotation vectors of jaw, eye_left and eye_right, where the model has those apart from its expression.

    Returns:
        Coefficients in Apple's order, and for every frame what ARKit's shapes cannot follow: the root-mean-square
        distance over the face's vertices, metres.
    """
    joints = {n: r for n, r in (joints or {}).items() if n in model.joint_names}
    t = len(expression)
    if _is_named(model) and not joints:
        out = torch.zeros(t, len(ARKIT_NAMES))
        for i, name in enumerate(model.expression_names[: expression.shape[1]]):
            if name in ARKIT_INDEX:
                out[:, ARKIT_INDEX[name]] = expression[:, i]
        other = [i for i, n in enumerate(model.expression_names[: expression.shape[1]]) if n not in ARKIT_INDEX]
        face = _face(model)
        lost = torch.einsum("te,enc->tnc", expression[:, other], face.model.expression_basis[other])
        return out, _rms(lost, face.weights)
    face = _face(model)
    e = len(model.expression_basis)
    padded = torch.nn.functional.pad(expression, (0, e - expression.shape[1]))
    lower, upper = torch.zeros(t, len(ARKIT_NAMES)), torch.ones(t, len(ARKIT_NAMES))
    for side in ("left", "right"):
        if f"eye_{side}" in joints:  # gaze is told by the eyes, not by what the lids do
            for name, value in gaze_coefficients(joints[f"eye_{side}"], side).items():
                lower[:, ARKIT_INDEX[name]] = upper[:, ARKIT_INDEX[name]] = value
    moving = {n: r for n, r in joints.items() if not n.startswith("eye_")}
    W = face.weights.repeat_interleave(3) * ARKIT_OBSERVATIONS / NOISE**2
    S = face.shapes.flatten(1)
    H = ((S * W) @ S.T + torch.eye(len(S)) / ARKIT_SIGMA**2).double()
    out, residual = [], []
    for at in torch.arange(t).split(BATCH):
        goal = _posed(face.model, padded[at], {n: r[at] for n, r in moving.items()})
        g = -((goal.flatten(1) * W) @ S.T).double()
        most = upper[at].double()
        for _ in range(2):
            x, _ = solve_normal_equations(H.expand(len(at), -1, -1).contiguous(), g, lower[at].double(), most)
            for i, j in _opposites():  # and again without the weaker of two opposites
                most[:, i] = torch.where((x[:, i] < x[:, j]) & (lower[at, i] == 0), 0, most[:, i])
                most[:, j] = torch.where((x[:, j] < x[:, i]) & (lower[at, j] == 0), 0, most[:, j])
        out.append(x.float())
        residual.append(_rms(goal - torch.einsum("ts,snc->tnc", x.float(), face.shapes), face.weights))
    return torch.cat(out), torch.cat(residual)


def _opposites() -> list[tuple[int, int]]:
    sided = [(a + side, b + side) for a, b in OPPOSITES for side in ("", "Left", "Right")]
    return [(ARKIT_INDEX[a], ARKIT_INDEX[b]) for a, b in sided if a in ARKIT_INDEX and b in ARKIT_INDEX]


def gaze_vector(arkit: Tensor, side: str) -> Tensor:
    """An eye's rotation vector [t, 3] for ARKit's coefficients."""
    vectors = [(ARKIT_INDEX[n], matrix_to_rotvec(R)) for n, s, R in gaze_rotations() if s == side]
    return sum((arkit[:, i, None] * r for i, r in vectors), torch.zeros(len(arkit), 3))


def gaze_coefficients(rotation: Tensor, side: str) -> dict[str, Tensor]:
    """The four eyeLook coefficients of an eye's rotation vector [t, 3]."""
    unit = {n: matrix_to_rotvec(R) for n, s, R in gaze_rotations() if s == side}
    out = {}
    for name, axis in (("Up", 0), ("Down", 0), ("In", 1), ("Out", 1)):
        angle = unit[f"eyeLook{name}{side.capitalize()}"][axis]
        out[f"eyeLook{name}{side.capitalize()}"] = (rotation[:, axis] / angle).clamp(0, 1)
    return out


@typed
def track_in_arkit(model: LinearModel, track: Track) -> tuple[Track, Float[Tensor, "t"]]:
    """A track whose expression is ARKit's, and the distance in metres that the conversion loses in every frame.

    Jaw and eye rotations become coefficients. The track of a model with ARKit's names stays as it is.
    """
    if model.expression_names == ARKIT_NAMES and not track.joints:
        return track, torch.zeros(len(track.expression))
    arkit, lost = model_to_arkit(model, track.expression, track.joints)
    return replace(track, expression=arkit, joints={}), lost
