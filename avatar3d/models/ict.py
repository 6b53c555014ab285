"""ICT-FaceKit's light face model, from the user's folder of OBJ files, as a `LinearModel`.

Li et al., "Learning Formation of Physically-Based Face Attributes" (2020); MIT licence. The folder holds
`generic_neutral_mesh.obj`, identity shapes at one standard deviation, and expressions that follow ARKit's names.
However many of them are there are read.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.data import user_asset
from avatar3d.errors import AssetError, FileError, FormatError
from avatar3d.models.linear import LinearModel
from avatar3d.models.obj import read_obj, read_positions, triangulate
from avatar3d.models.symmetry import mirror_map
from avatar3d.types import ARKIT_NAMES

LICENCE = "ICT-FaceKit: MIT, (c) 2020 USC Institute for Creative Technologies"
WHERE = "Get https://github.com/ICT-VGL/ICT-FaceKit and put its FaceXModel folder into $AVATAR3D_ASSETS/ict/."
NEUTRAL = "generic_neutral_mesh.obj"
METRES = 0.01  # the files are in centimetres
VERTICES = 26719
# vertex ranges of ICT-FaceKit's documentation, first and last
PARTS = {
    "face": (0, 9408), "head_neck": (9409, 11247), "mouth_socket": (11248, 13293), "eye_socket_left": (13294, 13677),
    "eye_socket_right": (13678, 14061), "gums_tongue": (14062, 17038), "teeth": (17039, 21450),
    "eyeball_left": (21451, 23020), "eyeball_right": (23021, 24590), "iris_left": (22221, 23020),
    "iris_right": (23791, 24590), "teeth_upper": (17039, 19246), "teeth_lower": (19247, 21450),
}  # fmt: skip
SHELLS = 24591
"""From here on lie transparent shells (tear fluid, eye occlusion, lashes), which would draw as opaque skin."""
JOINT_NAMES = ("root", "neck", "head", "jaw", "eye_left", "eye_right")
JOINT_PARENTS = (-1, 0, 1, 2, 2, 2)


def load_ict(folder: str | Path | None = None) -> LinearModel:
    """Reads the folder `FaceXModel`. A folder is read once per process.

    `browInnerUp` and `cheekPuff` are the sums of ICT's two halves. The transparent shells about the eyes are left
    out. Joints are estimated from the geometry; the jaw and the eyes are bound to them rigidly, the face moves by
    its expressions.

    Args:
        folder: The folder, or one that contains it; by default `ict/FaceXModel` of the assets folders.

    Raises:
        AssetError: no folder given, and none in the assets folders.
        FileError: the folder has no neutral mesh.
        FormatError: shapes of different topologies.
    """
    found = user_asset("ict/FaceXModel", "ict") if folder is None else Path(folder)
    if found is None:
        raise AssetError(f"No ICT model: looked for ict/FaceXModel/{NEUTRAL} in the assets folders.\n{WHERE}")
    if not (found / NEUTRAL).is_file() and (found / "FaceXModel" / NEUTRAL).is_file():
        found = found / "FaceXModel"
    if not (found / NEUTRAL).is_file():
        raise FileError(f"{found} has no {NEUTRAL}; ICT-FaceKit's FaceXModel folder was expected.\n{WHERE}")
    return _load(found.resolve())


def arkit_name(name: str) -> str:
    """ICT's name of an expression in ARKit's spelling: `eyeBlink_L` is `eyeBlinkLeft`."""
    full = name[:-2] + {"L": "Left", "R": "Right"}[name[-1]] if name.endswith(("_L", "_R")) else name
    return full.removesuffix("Left").removesuffix("Right") if full.startswith(("browInnerUp", "cheekPuff")) else full


@lru_cache(maxsize=2)
def _load(folder: Path) -> LinearModel:
    mesh = read_obj(folder / NEUTRAL)
    if len(mesh.vertices) != VERTICES:
        raise FormatError(f"{folder / NEUTRAL} has {len(mesh.vertices)} vertices, and ICT-FaceKit's has {VERTICES}.")
    neutral = _metres(mesh.vertices)
    identities = sorted(folder.glob("identity*.obj"))
    expressions = [p for p in sorted(folder.glob("*.obj")) if p not in identities and p.name != NEUTRAL]
    with ThreadPoolExecutor(2) as pool:
        moved = list(pool.map(lambda p: _displacement(p, neutral), identities + expressions))
    identity_basis = torch.stack(moved[: len(identities)]) if identities else neutral.new_zeros(0, SHELLS, 3)
    by_name: dict[str, Tensor] = {}
    for path, d in zip(expressions, moved[len(identities) :], strict=True):
        name = arkit_name(path.stem)
        by_name[name] = by_name[name] + d if name in by_name else d
    names = tuple(n for n in ARKIT_NAMES if n in by_name) + tuple(n for n in by_name if n not in ARKIT_NAMES)

    quads, uv_quads = mesh.quads, mesh.uv_quads
    kept = quads.max(1) < SHELLS
    corners, _ = triangulate(quads[kept])
    regions = {part: _range(*ends) for part, ends in PARTS.items()}
    weights, joints = _joints(neutral, by_name, regions)
    influence = weights.new_zeros(len(JOINT_NAMES), SHELLS)
    for row, part in ((4, "eyeball_left"), (5, "eyeball_right")):  # eye joints follow the eyeballs
        influence[row, regions[part]] = 1 / regions[part].sum()
    for row in (0, 1, 2, 3):  # the others follow the head
        rigid = regions["head_neck"]
        influence[row, rigid] = 1 / rigid.sum()
    return LinearModel(
        name="ict",
        licence=LICENCE,
        template=neutral,
        identity_basis=identity_basis,
        expression_basis=torch.stack([by_name[n] for n in names]) if names else neutral.new_zeros(0, SHELLS, 3),
        expression_names=names,
        faces=torch.from_numpy(quads[kept].ravel()[corners].astype(np.int64)),
        uvs=torch.from_numpy(mesh.uvs).float(),
        uv_faces=torch.from_numpy(uv_quads[kept].ravel()[corners].astype(np.int64)),
        joint_names=JOINT_NAMES,
        joint_parents=JOINT_PARENTS,
        joint_template=joints,
        joint_identity_basis=torch.einsum("jv,kvc->kjc", influence, identity_basis),
        skinning_weights=weights,
        regions=regions | _rigid(folder),
        mirror=_mirror(neutral, regions),
        provenance={"model": "ICT-FaceKit", "licence": LICENCE, "identities": len(identities)},
    )


def _metres(vertices: np.ndarray) -> Tensor:
    return torch.from_numpy(vertices[:SHELLS] * METRES).float()


def _range(first: int, last: int) -> Tensor:
    mask = torch.zeros(SHELLS, dtype=torch.bool)
    mask[first : last + 1] = True
    return mask


def _displacement(path: Path, neutral: Tensor) -> Tensor:
    vertices = read_positions(path)
    if len(vertices) != VERTICES:
        raise FormatError(f"{path} has {len(vertices)} vertices, and {NEUTRAL} has {VERTICES}; one topology is needed.")
    return _metres(vertices) - neutral


def _mirror(neutral: Tensor, regions: dict[str, Tensor]) -> Tensor | None:
    """ICT's mesh is symmetric part by part; the parts touch."""
    part, mirrored = torch.zeros(SHELLS, dtype=torch.int64), torch.zeros(SHELLS, dtype=torch.int64)
    names = [n for n in PARTS if not n.startswith("iris")]
    for name in names:
        other = name.replace("left", "#").replace("right", "left").replace("#", "right")
        part[regions[name]], mirrored[regions[name]] = names.index(name) + 1, names.index(other) + 1
    return mirror_map(neutral, 2e-3, part, mirrored)


def _rigid(folder: Path) -> dict[str, Tensor]:
    """The vertices that ICT lists as moving with the skull."""
    path = folder / "vertex_indices.json"
    if not path.is_file():
        return {}
    try:
        index = torch.tensor(json.loads(path.read_text())["idx_to_rigid_verts"], dtype=torch.int64)
        mask = torch.zeros(SHELLS, dtype=torch.bool)
        mask[index[index < SHELLS]] = True
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(f"{path} lacks the list `idx_to_rigid_verts`: {error}. Get the folder again.") from error
    return {"skull": mask}


def _joints(neutral: Tensor, shapes: dict[str, Tensor], regions: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weights [v, 6] and rest positions [6, 3]: eyes at the eyeballs' centres, the jaw where jawOpen turns about."""
    eyes = [_ball_centre(neutral[regions[f"eyeball_{side}"]]) for side in ("left", "right")]
    middle = 0.5 * (eyes[0] + eyes[1])
    low = neutral[:, 1].min()
    head = torch.stack([middle[0], middle[1] - 0.045, middle[2] - 0.08])
    neck = torch.stack([middle[0], 0.5 * (head[1] + low), head[2] - 0.025])
    root = torch.stack([middle[0], low, neck[2]])
    jaw = head + torch.tensor([0.0, 0.01, 0.0])
    share = ((neutral[:, 1] - neck[1]) / (head[1] - neck[1])).clamp(0, 1)
    base = ((neutral[:, 1] - low) / (neck[1] - low)).clamp(0, 1)
    weights = torch.zeros(len(neutral), len(JOINT_NAMES))
    # in front of the neck everything belongs to the skull: the jaw moves by its expression
    skull = torch.maximum(share, ((neutral[:, 2] - neck[2] - 0.04) / 0.04).clamp(0, 1) * (neutral[:, 1] > neck[1]))
    skull = skull * skull * (3 - 2 * skull)
    weights[:, 2], weights[:, 1] = skull, (1 - skull) * base
    weights[:, 0] = 1 - weights.sum(1)
    inner = regions["mouth_socket"] | regions["gums_tongue"] | regions["teeth"]
    inner |= regions["eye_socket_left"] | regions["eye_socket_right"]
    weights[inner] = torch.eye(6)[2]
    weights[regions["eyeball_left"]] = torch.eye(6)[4]
    weights[regions["eyeball_right"]] = torch.eye(6)[5]
    return weights, torch.stack([root, neck, head, jaw, *eyes])


def _ball_centre(points: Tensor) -> Tensor:
    """Centre of the sphere that fits best: |p|^2 = 2 p . c + (r^2 - |c|^2)."""
    A = torch.cat([2 * points, torch.ones(len(points), 1)], 1).double()
    return torch.linalg.lstsq(A, points.square().sum(1, keepdim=True).double()).solution[:3, 0].to(points)
