"""Writes a file in SMPL-X's exact format with a made-up body whose head is a FLAME file's mesh: none of their data."""

from pathlib import Path

import numpy as np

from tests.models import flame_file

VERTICES, FACES, JOINTS = 10475, 20908, 55
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15, 20, 25, 26, 20, 28, 29,
           20, 31, 32, 20, 34, 35, 20, 37, 38, 21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53]  # fmt: skip
MOVED = np.array([0.003, 0.31, 0.02])
"""Of the head, metres."""


def mesh(head: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces in some order, and where the head's vertices are among them."""
    rng = np.random.default_rng(seed)
    points, faces = head or flame_file.topology()
    body, body_faces = flame_file.ball(VERTICES - len(points), 0.3, [0, -0.4, 0])
    wave = 0.002 * np.sin(40 * points + [0, 1, 2])  # another mean face
    order = rng.permutation(VERTICES)
    v = np.empty((VERTICES, 3))
    v[order] = np.concatenate([points + wave + MOVED, body])
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = set(map(tuple, edges.tolist()))
    open_edges = [(b, a) for a, b in sorted(known) if (b, a) not in known]
    left = FACES - len(faces) - len(body_faces)
    sewn = [(a, b, len(points) + i) for i, (a, b) in enumerate(open_edges[:left])]
    f = np.concatenate([faces, body_faces + len(points), np.array(sewn)])
    assert f.shape == (FACES, 3)
    return v, order[f[rng.permutation(FACES)]], order[: len(points)]


def arrays(head: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0) -> tuple[dict, np.ndarray]:
    """The content of an SMPL-X file, and FLAME's vertices in it."""
    rng = np.random.default_rng(seed)
    v, f, ids = mesh(head, seed)
    weights = np.zeros((VERTICES, JOINTS))
    weights[:] = 1e-3 * rng.random((VERTICES, JOINTS))
    y = v[:, 1] - MOVED[1]
    for joint, at in {0: -0.5, 9: -0.2, 12: -0.1, 15: 0.0, 22: -0.03, 23: 0.02, 24: 0.02}.items():
        weights[:, joint] += np.exp(-((y - at) ** 2) / (2 * 0.05**2))
    regressor = np.zeros((JOINTS, VERTICES))
    for j in range(JOINTS):
        regressor[j, rng.choice(VERTICES, 20, replace=False)] = rng.dirichlet(np.ones(20))
    waves, phase = rng.normal(0, 10, (400, 3, 3)), rng.uniform(0, 6.28, (400, 3))
    shapedirs = np.stack([np.sin(v @ waves[k].T + phase[k]) for k in range(400)], -1)
    shapedirs *= 0.002 / np.sqrt(1 + np.arange(400))
    content = {
        "v_template": v, "f": f.astype(np.uint32), "shapedirs": shapedirs.astype(np.float32),
        "posedirs": rng.normal(0, 1e-3, (VERTICES, 3, 9 * (JOINTS - 1))).astype(np.float32),
        "weights": weights / weights.sum(1, keepdims=True), "J_regressor": regressor,
        "kintree_table": np.array([[p % 2**32 for p in PARENTS], list(range(JOINTS))]),
        "hands_componentsl": np.eye(45), "hands_componentsr": np.eye(45), "hands_meanl": np.zeros(45),
        "hands_meanr": np.zeros(45), "hands_coeffsl": np.zeros((2, 45)), "hands_coeffsr": np.zeros((2, 45)),
        "lmk_faces_idx": np.arange(51), "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), int), "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        "joint2num": np.array({"Pelvis": 0, "Neck": 12}, dtype=object),
        "part2num": np.array({"Pelvis": 0}, dtype=object),
    }  # fmt: skip
    return content, ids


def write(folder: Path, content: dict, name: str = "SMPLX_NEUTRAL.npz") -> Path:
    """Writes the file."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, **content)
    return folder / name
