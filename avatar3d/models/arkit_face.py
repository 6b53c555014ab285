"""Apple's ARKit face mesh (1220 vertices) with its 52 reference blendshapes, from the user's files, as a `LinearModel`.

Sources: a folder (or its .zip) of `Neutral.obj` and one OBJ for each of ARKit's names, as ARKit's face tracking and
several research repositories hand them out. The mesh is a mask: no eyeballs, no mouth cavity, no back of the head.
"""

import zipfile
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from avatar3d.data import user_asset
from avatar3d.errors import AssetError, FileError, FormatError
from avatar3d.models.linear import LinearModel
from avatar3d.models.obj import read_obj, read_positions, triangulate
from avatar3d.models.symmetry import mirror_map
from avatar3d.types import ARKIT_NAMES

VERTICES = 1220
NEUTRAL = "Neutral.obj"
LICENCE = "ARKit face mesh: Apple's; the licence of the files that you brought"
WHERE = f"Put a folder with {NEUTRAL} and the blendshapes (jawOpen.obj, ...) at $AVATAR3D_ASSETS/arkit/."
PLACES = ("arkit", "arkit/ARKit_blendshapes", "arkit/ARKit_reference_blendshapes.zip")


def load_arkit_face(path: str | Path | None = None) -> LinearModel:
    """Reads Apple's mesh and its reference blendshapes. It has no identities: one row of zeros.

    Args:
        path: The folder, or a .zip of it; by default `arkit/` of the assets folders.

    Raises:
        AssetError: no path given, and none in the assets folders.
        FileError: no neutral mesh there.
        FormatError: another topology.
    """
    found = _find() if path is None else Path(path)
    if found is None:
        raise AssetError(f"No ARKit face: looked for {', '.join(PLACES)} in the assets folders.\n{WHERE}")
    return _load(found.resolve())


def is_arkit_face(path: Path) -> bool:
    """Whether a folder or .zip looks like Apple's reference blendshapes."""
    if path.suffix.lower() == ".zip" and path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).name == NEUTRAL for name in archive.namelist())
    return (path / NEUTRAL).is_file()


def _find() -> Path | None:
    places = [user_asset(place) for place in PLACES]
    return next((place for place in places if place is not None and is_arkit_face(place)), None)


@lru_cache(maxsize=2)
def _load(path: Path) -> LinearModel:
    if path.suffix.lower() != ".zip":
        return _from_folder(path)
    if not is_arkit_face(path):
        raise FileError(f"{path} has no {NEUTRAL}; ARKit's reference blendshapes were expected.\n{WHERE}")
    with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
        for name in archive.namelist():
            if name.endswith(".obj"):  # flat, so that no name leads out of the folder
                (Path(folder) / Path(name).name).write_bytes(archive.read(name))
        return _from_folder(Path(folder))


def _from_folder(folder: Path) -> LinearModel:
    if not (folder / NEUTRAL).is_file():
        raise FileError(f"{folder} has no {NEUTRAL}; ARKit's reference blendshapes were expected.\n{WHERE}")
    mesh = read_obj(folder / NEUTRAL)
    if len(mesh.vertices) != VERTICES:
        raise FormatError(f"{folder / NEUTRAL} has {len(mesh.vertices)} vertices, and ARKit's face has {VERTICES}.")
    template = torch.from_numpy(mesh.vertices).float()
    names = tuple(name for name in ARKIT_NAMES if (folder / f"{name}.obj").is_file())
    shapes = torch.zeros(len(names), VERTICES, 3)
    for row, name in enumerate(names):
        moved = read_positions(folder / f"{name}.obj")
        if len(moved) != VERTICES:
            raise FormatError(f"{folder / name}.obj has {len(moved)} vertices, and {NEUTRAL} has {VERTICES}.")
        shapes[row] = torch.from_numpy(moved).float() - template
    corners, _ = triangulate(mesh.quads)
    faces = torch.from_numpy(mesh.quads.ravel()[corners].astype(np.int64))
    middle, low = template.mean(0), template[:, 1].min()
    neck = torch.stack([middle[0], low, middle[2] - 0.1])
    joints = torch.stack([neck - torch.tensor([0, 0.05, 0]), neck, neck + torch.tensor([0, 0.06, 0.02])])
    weights = torch.zeros(VERTICES, 3)
    weights[:, 2] = 1
    return LinearModel(
        name="arkit",
        licence=LICENCE,
        template=template,
        identity_basis=torch.zeros(1, VERTICES, 3),
        expression_basis=shapes,
        expression_names=names,
        faces=faces,
        uvs=0.5 + 0.5 * template[:, :2] / template[:, :2].abs().amax(),
        uv_faces=faces,
        joint_names=("root", "neck", "head"),
        joint_parents=(-1, 0, 1),
        joint_template=joints,
        joint_identity_basis=torch.zeros(1, 3, 3),
        skinning_weights=weights,
        regions={"face": torch.ones(VERTICES, dtype=torch.bool)},
        mirror=mirror_map(template, 1e-3),
        provenance={"model": "ARKit face", "licence": LICENCE},
    )
