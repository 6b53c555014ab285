"""What the pictures say about every splat: how openly they show it, and from where."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d import ops
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.render.gaussians import pose_gaussians
from avatar3d.types.gaussians import Gaussians

OUTLINE = 0.012
"""Width of a person's outline, in terms of the picture's longer side."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of every splat."""

    shown: Float[Tensor, "n"]
    """Share of what it would cover if it were seen face on and alone, in the picture that shows it best. Where splats
    lie several deep, as they do, 0.3 is well seen and 0.05 a graze."""
    direction: Float[Tensor, "n 3"]
    """Mean direction from the camera to it, in the head's frame, weighted by what it covers; 0 where it is never seen.
    Shorter than 1 where it is seen from several sides."""
    spread: Float[Tensor, "n 3 3"]
    """Covariance of these directions."""
    inner: Float[Tensor, "n"]
    """As `shown`, but for the person's outline, in which colours have a little of what is behind."""


def gather(gaussians: Gaussians, poses: Poses, shots: list[Shot]) -> Evidence:
    """Looks at the splats as some pictures show them.

    Args:
        gaussians: Bound to the rig of the poses.
        poses: Where the head is in every frame.
        shots: The pictures; what lies outside the person's mask does not count.
    """
    n = gaussians.count
    best, best_inner, total = torch.zeros(n), torch.zeros(n), torch.zeros(n)
    first, second = torch.zeros(n, 3), torch.zeros(n, 3, 3)
    for shot in shots:
        covered, inner, alone, towards = _covered(gaussians, poses, shot)
        best = torch.maximum(best, covered / alone.clamp_min(1e-9))
        best_inner = torch.maximum(best_inner, inner / alone.clamp_min(1e-9))
        total += covered
        first += covered[:, None] * towards
        second += covered[:, None, None] * towards[:, :, None] * towards[:, None]
    mass = total.clamp_min(1e-9)
    direction = first / mass[:, None]
    spread = second / mass[:, None, None] - direction[:, :, None] * direction[:, None]
    return Evidence(shown=best.clamp_max(1), direction=direction, spread=spread, inner=best_inner.clamp_max(1))


def _covered(gaussians: Gaussians, poses: Poses, shot: Shot) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels that each splat contributes to the person, those of them within its outline, what it would contribute if
    it were alone and face on, and the direction to it in the head's frame."""
    with torch.no_grad():
        vertices, coefficients, R_head = poses.vertices(torch.tensor([shot.frame]))
        R = R_head[0]
        posed = pose_gaussians(gaussians, poses.rig, vertices @ R, coefficients, R[None])
    T = shot.camera.T_camera_world.float().clone()
    T[:3, :3] = T[:3, :3] @ R
    means, scales = posed.means[0], posed.scales[0]
    # the derivative of a picture's sum by a splat's colour is what the splat contributes
    colours = torch.zeros(gaussians.count, 3, requires_grad=True)
    image = ops.render_splats(
        means, posed.quats[0], scales, posed.opacities[0], colours, shot.camera.K.float(), T, shot.camera.width,
        shot.camera.height, torch.zeros(3), antialiased=True,
    )  # fmt: skip
    mask = shot.mask.float() / 255
    wide = round(OUTLINE * max(shot.camera.width, shot.camera.height))
    behind = torch.nn.functional.pad(1 - mask, (wide,) * 4)[None, None]
    inside = 1 - torch.nn.functional.max_pool2d(behind, 2 * wide + 1, 1)[0, 0]
    (share,) = torch.autograd.grad((image.color[0, ..., :2] * torch.stack([mask, inside], -1)).sum(), colours)
    depth = (means @ T[2, :3] + T[2, 3]).clamp_min(1e-3)
    widest = scales.sort(dim=1).values[:, 1:].prod(1)
    alone = 2 * math.pi * posed.opacities[0] * widest * (float(shot.camera.K[0, 0]) / depth).square()
    eye = -T[:3, :3].T @ T[:3, 3]
    return share[:, 0], share[:, 1], alone, torch.nn.functional.normalize(means - eye, dim=1)
