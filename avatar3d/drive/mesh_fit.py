"""Blendshape coefficients and rigid pose of every frame of a mesh sequence, by bounded least squares.

The cost of a frame is sum_i w_i |R'(x_i - p) - n_i - S_i c|^2 with the frame's vertices x, the neutral n and the shapes
S: quadratic in c, and in R and p through a few moments of x alone. So the vertices are read once, and Gauss-Newton
steps cost the same for a mesh of a thousand vertices and of a hundred thousand.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.ops import solve_chain, solve_normal_equations
from avatar3d.types import ARKIT_INDEX
from avatar3d.typing import typed

OPPOSITES = (
    ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("eyeBlink", "eyeWide"), ("mouthSmile", "mouthFrown"),
    ("eyeLookUp", "eyeLookDown"), ("eyeLookIn", "eyeLookOut"), ("browDown", "browOuterUp"),
)  # fmt: skip
"""Coefficients of which one is at work, at most; of those with sides, on each side."""
STEPS, SMOOTH_STEPS, HOLDS = 8, 3, 4
SMALL = 0.05
"""Coefficients well above that are hardly pressed any more: the L1 weight is for those that only follow others
(Candès, Wakin, Boyd, "Enhancing sparsity by reweighted l1 minimization", 2008)."""
CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class MeshFitSettings:
    """What a fit of a mesh sequence weighs against what."""

    noise: float = 5e-4
    """Standard deviation of a vertex about the best fit, metres; what shapes cannot follow is added to it."""
    observations: float = 200.0
    """How many independent observations a frame's vertices are worth together."""
    sparsity: float = 5.0
    """L1 weight on coefficients; 0 for none."""
    sigma: float = 1.0
    """Standard deviation of coefficients (L2)."""
    bend: float = 0.3
    """Usual second difference of coefficients at 30 frames per second; smoothness, infinite for none."""
    turn: float = 0.01
    """Usual second difference of the head's rotation at 30 frames per second, radians."""
    shift: float = 0.001
    """Usual second difference of the head's translation at 30 frames per second, metres."""

    def at_rate(self, fps: float) -> "MeshFitSettings":
        """The same smoothness at another rate: second differences go with the square of the time between frames."""
        step = min(max((30 / fps) ** 2, 0.1), 30.0)
        return replace(self, bend=step * self.bend, turn=step * self.turn, shift=step * self.shift)


@dataclass(frozen=True, kw_only=True)
class MeshFit:
    """Frames of a sequence as pose and coefficients: x = R (n + S c) + p."""

    R: Float[Tensor, "t 3 3"]
    p: Float[Tensor, "t 3"]
    coefficients: Float[Tensor, "t k"]


@dataclass(frozen=True)
class _Moments:
    """Weighted sums over vertices, float64; S shapes, n neutral, x frames."""

    W: Tensor
    SS: Tensor
    Sn: Tensor
    S1: Tensor
    Sx: Tensor
    n1: Tensor
    nx: Tensor
    x1: Tensor
    xx: Tensor


def _moments(frames: Tensor, neutral: Tensor, shapes: Tensor, w: Tensor) -> _Moments:
    k, n = shapes.shape[0], shapes.shape[1]
    S = shapes.double()
    weighted = (S * w[:, None]).permute(0, 2, 1).reshape(3 * k, n)
    N = neutral.double()
    Sx, nx, x1, xx = [], [], [], []
    for part in frames.split(CHUNK):
        x = part.double()
        t = len(x)
        columns = x.permute(1, 0, 2).reshape(n, 3 * t)
        Sx.append((weighted @ columns).view(k, 3, t, 3).permute(2, 0, 1, 3))
        nx.append(((N * w[:, None]).T @ columns).view(3, t, 3).permute(1, 0, 2))
        wx = x * w[:, None]
        x1.append(wx.sum(1))
        xx.append(wx.mT @ x)
    return _Moments(
        W=w.sum(),
        SS=weighted.reshape(k, 3 * n) @ S.permute(0, 2, 1).reshape(k, 3 * n).T,
        Sn=weighted.reshape(k, 3 * n) @ N.T.reshape(3 * n),
        S1=weighted.reshape(k, 3, n).sum(2),
        Sx=torch.cat(Sx),
        n1=w @ N,
        nx=torch.cat(nx),
        x1=torch.cat(x1),
        xx=torch.cat(xx),
    )


_LEVI = torch.zeros(3, 3, 3, dtype=torch.float64)
_LEVI[0, 1, 2] = _LEVI[1, 2, 0] = _LEVI[2, 0, 1] = 1
_LEVI[0, 2, 1] = _LEVI[2, 1, 0] = _LEVI[1, 0, 2] = -1


def _equations(m: _Moments, R: Tensor, p: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """H and g of coefficients, rotation (x' = exp(-w) y) and translation in the neutral's frame, per frame."""
    k, t = c.shape[1], len(c)
    # moments of y = R'(x - p)
    Sy = (m.Sx - m.S1[None, :, :, None] * p[:, None, None, :]) @ R[:, None]
    ny = (m.nx - m.n1[:, None] * p[:, None, :]) @ R
    y1 = ((m.x1 - m.W * p)[:, None] @ R)[:, 0]
    outer = m.x1[:, :, None] * p[:, None, :]
    centred = m.xx - outer - outer.mT + m.W * p[:, :, None] * p[:, None, :]
    yy = R.mT @ centred @ R
    my = ny + torch.einsum("tk,tkij->tij", c, Sy)
    H, g = R.new_zeros(t, k + 6, k + 6), R.new_zeros(t, k + 6)
    H[:, :k, :k] = m.SS
    H[:, :k, k : k + 3] = torch.einsum("iaj,tkij->tka", _LEVI, Sy)
    H[:, :k, k + 3 :] = m.S1
    trace = yy.diagonal(dim1=1, dim2=2).sum(1)
    H[:, k : k + 3, k : k + 3] = trace[:, None, None] * torch.eye(3, dtype=R.dtype) - yy
    H[:, k : k + 3, k + 3 :] = torch.einsum("baj,tj->tab", _LEVI, y1)
    H[:, k + 3 :, k + 3 :] = m.W * torch.eye(3, dtype=R.dtype)
    H = torch.triu(H)
    H = H + torch.triu(H, 1).mT
    g[:, :k] = -(Sy.diagonal(dim1=2, dim2=3).sum(2) - m.Sn - c @ m.SS)
    g[:, k : k + 3] = torch.einsum("iaj,tij->ta", _LEVI, my)
    g[:, k + 3 :] = -(y1 - m.n1 - c @ m.S1)
    return H, g


def _moved(R: Tensor, p: Tensor, c: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    k = c.shape[1]
    p = p + (R @ step[:, k + 3 :, None])[..., 0]
    return R @ rotvec_to_matrix(step[:, k : k + 3]), p, c + step[:, :k]


@typed
def rigid_fit(
    frames: Float[Tensor, "t n 3"], neutral: Float[Tensor, "n 3"], weights: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "t 3 3"], Float[Tensor, "t 3"]]:
    """Rotation and translation that bring the neutral onto every frame (Procrustes), float64."""
    x, n, w = frames.double(), neutral.double(), weights.double() / weights.double().sum()
    mx, mn = torch.einsum("n,tnc->tc", w, x), w @ n
    C = torch.einsum("tni,nj->tij", x * w[:, None], n) - mx[:, :, None] * mn
    U, _, Vt = torch.linalg.svd(C)
    sign = torch.ones(len(x), 3, dtype=torch.float64)
    sign[:, 2] = torch.sign(torch.linalg.det(U @ Vt))
    R = U @ torch.diag_embed(sign) @ Vt
    return R, mx - R @ mn


@typed
def stillness(shapes: Float[Tensor, "k n 3"], weights: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Weights that count where no shape moves much: what tells a head's pose whatever the face does."""
    reach = shapes.square().sum(2).sum(0)
    return weights / (1e-6 + reach)


@typed
def fit_frames(
    frames: Float[Tensor, "t n 3"],
    neutral: Float[Tensor, "n 3"],
    shapes: Float[Tensor, "k n 3"],
    weights: Float[Tensor, "n"],
    names: tuple[str, ...],
    settings: MeshFitSettings,
    *,
    start: MeshFit | None = None,
    lower: float = 0.0,
    upper: float = 1.0,
) -> MeshFit:
    """Pose and coefficients of every frame.

    Args:
        frames: Vertices.
        neutral: The face at rest, in the space in which its pose is the identity.
        shapes: Displacements at 1.
        weights: What every vertex counts; their sum does not matter.
        names: Of the shapes.
        settings: What is weighed against what.
        start: Where to start; Procrustes on what moves least by default.
        lower: Bound of coefficients.
        upper: Bound of coefficients.
    """
    k, t = len(shapes), len(frames)
    if start is None:
        R, p = rigid_fit(frames, neutral, stillness(shapes, weights))
        c = R.new_zeros(t, k)
    else:
        R, p, c = start.R, start.p, start.coefficients.double()
    w = weights.double()
    moments = _moments(frames, neutral, shapes, w * (settings.observations / w.sum() / settings.noise**2))
    low = c.new_full((t, k), lower)
    high = c.new_full((t, k), upper)
    free = c.new_full((t, 6), torch.inf)
    pairs = _opposites(names) if lower >= 0 else []
    press = c.new_full((t, k), settings.sparsity)

    def priors(H: Tensor, g: Tensor) -> None:
        H.diagonal(dim1=1, dim2=2)[:, :k] += settings.sigma**-2
        g[:, :k] += c * settings.sigma**-2
        if lower >= 0:
            g[:, :k] += press
        else:  # |c| of either sign as a parabola that touches it
            H.diagonal(dim1=1, dim2=2)[:, :k] += press / SMALL
            g[:, :k] += press / SMALL * c

    for step in range(STEPS):
        H, g = _equations(moments, R, p, c)
        priors(H, g)
        bounds = [torch.cat([b - c, f], 1) for b, f in ((low, -free), (high, free))]
        x, _ = solve_normal_equations(H, g, bounds[0], bounds[1])
        R, p, c = _moved(R, p, c, x)
        press = settings.sparsity / (1 + c.abs() / SMALL)
        if step == STEPS // 2:
            for i, j in pairs:
                high[:, i] = torch.where(c[:, i] < c[:, j], low[:, i], high[:, i])
                high[:, j] = torch.where(c[:, j] < c[:, i], low[:, j], high[:, j])
                c = torch.minimum(c, high)
    if t > 2 and settings.bend < torch.inf:
        sigma = torch.tensor([settings.bend] * k + [settings.turn] * 3 + [settings.shift] * 3, dtype=torch.float64)
        for _ in range(SMOOTH_STEPS):
            H, g = _equations(moments, R, p, c)
            priors(H, g)
            bounds = [torch.cat([b - c, f], 1) for b, f in ((low, -free), (high, free))]
            bend = _second_differences(R, p, c)
            R, p, c = _moved(R, p, c, _smooth_step(H, g, bend, sigma**-2, bounds[0], bounds[1]))
    return MeshFit(R=R, p=p, coefficients=c)


def _opposites(names: tuple[str, ...]) -> list[tuple[int, int]]:
    at = {name: i for i, name in enumerate(names) if name in ARKIT_INDEX}
    sided = [(a + side, b + side) for a, b in OPPOSITES for side in ("", "Left", "Right")]
    return [(at[a], at[b]) for a, b in sided if a in at and b in at]


def _second_differences(R: Tensor, p: Tensor, c: Tensor) -> Tensor:
    """Of coefficients, rotation and translation, the latter two in the middle frame's axes: [t - 2, k + 6]."""
    turn = matrix_to_rotvec(R[:-1].mT @ R[1:])
    move = p[1:] - p[:-1]
    bend = (R[1:-1].mT @ (move[1:] - move[:-1])[..., None])[..., 0]
    return torch.cat([c[2:] - 2 * c[1:-1] + c[:-2], turn[1:] - turn[:-1], bend], 1)


def _spread(x: Tensor) -> Tensor:
    """D' x of second differences D."""
    out = x.new_zeros(len(x) + 2, x.shape[1])
    out[2:] += x
    out[1:-1] -= 2 * x
    out[:-2] += x
    return out


def _smooth_step(H: Tensor, g: Tensor, bend: Tensor, weight: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The step that minimises the frames' costs and the weighted squares of second differences, within bounds.

    Coefficients at a bound that they are pressed against are held; what a solve takes out of bounds is held, too.
    """
    gradient = g + _spread(weight * bend)
    held = (lower >= 0) & (gradient > 0) | (upper <= 0) & (gradient < 0)
    count = torch.full((len(g), 1), 6.0, dtype=g.dtype)
    count[[0, -1]] = 1
    count[[1, -2]] = 5 if len(g) > 3 else 4
    first, second = torch.zeros_like(g), torch.zeros_like(g)
    first[:-1] = -4 * weight
    first[[0, -2]] = -2 * weight
    second[:-2] = weight
    step = torch.zeros_like(g)
    for _ in range(HOLDS):
        on = (~held).to(g)
        known = step * (1 - on)
        right = (
            -gradient - (H @ known[..., None])[..., 0] - _spread(weight * (known[2:] - 2 * known[1:-1] + known[:-2]))
        )
        blocks = H * on[:, :, None] * on[:, None, :]
        blocks.diagonal(dim1=1, dim2=2).add_(count * weight * on + 1 - on)
        off1, off2 = first.clone(), second.clone()
        off1[:-1] *= on[1:] * on[:-1]
        off2[:-2] *= on[2:] * on[:-2]
        solved = known + solve_chain(blocks[None], off1[None], off2[None], (right * on)[None])[0]
        outside = ((solved < lower) | (solved > upper)) & ~held
        step = torch.minimum(torch.maximum(solved, lower), upper)
        if not bool(outside.any()):
            break
        held = held | outside
    return step


@typed
def distances(
    fit: MeshFit, frames: Float[Tensor, "t n 3"], neutral: Float[Tensor, "n 3"], shapes: Float[Tensor, "k n 3"]
) -> Float[Tensor, "t n"]:
    """How far every vertex lies from the fit, metres."""
    out = []
    flat = shapes.flatten(1).float()
    for R, p, c, x in zip(
        fit.R.split(CHUNK), fit.p.split(CHUNK), fit.coefficients.split(CHUNK), frames.split(CHUNK), strict=True
    ):
        rest = torch.addmm(neutral.reshape(1, -1).float(), c.float(), flat).view(x.shape)
        out.append((rest @ R.mT.float() + p[:, None].float() - x.float()).norm(dim=2))
    return torch.cat(out)
