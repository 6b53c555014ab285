"""The packaged networks, and those of a file."""

import json
from functools import lru_cache

from safetensors import SafetensorError, safe_open

from avatar3d.errors import AssetError
from avatar3d.nets.registry import weights
from avatar3d.nets.stabilizer import Locator, Weigher
from avatar3d.typing import typed

FORMAT, VERSION = "avatar3d.stabilizer", 1


@lru_cache(maxsize=1)
def networks() -> tuple[Locator, Weigher]:
    """The packaged networks, loaded once per process.

    Raises:
        AssetError: their file is missing or damaged.
    """
    return read_networks(str(weights("stabilizer")))


@typed
def read_networks(path: str) -> tuple[Locator, Weigher]:
    """Networks from a file of `tools/train_stabilizer.py`.

    Raises:
        AssetError: the file is none, or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("avatar3d", "{}"))
            state = {name: file.get_tensor(name).float() for name in file.keys()}
        if meta.get("format") != FORMAT or meta.get("version") != VERSION:
            raise ValueError(f"it holds {meta.get('format')!r} version {meta.get('version')!r}")
        found = []
        for name, network in (("locator", Locator()), ("weigher", Weigher())):
            network.load_state_dict({k.removeprefix(f"{name}."): v for k, v in state.items()
                                     if k.startswith(f"{name}.")})  # fmt: skip
            found.append(network.eval().requires_grad_(False))
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise AssetError(f"{path} cannot be read as stabiliser networks ({error}). Reinstall avatar3d.") from error
    return found[0], found[1]
