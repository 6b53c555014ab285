"""Pictures of splats: what `render.mesh` is for meshes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.rotation import matrix_to_quat, quat_product
from avatar3d.geometry.transform import make_transform
from avatar3d.render.gaussians import PosedGaussians
from avatar3d.render.mesh import NEAR, camera_points
from avatar3d.types import Camera
from avatar3d.typing import Backend, typed


@dataclass(frozen=True, kw_only=True)
class RenderedSplats:
    """A batch of pictures of splats."""

    rgb: Float[Tensor, "b h w 3"]
    """sRGB over the background; not clipped."""
    alpha: Float[Tensor, "b h w"]
    """Coverage, 0..1."""
    depth: Float[Tensor, "b h w"] | None
    """Mean along the optical axis, metres, 0 where there is nothing; None unless asked for."""
    normals: Float[Tensor, "b h w 3"] | None
    """Unit, world space, 0 where there is nothing; None unless asked for."""


@typed
def render_gaussians(
    posed: PosedGaussians,
    cameras: Camera | Sequence[Camera],
    *,
    background: Float[Tensor, "..."] | None = None,
    antialiased: bool = False,
    depth: bool = False,
    normals: bool = False,
    absolute_gradients: Float[Tensor, "b n 2"] | None = None,
    backend: Backend = "auto",
) -> RenderedSplats:
    """Draws a batch of posed splats, each through a camera.

    Differentiable in the splats, the background and the cameras' matrices.

    Args:
        posed: World space. One pose may be drawn through many cameras.
        cameras: One for all poses, or one for each; all of one size. Lens distortion moves the splats' centres to
            where the lens shows them; their shapes stay those of a pinhole camera.
        background: sRGB, three numbers or an image of the pictures' size; white when left out.
        antialiased: Fade splats that the low-pass filter of 0.3 square pixels widens: for pictures that are much
            smaller than those the splats were made from.
        depth: Also give depth.
        normals: Also give normals, from the splats' shortest axes.
        absolute_gradients: Zeros that require gradients, see `ops.blend_splats`.
        backend: As for the operations.

    Raises:
        ValueError: cameras differ in size or number.
    """
    cameras = [cameras] if isinstance(cameras, Camera) else list(cameras)
    poses, views = len(posed.means), len(cameras)
    if not cameras or (views != poses and 1 not in (views, poses)):
        raise ValueError(f"render_gaussians: {views} cameras for {poses} poses; pass one, or one for each.")
    sizes = {(c.width, c.height) for c in cameras}
    if len(sizes) > 1:
        raise ValueError(f"render_gaussians: cameras of different sizes {sorted(sizes)}; draw them one by one.")
    width, height = sizes.pop()
    # One call per pose, with all of its cameras; a lens moves the splats for its camera alone.
    bent = any(c.distortion is not None for c in cameras)
    together = poses == 1 and not bent
    groups = [(0, cameras)] if together else [(i % poses, [cameras[i % views]]) for i in range(max(poses, views))]
    behind = posed.means.new_ones(3) if background is None else background.to(posed.means)
    plain = behind if behind.ndim == 1 else None
    images = []
    for i, (pose, through) in enumerate(groups):
        K = torch.stack([c.K.to(posed.means) for c in through])
        T = torch.stack([c.T_camera_world.to(posed.means) for c in through])
        means, quats, T, turn = _in_frame_of_harmonics(
            _seen_through_lens(posed.means[pose], through[0]), posed, pose, T
        )
        credit = None
        if absolute_gradients is not None:
            credit = absolute_gradients if together else absolute_gradients[i : i + 1]
        image = ops.render_splats(
            means, quats, posed.scales[pose], posed.opacities[pose], None, K, T, width, height, plain,
            sh=posed.sh[pose], antialiased=antialiased, depth=depth, normals=normals, near=NEAR,
            absolute_gradients=credit, backend=backend,
        )  # fmt: skip
        turned = None if image.normals is None or turn is None else image.normals @ turn.T
        images.append((image.color, image.alpha, image.depth, image.normals if turned is None else turned))
    rgb, alpha, depths, facing = (None if x[0] is None else torch.cat(x) for x in zip(*images, strict=True))
    assert rgb is not None and alpha is not None
    if plain is None:
        rgb = rgb + (1 - alpha[..., None]) * behind
    return RenderedSplats(
        rgb=rgb,
        alpha=alpha,
        depth=None if depths is None else depths / alpha.clamp_min(1e-6),
        normals=None if facing is None else torch.nn.functional.normalize(facing, dim=-1),
    )


def _seen_through_lens(means: Float[Tensor, "n 3"], camera: Camera) -> Float[Tensor, "n 3"]:
    """World space; moved to where a pinhole camera sees what the lens shows."""
    if camera.distortion is None:
        return means
    T = camera.T_camera_world.to(means)
    return (camera_points(means[None], [camera])[0] - T[:3, 3]) @ T[:3, :3]


def _in_frame_of_harmonics(
    means: Float[Tensor, "n 3"], posed: PosedGaussians, pose: int, T_camera_world: Float[Tensor, "c 4 4"]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Means, quaternions, cameras and what turns normals back, in axes in which the harmonics need no turning: that is
    cheaper than to turn the harmonics."""
    if posed.head_rotation is None or posed.sh.shape[2] == 1:
        return means, posed.quats[pose], T_camera_world, None
    R = posed.head_rotation[pose]
    q = matrix_to_quat(R.T).expand(len(means), 4)
    return means @ R, quat_product(q, posed.quats[pose]), T_camera_world @ make_transform(R, R.new_zeros(3)), R
