"""Vertices that move as one to a thousandth of a millimetre: what rigs and blendshape models leave welded to the skull.

Captures have none. Where there are some, spread out, and where the skull may be by another estimate, they tell its
motion better than any estimate: the distances between them do not change, which those of moving skin do not by chance.
"""

import numpy as np
from jaxtyping import Float

from avatar3d.typing import typed

ALIKE = 1e-6
"""Metres by which distances may change: rounding of files in single precision."""
ONE = 2e-6
"""Metres off one rigid motion; ten times as far off there may be no more than twice as many vertices, or it is chance:
of smoothly moving skin, a hundred times as many lie there."""
APART = 0.008
"""Metres; distances of nearer vertices tell little."""
MOST = 800
"""Vertices whose distances are looked at."""
FEWEST, SUPPORT, ENOUGH = 6, 3, 4
"""Vertices that must agree; others that each two of them have in common; vertices to start from."""
WIDE, BROAD = 0.025, 0.004
"""Metres, RMS, by which they must be spread: more than an eyeball, and not along a line."""
BOTTOM = -0.02
"""Height on the mean head, metres, below which all may be the jaw's."""


@typed
def welded(
    x: Float[np.ndarray, "v 3"], y: Float[np.ndarray, "v 3"], reach: float
) -> tuple[Float[np.ndarray, "4 4"], int] | None:
    """The rigid motion T_y_x that some vertices share exactly, and how many; None where no such set is found.

    Args:
        x: In the mean head's frame, metres.
        y: The same, under another expression, roughly stabilised.
        reach: Metres by which the skull may still be off.
    """
    off = y - x
    near = ((np.einsum("vc,vc->v", off, off) < reach * reach) & (x[:, 1] > BOTTOM)).nonzero()[0]
    if len(near) < FEWEST:
        return None
    tried = near if len(near) <= MOST else np.random.default_rng(0).choice(near, MOST, replace=False)
    seeds = _seeds(x[tried], y[tried])
    if seeds is None:
        return None
    one = tried[seeds]
    while True:  # whom chance put among them leaves
        R, t = _fit(x[one], y[one])
        far = np.linalg.norm(x[one] @ R.T + t - y[one], axis=1)
        if far.max() < ONE:
            break
        one = one[far < far.max()] if len(one) <= 2 * FEWEST else one[far <= np.median(far)]
        if len(one) < ENOUGH:
            return None
    a, b, far, fits = x[near], y[near], np.zeros(0), np.zeros(0, bool)
    for _ in range(2):
        far = np.linalg.norm(a @ R.T + t - b, axis=1)
        fits = far < ONE
        one = near[fits]
        if len(one) < ENOUGH:
            return None
        R, t = _fit(x[one], y[one])
    count = int(fits.sum())
    if count < FEWEST or count < 0.5 * int((far < 10 * ONE).sum()):
        return None
    spread = np.linalg.svd(x[one] - x[one].mean(0), compute_uv=False) / np.sqrt(count)
    if spread[0] < WIDE or spread[1] < BROAD:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T, count


def _seeds(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """[s] of the vertices, most of which move as one; None where none do."""
    x, y = (p.astype(np.float32) for p in (x - x.mean(0), y - y.mean(0)))
    square = np.einsum("vc,vc->v", x, x)
    change = square - np.einsum("vc,vc->v", y, y)
    distance = square[:, None] + square - 2 * (x @ x.T)  # squared
    change = change[:, None] + change - 2 * (np.hstack([x, y]) @ np.hstack([x, -y]).T)
    # a change c of the distance d changes its square by 2 c d
    alike = (change * change < (2 * ALIKE) ** 2 * distance) & (distance > APART**2)
    degree = alike.sum(1)
    if degree.max() > len(x) // 8:
        return (degree > degree.max() // 2).nonzero()[0]
    several = (degree >= SUPPORT).nonzero()[0]
    if not len(several):
        return None
    pairs = alike[np.ix_(several, several)].astype(np.float32)
    shared = (pairs @ pairs) * pairs  # partners that two alike vertices have in common
    most = int(shared.max())
    return None if most < SUPPORT else several[(shared >= max(SUPPORT, most - most // 2)).any(1)]


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_x, mean_y = x.mean(0), y.mean(0)
    U, _, Vt = np.linalg.svd((y - mean_y).T @ (x - mean_x))
    U[:, 2] *= np.sign(np.linalg.det(U) * np.linalg.det(Vt))
    return U @ Vt, mean_y - U @ Vt @ mean_x
