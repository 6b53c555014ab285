"""How barycentrics change across the picture: what a texture's level of detail is chosen by."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.ops.rasterize import Raster
from avatar3d.typing import Backend, typed


@typed
def screen_derivatives(
    raster: Raster,
    points: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    *,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "b h w 3"], Float[Tensor, "b h w 3"]]:
    """Change of each pixel's barycentrics per pixel to the right, and per pixel down, along its own triangle.

    Handed to `interpolate` in place of barycentrics, they give the screen derivatives of any attribute. Not
    differentiable: the results carry no gradient.

    Args:
        raster: What `rasterize` made of the same points, faces and K.
        points: Camera-space positions, metres.
        faces: Corners of every triangle.
        K: Intrinsics, pixels.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: the tensors differ in dtype, or an index is out of range.
    """
    if not (points.dtype == K.dtype == raster.depth.dtype):
        raise ValueError(f"screen_derivatives: dtypes {points.dtype}, {K.dtype} differ; pass one dtype.")
    pixels = (points @ K.transpose(1, 2)).detach().contiguous()
    raster = Raster(raster.triangle.to(torch.int32), raster.barycentrics.detach(), raster.depth.detach())
    faces = faces.to(torch.int32).contiguous()
    if native.use_native(backend, "screen_derivatives", points):
        dx, dy = _screen_derivatives(pixels, faces, *(t.contiguous() for t in raster)).unbind(0)
        return dx, dy
    return reference.screen_derivatives_pixels(raster.triangle, raster.barycentrics, raster.depth, pixels, faces)


@torch.library.custom_op("avatar3d::screen_derivatives", mutates_args=())
def _screen_derivatives(pixels: Tensor, faces: Tensor, triangle: Tensor, barycentrics: Tensor, depth: Tensor) -> Tensor:
    out = barycentrics.new_empty(2, *barycentrics.shape)
    native.call("screen_derivatives_forward", pixels, pixels, faces, triangle, barycentrics, depth, out)
    return out


@_screen_derivatives.register_fake
def _(pixels: Tensor, faces: Tensor, triangle: Tensor, barycentrics: Tensor, depth: Tensor) -> Tensor:
    return barycentrics.new_empty(2, *barycentrics.shape)
