"""Triangles that carry what is not bound to the surface: one for every joint, rigid with it."""

from dataclasses import replace

import torch

from avatar3d.types import Rig
from avatar3d.typing import typed

ANCHOR_SIZE = 0.01
"""Legs of an anchor triangle, metres; about the size of a face of the head."""


@typed
def with_anchors(rig: Rig) -> Rig:
    """The rig with one small triangle more for every joint, which faces the rig's last ones.

    Face `len(rig.faces) + j` sits at joint j with its first edge along +x and its normal along +z; no shape moves it
    and that joint alone carries it. Splats of hair, clothes and whatever else has no surface of its own are bound to
    these: `Gaussians.face` counts the faces of this rig. Drawing and exporting the mesh never see them.
    """
    v, joints = len(rig.neutral), len(rig.joint_names)
    legs = ANCHOR_SIZE * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]).to(rig.neutral)
    corners = (rig.joint_positions.to(rig.neutral)[:, None] + legs).reshape(-1, 3)
    added = 3 * joints
    weights = torch.eye(joints).to(rig.skinning_weights).repeat_interleave(3, 0)
    faces = v + torch.arange(added).view(-1, 3).to(rig.faces)
    return replace(
        rig,
        neutral=torch.cat([rig.neutral, corners]),
        faces=torch.cat([rig.faces, faces]),
        uv_faces=torch.cat([rig.uv_faces, torch.zeros_like(faces)]),
        shapes=torch.cat([rig.shapes, rig.shapes.new_zeros(len(rig.shapes), added, 3)], 1),
        skinning_weights=torch.cat([rig.skinning_weights, weights]),
        regions={name: torch.cat([mask, mask.new_zeros(added)]) for name, mask in rig.regions.items()},
    )
