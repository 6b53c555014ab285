"""Splats of an avatar as the arrays of a page."""

import numpy as np
import torch
from torch import Tensor

from avatar3d.export.page_data import Block
from avatar3d.geometry.surface import face_normals
from avatar3d.types import Rig
from avatar3d.types.gaussians import BASIS_ROWS, Gaussians
from avatar3d.typing import typed

OFFSET_STEP = 4e-6
"""Metres: spacing of the stored offsets and of their change, unless they reach further than 131 mm."""


@typed
def add_splats(block: Block, gaussians: Gaussians, rig: Rig) -> None:
    """Adds `splats` to the facts, and the arrays `splat_*`.

    Args:
        block: What the page will carry.
        gaussians: An avatar's.
        rig: The avatar's with its anchors; the page poses its vertices.

    Raises:
        ValueError: they do not belong together, or have values that are not finite.
    """
    gaussians.check(len(rig.faces), len(rig.shape_names))
    n, k = gaussians.count, gaussians.sh.shape[1]
    corners = rig.faces[gaussians.face.long()].numpy()
    # Offsets go in metres on the neutral face: next to a sliver, its own size would make a poor unit.
    size = face_normals(rig.neutral.double(), rig.faces).norm(dim=-1).sqrt()[gaussians.face.long()]
    block.add("splat_corners", corners.astype(np.uint16 if len(rig.neutral) < 65536 else np.uint32))
    block.add_steps("splat_weights", gaussians.barycentrics[:, 1:], columns=1)
    _add_metres(block, "splat_offsets", gaussians.offsets * size[:, None])
    # Change is added before a quaternion is made unit, so its length matters.
    block.add_steps("splat_quats", gaussians.quats)
    block.add_steps("splat_log_scales", gaussians.log_scales, columns=1)
    block.add_steps("splat_logits", gaussians.logit_opacities)
    block.add_steps("splat_colours", gaussians.sh[:, 0], columns=1)
    if k > 1:
        block.add_steps("splat_harmonics", gaussians.sh[:, 1:], bits=8, columns=2)
    components = 0
    if gaussians.basis is not None and gaussians.mixing is not None and len(gaussians.basis):
        components = len(gaussians.basis)
        block.add("splat_mixing", gaussians.mixing.float().numpy())
        basis = gaussians.basis.transpose(0, 1)
        _add_metres(block, "splat_basis_offsets", basis[..., BASIS_ROWS["offsets"]] * size[:, None, None])
        block.add_steps("splat_basis", basis[..., BASIS_ROWS["offsets"].stop :], bits=8, columns=2)
        if gaussians.limits is not None:
            block.add("splat_limits", gaussians.limits.float().numpy())
    groups = torch.bincount(gaussians.group.long(), minlength=len(gaussians.group_names)).tolist()
    block.facts["splats"] = {"count": n, "harmonics": k, "components": components,
                             "groups": dict(zip(gaussians.group_names, groups, strict=True))}  # fmt: skip


def _add_metres(block: Block, name: str, values: Tensor) -> None:
    reach = float(values.abs().max()) if values.numel() else 0.0
    block.add_steps(name, values, step=max(OFFSET_STEP, reach / 32767))
