"""Arrays -> the binary chunk of a GLB: buffer views, accessors, sparse accessors."""

from dataclasses import dataclass, field

import numpy as np
import pygltflib as gl

_COMPONENT = {np.dtype(np.float32): gl.FLOAT, np.dtype(np.uint8): gl.UNSIGNED_BYTE,
              np.dtype(np.uint16): gl.UNSIGNED_SHORT, np.dtype(np.uint32): gl.UNSIGNED_INT}  # fmt: skip
_TYPE = {(): gl.SCALAR, (2,): gl.VEC2, (3,): gl.VEC3, (4,): gl.VEC4, (4, 4): gl.MAT4}


@dataclass
class GlbBuffer:
    """Grows a document's buffer views and accessors."""

    document: gl.GLTF2
    data: bytearray = field(default_factory=bytearray)
    zeros: dict[int, int] = field(default_factory=dict)
    """Buffer views of zeros by number of rows, which sparse accessors of that length share."""

    def view(self, content: bytes, target: int | None = None) -> int:
        """Index of a new buffer view, aligned to four bytes."""
        self.data += b"\0" * (-len(self.data) % 4)
        view = gl.BufferView(buffer=0, byteOffset=len(self.data), byteLength=len(content), target=target)
        self.data += content
        self.document.bufferViews.append(view)
        return len(self.document.bufferViews) - 1

    def array(
        self, values: np.ndarray, target: int | None = None, *, bounds: bool = False, name: str | None = None
    ) -> int:
        """Index of a new accessor over `values [n, ...]`."""
        view = self.view(np.ascontiguousarray(values).tobytes(), target)
        accessor = gl.Accessor(
            bufferView=view, componentType=_COMPONENT[values.dtype], count=len(values), type=_TYPE[values.shape[1:]],
            name=name,
        )  # fmt: skip
        return self._add(accessor, values if bounds else None)

    def sparse(self, values: np.ndarray, threshold: float, *, bounds: bool = False, name: str | None = None) -> int:
        """Index of a new sparse accessor that keeps the rows longer than `threshold`; the others are zero.

        The zeros are stated by a view that all share, and not by leaving the view out, as the format allows: Godot 3
        reads the first view instead.
        """
        if len(values) not in self.zeros:
            self.zeros[len(values)] = self.view(bytes(12 * len(values)), gl.ARRAY_BUFFER)
            self.document.bufferViews[-1].byteStride = 12  # the format wants it of shared views
        rows = np.flatnonzero(np.linalg.norm(values, axis=1) > threshold)
        if len(rows) == 0:  # the format wants at least one
            rows, values = np.zeros(1, dtype=int), np.zeros_like(values)
        index = rows.astype(np.uint16 if len(values) <= 65536 else np.uint32)
        kept = np.zeros_like(values)
        kept[rows] = values[rows]
        accessor = gl.Accessor(
            bufferView=self.zeros[len(values)], componentType=gl.FLOAT, count=len(values), type=gl.VEC3, name=name,
            sparse=gl.Sparse(
                count=len(rows),
                indices=gl.AccessorSparseIndices(
                    bufferView=self.view(index.tobytes()), componentType=_COMPONENT[index.dtype]
                ),
                values=gl.AccessorSparseValues(bufferView=self.view(values[rows].astype(np.float32).tobytes())),
            ),
        )  # fmt: skip
        return self._add(accessor, kept if bounds else None)

    def finish(self) -> None:
        """Hands the bytes to the document."""
        self.data += b"\0" * (-len(self.data) % 4)
        self.document.buffers = [gl.Buffer(byteLength=len(self.data))]
        self.document.set_binary_blob(bytes(self.data))

    def _add(self, accessor: gl.Accessor, bounded: np.ndarray | None) -> int:
        if bounded is not None:
            flat = bounded.reshape(len(bounded), -1)
            accessor.min, accessor.max = flat.min(0).tolist(), flat.max(0).tolist()
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1
