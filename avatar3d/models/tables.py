"""Our own index tables for the meshes of FLAME and ICT: mirror images, landmarks, regions, correspondence to `head`.

Packaged, made by `tools/make_model_tables.py`. They hold indices and shares, nothing of those models themselves.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from avatar3d.data import packaged
from avatar3d.errors import AssetError
from avatar3d.models.correspondence import Correspondence, alignment
from avatar3d.models.embedding import with_ibug
from avatar3d.models.landmark_file import topology_key
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.storage import replacing

ASSETS = {name: f"models/assets/{name}_tables.safetensors" for name in ("flame", "ict")}
FORMAT, VERSION = "avatar3d.model_tables", 2


def save_tables(
    path: Path, model: LinearModel, landmarks: LandmarkEmbedding, found: Correspondence, about: dict
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
    with replacing(path) as temporary:
        save_file({k: t.contiguous() for k, t in tensors.items()}, temporary, {"avatar3d": json.dumps(meta)})


def _read(model: LinearModel) -> tuple[dict, dict[str, torch.Tensor]] | None:
    if model.name not in ASSETS:
        return None
    path = packaged(ASSETS[model.name])
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
            data = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError) as error:
        raise AssetError(f"{path} cannot be read ({error}). Reinstall avatar3d.") from error
    if (meta.get("format"), meta.get("version")) != (FORMAT, VERSION):
        raise AssetError(f"{path} has format {meta.get('format')!r} {meta.get('version')}. Reinstall avatar3d.")
    return (meta, data) if meta["topology"] == topology_key(model) else None


def with_tables(model: LinearModel) -> LinearModel:
    """The model with mirror images, regions and landmarks, where it has the usual faces; else the model as it is.

    Raises:
        AssetError: the packaged file is missing or damaged.
    """
    read = _read(model)
    if read is None:
        return model
    meta, data = read
    masks = np.unpackbits(data["regions"].numpy(), axis=1, count=len(model.template)).astype(bool)
    regions = dict(zip(meta["regions"], torch.from_numpy(masks), strict=True))
    embedding = LandmarkEmbedding(
        faces=data["landmark_faces"].long(), weights=data["landmark_weights"], residual=data["landmark_residual"]
    )
    return replace(model, mirror=data["mirror"].long(), regions=regions | model.regions, landmarks=with_ibug(embedding))


def packaged_correspondence(head: LinearModel, model: LinearModel) -> Correspondence | None:
    """Where each of FLAME's or ICT's vertices lies on `head`; None for another mesh.

    Raises:
        AssetError: the packaged file is missing or damaged.
    """
    read = _read(model)
    if read is None:
        return None
    _, data = read
    return Correspondence(
        faces=data["head_faces"].long(),
        weights=data["head_weights"].float(),
        distance=data["head_distance"].float(),
        T_model_head=alignment(head, model),
    )
