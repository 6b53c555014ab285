"""The texture's side of a bake: which surface point every texel shows, and where its mirror image lies."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.ops import interpolate, rasterize
from avatar3d.types import Rig
from avatar3d.typing import typed


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Covered texels of a square texture, row by row."""

    size: int
    texel: Int[Tensor, "n"]
    """Flat index into the image, row 0 at the top (v = 1)."""
    face: Int[Tensor, "n"]
    weights: Float[Tensor, "n 3"]
    """Barycentric coordinates."""

    @property
    def count(self) -> int:
        return len(self.texel)

    def image(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Values per covered texel `[n, ...]` as an image `[size, size, ...]`."""
        out = values.new_full((self.size * self.size, *values.shape[1:]), fill)
        out[self.texel] = values
        return out.view(self.size, self.size, *values.shape[1:])

    def of_faces(self, faces: Tensor) -> Tensor:
        """Texels (indices into this chart) of the faces where the mask `faces` `[f]` holds."""
        return faces[self.face.long()].nonzero()[:, 0]

    def interpolate(self, values: Tensor, corners: Tensor, pick: Tensor | None = None) -> Tensor:
        """Vertex values `[v, c]` at the texels, or at some of them; `corners` `[f, 3]` are the mesh's faces."""
        face, weights = (self.face, self.weights) if pick is None else (self.face[pick], self.weights[pick])
        return interpolate(values[None], corners, face[None, None], weights[None, None])[0, 0]


@typed
def build_chart(rig: Rig, size: int) -> Chart:
    """The texels that a rig's UV layout covers.

    A texel that several faces cover belongs to the lowest of them.
    """
    xy = rig.uvs.float() * torch.tensor([size, -size]) + torch.tensor([0.0, size])
    flat = torch.cat([xy, torch.ones(len(xy), 1)], 1)
    raster = rasterize(flat[None], rig.uv_faces, torch.eye(3)[None], size, size)
    face = raster.triangle.view(-1)
    texel = (face >= 0).nonzero()[:, 0]
    return Chart(size=size, texel=texel, face=face[texel], weights=raster.barycentrics.view(-1, 3)[texel])


@typed
def mirrored_uv(
    chart: Chart, rig: Rig, mirror: Int[Tensor, "v"] | None
) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, "n"]]:
    """Texture coordinates of every texel's mirror image on the head.

    Args:
        chart: The texels.
        rig: The rig.
        mirror: Every vertex's mirror image, where the model knows; otherwise the nearest vertex to it is taken.

    Returns:
        Coordinates, and whether they are known: the three mirrored corners must meet in one face.
    """
    faces, uv_faces = rig.faces.long(), rig.uv_faces.long()
    if mirror is None:
        from scipy.spatial import KDTree

        points = rig.neutral.double().numpy()
        mirror = torch.from_numpy(KDTree(points).query(points * [-1.0, 1.0, 1.0])[1])
    mirror = mirror.long()
    count = len(rig.neutral)

    def key(f: Tensor) -> Tensor:
        s = f.sort(1).values
        return (s[:, 0] * count + s[:, 1]) * count + s[:, 2]

    known, order = key(faces).sort()
    wanted = key(mirror[faces])
    at = torch.searchsorted(known, wanted).clamp_max(len(known) - 1)
    found = known[at] == wanted
    twin = order[at]
    # which corner of the twin carries each mirrored vertex
    match = mirror[faces][:, :, None] == faces[twin][:, None, :]
    corners = uv_faces[twin].gather(1, match.int().argmax(2))
    return chart.interpolate(rig.uvs.float(), corners), found[chart.face.long()]
