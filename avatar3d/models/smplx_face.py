"""The head of SMPL-X from the user's own file, as a `LinearModel` on FLAME's mesh.

SMPL-X (Pavlakos et al., "Expressive body capture", 2019) took its head over from FLAME, vertex by vertex. Which of its
vertices those are is told by the file that is downloaded with it, or found by following the triangles of the user's
FLAME; either way it is checked here, on the files themselves, before anything is built on it. Neither model is part of
avatar3d.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.data import user_asset
from avatar3d.errors import AssetError, FormatError
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models import flame
from avatar3d.models.flame import JOINT_NAMES, JOINT_PARENTS, array_of
from avatar3d.models.linear import LinearModel
from avatar3d.models.mesh_walk import find_within
from avatar3d.models.safe_pickle import read_arrays
from avatar3d.models.symmetry import mirror_map
from avatar3d.models.unwrap import connected_parts

VERTICES, FACES, JOINTS = 10475, 20908, 55
SHAPES = 300
FILES = tuple(f"smplx/SMPLX_{gender}.{ending}" for gender in ("NEUTRAL", "MALE", "FEMALE") for ending in ("npz", "pkl"))
IDS = "SMPL-X__FLAME_vertex_ids.npy"
SOURCE_OF_JOINT = (0, 12, 15, 22, 23, 24)
"""SMPL-X's pelvis, neck, head, jaw and eyes, as our root, neck, head, jaw, eye_left, eye_right."""
LICENCE = "SMPL-X: the licence that you accepted at smpl-x.is.tue.mpg.de"
WHERE = (
    "Register at https://smpl-x.is.tue.mpg.de, download SMPL-X and put SMPLX_NEUTRAL.npz (and, where you have it, "
    f"{IDS}) into $AVATAR3D_ASSETS/smplx/; FLAME's file goes beside it into flame/."
)
LEAST = 0.98
"""Share of FLAME's triangles that must be SMPL-X's, too."""


def load_smplx_face(path: str | Path | None = None, flame_model: LinearModel | None = None) -> LinearModel:
    """Reads SMPL-X's head: its 5023 vertices in FLAME's order, its betas as identity, its expressions.

    Vertices are where SMPL-X has them, with the body at rest: joints are root (SMPL-X's pelvis and whatever of the body
    moves the neck's base), neck, head, jaw, eye_left, eye_right.

    Args:
        path: The model file; by default the first that is found in the assets folders.
        flame_model: FLAME, for its triangles; the user's own by default.

    Raises:
        AssetError: no SMPL-X, or no FLAME, in the assets folders.
        FileError: there is no such file.
        FormatError: not an SMPL-X file, or FLAME's mesh is not in it.
    """
    path = user_asset(*FILES) if path is None else Path(path)
    if path is None:
        raise AssetError(f"No SMPL-X model: looked for {', '.join(FILES[:2])} ... in the assets folders.\n{WHERE}")
    raw = read_arrays(path)
    arrays = {n: array_of(raw, n, path) for n in ("v_template", "shapedirs", "posedirs", "weights", "f", "J_regressor")}
    _check(arrays, path)
    if flame_model is None and flame.find_flame() is None:
        raise AssetError(f"SMPL-X's head is told by FLAME's triangles, and no FLAME was found.\n{flame.WHERE}")
    known = flame.load_flame() if flame_model is None else flame_model
    whole = torch.from_numpy(arrays["v_template"].astype(np.float32))
    triangles = torch.from_numpy(arrays["f"].astype(np.int64))
    ids = _head_vertices(path, known, whole, triangles)

    shapedirs = torch.from_numpy(np.ascontiguousarray(arrays["shapedirs"].astype(np.float32).transpose(2, 0, 1)))
    shapes = 10 if len(shapedirs) == 20 else SHAPES
    regressor = torch.from_numpy(arrays["J_regressor"].astype(np.float32))[list(SOURCE_OF_JOINT)]
    moved = torch.einsum("jv,kvc->kjc", regressor, shapedirs)
    weights = torch.from_numpy(arrays["weights"].astype(np.float32))[ids]
    own = weights[:, list(SOURCE_OF_JOINT[1:])]
    posedirs = arrays["posedirs"].reshape(VERTICES, 3, 9 * (JOINTS - 1))[ids.numpy()].astype(np.float32)
    columns = [9 * (j - 1) + i for j in SOURCE_OF_JOINT[1:] for i in range(9)]
    template = whole[ids].contiguous()
    return LinearModel(
        name="smplx",
        licence=LICENCE,
        template=template,
        identity_basis=shapedirs[:shapes, ids],
        expression_basis=shapedirs[shapes:, ids],
        expression_names=tuple(f"expression_{i:03d}" for i in range(len(shapedirs) - shapes)),
        faces=known.faces,
        uvs=known.uvs,
        uv_faces=known.uv_faces,
        joint_names=JOINT_NAMES,
        joint_parents=JOINT_PARENTS,
        joint_template=regressor @ whole,
        joint_identity_basis=moved[:shapes],
        joint_expression_basis=moved[shapes:],
        pose_basis=torch.from_numpy(np.ascontiguousarray(posedirs[..., columns].transpose(2, 0, 1))),
        skinning_weights=torch.cat([1 - own.sum(1, keepdim=True), own], 1),
        regions=flame.parts(template, known.faces),
        mirror=mirror_map(template),
        provenance={"model": "SMPL-X", "file": path.name, "licence": LICENCE, "vertices": ids.tolist()},
    )


def _check(arrays: dict[str, np.ndarray], path: Path) -> None:
    k = arrays["shapedirs"].shape[-1]
    expected = {
        "v_template": (VERTICES, 3), "shapedirs": (VERTICES, 3, k), "weights": (VERTICES, JOINTS),
        "J_regressor": (JOINTS, VERTICES), "f": (FACES, 3), "posedirs": (VERTICES, 3, 9 * (JOINTS - 1)),
    }  # fmt: skip
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise FormatError(f"{path}: {name!r} is {arrays[name].shape}, and SMPL-X's is {shape}.")
        if arrays[name].dtype.kind == "f" and not np.isfinite(arrays[name]).all():
            raise FormatError(f"{path}: {name!r} holds values that are not finite.")
    if k not in (20, SHAPES + 100) or arrays["f"].max() >= VERTICES or arrays["f"].min() < 0:
        raise FormatError(
            f"{path} has {k} shape directions and faces up to {arrays['f'].max()}; "
            f"SMPL-X has {SHAPES} + 100 (or 10 + 10) and {VERTICES} vertices."
        )


def _head_vertices(path: Path, known: LinearModel, points: Tensor, faces: Tensor) -> Tensor:
    """SMPL-X's vertices [5023] in FLAME's order, as its file of indices says or as the triangles do.

    Raises:
        FormatError: FLAME's triangles are not SMPL-X's there.
    """
    file = next((f for f in (path.parent / IDS, user_asset(f"smplx/{IDS}")) if f and f.is_file()), None)
    if file is not None:
        ids = torch.from_numpy(np.load(file, allow_pickle=False).astype(np.int64)).reshape(-1)
        fits = len(ids) == len(known.template) and 0 <= int(ids.min()) and int(ids.max()) < VERTICES
    else:
        ids = find_within(_placed(known, points, faces), known.faces, points, faces)
        fits = bool((ids >= 0).all())
    share = _shared(ids[known.faces], faces) if fits else 0.0
    if share < LEAST or len(ids.unique()) != len(ids):
        said = f"{file.name} beside it" if file else "following its triangles"
        raise FormatError(
            f"{path}: FLAME's mesh is not in it by {said}: {100 * share:.0f} % of FLAME's triangles are there. "
            f"Use SMPL-X's and FLAME's files as downloaded{'' if file else f', and {IDS}'}."
        )
    return ids


def _placed(known: LinearModel, points: Tensor, faces: Tensor) -> Tensor:
    """FLAME's vertices where SMPL-X's head is: by the eyeballs, parts of so many vertices in both."""

    def balls(p: Tensor, f: Tensor, counts: set[int]) -> dict[str, Tensor]:
        part = connected_parts(f, len(p))
        size = torch.bincount(part)
        picked = [p[part == k] for k in range(len(size)) if int(size[k]) in counts]
        return {"left" if ball[:, 0].mean() > 0 else "right": ball for ball in picked}

    ours = {side: known.template[known.regions[f"eyeball_{side}"]] for side in ("left", "right")}
    theirs = balls(points, faces, {len(b) for b in ours.values()})
    if set(theirs) != set(ours):
        return known.template + points[points[:, 1] > points[:, 1].quantile(0.9)].mean(0) - known.template.mean(0)
    a, b = (torch.cat([x[s].mean(0, keepdim=True) + torch.tensor([[0.0, 0, 0], [0, 0.05, 0], [0, 0, 0.05]])
                       for s in ("left", "right")]).double() for x in (ours, theirs))  # fmt: skip
    return apply(procrustes(a, b, torch.ones(len(a), dtype=a.dtype), with_scale=False).float(), known.template)


def _shared(wanted: Tensor, faces: Tensor) -> float:
    """Share of triangles that are in a list of faces, wound alike."""

    def key(f: Tensor) -> Tensor:
        first = f.argmin(1, keepdim=True)
        rolled = f.gather(1, (first + torch.arange(3)) % 3)
        return (rolled[:, 0] * VERTICES + rolled[:, 1]) * VERTICES + rolled[:, 2]

    return float(torch.isin(key(wanted.long()), key(faces.long())).float().mean())
