"""Which parts of a rig are skin, hair, or neither, by the names of its regions."""

import torch
from jaxtyping import Bool
from torch import Tensor

from avatar3d.types import Rig

_SYNTHETIC = ("eyeball", "iris", "pupil", "teeth", "tongue", "mouth_cavity", "gum", "eye_socket")


def region(rig: Rig, *prefixes: str) -> Bool[Tensor, "v"]:
    """Vertices of all regions whose names begin with one of these."""
    out = torch.zeros(len(rig.neutral), dtype=torch.bool)
    for name, mask in rig.regions.items():
        if name.startswith(prefixes):
            out |= mask
    return out


def faces_in(rig: Rig, vertices: Tensor) -> Bool[Tensor, "f"]:
    """Faces whose corners all lie in a vertex mask."""
    return vertices[rig.faces.long()].all(1)


def hairy(rig: Rig) -> Bool[Tensor, "v"]:
    """Where hair grows: the scalp, and what lies above and behind the ears' shells within their regions."""
    out = region(rig, "scalp")
    points = rig.neutral.float()
    for side in (points[:, 0] > 0, points[:, 0] < 0):
        ear = region(rig, "ear") & side
        if not ear.any():
            continue
        # the shell has most of the vertices
        _, dy, dz = (points - points[ear].median(0).values).unbind(1)
        shell = (dy / 0.036).square() + (dz / 0.024).square() < 1
        out |= ear & ~shell & (dy > -0.025) & (dz < 0.015)
    return out


def skin_faces(rig: Rig) -> Bool[Tensor, "f"]:
    """Faces whose colour comes from the frames: all but eyes and the inside of the mouth."""
    return ~faces_in(rig, region(rig, *_SYNTHETIC))
