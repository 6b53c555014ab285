"""Flattens a disk-like mesh without flips: Tutte's embedding, then symmetric Dirichlet energy minimised by SLIM.

Rabinovich, Poranne, Panozzo, Sorkine-Hornung: Scalable Locally Injective Mappings, ACM TOG 36(2), 2017.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Boundary loops as vertex lists, longest first, in the faces' direction."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    have = {(int(a), int(b)) for a, b in directed}
    following = {a: b for a, b in have if (b, a) not in have}
    loops = []
    while following:
        start = min(following)
        loop, at = [start], following.pop(start)
        while at != start:
            loop.append(at)
            at = following.pop(at)
        loops.append(loop)
    return sorted(loops, key=len, reverse=True)


def fill_holes(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closes every hole but the longest boundary by a fan, so that hole rims cannot fold over each other."""
    all_points, all_faces = [points], [faces]
    for loop in boundary_loops(faces)[1:]:
        hub = np.full(len(loop), sum(map(len, all_points)))
        all_faces.append(np.stack([hub, np.roll(loop, -1), loop], 1))
        all_points.append(points[loop].mean(0, keepdims=True))
    return np.concatenate(all_points), np.concatenate(all_faces)


def tutte(points: np.ndarray, faces: np.ndarray, top: int) -> np.ndarray:
    """Embedding `[n, 2]` of a disk with its boundary on a circle and boundary vertex `top` uppermost."""
    loop = boundary_loops(faces)[0]
    loop = loop[loop.index(top) :] + loop[: loop.index(top)]
    count = len(points)
    e = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    adjacency = sparse.coo_matrix((np.ones(len(e)), (e[:, 0], e[:, 1])), (count, count)).tocsr()
    adjacency = ((adjacency + adjacency.T) > 0).astype(float)
    laplacian = sparse.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency
    rim = np.array(loop)
    length = np.linalg.norm(points[np.roll(rim, -1)] - points[rim], axis=1)
    angle = 0.5 * np.pi + 2 * np.pi * np.concatenate([[0], np.cumsum(length)[:-1]]) / length.sum()
    uv = np.zeros((count, 2))
    uv[rim] = np.stack([np.cos(angle), np.sin(angle)], 1)
    inner = np.setdiff1d(np.arange(count), rim)
    lhs = laplacian[inner][:, inner].tocsc()
    uv[inner] = splu(lhs).solve(-laplacian[inner][:, rim] @ uv[rim])
    return uv


def _gradients(points: np.ndarray, faces: np.ndarray, stretch: np.ndarray) -> tuple:
    """Per-triangle gradient operators in the triangle's plane, scaled by the wanted `stretch`, and areas."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    e1, e2 = (b - a) * stretch[:, None], (c - a) * stretch[:, None]
    length = np.linalg.norm(e1, axis=1)
    x = e1 / length[:, None]
    normal = np.cross(e1, e2)
    area2 = np.linalg.norm(normal, axis=1)
    y = np.cross(normal / area2[:, None], x)
    q = np.zeros((len(faces), 3, 2))
    q[:, 1, 0] = length
    q[:, 2, 0], q[:, 2, 1] = (e2 * x).sum(1), (e2 * y).sum(1)
    g = np.empty((len(faces), 3, 2))
    for k in range(3):
        edge = q[:, (k + 2) % 3] - q[:, (k + 1) % 3]
        g[:, k, 0], g[:, k, 1] = -edge[:, 1] / area2, edge[:, 0] / area2
    return g, 0.5 * area2


def _jacobians(uv: np.ndarray, faces: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.einsum("fki,fkj->fij", uv[faces], g)


def _energy(uv: np.ndarray, faces: np.ndarray, g: np.ndarray, area: np.ndarray) -> float:
    j = _jacobians(uv, faces, g)
    det = j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] * j[:, 1, 0]
    if (det <= 0).any():
        return np.inf
    frob = (j**2).sum((1, 2))
    return float((area * (frob + frob / det**2)).sum())


def _largest_step(uv: np.ndarray, move: np.ndarray, faces: np.ndarray) -> float:
    """Largest step along `move` before a triangle degenerates (first root of each signed area)."""
    p, d = uv[faces], move[faces]
    a1, a2, b1, b2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], d[:, 1] - d[:, 0], d[:, 2] - d[:, 0]
    cross = lambda u, v: u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]  # noqa: E731
    qa, qb, qc = cross(b1, b2), cross(a1, b2) + cross(b1, a2), cross(a1, a2)
    disc = qb**2 - 4 * qa * qc
    root = np.sqrt(np.maximum(disc, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # numerically stable pair of roots
        half = -0.5 * (qb + np.where(qb >= 0, root, -root))
        roots = np.stack([half / qa, qc / half], 1)
    roots[disc < 0] = np.inf
    return float(np.where(np.isfinite(roots) & (roots > 0), roots, np.inf).min())


def slim(
    points: np.ndarray, faces: np.ndarray, stretch: np.ndarray, uv: np.ndarray, partner: np.ndarray, iterations: int
) -> np.ndarray:
    """Minimises the symmetric Dirichlet energy of `points -> uv` from an injective start.

    Args:
        points: Positions `[n, 3]`.
        faces: Triangles `[f, 3]`.
        stretch: Wanted scale of each triangle `[f]`.
        uv: Injective start `[n, 2]`, symmetric about the v axis.
        partner: Mirror image of each vertex `[n]`; every step is kept symmetric.
        iterations: Reweighted solves.
    """
    g, area = _gradients(points, faces, stretch)
    n = len(points)
    j = _jacobians(uv, faces, g)
    det = j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] * j[:, 1, 0]
    uv = 0.5 * (uv + uv[partner] * [-1, 1]) / np.sqrt((area * det).sum() / area.sum())
    energy = _energy(uv, faces, g, area)
    f = len(faces)
    # rows: J entries (i, j) of each triangle; columns: vertex coordinates, u block then v block
    cols = np.concatenate([faces.ravel()] * 2)
    rows = np.concatenate([np.repeat(np.arange(f), 3) + f * k for k in range(2)])
    d = sparse.csr_matrix((np.concatenate([g[:, :, 0].ravel(), g[:, :, 1].ravel()]), (rows, cols)), (2 * f, n))
    big = sparse.block_diag([d, d]).tocsr()  # [4f, 2n]: (u,x) (u,y) (v,x) (v,y)
    for _ in range(iterations):
        j = _jacobians(uv, faces, g)
        u, s, vt = np.linalg.svd(j)
        sign = np.sign(np.linalg.det(u @ vt))
        vt[:, 1] *= sign[:, None]
        s[:, 1] *= sign
        r = u @ vt
        s = np.maximum(s, 1e-12)
        close = np.abs(s - 1) < 1e-6
        w = np.sqrt(np.where(close, 4.0, (s - s**-3.0) / np.where(close, 1.0, s - 1)))
        w = np.einsum("fik,fk,fjk->fij", u, w, u)
        root = np.sqrt(area)
        # ||W (J - R)||^2: mixes the u and v rows of the same column of J
        blocks = [
            [sparse.diags(np.tile(root * w[:, 0, 0], 2)), sparse.diags(np.tile(root * w[:, 0, 1], 2))],
            [sparse.diags(np.tile(root * w[:, 1, 0], 2)), sparse.diags(np.tile(root * w[:, 1, 1], 2))],
        ]
        a = (sparse.bmat(blocks) @ big).tocsc()
        wr = np.einsum("fij,fjk->fik", w, r) * root[:, None, None]
        b = np.concatenate([wr[:, 0, 0], wr[:, 0, 1], wr[:, 1, 0], wr[:, 1, 1]])
        x0 = np.concatenate([uv[:, 0], uv[:, 1]])
        lhs = (a.T @ a + 1e-6 * area.mean() * sparse.identity(2 * n) / area.mean()).tocsc()
        x = splu(lhs).solve(a.T @ b + 1e-6 * x0)
        move = np.stack([x[:n], x[n:]], 1) - uv
        move = 0.5 * (move + move[partner] * [-1, 1])
        step = min(1.0, 0.8 * _largest_step(uv, move, faces))
        while step > 1e-9:
            trial = _energy(uv + step * move, faces, g, area)
            if trial < energy:
                break
            step *= 0.6
        else:
            break
        uv, before, energy = uv + step * move, energy, trial
        if before - energy < 1e-7 * energy:
            break
    return uv
