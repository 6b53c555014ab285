"""Rigid alignment of two meshes whose vertices correspond: plain, and robust."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.nets.stabilizer import rigid_step
from avatar3d.typing import typed


def moved(T: Tensor, points: Tensor) -> Tensor:
    """Points under transforms, which broadcast."""
    return points @ T[..., :3, :3].mT + T[..., None, :3, 3]


@typed
def robust_steps(
    x: Float[Tensor, "b n 3"], y: Float[Tensor, "b n 3"], weight: Float[Tensor, "b n"], *, steps: int
) -> Float[Tensor, "b 4 4"]:
    """T_y_x by iteratively reweighted least squares, residuals under the transform weighted by 1 / their length.

    The steps are linearised: for points that are a few degrees apart at most.
    """
    T = torch.eye(4).to(x).expand(len(x), 4, 4)
    factor = weight
    for _ in range(steps):
        residual = (y - T[:, None, :3, 3]) @ T[:, :3, :3] - x
        T = T @ rigid_step(x, residual, factor)
        size = ((y - T[:, None, :3, 3]) @ T[:, :3, :3] - x).norm(dim=-1)
        floor = 1e-2 * (size * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True) + 1e-9
        factor = weight / (size + floor)
    return T


@typed
def robust_procrustes(
    source: Float[Tensor, "n 3"],
    target: Float[Tensor, "n 3"],
    weights: Float[Tensor, "n"] | None = None,
    *,
    iterations: int = 30,
) -> Float[Tensor, "4 4"]:
    """T_target_source by iteratively reweighted least squares: the sum of distances, not of squares, is least.

    Whatever moves least gains the most say (Weiszfeld 1937); half of the points may move anywhere.
    """
    x = source.double().numpy()
    given = np.ones(len(x)) if weights is None else weights.double().numpy()
    T = torch.eye(4, dtype=torch.float64)
    R, t = robust_fit(x, target.double().numpy(), given, iterations=iterations)
    T[:3, :3], T[:3, 3] = torch.from_numpy(R), torch.from_numpy(t)
    return T.to(source)


def robust_fit(x: np.ndarray, y: np.ndarray, given: np.ndarray, *, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """`robust_procrustes` of arrays [n, 3], weighted: rotation and translation. Unchecked, as every pair runs it."""
    R, t = _fit(x, y, given)
    for _ in range(iterations):
        off = x @ R.T + t - y
        size = np.sqrt(np.einsum("nc,nc->n", off, off))
        last = R, t
        R, t = _fit(x, y, given / (size + 1e-4 * size.mean() + 1e-300))
        if np.abs(R - last[0]).max() < 1e-7 and np.abs(t - last[1]).max() < 1e-7 * np.abs(y).max():
            break
    return R, t


def _fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted Procrustes; numpy, whose calls on a few hundred points cost a tenth of torch's."""
    w = weight / weight.sum()
    mean_x, mean_y = w @ x, w @ y
    U, _, Vt = np.linalg.svd(((y - mean_y) * w[:, None]).T @ (x - mean_x))
    R = U @ Vt
    (a, b, c), (d, e, f), (g, h, i) = R.tolist()
    if a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) < 0:  # a reflection
        R = (U * (1, 1, -1)) @ Vt
    return R, mean_y - R @ mean_x
