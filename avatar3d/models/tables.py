"""Our own index tables for the meshes of FLAME, ICT and ARKit: mirror images, landmarks, regions, place on `head`.

Packaged, made by `tools/make_model_tables.py`. They hold indices and shares, nothing of those models themselves.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatar3d.data import packaged
from avatar3d.errors import AssetError
from avatar3d.models.correspondence import Correspondence, alignment, carry_vectors
from avatar3d.models.embedding import with_ibug
from avatar3d.models.landmark_file import topology_key
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.storage import replacing
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES

ASSETS = {name: f"models/assets/{name}_tables.safetensors" for name in ("flame", "ict", "arkit")}
SAME_MESH = {"smplx": "flame"}
FORMAT, VERSION = "avatar3d.model_tables", 2
MIXED = 0.01
"""How reluctantly another name's shape is taken along, relative to the shapes' mean square."""


def shape_mixture(head: LinearModel, model: LinearModel, found: Correspondence) -> Float[Tensor, "52 52"]:
    """Each of a model's own ARKit shapes as a mixture of `head`'s carried over: what the same name means in both.

    Least squares over the skin, drawn to the shape of that name alone. Rows of names that the model lacks are that
    name alone.
    """
    skin = (found.share > 0) & torch.isfinite(found.distance)
    carried = carry_vectors(head, found, head.expression_basis)[:, skin].flatten(1).double()
    H = carried @ carried.T
    out = torch.eye(len(ARKIT_NAMES), dtype=torch.float64)
    for name in model.expression_names:
        if name in ARKIT_INDEX:
            k = ARKIT_INDEX[name]
            own = model.expression_basis[model.expression_names.index(name)][skin].flatten().double()
            prior = MIXED * H.diagonal().mean() * torch.ones(len(H), dtype=torch.float64)
            prior[k] *= 0.1
            out[k] += torch.linalg.solve(H + torch.diag(prior), carried @ (own - carried[k]))
    return out.float()


def save_tables(
    path: Path,
    model: LinearModel,
    landmarks: LandmarkEmbedding,
    found: Correspondence,
    about: dict,
    mixture: Float[Tensor, "52 52"] | None = None,
) -> None:
    """Writes the tables of a model that has mirror images and regions.

    Raises:
        FileError: the file cannot be written.
    """
    assert model.mirror is not None
    names = list(model.regions)
    meta = {"format": FORMAT, "version": VERSION, "topology": topology_key(model), "regions": names, **about}
    tensors = {
        "mirror": model.mirror.int(),
        "landmark_faces": landmarks.faces.int(),
        "landmark_weights": landmarks.weights.float(),
        "landmark_residual": landmarks.residual.float(),
        "regions": torch.from_numpy(np.packbits(torch.stack([model.regions[n] for n in names]).numpy(), axis=1)),
        "head_faces": found.faces.short(),
        "head_weights": found.weights.half(),
        "head_distance": found.distance.half(),
    }
    if mixture is not None:
        tensors["mixture"] = mixture.half()
    with replacing(path) as temporary:
        save_file({k: t.contiguous() for k, t in tensors.items()}, temporary, {"avatar3d": json.dumps(meta)})


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What is packaged about one mesh."""

    topology: str
    """`landmark_file.topology_key` of its faces."""
    mirror: Int[Tensor, "v"]
    landmarks: LandmarkEmbedding
    regions: dict[str, Bool[Tensor, "v"]]
    head_faces: Int[Tensor, "v"]
    """The `head` model's face on which every vertex lies."""
    head_weights: Float[Tensor, "v 3"]
    head_distance: Float[Tensor, "v"]
    """How far off the bent head every vertex lay, metres; infinite where it has no counterpart."""
    mixture: Float[Tensor, "52 52"]
    """Each of the mesh's own ARKit shapes in terms of `head`'s, carried over; the identity where it has none."""


@lru_cache(maxsize=4)
def read_tables(name: str) -> Tables | None:
    """The tables of "flame" (and "smplx", whose head is FLAME's mesh), "ict" or "arkit"; None for any other name.

    Raises:
        AssetError: the packaged file is missing or damaged.
    """
    name = SAME_MESH.get(name, name)
    if name not in ASSETS:
        return None
    path = packaged(ASSETS[name])
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
            data = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError, ValueError) as error:
        raise AssetError(f"{path} cannot be read ({error}). Reinstall avatar3d.") from error
    if (meta.get("format"), meta.get("version")) != (FORMAT, VERSION):
        raise AssetError(f"{path} has format {meta.get('format')!r} {meta.get('version')}. Reinstall avatar3d.")
    masks = np.unpackbits(data["regions"].numpy(), axis=1, count=len(data["mirror"])).astype(bool)
    return Tables(
        topology=meta["topology"],
        mirror=data["mirror"].long(),
        landmarks=LandmarkEmbedding(
            faces=data["landmark_faces"].long(), weights=data["landmark_weights"], residual=data["landmark_residual"]
        ),
        regions=dict(zip(meta["regions"], torch.from_numpy(masks), strict=True)),
        head_faces=data["head_faces"].long(),
        head_weights=data["head_weights"].float(),
        head_distance=data["head_distance"].float(),
        mixture=data.get("mixture", torch.eye(len(ARKIT_NAMES))).float(),
    )


def _tables_of(model: LinearModel) -> Tables | None:
    tables = read_tables(model.name)
    return tables if tables is not None and tables.topology == topology_key(model) else None


def with_tables(model: LinearModel) -> LinearModel:
    """The model with mirror images, regions and landmarks, where it has the usual faces; else the model as it is.

    Raises:
        AssetError: the packaged file is missing or damaged.
    """
    tables = _tables_of(model)
    if tables is None:
        return model
    landmarks = with_ibug(tables.landmarks)
    return replace(model, mirror=tables.mirror, regions=tables.regions | model.regions, landmarks=landmarks)


def packaged_correspondence(head: LinearModel, model: LinearModel) -> Correspondence | None:
    """Where each of their vertices lies on `head`; None for another mesh.

    Raises:
        AssetError: the packaged file is missing or damaged.
    """
    tables = _tables_of(model)
    if tables is None:
        return None
    return Correspondence(
        faces=tables.head_faces,
        weights=tables.head_weights,
        distance=tables.head_distance,
        T_model_head=alignment(head, model),
    )
