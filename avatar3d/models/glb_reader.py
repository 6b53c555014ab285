"""GLB files as plain arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pygltflib

_DTYPE = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class GlbReader:
    """A GLB as plain arrays. Reads any accessor: dense, strided, sparse, normalised."""

    def __init__(self, path: str | Path) -> None:
        # pygltflib's annotations make every field optional, and its targets are dicts once read.
        self.document: Any = pygltflib.GLTF2.load_binary(str(path))
        self.blob: bytes = self.document.binary_blob()

    def accessor(self, index: int) -> np.ndarray:
        """Values `[n, width]` (or `[n]` for scalars) of an accessor."""
        accessor = self.document.accessors[index]
        width, dtype = _WIDTH[accessor.type], np.dtype(_DTYPE[accessor.componentType])
        out = np.zeros((accessor.count, width), dtype)
        if accessor.bufferView is not None:
            out = self._rows(accessor.bufferView, accessor.byteOffset or 0, accessor.count, width, dtype).copy()
        if accessor.sparse is not None:
            sparse = accessor.sparse
            index_type = np.dtype(_DTYPE[sparse.indices.componentType])
            rows = self._rows(sparse.indices.bufferView, sparse.indices.byteOffset or 0, sparse.count, 1, index_type)
            values = self._rows(sparse.values.bufferView, sparse.values.byteOffset or 0, sparse.count, width, dtype)
            out[rows[:, 0]] = values
        if accessor.normalized:
            out = out.astype(np.float32) / np.iinfo(dtype).max
        return out[:, 0] if width == 1 else out

    def bytes_of_view(self, index: int) -> bytes:
        """Content of a buffer view."""
        view = self.document.bufferViews[index]
        start = view.byteOffset or 0
        return self.blob[start : start + view.byteLength]

    def _rows(self, view: int, offset: int, count: int, width: int, dtype: np.dtype) -> np.ndarray:
        data, size = self.bytes_of_view(view)[offset:], width * dtype.itemsize
        stride = self.document.bufferViews[view].byteStride or size
        return np.ndarray((count, width), dtype, data, strides=(stride, dtype.itemsize))
