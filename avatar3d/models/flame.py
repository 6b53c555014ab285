"""FLAME 2020, 2023 and 2023 Open from the user's own file, as a `LinearModel`.

FLAME (Li, Bolkart, Black, Li, Romero, "Learning a model of facial shape and expression from 4D scans", 2017) is not
part of avatar3d: `models.load("flame")` finds the file that its owner has put into the assets folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from avatar3d.data import user_asset
from avatar3d.errors import AssetError, FormatError
from avatar3d.models.linear import LinearModel
from avatar3d.models.obj import read_obj
from avatar3d.models.safe_pickle import Record, read_arrays
from avatar3d.models.symmetry import mirror_map
from avatar3d.models.unwrap import connected_parts, unwrap_head

VERTICES, FACES, JOINTS = 5023, 9976, 5
SHAPES, EXPRESSIONS = 300, 100
NAMES = ("generic_model", "FLAME_NEUTRAL", "flame2023", "flame2023_no_jaw", "FLAME2023_Open", "flame2023_Open", "FLAME")
FILES = tuple(f"flame/{name}.{ending}" for name in NAMES for ending in ("pkl", "npz"))
LICENCE = "FLAME: the licence that you accepted at flame.is.tue.mpg.de (2023 Open: CC-BY-4.0)"
WHERE = (
    "Register at https://flame.is.tue.mpg.de, download FLAME and put generic_model.pkl (or flame2023.pkl, "
    "flame2023_Open.pkl, FLAME_NEUTRAL.npz) into $AVATAR3D_ASSETS/flame/."
)
# FLAME's joint 1 carries neck and skull together; ours are told apart, so that a head can turn on its neck
JOINT_NAMES = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
JOINT_PARENTS = (-1, 0, 1, 2, 2, 2)
SOURCE_OF_JOINT = (0, 1, 1, 2, 3, 4)


def find_flame() -> Path | None:
    """The user's FLAME file, or None."""
    return user_asset(*FILES)


def load_flame(path: str | Path | None = None) -> LinearModel:
    """Reads FLAME.

    Joints are root, neck, head, jaw, eye_left, eye_right. FLAME's own neck joint moves the skull; `head` is inserted
    above it, takes over the skull's share of its weights, and stays without pose correctives, so that a pose with the
    head joint at rest is exactly FLAME's. Expressions are `expression_000` ... in FLAME's order.

    Args:
        path: The model file; by default the first that is found in the assets folders.

    Raises:
        AssetError: no path, and no FLAME in the assets folders.
        FileError: there is no such file.
        FormatError: not a FLAME file, or one that asks for code to be run.
    """
    path = find_flame() if path is None else Path(path)
    if path is None:
        raise AssetError(f"No FLAME model: looked for {', '.join(FILES[:4])} ... in the assets folders.\n{WHERE}")
    raw = read_arrays(path)
    arrays = {name: array_of(raw, name, path) for name in ("v_template", "shapedirs", "posedirs", "weights", "f")}
    arrays["J_regressor"] = array_of(raw, "J_regressor", path)
    _check(arrays, path)

    template = torch.from_numpy(arrays["v_template"].astype(np.float32))
    shapedirs = torch.from_numpy(np.ascontiguousarray(arrays["shapedirs"].astype(np.float32).transpose(2, 0, 1)))
    faces = torch.from_numpy(arrays["f"].astype(np.int64))
    regressor = torch.from_numpy(arrays["J_regressor"].astype(np.float32))
    joints = (regressor @ template)[list(SOURCE_OF_JOINT)]
    moved = torch.einsum("jv,kvc->kjc", regressor, shapedirs)[:, list(SOURCE_OF_JOINT)]
    shapes = min(SHAPES, shapedirs.shape[0] - 1) if shapedirs.shape[0] != 20 else 10
    weights, joints, moved = _with_head_joint(torch.from_numpy(arrays["weights"].astype(np.float32)), joints, moved,
                                              template)  # fmt: skip
    posedirs = torch.from_numpy(arrays["posedirs"].astype(np.float32)).permute(2, 0, 1)
    pose_basis = torch.cat([posedirs[:9], torch.zeros(9, VERTICES, 3), posedirs[9:]])
    uvs, uv_faces = _uvs(path, template, faces)
    return LinearModel(
        name="flame",
        licence=LICENCE,
        template=template,
        identity_basis=shapedirs[:shapes],
        expression_basis=shapedirs[shapes:],
        expression_names=tuple(f"expression_{i:03d}" for i in range(len(shapedirs) - shapes)),
        faces=faces,
        uvs=uvs,
        uv_faces=uv_faces,
        joint_names=JOINT_NAMES,
        joint_parents=JOINT_PARENTS,
        joint_template=joints,
        joint_identity_basis=moved[:shapes],
        joint_expression_basis=moved[shapes:],
        pose_basis=pose_basis.contiguous(),
        skinning_weights=weights,
        regions=parts(template, faces),
        mirror=mirror_map(template),
        provenance={"model": "FLAME", "file": path.name, "licence": LICENCE},
    )


def array_of(raw: dict[str, Any], name: str, path: Path) -> np.ndarray:
    """An array of a model file, a sparse one filled in.

    Raises:
        FormatError: it is not there, or no array of numbers.
    """
    if name not in raw:
        raise FormatError(
            f"{path} has no {name!r}; it holds {', '.join(sorted(map(str, raw))[:8])}. "
            "The model's file as downloaded was expected."
        )
    value = raw[name]
    if scipy.sparse.issparse(value):
        value = value.toarray()
    if isinstance(value, Record) or not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise FormatError(f"{path}: {name!r} is no array of numbers. Get the file from its page again.")
    return value


def _check(arrays: dict[str, np.ndarray], path: Path) -> None:
    k = arrays["shapedirs"].shape[-1]
    expected = {
        "v_template": (VERTICES, 3), "shapedirs": (VERTICES, 3, k), "posedirs": (VERTICES, 3, 9 * (JOINTS - 1)),
        "weights": (VERTICES, JOINTS), "J_regressor": (JOINTS, VERTICES), "f": (FACES, 3),
    }  # fmt: skip
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise FormatError(f"{path}: {name!r} is {arrays[name].shape}, and FLAME's is {shape}.")
        if arrays[name].dtype.kind == "f" and not np.isfinite(arrays[name]).all():
            raise FormatError(f"{path}: {name!r} holds values that are not finite.")
    if k not in (20, SHAPES + EXPRESSIONS) or arrays["f"].max() >= VERTICES or arrays["f"].min() < 0:
        raise FormatError(
            f"{path} has {k} shape directions and faces up to {arrays['f'].max()}; "
            f"FLAME has {SHAPES} + {EXPRESSIONS} (or 10 + 10) and {VERTICES} vertices."
        )


def _with_head_joint(weights: Tensor, joints: Tensor, moved: Tensor, template: Tensor) -> tuple[Tensor, ...]:
    """Weights [v, 6] and joint positions with `head` between FLAME's neck joint and the skull."""
    neck, eyes = joints[1], 0.5 * (joints[4] + joints[5])
    # between neck joint and eyes: about the height of the skull's base
    joints, moved = joints.clone(), moved.clone()
    joints[2] = neck + torch.tensor([0.0, 0.4, 0.1]) * (eyes - neck)
    share = ((template[:, 1] - neck[1]) / (joints[2, 1] - neck[1]).clamp_min(1e-6)).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    w = weights[:, 1:2]
    return torch.cat([weights[:, :1], w * (1 - share[:, None]), w * share[:, None], weights[:, 2:]], 1), joints, moved


def _uvs(path: Path, template: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """FLAME's own layout where the user has it beside the model, else an unwrapping of ours."""
    for folder in (path.parent, *(p.parent for p in [user_asset("flame/head_template.obj")] if p)):
        obj = folder / "head_template.obj"
        if obj.is_file():
            mesh = read_obj(obj)
            if np.array_equal(mesh.quads[:, :3], faces.numpy()) and mesh.uv_quads[:, :3].min() >= 0:
                return torch.from_numpy(mesh.uvs).float(), torch.from_numpy(mesh.uv_quads[:, :3].copy())
        for name in ("FLAME_texture.npz", "FLAME_albedo_from_BFM.npz"):
            if (folder / name).is_file():
                texture = read_arrays(folder / name)
                if {"vt", "ft"} <= set(texture) and texture["ft"].shape == (FACES, 3):
                    index = torch.from_numpy(texture["ft"].astype(np.int64))
                    return torch.from_numpy(texture["vt"].astype(np.float32)), index
    return unwrap_head(template, faces)


def parts(template: Tensor, faces: Tensor) -> dict[str, Tensor]:
    """Regions that connectivity alone tells: the eyeballs."""
    part = connected_parts(faces, len(template))
    out = {}
    for k in range(1, int(part.max()) + 1):
        side = "left" if template[part == k, 0].mean() > 0 else "right"
        out[f"eyeball_{side}"] = out.get(f"eyeball_{side}", torch.zeros(len(template), dtype=torch.bool)) | (part == k)
    return out
