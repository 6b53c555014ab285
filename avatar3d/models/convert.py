"""One model's people and expressions in another model's terms, with what is lost on the way.

FLAME, `head`, ICT-FaceKit, ARKit's face and SMPL-X's, each to each. The source's surface is carried to the target's
vertices along the packaged correspondences; the target's identity, expression and jaw that come closest are solved
for. What ARKit's 52 coefficients alone can say is in `models.arkit`.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.geometry.transform import apply, invert_rigid, make_transform, procrustes
from avatar3d.models.arkit import gaze_coefficients, gaze_vector, part_of, solve_expression
from avatar3d.models.linear import LinearModel
from avatar3d.models.surface_map import SurfaceMap, surface_map
from avatar3d.models.topology import skin_weights
from avatar3d.ops import solve_normal_equations
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES
from avatar3d.typing import typed

NOISE, OBSERVATIONS = 1e-3, 300.0
"""Standard deviation of a vertex, metres, and how many independent ones a face is worth."""
OUTLIER = 0.004
"""Distance from which a vertex counts half in the identity's fit, metres."""
IDENTITY_STEPS = 6
ALONG = 0.2
SPARSITY = 2.0
BATCH = 64
REGIONS = ("face", "lips_outer", "eyelids", "nose", "cheeks", "brows", "forehead", "chin", "jaw", "ears", "scalp")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A person and expressions in the target's terms."""

    identity: Float[Tensor, "k"]
    expression: Float[Tensor, "t e"]
    joints: dict[str, Float[Tensor, "t 3"]] = field(default_factory=dict)
    """Rotation vectors of jaw, eye_left and eye_right, where the target's expression does not move them."""
    offsets: Float[Tensor, "v 3"]
    """What the target's identities cannot follow, for `build_rig(..., offsets=)`: with it the neutral loses nothing
    where the two meshes meet."""
    T_source_target: Float[Tensor, "4 4"]
    """Rigid, between the two models' spaces."""
    identity_mm: dict[str, float]
    """Root-mean-square distance from the source's surface that identity coefficients leave, by region, millimetres."""
    expression_mm: dict[str, float]
    """What is left of all expressions' displacements, root-mean-square, by region, millimetres."""
    frames_mm: Float[Tensor, "t"]
    """The same for every expression, over the skin."""


@typed
def convert(
    source: LinearModel,
    target: LinearModel,
    identity: Float[Tensor, "k"],
    expression: Float[Tensor, "t e"] | None = None,
    joints: dict[str, Float[Tensor, "t 3"]] | None = None,
    *,
    offsets: Float[Tensor, "v 3"] | None = None,
) -> Conversion:
    """Identity and expressions of one model in another's terms.

    Args:
        source: The model that they are in.
        target: The model that they should be in.
        identity: Of the source; fewer coefficients than it has are padded.
        expression: Of the source, one row for each; none for the neutral alone.
        joints: Rotation vectors of jaw, eye_left and eye_right, where the source has those apart from its expression.
        offsets: Free-form residual on the source's neutral vertices, metres.

    Raises:
        ValueError: a model whose place on `head` is not known, or more coefficients than a model has.
    """
    if len(identity) > len(source.identity_basis):
        raise ValueError(
            f"convert: {len(identity)} identity coefficients, and {source.name} has {len(source.identity_basis)}."
        )
    given = identity.new_zeros(1, 0) if expression is None else expression
    if given.shape[1] > len(source.expression_basis):
        raise ValueError(
            f"convert: {given.shape[1]} expression coefficients, and {source.name} has {len(source.expression_basis)}."
        )
    given = torch.nn.functional.pad(given, (0, len(source.expression_basis) - given.shape[1]))
    where = surface_map(source, target)
    neutral = source.rest_vertices(identity[None])[0]
    neutral = neutral if offsets is None else neutral + offsets
    weights = skin_weights(target.template, target.regions, where.known)
    weights = torch.where(where.known, weights, 0)
    weights = weights / weights.sum()
    goal = points_on_faces(neutral, source.faces, where.faces, where.weights)
    normals = points_on_faces(vertex_normals(neutral, source.faces), source.faces, where.faces, where.weights)
    found, T = _identity(target, goal, torch.nn.functional.normalize(normals, dim=1), weights)
    shape = target.rest_vertices(found[None])[0]
    off = apply(invert_rigid(T), goal) - shape
    near = ops.nearest_on_mesh(apply(T, shape).double(), neutral.double(), source.faces).distance.float()

    out, solved, lost = _expression(source, target, identity, given, joints or {}, where, weights, T, found)
    if expression is None:
        out, solved, lost = out[:0], {n: r[:0] for n, r in solved.items()}, lost[:0]
    face = (weights / weights.sum())[None]
    return Conversion(
        identity=found,
        expression=out,
        joints=solved,
        offsets=_spread(off, where.known, target.template),
        T_source_target=T,
        identity_mm=_by_region(target, where, near.square()),
        expression_mm=_by_region(target, where, lost.square().sum(2).mean(0)) if len(lost) else {},
        frames_mm=1e3 * (lost.square().sum(2) * face).sum(1).sqrt(),
    )


def _identity(target: LinearModel, goal: Tensor, normals: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Identity and rigid T_source_target that come closest to the surface at the points.

    Along the surface the points count `ALONG` as much as across: a correspondence says which place, roughly.
    """
    index = weights.nonzero()[:, 0]
    at, n, mean = goal[index].double(), normals[index].double(), target.template[index].double()
    basis = target.identity_basis[:, index].double()
    w = weights[index].double()
    x, trust = torch.zeros(len(basis), dtype=torch.float64), w
    T, shape = procrustes(mean, at, w), mean
    for step in range(IDENTITY_STEPS):
        off = at - apply(T, shape)
        across = (off * n).sum(1)
        if step > 1:  # the first fits are still far off
            trust = w / (1 + (across / OUTLIER).square())
        # rotation, translation (about the points as they are), identity
        here = apply(T, shape)
        turned = basis @ T[:3, :3].T
        axes = torch.eye(3, dtype=torch.float64)
        J = torch.cat([torch.linalg.cross(axes[:, None], here[None]), axes[:, None].expand(3, len(here), 3), turned])
        Jn = (J * n).sum(2)
        W = trust * OBSERVATIONS / NOISE**2
        flat, Wf = J.flatten(1), W.repeat_interleave(3)
        H = ALONG * (flat * Wf) @ flat.T + (1 - ALONG) * (Jn * W) @ Jn.T
        g = ALONG * flat @ (Wf * off.flatten()) + (1 - ALONG) * Jn @ (W * across)
        prior = torch.cat([torch.full((6,), 1e-6), torch.ones(len(basis))]).double()
        g[6:] -= x
        d = torch.linalg.solve(H + torch.diag(prior), g)
        x = x + d[6:]
        R = rotvec_to_matrix(d[:3])
        T = make_transform(R @ T[:3, :3], R @ T[:3, 3] + d[3:6])
        shape = mean + torch.einsum("k,kvc->vc", x, basis)
    return x.float(), T.float()


def _expression(
    source: LinearModel,
    target: LinearModel,
    identity: Tensor,
    expression: Tensor,
    joints: dict[str, Tensor],
    where: SurfaceMap,
    weights: Tensor,
    T: Tensor,
    found: Tensor,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Expression and joints of the target, and the displacement [t, v, 3] that is left of each vertex."""
    index = weights.nonzero()[:, 0]
    part = part_of(target, index)
    scale = float(target.scale(found[None])[0])
    named = any(n in ARKIT_INDEX for n in target.expression_names)
    still = source.forward(identity[None]).vertices
    zero = expression.new_zeros(len(expression), 3)
    moving = {n: r for n, r in joints.items() if n in source.joint_names and not n.startswith("eye_")}
    gaze = _gaze(source, expression, joints)
    outs, jaws, lost = [], [], []
    for at in torch.arange(len(expression)).split(BATCH):
        R = torch.stack([moving.get(n, zero)[at] for n in source.joint_names], 1) if moving else None
        posed = source.forward(identity.expand(len(at), -1), expression[at], R).vertices - still
        goal = points_on_faces(posed, source.faces, where.faces[index], where.weights[index]) @ T[:3, :3]
        if named:
            x = _bounded(part, goal / scale, weights[index], gaze[at])
            jaw = zero[at]
            moved = torch.einsum("te,evc->tvc", x, part.expression_basis) * scale
        else:
            x, jaw, _ = solve_expression(part, goal, weights[index])
            R = torch.stack([jaw if n == "jaw" else zero[at] for n in part.joint_names], 1)
            rest = part.forward(x.new_zeros(len(at), 1), x, R if "jaw" in part.joint_names else None).vertices
            moved = rest - part.template
        left = goal.new_zeros(len(at), len(target.template), 3)
        left[:, index] = goal - moved
        outs.append(x)
        jaws.append(jaw)
        lost.append(left)
    solved: dict[str, Tensor] = {}
    if not named:
        solved = {"jaw": torch.cat(jaws)} if "jaw" in target.joint_names else {}
        for side in ("left", "right"):
            if f"eye_{side}" in target.joint_names:
                solved[f"eye_{side}"] = joints.get(f"eye_{side}", gaze_vector(gaze, side))
    return torch.cat(outs), solved, torch.cat(lost)


def _gaze(source: LinearModel, expression: Tensor, joints: dict[str, Tensor]) -> Tensor:
    """The eyeLook coefficients [t, 52] of the source's eyes."""
    out = expression.new_zeros(len(expression), len(ARKIT_NAMES))
    for i, name in enumerate(source.expression_names):
        if name.startswith("eyeLook") and name in ARKIT_INDEX:
            out[:, ARKIT_INDEX[name]] = expression[:, i]
    for side in ("left", "right"):
        if f"eye_{side}" in joints:
            for name, value in gaze_coefficients(joints[f"eye_{side}"], side).items():
                out[:, ARKIT_INDEX[name]] = value
    return out


def _bounded(part: LinearModel, goal: Tensor, weights: Tensor, gaze: Tensor) -> Tensor:
    """Coefficients of shapes that go from 0 to 1; gaze is told by the eyes, not by what the lids do."""
    S = part.expression_basis.flatten(1)
    W = weights.repeat_interleave(3) * OBSERVATIONS / NOISE**2
    H = ((S * W) @ S.T + torch.eye(len(S))).double()
    g = (-((goal.flatten(1) * W) @ S.T) + SPARSITY).double()
    lower, upper = torch.zeros_like(g), torch.ones_like(g)
    for i, name in enumerate(part.expression_names):
        if name.startswith("eyeLook") and name in ARKIT_INDEX:
            lower[:, i] = upper[:, i] = gaze[:, ARKIT_INDEX[name]].double().clamp(0, 1)
    x, _ = solve_normal_equations(H.expand(len(g), -1, -1).contiguous(), g, lower, upper)
    return x.float()


def _spread(off: Tensor, known: Tensor, points: Tensor) -> Tensor:
    """Offsets of all vertices: what has no counterpart goes with its surroundings."""
    out = torch.where(known[:, None], off, 0)
    if bool(known.all()) or not bool(known.any()):
        return out
    distance, near = KDTree(points[known].numpy()).query(points[~known].numpy(), k=min(8, int(known.sum())))
    near, distance = torch.from_numpy(near), torch.from_numpy(distance).float()
    share = 1 / (distance + 1e-4)
    fade = torch.exp(-distance[:, :1] / 0.02)
    out[~known] = fade * torch.einsum("nk,nkc->nc", share / share.sum(1, keepdim=True), off[known][near])
    return out


def _by_region(target: LinearModel, where: SurfaceMap, square: Tensor) -> dict[str, float]:
    out = {}
    for name in REGIONS:
        mask = target.regions.get(name)
        if mask is not None and bool((mask & where.known).any()):
            out[name] = float(1e3 * square[mask & where.known].mean().sqrt())
    return out
