"""An avatar against footage that it should look like: PSNR and SSIM, whole and by region, with the worst frames."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d import ops
from avatar3d.evaluate.images import ImageScores
from avatar3d.render.mesh import camera_points
from avatar3d.types import Camera, Rig


class Sight(Protocol):
    """One picture of the person."""

    frame: int
    image: UInt8[Tensor, "h w 3"]
    mask: UInt8[Tensor, "h w"]
    camera: Camera


Draw = Callable[[int, Camera], Float[Tensor, "h w 3"]]
"""Frame and camera to the avatar's picture on white, 0..1."""
Pose = Callable[[int], Float[Tensor, "v 3"]]
"""Frame to the posed mesh."""
REGIONS = {
    "face": ("face",),
    "mouth": ("lips_outer", "lips_inner", "teeth_upper", "teeth_lower", "mouth_cavity", "tongue"),
    "eyes": ("eyelids", "eyeball_left", "eyeball_right"),
}


def score(
    sights: Iterable[Sight], draw: Draw, rig: Rig, pose: Pose,
    perceptual: Callable[[Tensor, Tensor], float] | None = None,
) -> ImageScores:  # fmt: skip
    """Compares an avatar with pictures of the person, on white and within the person's mask.

    Args:
        sights: The pictures.
        draw: Draws the avatar.
        rig: The avatar's.
        pose: Where its mesh is: regions are the mesh's; "hair" is what the mask has beside and above it.
        perceptual: LPIPS, where it is installed.
    """
    scores = ImageScores(perceptual=perceptual)
    for sight in sights:
        mask = sight.mask.float() / 255
        regions = region_masks(rig, pose(sight.frame), sight.camera, mask > 0.5)
        scores.add(sight.frame, draw(sight.frame, sight.camera), sight.image.float() / 255, mask, regions)
    return scores


def region_masks(rig: Rig, vertices: Tensor, camera: Camera, person: Tensor) -> dict[str, Tensor]:
    """Masks `[h, w]` of face, mouth, eyes and hair."""
    points = camera_points(vertices[None].float(), [camera])
    triangle = ops.rasterize(points, rig.faces, camera.K[None].float(), camera.width, camera.height).triangle[0].long()
    seen = triangle >= 0
    out = {}
    for name, parts in REGIONS.items():
        inside = torch.zeros(len(rig.neutral), dtype=torch.bool)
        for part in parts:
            if part in rig.regions:
                inside |= rig.regions[part]
        out[name] = seen & inside[rig.faces.long()].all(1)[triangle.clamp_min(0)]
    rows = out["face"].nonzero()[:, 0]
    if len(rows):
        middle = int(rows.float().median())
        scalp = rig.regions.get("scalp", torch.zeros(len(rig.neutral), dtype=torch.bool))
        on_scalp = seen & scalp[rig.faces.long()].all(1)[triangle.clamp_min(0)]
        above = torch.arange(camera.height)[:, None] < middle
        out["hair"] = person & (on_scalp | (~seen & above))
    return out
