"""Images of Gaussian splats: `project_splats`, then `blend_splats`."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops.blend_splats import blend_splats
from avatar3d.ops.project_splats import project_splats
from avatar3d.typing import Backend, typed


class SplatImage(NamedTuple):
    """Splats as the cameras see them."""

    color: Float[Tensor, "b h w 3"]
    """Over the background."""
    alpha: Float[Tensor, "b h w"]
    """Share of the background that is covered."""
    depth: Float[Tensor, "b h w"] | None
    """Depths along the optical axis, metres, weighted as the colours are: divide by alpha for their mean."""
    normals: Float[Tensor, "b h w 3"] | None
    """Shortest axes of the splats, world space, facing the camera; weighted likewise."""
    features: Float[Tensor, "b h w d"] | None
    """Weighted likewise."""


@typed
def render_splats(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    colors: Float[Tensor, "n 3"] | Float[Tensor, "n k 3"] | None,
    K: Float[Tensor, "*#b 3 3"],
    T_camera_world: Float[Tensor, "*#b 4 4"],
    width: int,
    height: int,
    background: Float[Tensor, "*#b 3"] | None = None,
    *,
    sh: Float[Tensor, "n k 3"] | None = None,
    features: Float[Tensor, "n d"] | None = None,
    antialiased: bool = False,
    depth: bool = False,
    normals: bool = False,
    near: float = 0.01,
    absolute_gradients: Float[Tensor, "_ n 2"] | None = None,
    backend: Backend = "auto",
) -> SplatImage:
    """Draws splats through pinhole cameras.

    Differentiable in all tensors. A splat is blended where its alpha is 1/255 or more, with 0.99 at most; a low-pass
    filter of 0.3 square pixels is part of the projection. See `project_splats` for what is left out, and
    `blend_splats` for the order, the gradients and the memory: all channels (3 of colour, 1 of depth, 3 of normals, d
    of features) are blended in one pass, and up to four of them are fast.

    Args:
        means: Centres, metres, world space.
        quats: Orientations wxyz of any length.
        scales: Standard deviations along the axes, metres.
        opacities: 0 to 1.
        colors: Of every splat; or, with three axes, coefficients of spherical harmonics as for `sh`.
        K: Intrinsics, pixels. One, or one for each camera.
        T_camera_world: Rigid maps to camera space, OpenCV axes. One, or one for each camera.
        width: Image width, 1 to 32767 pixels.
        height: Image height, 1 to 32767 pixels.
        background: One colour, or one for each camera; black when left out.
        sh: In place of colors: spherical harmonics of degree 0 to 3 (k = 1, 4, 9 or 16), 3D Gaussian splatting's order.
        features: Anything else to blend, over 0.
        antialiased: Fade splats that the low-pass filter widens (Yu et al. 2024, "Mip-Splatting").
        depth: Also blend the depths.
        normals: Also blend the normals.
        near: Least depth that is drawn, metres.
        absolute_gradients: Zeros `[b, n, 2]` that require gradients; see `blend_splats`.
        backend: "auto" runs the compiled kernels where there are any, else the torch reference.

    Returns:
        Images with a batch axis, also for a single camera.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: neither or both of colors and sh; wrong size, near plane or number of coefficients; mixed dtypes.
    """
    if (colors is None) == (sh is None):
        raise ValueError(f"render_splats: {'neither' if sh is None else 'both'} of colors and sh given; pass one.")
    if colors is not None and colors.ndim == 3:
        colors, sh = None, colors
    K, T_camera_world = K.reshape(-1, 3, 3), T_camera_world.reshape(-1, 4, 4)
    b = max(len(K), len(T_camera_world)) if len(K) and len(T_camera_world) else 0
    if background is None:
        background = means.new_zeros(3)
    background = background.reshape(-1, 3)
    seen = project_splats(
        means, quats, scales, opacities, K.expand(b, 3, 3), T_camera_world.expand(b, 4, 4), width, height,
        sh=sh, antialiased=antialiased, normals=normals, near=near, backend=backend,
    )  # fmt: skip
    color = seen.colors if colors is None else colors[None]
    assert color is not None  # one of colors and sh is there
    parts = [color]
    parts += [seen.depths[..., None]] if depth else []
    parts += [seen.normals] if seen.normals is not None else []
    parts += [features[None]] if features is not None else []
    sizes = [t.shape[-1] for t in parts]
    if len(parts) == 1:
        attributes = parts[0]
    else:
        attributes = torch.cat([t.expand(max(len(u) for u in parts), -1, -1) for t in parts], -1)
        rest = background.new_zeros(len(background), sum(sizes[1:]))
        background = torch.cat([background, rest], -1)
    image, alpha = blend_splats(
        seen.pixels, seen.conics, seen.opacities, seen.depths, attributes, width, height, background,
        absolute_gradients=absolute_gradients, backend=backend,
    )  # fmt: skip
    images = list(image.split(sizes, -1)) if len(parts) > 1 else [image]
    return SplatImage(
        color=images.pop(0),
        alpha=alpha,
        depth=images.pop(0)[..., 0] if depth else None,
        normals=images.pop(0) if normals else None,
        features=images.pop(0) if features is not None else None,
    )
