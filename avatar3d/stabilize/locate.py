"""Where a face lies: the similarity from a mesh's frame, in any unit and any way up, to the mean head's.

The locator tells for each patch where on the mean head it may lie; the best of its answers is then fitted to the mean
head's surface by closest points. That, and whether nose and eyes stand out, tells whether this is a face at all.
"""

from functools import lru_cache
from itertools import permutations, product

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from avatar3d.errors import TrackingError
from avatar3d.geometry.surface import vertex_normals
from avatar3d.models.registry import load
from avatar3d.nets.stabilizer import neighbours
from avatar3d.stabilize import packaged
from avatar3d.stabilize.patches import coarse
from avatar3d.stabilize.relief import FACE, relief
from avatar3d.typing import typed

FEWEST = 30
"""Patches; fewer are no face."""
SURE, GOOD, BAD = 0.11, 0.155, 0.25
"""Distance to the mean head over the size of what is seen: look no further; a face; surely none."""


@typed
def locate(vertices: Float[Tensor, "v 3"], normals: Float[Tensor, "v 3"]) -> Float[Tensor, "4 4"]:
    """The similarity from a mesh's frame to the mean head's, metres.

    The mesh's own axes are tried first, then, where that does not fit, all 24 ways to put them.

    Raises:
        TrackingError: this is not the surface of a face.
    """
    points, normal, _, mask, centre, radius = coarse(
        vertices[None].double(), normals[None].double(), vertices[None, :, :1].double(), seed=0
    )
    if points.shape[1] < FEWEST:
        raise TrackingError(f"stabilize: {len(vertices)} vertices in {points.shape[1]} places; a face was expected.")
    best, off = _try(points, normal, mask, torch.eye(3, dtype=torch.float64)[None], keep=1)
    if off > GOOD:
        other = _try(points, normal, mask, _starts(), keep=6)
        best, off = min((best, off), other, key=lambda found: found[1])
    if off > BAD:
        raise TrackingError(
            "stabilize: no face was found in these meshes: nothing that fits a head by better than "
            f"{100 * off:.0f}% of its size. Meshes of a person's face or head were expected."
        )
    T_unit_mesh = torch.eye(4, dtype=torch.float64)
    T_unit_mesh[:3, :3] /= radius[0]
    T_unit_mesh[:3, 3] = -centre[0, 0] / radius[0, 0]
    T = best @ T_unit_mesh
    stands_out = relief((vertices.double() @ T[:3, :3].mT + T[:3, 3]).numpy())
    if stands_out < FACE:
        raise TrackingError(
            "stabilize: no face was found in these meshes: round like a head, but nose and eyes stand out by "
            f"{max(0, round(100 * stands_out))}% of what they do on a head. A person's face or head was expected."
        )
    return T


def _try(points: Tensor, normal: Tensor, mask: Tensor, starts: Tensor, keep: int) -> tuple[Tensor, float]:
    """The similarity that fits best, of those that the locator finds from some orientations; how far it is off."""
    near = neighbours(points.float(), mask)
    x, n = points[0].numpy(), normal[0].numpy()
    fits: list[tuple[np.ndarray, np.ndarray]] = []
    for A, _ in _told(points, normal, mask, near, starts)[:keep]:  # once more, from where that put the face
        fits += _told(points, normal, mask, near, torch.from_numpy(A / np.cbrt(np.linalg.det(A)))[None])
    # and as if the mesh's axes were the head's, whole, face, or the middle of a face
    fits += [(radius * R, centre) for R in starts.numpy() for centre, radius in _coverages()]
    if len(fits) > 2 * keep + 2:
        begun = sorted((_closest(x[::3], n[::3], *fit, rounds=4) for fit in fits), key=lambda f: f[2])
        fits = [(A, t) for A, t, _ in begun[:keep]]
    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    for fit in fits:
        found.append(_closest(x[::2], n[::2], *fit))
        if found[-1][2] < SURE:
            break
    A, t, off = min(found, key=lambda f: f[2])
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = torch.from_numpy(A), torch.from_numpy(t)
    return T, off


def _told(points: Tensor, normal: Tensor, mask: Tensor, near: Tensor, starts: Tensor) -> list:
    """Similarities that the locator's answers amount to, the most certain first."""
    b = len(starts)
    with torch.no_grad():
        place, log_error = packaged.networks()[0]((points @ starts.mT).float(), (normal @ starts.mT).float(),
                                                  mask.expand(b, -1), near.expand(b, -1, -1))  # fmt: skip
    x, found = points[0].numpy(), []
    for p, e in zip(place.double().numpy(), log_error.double().numpy(), strict=True):
        A, t = _similarity(x, p, np.exp(-2 * e))
        distance = np.linalg.norm(x @ A.T + t - p, axis=1)
        found.append((float((distance / np.exp(e) + 3 * e).mean()), (A, t)))
    return [fit for _, fit in sorted(found, key=lambda f: f[0])]


def _closest(
    x: np.ndarray, normal: np.ndarray, A: np.ndarray, t: np.ndarray, rounds: int = 12
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fits points to the mean head by closest points whose normals agree; parts that the mean lacks fade out."""
    tree, head, head_normals = _mean_head()
    size = 0.0
    off = np.inf
    for i in range(rounds):
        moved = x @ A.T + t
        distance, index = tree.query(moved)
        scale = np.cbrt(np.linalg.det(A))
        agree = np.einsum("nc,nc->n", normal @ (A.T / scale), head_normals[index]).clip(0, 1)
        spread = max(0.003, 1.5 * float(np.median(distance)))
        weight = agree / (1 + (distance / spread) ** 2) ** 2
        size = np.sqrt(((moved - moved.mean(0)) ** 2).sum(1).mean())
        # what faces the wrong way counts as far
        off = float(np.mean(np.minimum(distance / size + 0.3 * (1 - agree), 0.5)))
        if i < rounds - 1 and weight.sum() > 1e-6:
            A, t = _similarity(x, head[index], weight)
    return A, t, off


def _similarity(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x to y; the scale is the ratio of their spreads (Horn 1987), which noise does not shrink."""
    w = weight / weight.sum()
    mean_x, mean_y = w @ x, w @ y
    a, b = x - mean_x, y - mean_y
    U, _, Vt = np.linalg.svd((b * w[:, None]).T @ a)
    U[:, 2] *= np.sign(np.linalg.det(U) * np.linalg.det(Vt))
    A = U @ Vt * np.sqrt((w @ (b * b)).sum() / (w @ (a * a)).sum())
    return A, mean_y - A @ mean_x


@lru_cache(maxsize=1)
def _starts() -> Tensor:
    """[24, 3, 3] the rotations of a cube."""
    out = []
    for permutation in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            R = torch.zeros(3, 3, dtype=torch.float64)
            R[torch.arange(3), list(permutation)] = torch.tensor(signs, dtype=torch.float64)
            if torch.linalg.det(R) > 0:
                out.append(R)
    return torch.stack(out)


@lru_cache(maxsize=1)
def _coverages() -> list[tuple[np.ndarray, float]]:
    """Centre and RMS radius of the parts of a head that meshes usually show."""
    x = _mean_head()[1]
    parts = [np.ones(len(x), bool)]
    for width, depth in ((0.08, 0.02), (0.05, 0.05)):
        parts.append((np.abs(x[:, 0]) < width) & (x[:, 2] > depth) & (x[:, 1] > -0.08) & (x[:, 1] < 0.1))
    return [(x[p].mean(0), float(np.sqrt(((x[p] - x[p].mean(0)) ** 2).sum(1).mean()))) for p in parts]


@lru_cache(maxsize=1)
def _mean_head() -> tuple[KDTree, np.ndarray, np.ndarray]:
    """The outer surface of the mean head."""
    model = load("head")
    inside = [n for n in model.regions if n.startswith(("teeth", "gums", "tongue", "mouth_cavity", "eye_socket"))]
    outer = ~torch.stack([model.regions[n] for n in inside]).any(0)
    points = model.template[outer].double().numpy()
    return KDTree(points), points, vertex_normals(model.template, model.faces)[outer].double().numpy()
