"""The default model `head`: open data, packaged, made by `tools/make_head_asset.py`.

A head and neck with eyeballs, teeth, tongue and mouth cavity; identity with a unit Gaussian prior, the 52 ARKit shapes
by name, joints root, neck, head, jaw, eye_left and eye_right. The origin is the mean head's head joint.
"""

import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from avatar3d.data import packaged
from avatar3d.errors import AssetError
from avatar3d.models.linear import LinearModel
from avatar3d.typing import typed

_ASSET = "models/assets/head.safetensors"
_FORMAT, _VERSION = "avatar3d.head", 1


@lru_cache(maxsize=1)
def load_head() -> LinearModel:
    """The packaged head model (without landmark embeddings), loaded once per process.

    Raises:
        AssetError: the packaged file is missing or damaged.
    """
    return read_head(packaged(_ASSET))


@typed
def read_head(path: Path) -> LinearModel:
    """Reads a head asset from a file.

    Raises:
        AssetError: the file cannot be read or is not a head asset of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
            data = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError) as error:
        raise AssetError(f"{path} cannot be read as a head model ({error}). Reinstall avatar3d.") from error
    if meta.get("format") != _FORMAT or meta.get("version") != _VERSION:
        raise AssetError(
            f"{path} holds {meta.get('format')!r} version {meta.get('version')!r}; "
            f"expected {_FORMAT!r} version {_VERSION}. Run tools/make_head_asset.py or reinstall avatar3d."
        )
    return LinearModel(
        name=meta["name"],
        licence=meta["licence"],
        template=data["template"],
        identity_basis=data["identity_basis"].float(),
        expression_basis=data["expression_basis"].float(),
        expression_names=tuple(meta["expression_names"]),
        expression_scale=data["expression_scale"],
        faces=data["faces"].long(),
        uvs=data["uvs"],
        uv_faces=data["uv_faces"].long(),
        joint_names=tuple(meta["joint_names"]),
        joint_parents=tuple(meta["joint_parents"]),
        joint_template=data["joint_template"],
        joint_identity_basis=data["joint_identity_basis"],
        skinning_weights=_unit_rows(data["skinning_weights"].float()),
        regions=dict(zip(meta["regions"], data["regions"].bool(), strict=True)),
        mirror=data["mirror"].long(),
        provenance={k: v for k, v in meta.items() if k not in ("regions", "expression_names", "joint_names")},
    )


def _unit_rows(weights: torch.Tensor) -> torch.Tensor:
    """Rows that sum to 1, which half precision loses."""
    return weights / weights.sum(1, keepdim=True)
