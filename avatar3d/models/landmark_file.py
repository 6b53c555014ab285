"""Landmark embeddings on disk: packaged for `head`, cached for the user's own models."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from avatar3d.errors import AssetError
from avatar3d.models.embedding import with_ibug
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.storage import replacing

FORMAT, VERSION = "avatar3d.landmarks", 1


def topology_key(model: LinearModel) -> str:
    """Tells meshes with different faces apart."""
    return hashlib.sha256(model.faces.int().numpy().tobytes()).hexdigest()[:16]


def save_landmarks(path: Path, model: LinearModel, embedding: LandmarkEmbedding, about: dict | None = None) -> None:
    """Writes the 478 points of a model.

    Raises:
        FileError: the file cannot be written.
    """
    meta = {"format": FORMAT, "version": VERSION, "model": model.name, "topology": topology_key(model), **(about or {})}
    tensors = {
        "faces": embedding.faces.int(),
        "weights": embedding.weights.float().contiguous(),
        "residual": embedding.residual.float(),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"avatar3d": json.dumps(meta)})


def with_landmarks(model: LinearModel, path: Path) -> LinearModel:
    """The model with the embeddings "mediapipe478" and "ibug68" from a file.

    Raises:
        AssetError: the file is missing or damaged, or was made for another mesh.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
            data = {name: file.get_tensor(name) for name in ("faces", "weights", "residual")}
    except (OSError, SafetensorError, ValueError) as error:
        raise AssetError(
            f"{path} cannot be read as landmarks ({error}). Make it with tools/make_landmarks.py."
        ) from error
    if (meta.get("format"), meta.get("version")) != (FORMAT, VERSION) or meta.get("topology") != topology_key(model):
        raise AssetError(
            f"{path} was made for a {meta.get('model')!r} with other faces than this {model.name!r}. "
            "Make it again with tools/make_landmarks.py."
        )
    embedding = LandmarkEmbedding(
        faces=data["faces"].to(torch.int64), weights=data["weights"], residual=data["residual"]
    )
    return replace(model, landmarks=with_ibug(embedding))
