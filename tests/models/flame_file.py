"""Writes a file in FLAME's exact format with a made-up head: no FLAME data are needed or contained."""

import pickle
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.spatial import ConvexHull

VERTICES, FACES = 5023, 9976
BODY, EYE = 3931, 546


def ball(count: int, radius: float, centre) -> tuple[np.ndarray, np.ndarray]:
    """A closed, outward triangulated sphere of evenly spread points: 2 count - 4 faces."""
    i = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    p = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], 1)
    f = ConvexHull(p).simplices
    out = (np.cross(p[f[:, 1]] - p[f[:, 0]], p[f[:, 2]] - p[f[:, 0]]) * p[f].mean(1)).sum(1) > 0
    return radius * p + centre, np.where(out[:, None], f, f[:, ::-1])


def topology() -> tuple[np.ndarray, np.ndarray]:
    """Vertices [5023, 3] and faces [9976, 3]: a head with holes and two eyeballs, as in FLAME."""
    head, head_faces = ball(BODY, 0.1, [0, 0, -0.02])
    head *= [0.8, 1.25, 1]
    holes = 2 * (BODY + 2 * EYE) - 12 - FACES
    head_faces = np.delete(head_faces, np.linspace(0, len(head_faces) - 1, holes).astype(int), axis=0)
    left, eye_faces = ball(EYE, 0.0125, [0.0317, 0.0214, 0.026])
    right = left * [-1, 1, 1]
    faces = [head_faces, eye_faces + BODY, eye_faces[:, ::-1] + BODY + EYE]
    return np.concatenate([head, left, right]), np.concatenate(faces)


def arrays(seed: int = 0, mesh: tuple[np.ndarray, np.ndarray] | None = None) -> dict:
    """The content of a FLAME file."""
    rng = np.random.default_rng(seed)
    v, f = mesh or topology()
    assert v.shape == (VERTICES, 3) and f.shape == (FACES, 3)

    def near(centre, width):
        return np.exp(-((v - centre) ** 2).sum(1) / (2 * width**2))

    centres = v.mean(0) + np.array([[0, -0.15, 0], [0, -0.07, -0.03], [0, -0.03, 0], [0.032, 0.02, 0.03],
                                    [-0.032, 0.02, 0.03]])  # fmt: skip
    weights = np.stack([near(c, w) for c, w in zip(centres, (0.05, 0.1, 0.03, 0.01, 0.01), strict=True)], 1) + 1e-6
    regressor = np.zeros((5, VERTICES))
    for j, c in enumerate(centres):
        nearest = np.argsort(((v - c) ** 2).sum(1))[:30]
        regressor[j, nearest] = rng.dirichlet(np.ones(30))
    waves, phase = rng.normal(0, 25, (400, 3, 3)), rng.uniform(0, 6.28, (400, 3))
    shapedirs = np.stack([np.sin(v @ waves[k].T + phase[k]) for k in range(400)], -1)
    shapedirs *= 0.002 / np.sqrt(1 + np.arange(400))
    return {
        "v_template": v, "f": f.astype(np.uint32), "shapedirs": shapedirs,
        "posedirs": rng.normal(0, 1e-3, (VERTICES, 3, 36)), "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": scipy.sparse.csc_matrix(regressor), "J": regressor @ v,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]]), "bs_style": "lbs",
        "bs_type": "lrotmin",
    }  # fmt: skip


def write(folder: Path, ending: str = "pkl", mesh: tuple[np.ndarray, np.ndarray] | None = None) -> Path:
    """Writes FLAME_NEUTRAL.pkl (protocol 2) or .npz, and the landmark file that smplx demands beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path, content = folder / f"FLAME_NEUTRAL.{ending}", arrays(mesh=mesh)
    if ending == "pkl":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        np.savez(path, **content)
    landmarks = {"lmk_face_idx": np.arange(51), "lmk_b_coords": np.full((51, 3), 1 / 3)}
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(landmarks, 2))
    return path
