"""Which triangle every pixel sees, and where on it."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


class Raster(NamedTuple):
    """What the pixels of a batch of images see. Pixel centres lie at (i + 0.5, j + 0.5)."""

    triangle: Int[Tensor, "b h w"]
    """Index of the nearest triangle, int32, -1 for none."""
    barycentrics: Float[Tensor, "b h w 3"]
    """Perspective-correct share of the triangle's corners, 0 where there is none."""
    depth: Float[Tensor, "b h w"]
    """Along the optical axis, metres, 0 where there is no triangle."""


@typed
def rasterize(
    points: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    width: int,
    height: int,
    *,
    near: float = 0.01,
    cull: bool = False,
    backend: Backend = "auto",
) -> Raster:
    """Draws triangles through pinhole cameras.

    Barycentrics and depth are differentiable in points and K; visibility is not, see `antialias`. Triangles that
    cross the near plane are cut there exactly; those without area, behind it, or with a corner that is not finite
    are left out. Neighbours share every pixel of their edge exactly once. Of equal depths the triangle that faces the
    camera wins, then the lower index.

    Args:
        points: Camera-space positions, metres, OpenCV axes.
        faces: Corners of every triangle.
        K: Intrinsics, pixels; the last row is 0 0 1.
        width: Image width, 1 to 32767 pixels.
        height: Image height, 1 to 32767 pixels.
        near: Least depth that is drawn, metres.
        cull: Leave out triangles that are seen from behind, i.e. whose corners run clockwise in the image.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: wrong size or near plane, differing dtypes, or faces beyond the points.
    """
    if points.dtype != K.dtype:
        raise ValueError(f"rasterize: dtypes {points.dtype}, {K.dtype} differ; pass one dtype.")
    if not (0 < width <= 32767 and 0 < height <= 32767 and near > 0):
        raise ValueError(
            f"rasterize: size {width} x {height}, near {near}; expected 1 to 32767 pixels and a positive near plane."
        )
    pixels = points @ K.transpose(1, 2)
    faces = faces.to(torch.int32).contiguous()
    if native.use_native(backend, "rasterize", points):
        barycentrics, depth, triangle = _rasterize(pixels.contiguous(), faces, width, height, near, cull)
        return Raster(triangle, barycentrics, depth)
    return Raster(*reference.rasterize_pixels(pixels, faces, width, height, near=near, cull=cull))


@native.operation("avatar3d::rasterize")
def _rasterize(
    pixels: Tensor, faces: Tensor, width: int, height: int, near: float, cull: bool
) -> tuple[Tensor, Tensor, Tensor]:
    b, f = pixels.shape[0], faces.shape[0]
    barycentrics, depth, triangle = _empty(pixels, width, height)
    keys, large = (b * height * width, b * f + 1) if pixels.is_cuda else (0, 0)
    scratch = pixels.new_empty(keys, dtype=torch.int64), pixels.new_empty(large, dtype=torch.int32)
    inputs = (pixels.detach(), faces, height, width, near, cull)
    native.call("rasterize_forward", pixels, *inputs, triangle, barycentrics, depth, *scratch)
    return barycentrics, depth, triangle


def _empty(pixels: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    shape = (pixels.shape[0], height, width)
    return pixels.new_empty(*shape, 3), pixels.new_empty(shape), pixels.new_empty(shape, dtype=torch.int32)


@_rasterize.register_fake
def _(pixels: Tensor, faces: Tensor, width: int, height: int, near: float, cull: bool) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(pixels, width, height)


@native.operation("avatar3d::rasterize_backward")
def _rasterize_backward(
    pixels: Tensor, faces: Tensor, barycentrics: Tensor, depth: Tensor, triangle: Tensor, grad_b: Tensor, grad_z: Tensor
) -> Tensor:
    grad = torch.zeros_like(pixels)
    height, width = triangle.shape[1:]
    saved = (triangle, barycentrics.detach(), depth.detach(), grad_b.detach(), grad_z.detach())
    native.call("rasterize_backward", pixels, pixels.detach(), faces, height, width, *saved, grad)
    return grad


@_rasterize_backward.register_fake
def _(
    pixels: Tensor, faces: Tensor, barycentrics: Tensor, depth: Tensor, triangle: Tensor, grad_b: Tensor, grad_z: Tensor
) -> Tensor:
    return torch.empty_like(pixels)


def _setup(ctx, inputs, output) -> None:
    pixels, faces, *_ = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(pixels, faces, *output)


def _backward(ctx, grad_b: Tensor, grad_z: Tensor, _: Tensor):
    grad = _rasterize_backward(*ctx.saved_tensors, grad_b.contiguous(), grad_z.contiguous())
    return grad, None, None, None, None, None


_rasterize.register_autograd(_backward, setup_context=_setup)
