"""The identity basis: sampled people, aligned without scale, and the principal components of what is left.

Every sample is used with its mirror image, so the mean is symmetric and each component is either symmetric or
antisymmetric. Size stays in the basis (a child's head is smaller); translation and rotation are removed with the face
and cranium as reference. What rotation the face itself still has in a component (it nods against the cranium) is then
taken off the whole head (`steady`): pictures show the face, and its pose is to be that of the head.
"""

from dataclasses import dataclass

import numpy as np

from . import eyes, source, teeth
from .lips import LipSeal
from .source import Source
from .topology import Topology

TONGUE_DROP = 0.004  # metres; upstream's tongue fills the mouth and hides the upper teeth


class Assembler:
    """Maps base meshes `[n, b, 3]` to the asset's vertices `[n, v, 3]`."""

    def __init__(self, data: Source) -> None:
        self.hung = {}
        for row, span in (("upper", source.TEETH_UPPER), ("lower", source.TEETH_LOWER)):
            quads = data.teeth_quads[(data.teeth_quads.min(1) >= span.start) & (data.teeth_quads.max(1) < span.stop)]
            weights, offsets = teeth.hang(data.template[span], quads - span.start, row)
            size = teeth.strip_size(data.template[None, span])[0]
            self.hung[row] = (span, weights, offsets, size)

    def __call__(self, base: np.ndarray, topology: Topology) -> np.ndarray:
        out = [base[:, topology.base].copy()]
        tongue = np.flatnonzero((topology.base >= source.TONGUE.start) & (topology.base < source.TONGUE.stop))
        out[0][:, tongue] += np.array([0.0, -TONGUE_DROP, 0.0], base.dtype)
        for side, span in (("left", source.EYE_LEFT), ("right", source.EYE_RIGHT)):
            out.append(eyes.balls(*eyes.fit_spheres(base[:, span].astype(np.float64)), side))
        for row in ("upper", "lower"):
            span, weights, offsets, size = self.hung[row]
            scale = teeth.strip_size(base[:, span]) / size
            out.append(np.einsum("rb,nbc->nrc", weights, base[:, span]) + scale[:, None, None] * offsets)
        return np.concatenate(out, 1)


@dataclass(frozen=True)
class People:
    """Sampled heads before alignment."""

    points: np.ndarray  # [n, v, 3] float32
    joints: np.ndarray  # [n, j, 3]
    phenotypes: dict[str, np.ndarray]


def base_meshes(data: Source, weights: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Base vertices `[n, len(numbers), 3]` for weights of `data.shapes`."""
    shapes = data.shapes[:, numbers].reshape(len(data.labels), -1)
    moved = (weights.astype(np.float32) @ shapes).reshape(len(weights), -1, 3)
    return moved + data.template[numbers].astype(np.float32)


def sample(data: Source, topology: Topology, count: int, seed: int, bones: list[str]) -> People:
    """Draws people; `bones` are upstream bone names for `joints`."""
    weights, phenotypes = source.sample_weights(data, count, np.random.default_rng(seed))
    return people_from(data, topology, weights, phenotypes, bones)


def people_from(
    data: Source, topology: Topology, weights: np.ndarray, phenotypes: dict[str, np.ndarray], bones: list[str]
) -> People:
    assemble = Assembler(data)
    seal = LipSeal(data, topology, assemble(data.template[None], topology)[0])
    used = np.unique(np.concatenate([topology.base, np.arange(14598, 14742), np.arange(14992, 15128)]))
    points = np.empty((len(weights), topology.vertex_count, 3), np.float32)
    for start in range(0, len(weights), 250):
        part = weights[start : start + 250]
        base = np.zeros((len(part), len(data.template), 3), np.float32)
        base[:, used] = base_meshes(data, part, used)
        points[start : start + 250] = seal(assemble(base, topology))
    rows = [data.bone_names.index(name) for name in bones]
    joints = data.bones[rows] + np.einsum("ns,sbc->nbc", weights, data.bone_shapes[:, rows])
    return People(points, joints, phenotypes)


def align(
    points: np.ndarray, joints: np.ndarray, target: np.ndarray, weights: np.ndarray, topology: Topology
) -> tuple[np.ndarray, np.ndarray]:
    """Moves heads rigidly onto `target` `[v, 3]`, in the weighted least-squares sense (Kabsch; no scale)."""
    w = (weights / weights.sum()).astype(np.float64)
    centre_target = w @ target
    centre = np.einsum("v,nvc->nc", w, points)
    p = points - centre[:, None].astype(points.dtype)
    cov = np.einsum("v,nvi,vj->nij", w, p, target - centre_target, optimize=True)
    u, _, vt = np.linalg.svd(cov)
    flip = np.ones((len(points), 1, 3))
    flip[:, 0, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip) @ vt  # row vectors: p @ rotation
    moved = p @ rotation.astype(points.dtype) + centre_target.astype(points.dtype)
    for side in ("left", "right"):  # the gaze stays straight ahead
        ball = topology.blocks[f"eyeball_{side}"]
        moved[:, ball] = eyes.balls(*eyes.fit_spheres(moved[:, ball].astype(np.float64)), side)
    return moved, (joints - centre[:, None]) @ rotation + centre_target


@dataclass(frozen=True)
class Basis:
    """Mean and unit-variance components; `variance_kept` is of the weighted vertex variance."""

    mean: np.ndarray
    components: np.ndarray  # [k, v, 3]
    scores: np.ndarray  # [2 n, k] of the samples, then of their mirror images
    variance_kept: float


def _mirrored(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return points[..., mirror, :] * np.array([-1, 1, 1], points.dtype)


def principal(points: np.ndarray, mirror: np.ndarray, weights: np.ndarray, count: int) -> Basis:
    """Weighted PCA of `points` and their mirror images through the two symmetry classes."""
    n = len(points)
    mean = points.mean(0, dtype=np.float64)
    mean = 0.5 * (mean + _mirrored(mean, mirror))
    centred = points - mean.astype(np.float32)
    other = _mirrored(centred, mirror)
    root = np.sqrt(weights / weights.sum()).astype(np.float32)[:, None]
    found = []
    total = 0.0
    for sign in (1, -1):
        half = 0.5 * (centred + sign * other)
        rows = (half * root).reshape(n, -1)
        gram = (rows @ rows.T).astype(np.float64)
        values, vectors = np.linalg.eigh(gram)
        total += values.sum()
        for i in np.argsort(values)[::-1][:count]:
            found.append((values[i], sign, vectors[:, i], half))
    found.sort(key=lambda item: -item[0])
    components, scores = [], []
    for _, sign, vector, half in found[:count]:
        score = vector * np.sqrt(n)  # unit variance over samples and their mirror images
        component = np.einsum("n,nvc->vc", score, half) / n
        first = component.reshape(-1)[np.abs(component).argmax()]
        flip = 1.0 if first > 0 else -1.0  # the sign of an eigenvector is free; fix it
        components.append(flip * component)
        scores.append(np.concatenate([flip * score, sign * flip * score]))
    kept = sum(item[0] for item in found[:count]) / total
    return Basis(mean, np.stack(components), np.stack(scores, 1), float(kept))


def steady(
    components: np.ndarray,
    slopes: np.ndarray,
    mean: np.ndarray,
    joints: np.ndarray,
    face: np.ndarray,
    balls: list[slice],
) -> tuple[np.ndarray, np.ndarray]:
    """Components `[k, v, 3]` and slopes of the joints `[k, j, 3]` without the small rotation of the face in them.

    Eyeballs move with the head and do not turn: the gaze stays straight ahead. `face` weighs the vertices `[v]`: all
    alike, which counts eyes, nose and mouth for most, as landmarks do. The rotation is about their centre, the
    least-squares one to first order.
    """
    w = face / face.sum()
    centre = w @ mean
    p, d = mean - centre, components - np.einsum("v,kvc->kc", w, components)[:, None]
    inertia = np.eye(3) * np.einsum("v,vc,vc->", w, p, p) - np.einsum("v,vi,vj->ij", w, p, p)
    turn = np.linalg.solve(inertia, np.einsum("v,kvc->kc", w, np.cross(p[None], d)).T).T
    steady_components = components - np.cross(turn[:, None], p[None])
    ring = eyes.centre_weights()
    for ball in balls:
        steady_components[:, ball] = components[:, ball] - np.cross(turn, ring @ p[ball])[:, None]
    return steady_components, slopes - np.cross(turn[:, None], (joints - centre)[None])


def regress(values: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and slopes of `values` `[n, ...]` against unit-variance `scores` `[n, k]` (plus tiny ridge)."""
    flat = values.reshape(len(values), -1)
    mean = flat.mean(0)
    gram = scores.T @ scores + 1e-6 * len(scores) * np.eye(scores.shape[1])
    slope = np.linalg.solve(gram, scores.T @ (flat - mean))
    return mean.reshape(values.shape[1:]), slope.reshape(scores.shape[1], *values.shape[1:])


def project(points: np.ndarray, basis: Basis, weights: np.ndarray) -> np.ndarray:
    """Reconstruction of aligned heads by weighted least squares, as a fit to a scan would."""
    root = np.sqrt(weights / weights.sum()).astype(np.float32)[:, None]
    a = (basis.components.astype(np.float32) * root).reshape(len(basis.components), -1)
    b = ((points - basis.mean.astype(np.float32)) * root).reshape(len(points), -1)
    coefficients = np.linalg.solve(a @ a.T, a @ b.T).T
    return basis.mean.astype(np.float32) + np.einsum("nk,kvc->nvc", coefficients, basis.components.astype(np.float32))
