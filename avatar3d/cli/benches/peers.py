"""Other people's libraries, where they are installed: never needed, only measured."""

import functools
import importlib
from typing import Any

import numpy as np
import torch

from avatar3d.cli.common import say


@functools.cache
def peer(module: str) -> Any:
    """The top package of a module once that is imported, or None and a word about it."""
    try:
        importlib.import_module(module)
        return importlib.import_module(module.split(".")[0])
    except ImportError as error:
        say(f"bench: no {module.split('.')[0]}: {error}")
        return None


def open3d_scene(o3d: Any, vertices: np.ndarray, faces: np.ndarray) -> Any:
    """A ray casting scene (Embree) of one mesh, on as many threads as torch's."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
    scene.add_triangles(vertices.astype(np.float32), faces.astype(np.uint32))
    return scene
