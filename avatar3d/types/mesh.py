"""Meshes and point clouds as files hold them: scans, captures, frames of a sequence."""

from dataclasses import dataclass

from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A surface or a point cloud, in the file's own units and axes."""

    vertices: Float[Tensor, "v 3"]
    """float64, in the file's order."""
    faces: Int[Tensor, "f 3"] | None = None
    """Corners of triangles, int64; None for a point cloud."""
    uvs: Float[Tensor, "u 2"] | None = None
    """float32, origin at the lower left."""
    uv_faces: Int[Tensor, "f 3"] | None = None
    """Rows of `uvs` for every corner of `faces`."""
    texture: UInt8[Tensor, "h w 3"] | None = None
    """sRGB, row 0 the top (v = 1)."""
    colours: UInt8[Tensor, "v 3"] | None = None
    """sRGB per vertex."""
    normals: Float[Tensor, "v 3"] | None = None
    """float32, unit, where the file gives one for each vertex."""
    name: str = ""
    """The file's name."""

    @property
    def is_cloud(self) -> bool:
        """Whether it is points alone."""
        return self.faces is None

    @property
    def is_coloured(self) -> bool:
        """Whether it says what the surface looks like."""
        return self.colours is not None or self.texture is not None


@dataclass(frozen=True, kw_only=True)
class MeshSequence:
    """Meshes of one topology."""

    vertices: Float[Tensor, "t v 3"]
    """float32, in the files' own units and axes."""
    faces: Int[Tensor, "f 3"] | None
    """Corners of triangles, int64; None for point clouds."""
    names: tuple[str, ...]
    """Of the files, or frame numbers."""
    fps: float | None = None
    """Where the file tells."""
