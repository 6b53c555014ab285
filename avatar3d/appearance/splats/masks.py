"""The person in frames that come in order: the network's mask, with the tracked face certainly inside."""

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.projection import project
from avatar3d.nets.person_masks import PersonMasks
from avatar3d.render.mesh import camera_points
from avatar3d.types import Camera, Rig

COARSE = 128
"""Longer side of the picture in which the face is drawn, pixels."""


class FootageMasker:
    """Masks for one video after the other; see `PersonMasks`."""

    def __init__(self, rig: Rig) -> None:
        """Loads the network.

        Args:
            rig: Whose face is certainly the person.

        Raises:
            AssetError: the network's file is missing or damaged.
        """
        self._masks = PersonMasks()
        face = rig.regions.get("face")
        self._faces = rig.faces if face is None else rig.faces[face[rig.faces.long()].all(1)]
        self._last: int | None = None

    def study(self, images: list[np.ndarray], heads: list[Tensor], cameras: list[Camera]) -> None:
        """Looks at frames from all over the video, with the head posed in the world and the camera of each."""
        if len({image.shape for image in images}) == 1:
            pixels = [project(h, c).numpy().astype(np.float32) for h, c in zip(heads, cameras, strict=True)]
            self._masks.study(images, pixels)

    def __call__(
        self, index: int, image: UInt8[np.ndarray, "h w 3"], head: Float[Tensor, "v 3"], camera: Camera
    ) -> UInt8[np.ndarray, "h w"]:
        """Coverage of the person in frame `index`, with the head posed in the world and the camera."""
        if self._last is None or not 0 < index - self._last < 8:
            self._masks.forget()
        self._last = index
        scale = min(1.0, COARSE / max(camera.width, camera.height))
        small = camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
        raster = ops.rasterize(
            camera_points(head[None], [small]), self._faces, small.K[None].float(), small.width, small.height
        )
        seen = ndimage.binary_erosion(raster.triangle[0].numpy() >= 0, iterations=2)
        rows = (np.arange(camera.height) * small.height) // camera.height
        columns = (np.arange(camera.width) * small.width) // camera.width
        pixels = project(head, camera).numpy().astype(np.float32)
        mask = self._masks(image, pixels, seen[rows][:, columns])
        return (np.clip(mask, 0, 1) * 255 + 0.5).astype(np.uint8)
