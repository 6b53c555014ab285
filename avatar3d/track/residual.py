"""What of a face the identity space does not hold: a smooth free-form residual, from what landmarks keep saying.

Every landmark's mean error over the keyframes, in the head's own axes, is split in two: a displacement of the
surface (a Gaussian process: smooth over about 12 mm, mostly symmetric, zero where there is no evidence) and an error
of where this detector puts that landmark on this face, which moves nothing but keeps expressions and poses unbiased.
Depth needs no gate of its own: it is known as far as the head turned.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.linear import LinearModel
from avatar3d.track import observe
from avatar3d.track.config import TrackConfig
from avatar3d.track.observe import Observations, State, measurement_weights
from avatar3d.track.problem import SCHEME, Problem
from avatar3d.types.arkit import ARKIT_INDEX

SYMMETRY = 0.6
"""Correlation of a displacement with its mirror image."""
APART = {"jawOpen": 3.0, "eyeBlinkLeft": 2.0, "eyeBlinkRight": 2.0}
"""Metres of distance per metre by which a shape moves two points apart: what opens does not move together."""
STILL = ("eyeball", "iris", "pupil", "teeth", "gums", "tongue", "mouth_cavity", "eye_socket", "lacrimal", "lips_inner")
"""Regions that keep their shape."""
GENTLE, GENTLE_SHARE = ("eyelid",), 0.3
"""Regions that hardly change it: they must go on fitting the eyeballs."""


@dataclass(frozen=True, kw_only=True)
class Residual:
    """A displacement of the neutral surface, and of the landmarks on top of it; metres."""

    offsets: Float[Tensor, "v 3"]
    surface: Float[Tensor, "l 3"]
    """The displacement at the landmarks."""
    bias: Float[Tensor, "l 3"]
    """What is left: where the detector puts them, not where the surface is."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """The Gaussian process of a model."""

    landmarks: Float[Tensor, "a l l"]
    """Covariance between landmarks, per axis."""
    vertices: Float[Tensor, "a v l"]
    bias_variance: Float[Tensor, "l"]


def make_process(problem: Problem, config: TrackConfig) -> Process:
    """Covariances of the free-form residual over a model's surface."""
    model = problem.model
    features = _features(model)
    amplitude = _amplitude(model) * config.surface_sigma * 1e-3
    embedding = model.landmarks[SCHEME]

    def at_landmarks(x: Tensor) -> Tensor:
        out = points_on_faces(
            torch.nn.functional.pad(x, (0, -x.shape[1] % 3)).view(len(x), -1, 3).permute(1, 0, 2),
            model.faces, embedding.faces, embedding.weights.double(),
        )  # fmt: skip
        return out.permute(1, 0, 2).flatten(1)[:, : x.shape[1]]

    points, size = at_landmarks(features), at_landmarks(amplitude[:, None])[:, 0]
    flipped = points.clone()
    flipped[:, 0] *= -1
    if "eyeBlinkLeft" in model.expression_names:
        flipped[:, 4:6] = flipped[:, [5, 4]]
    length = config.surface_length * 1e-3

    def covariance(x: Tensor, a: Tensor) -> Tensor:
        near, far = (torch.exp(-0.5 * (torch.cdist(x, y) / length).square()) for y in (points, flipped))
        sign = torch.tensor([-1.0, 1, 1]).double()[:, None, None]
        return (near + SYMMETRY * sign * far) * a[:, None] * size

    error = embedding.residual.double().nan_to_num(1, 1, 1).clamp(0.004, 0.2) * problem.interocular
    return Process(
        landmarks=covariance(points, size), vertices=covariance(features, amplitude), bias_variance=error.square()
    )


def _features(model: LinearModel) -> Float[Tensor, "v f"]:
    """Place, and how far the shapes that open the mouth and the eyes move a point."""
    columns = [model.template.double()]
    for name, factor in APART.items():
        if name in model.expression_names:
            shape = model.expression_basis[model.expression_names.index(name)].double()
            columns.append(factor * shape.norm(dim=1, keepdim=True))
    return torch.cat(columns, 1)


def _amplitude(model: LinearModel) -> Float[Tensor, "v"]:
    """0..1: how freely every vertex may move, without steps."""
    out = torch.ones(len(model.template), dtype=torch.float64)
    still = torch.zeros(len(out), dtype=torch.bool)
    for name, mask in model.regions.items():
        if name.startswith(GENTLE):
            out[mask] = GENTLE_SHARE
        if name.startswith(STILL):
            still |= mask
    out[still] = 0
    corners = torch.cat([model.faces[:, [0, 1]], model.faces[:, [1, 2]], model.faces[:, [2, 0]]]).long()
    for _ in range(4):
        total, count = torch.zeros_like(out), torch.zeros_like(out)
        for a, b in ((0, 1), (1, 0)):
            total.index_add_(0, corners[:, a], out[corners[:, b]])
            count.index_add_(0, corners[:, a], torch.ones(len(corners)).double())
        out = torch.where(still, 0, 0.5 * out + 0.5 * total / count.clamp_min(1))
    return out


def solve_residual(
    problem: Problem, process: Process, obs: Observations, state: State, before: Tensor, config: TrackConfig
) -> Residual:
    """The residual that explains what keyframes leave unexplained.

    Args:
        problem: The model with `before` added to its landmarks.
        process: Its Gaussian process.
        obs: Keyframes.
        state: Their fit.
        before: Displacement of the landmarks that the fit was made with.
        config: Settings.
    """
    info, pull = _evidence(problem, obs, state, config)
    pull = pull + (info @ before[..., None])[..., 0]
    l, variance = len(pull), process.bias_variance[:, None, None]
    eye = torch.eye(3, dtype=info.dtype)
    damped = torch.linalg.inv(eye + variance * info)
    effective = damped @ info  # what is known of the surface once the bias is marginalised
    target = (damped @ pull[..., None])[..., 0]
    K = torch.zeros(l, 3, l, 3, dtype=info.dtype)
    for axis in range(3):
        K[:, axis, :, axis] = process.landmarks[axis]
    A = torch.einsum("iab,ibjc->iajc", effective, K).reshape(3 * l, 3 * l)
    A.diagonal().add_(1)
    alpha = torch.linalg.solve(A, target.flatten()).view(l, 3)
    surface = torch.einsum("aij,ja->ia", process.landmarks, alpha)
    left = pull - (info @ surface[..., None])[..., 0]
    bias = torch.linalg.solve(info + eye / variance, left)
    return Residual(offsets=torch.einsum("avl,la->va", process.vertices, alpha), surface=surface, bias=bias)


def _evidence(
    problem: Problem, obs: Observations, state: State, config: TrackConfig
) -> tuple[Float[Tensor, "l 3 3"], Float[Tensor, "l 3"]]:
    """Information about, and pull on, every landmark's place in the head's axes."""
    weights, _ = measurement_weights(problem, obs, state, config)
    T, K = observe.camera_poses(obs, state), observe.intrinsics(obs, state)
    rows = problem.rows
    neutral = rows.points + rows.identity_basis @ state.identity
    moved = torch.einsum("lce,te->tlc", rows.expression_basis, state.expression)
    X = (neutral + (1 + rows.expression_scale @ state.identity) * moved)[obs.frame] @ T[:, :3, :3].mT
    X = X + T[:, None, :3, 3]
    z = X[..., 2].clamp_min(1e-3)
    pixel = K[:, None, :2] * X[..., :2] / z[..., None]
    error = obs.detections - pixel - K[:, None, 2:]
    D = torch.zeros(*X.shape[:2], 2, 3, dtype=X.dtype)
    D[..., 0, 0], D[..., 1, 1] = K[:, None, 0] / z, K[:, None, 1] / z
    D[..., 2] = -pixel / z[..., None]
    J = D @ T[:, None, :3, :3]
    w = config.discount * weights / (1 + weights * error.square().sum(-1) / config.cauchy**2)
    return torch.einsum("ol,olra,olrb->lab", w, J, J), torch.einsum("ol,olra,olr->la", w, J, error)


def displaced(problem: Problem, by: Float[Tensor, "l 3"]) -> Problem:
    """The model with its landmarks elsewhere."""
    return replace(problem, rows=replace(problem.rows, points=(problem.rows.points + by).contiguous()))


def is_supported(model: LinearModel) -> bool:
    """Whether the model tells what opens, so that lips and lids can be kept apart."""
    return any(name in ARKIT_INDEX for name in model.expression_names)
