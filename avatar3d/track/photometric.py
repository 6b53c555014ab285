"""Keyframes that agree in their pixels: the same skin has the same colour in every picture, whatever the light does.

Landmarks of a detector err alike in like views, so heads turn too little in them and come out too deep. Skin does not:
every point of it is compared with the mean of what all keyframes saw there, after the light has been divided out
(see `skin_light`). The error of brightness is linear in pose, expression, identity and focal length through the slope
of the picture and through the normal's turn against the light, and its normal equations join those of the landmarks.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.harmonics import sh_slope
from avatar3d.ops import NormalEquations, rasterize
from avatar3d.track import observe, scheme
from avatar3d.track.config import TrackConfig
from avatar3d.track.joint import JointFit, fit_jointly
from avatar3d.track.observe import Observations, State
from avatar3d.track.problem import Problem
from avatar3d.track.skin_chart import SkinChart, make_chart
from avatar3d.track.skin_light import irradiance, robust_mean, solve_light
from avatar3d.track.skin_pictures import Patch, blurred, inside, sample

BLURS = (3.75e-3, 2.5e-3, 1.25e-3, 1.25e-3, 1.25e-3)
"""Metres, of every round."""
STEPS = 4
"""Of the joint fit, per round."""
INDEPENDENT = 0.08
"""Share of the points whose errors count as independent."""
LANDMARKS = 0.1
"""Weight left to landmarks that lie on the charted skin."""
FEWEST = 3
"""Pictures."""
FEWEST_POINTS = 40
"""Points that every picture must show, mean."""
COVER = 0.6
"""Squarely seen pictures that a point needs."""
CUT = 3.0
"""Errors beyond so many sigmas lose their weight."""
SLANT = 0.3
"""Least cosine between skin and view."""
DEPTHS = 240
"""Longer side of the depth buffers."""
NEAR = 4e-3
"""Metres within which surfaces hide nothing of each other."""
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Every point in every picture."""

    T: Tensor  # [o, 4, 4] T_camera_head
    K: Tensor  # [o, 4]
    turned: Tensor  # [o, n, 3] about the head's origin, camera axes
    place: Tensor  # [o, n, 3] in the camera
    pixel: Tensor  # [o, n, 2]
    normal: Tensor  # [o, n, 3] camera axes
    size: Tensor  # [o, n] of the product of the tangents
    across: Tensor  # [o, n, 3] head's axes
    down: Tensor
    moved: Tensor  # [o, n, 3] by expression, before the head's size
    scale: float  # the head's size
    read: Tensor  # [o, n, 3] log brightness, slopes


class Term:
    """The photometric cost about one estimate: what is seen, the light and the noise are those of that estimate."""

    def __init__(
        self,
        problem: Problem,
        chart: SkinChart,
        obs: Observations,
        patches: list[Patch],
        state: State,
        offsets: Float[Tensor, "v 3"],
        blur: float,
    ) -> None:
        self.problem, self.chart, self.obs, self.patches = problem, chart, obs, patches
        self.planes = [blurred(patch, blur) for patch in patches]
        corners = problem.model.faces[chart.face].long()
        self.shift = (offsets[corners] * chart.weights[..., None]).sum(1)
        seen = self._look(state)
        towards = -torch.nn.functional.normalize(seen.place, dim=-1)
        cosine = (seen.normal * towards).sum(-1)
        self.mask = (cosine > SLANT) & self._visible(state, offsets, seen)
        self.square = cosine.clamp_min(0).square()
        self.light = solve_light(seen.read[..., 0], seen.normal, self.square, self.mask)
        self.mask &= (self.mask * self.square).sum(0) > COVER
        free = seen.read[..., 0] - irradiance(seen.normal, self.light).log()
        usual = torch.full((), 0.1)
        for _ in range(3):
            mean, _ = robust_mean(free, self.square * self.mask, usual)
            error = (free - mean) * self.mask
            known = error[self.mask].abs()
            usual = (1.5 * known.median()).clamp_min(5e-3) if len(known) else usual
        self.usual = float(usual)
        self.variance = _variance(error, self.mask, usual)

    def _look(self, state: State) -> _Seen:
        chart, obs, rows = self.chart, self.obs, self.problem.rows
        identity, scale = state.identity.float(), 1 + float(rows.expression_scale @ state.identity)
        expression = state.expression.float()[obs.frame]
        T, K = observe.camera_poses(obs, state).float(), observe.intrinsics(obs, state).float()
        R = T[:, :3, :3]

        def moved(basis: Tensor) -> Tensor:
            return (expression @ basis.flatten(0, 1).T).view(len(T), -1, 3)

        by = moved(chart.here.expression)
        origin = self.problem.origin.float()
        place = chart.here.points + self.shift - origin + chart.here.identity @ identity + scale * by
        turned = place @ R.mT
        across, down = (
            r.points + r.identity @ identity + scale * moved(r.expression) for r in (chart.across, chart.down)
        )
        normal = torch.linalg.cross(down, across)
        size = normal.norm(dim=-1).clamp_min(1e-12)
        place = turned + T[:, None, :3, 3]
        pixel = K[:, None, :2] * place[..., :2] / place[..., 2:].clamp_min(1e-3) + K[:, None, 2:]
        read = torch.stack([sample(a, b, p) for a, b, p in zip(self.planes, self.patches, pixel, strict=True)])
        return _Seen(
            T=T, K=K, turned=turned, place=place, pixel=pixel, normal=(normal / size[..., None]) @ R.mT, size=size,
            across=across, down=down, moved=by, scale=scale, read=read,
        )  # fmt: skip

    def _visible(self, state: State, offsets: Tensor, seen: _Seen) -> Bool[Tensor, "o n"]:
        """What no other part of the head hides, away from its outline, within the patches."""
        model = self.problem.model
        identity = state.identity.float()[None].expand(len(state.t), -1)
        vertices = model.rest_vertices(identity, state.expression[:, : len(model.expression_names)].float()) + offsets
        vertices = (vertices - self.problem.origin.float())[self.obs.frame] @ seen.T[:, :3, :3].mT
        vertices = vertices + seen.T[:, None, :3, 3]
        out = []
        for v, pixel, K, place, patch in zip(vertices, seen.pixel, seen.K, seen.place, self.patches, strict=True):
            z = v[:, 2].clamp_min(1e-2)
            flat = K[:2] * v[:, :2] / z[:, None] + K[2:]
            low, high = flat.amin(0), flat.amax(0)
            zoom = DEPTHS / float((high - low).max().clamp_min(1))
            width, height = (max(8, int(n) + 1) for n in ((high - low) * zoom).tolist())
            corners = torch.cat([(flat - low) * zoom * z[:, None], z[:, None]], 1)
            depth = rasterize(corners[None], model.faces, torch.eye(3)[None], width, height).depth
            depth = torch.where(depth > 0, depth, 1e3)
            farthest = torch.nn.functional.max_pool2d(depth, 5, 1, 2)[0]
            cell = ((pixel - low) * zoom).long()
            i, j = cell[:, 1].clamp(0, height - 1), cell[:, 0].clamp(0, width - 1)
            free = (place[:, 2] < depth[0, i, j] + NEAR) & (farthest[i, j] < place[:, 2] + 8 * NEAR)
            out.append(free & inside(patch, pixel))
        return torch.stack(out)

    def __call__(self, state: State) -> NormalEquations:
        """Normal equations of every picture, with the pose's unknowns in world axes: see `observe.equations`."""
        seen = self._look(state)
        value = irradiance(seen.normal, self.light)
        free = seen.read[..., 0] - value.log()
        mean, weights = robust_mean(free, self.square * self.mask / self.variance, self.variance.sqrt())
        error = (free - mean) * self.mask
        q = error.square() / self.variance
        w = INDEPENDENT * self.mask / self.variance / (1 + q / CUT**2)
        cost = 0.5 * INDEPENDENT * CUT**2 * (torch.log1p(q / CUT**2) * self.mask).sum(1)
        through, slope = self._slopes(seen, value)
        k = self.chart.here.identity.shape[2]
        own = [self._jacobian(seen, through, slope, slice(i, i + _BATCH)) for i in range(0, len(w), _BATCH)]
        J = torch.cat(own)
        # the mean over the pictures follows the identity too
        shared = (J[..., -k:] * weights[..., None]).sum(0) / weights.sum(0).clamp_min(1e-9)[:, None]
        J[..., -k:] -= shared
        WJ = J * w[..., None]
        H, g = WJ.mT @ J, (WJ.mT @ error[..., None])[..., 0]
        return observe.in_world(self.problem, self.obs, NormalEquations(H.double(), g.double(), cost.double()))

    def _slopes(self, seen: _Seen, value: Tensor) -> tuple[Tensor, Tensor]:
        """How the error changes with the place and with the normal, camera axes [o, n, 3]."""
        z = seen.place[..., 2].clamp_min(1e-3)
        right, down = (seen.read[..., 1 + i] * seen.K[:, None, i] / z for i in range(2))
        ahead = -(right * seen.place[..., 0] + down * seen.place[..., 1]) / z
        light = self.light[:, None].expand(*seen.normal.shape[:2], 9)
        return torch.stack([right, down, ahead], -1), -sh_slope(seen.normal, light) / value[..., None]

    def _jacobian(self, seen: _Seen, through: Tensor, slope: Tensor, part: slice) -> Float[Tensor, "o n p"]:
        """Expression, rotation, translation, log focal length, identity."""
        chart = self.chart
        R, a, d = seen.T[part, :3, :3], through[part], slope[part]
        normal, turned, pixel, K = seen.normal[part], seen.turned[part], seen.pixel[part], seen.K[part]
        in_head = a @ R
        # normal = down x across / size, and what is along the normal does not turn it
        off = ((d - (d * normal).sum(-1, keepdim=True) * normal) @ R) / seen.size[part, :, None]
        to_down, to_across = torch.linalg.cross(seen.across[part], off), torch.linalg.cross(off, seen.down[part])

        def along(name: str) -> Tensor:
            parts = ((in_head, chart.here), (to_across, chart.across), (to_down, chart.down))
            return sum(torch.einsum("onc,nce->one", v, getattr(rows, name)) for v, rows in parts)

        rotation = torch.linalg.cross(turned, a) + torch.linalg.cross(normal, d)
        zoom = (seen.read[part, :, 1:] * (pixel - K[:, None, 2:])).sum(-1, keepdim=True)
        growth = (in_head * seen.moved[part]).sum(-1, keepdim=True) * self.problem.rows.expression_scale.float()
        return torch.cat([seen.scale * along("expression"), rotation, a, zoom, along("identity") + growth], -1)


def _variance(error: Tensor, mask: Tensor, usual: Tensor) -> Float[Tensor, "o n"]:
    """Of every point by what it does over the pictures, and of every picture by what it does over the points."""
    square = error.square().clamp_max((4 * usual) ** 2) * mask
    points = (square.sum(0) + 4 * usual**2) / (mask.sum(0) + 4)
    pictures = square.sum(1) / mask.sum(1).clamp_min(1)
    return points * (pictures / pictures.mean().clamp_min(1e-9)).clamp(0.5, 4)[:, None]


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What the pixels say."""

    joint: JointFit
    before: float
    """Usual error of log brightness between pictures, with the landmarks' estimate."""
    after: float
    points: float
    """Points compared per picture, mean."""


def refine(
    problem: Problem,
    obs: Observations,
    patches: list[Patch],
    joint: JointFit,
    offsets: Float[Tensor, "v 3"],
    log_focal: Float[Tensor, "c 2"],
    config: TrackConfig,
    *,
    hold_size: bool,
) -> Refined | None:
    """Identity, poses and expressions of keyframes by their pixels; None where these tell too little.

    Args:
        problem: The model with the person's landmarks.
        obs: Keyframes.
        patches: Their pictures.
        joint: The fit of their landmarks.
        offsets: Free-form residual of the surface, metres.
        log_focal: Prior on the focal lengths; see `fit_jointly`.
        config: Settings.
        hold_size: Keeps the head as large as it is.
    """
    if len(patches) < FEWEST:
        return None
    chart = make_chart(problem.model)
    weight = torch.full((obs.confidence.shape[1],), LANDMARKS, dtype=obs.confidence.dtype)
    weight[list(scheme.LIDS + scheme.LIPS_INNER + scheme.IRISES)] = 1
    seen = replace(obs, confidence=obs.confidence * weight)
    config = replace(config, joint_iterations=STEPS)
    before, last = None, None
    for blur in BLURS:
        last = Term(problem, chart, obs, patches, joint.state, offsets, blur)
        if float(last.mask.sum(1).float().mean()) < FEWEST_POINTS:
            return None
        before = last.usual if before is None else before
        joint = fit_jointly(problem, seen, joint.state, log_focal, config, hold_size=hold_size, term=last)
    assert last is not None and before is not None  # BLURS is not empty
    last = Term(problem, chart, obs, patches, joint.state, offsets, BLURS[0])
    points = float(last.mask.sum(1).float().mean())
    return Refined(joint=joint, before=before, after=last.usual, points=points)
