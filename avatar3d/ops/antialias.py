"""Smooth outlines: what makes a picture of a mesh differentiable in the mesh's shape."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.ops.rasterize import Raster
from avatar3d.typing import Backend, typed


@typed
def antialias(
    image: Float[Tensor, "b h w c"],
    raster: Raster,
    points: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    *,
    near: float = 0.01,
    neighbours: Int[Tensor, "f 3"] | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "b h w c"]:
    """Blends neighbouring pixels where the outline of a surface runs between them.

    Differentiable in the image, and in points and K through the place where the outline crosses from one pixel
    centre to the next. Outlines are the mesh's borders and folds as seen from the camera; where two surfaces
    intersect there is none.

    Args:
        image: Any number of channels; draw the background first.
        raster: What `rasterize` made of the same points, faces and K.
        points: Camera-space positions, metres.
        faces: Corners of every triangle.
        K: Intrinsics, pixels.
        near: As for `rasterize`.
        neighbours: From `face_neighbours(faces)`, which is computed when left out: worth keeping over many calls.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: dtypes or sizes differ.
    """
    if not (image.dtype == points.dtype == K.dtype == raster.depth.dtype):
        raise ValueError(f"antialias: dtypes {image.dtype}, {points.dtype}, {K.dtype} differ; pass one dtype.")
    if raster.triangle.shape != image.shape[:3]:
        raise ValueError(f"antialias: image {tuple(image.shape)} and raster {tuple(raster.triangle.shape)} disagree.")
    neighbours = face_neighbours(faces) if neighbours is None else neighbours
    faces, neighbours = faces.to(torch.int32).contiguous(), neighbours.to(torch.int32).contiguous()
    pixels, depth = points @ K.transpose(1, 2), raster.depth.detach()
    if native.use_native(backend, "antialias", image):
        inputs = (raster.triangle.to(torch.int32), depth, pixels, faces, neighbours)
        return _antialias(image.contiguous(), *(t.contiguous() for t in inputs), near)
    return reference.antialias_pixels(image, raster.triangle, depth, pixels, faces, neighbours)


@typed
def face_neighbours(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "f 3"]:
    """The face across the edge that lies opposite to each corner, int32; -1 where there is none, or several."""
    f, device = faces.shape[0], faces.device
    corners = faces.long()
    ends = torch.stack([corners.roll(-1, 1), corners.roll(-2, 1)], -1).flatten(0, 1).sort(-1).values
    key = ends[:, 0] * (int(ends.max()) + 1 if f else 1) + ends[:, 1]
    _, edge, count = torch.unique(key, return_inverse=True, return_counts=True)
    order = torch.argsort(edge, stable=True)
    first = torch.cumsum(count, 0) - count
    result = torch.full((3 * f,), -1, dtype=torch.int32, device=device)
    pairs = first[count == 2]
    a, b = order[pairs], order[pairs + 1]
    result[a], result[b] = (b // 3).int(), (a // 3).int()
    return result.view(f, 3)


@native.operation("avatar3d::antialias")
def _antialias(
    image: Tensor, triangle: Tensor, depth: Tensor, pixels: Tensor, faces: Tensor, neighbours: Tensor, near: float
) -> Tensor:
    out = torch.empty_like(image)
    inputs = (image.detach(), triangle, depth, pixels.detach(), faces, neighbours)
    native.call("antialias_forward", image, *inputs, near, _facing(pixels, faces), out)
    return out


def _facing(pixels: Tensor, faces: Tensor) -> Tensor:
    return torch.empty(pixels.shape[0] * faces.shape[0], dtype=torch.uint8, device=pixels.device)


@_antialias.register_fake
def _(
    image: Tensor, triangle: Tensor, depth: Tensor, pixels: Tensor, faces: Tensor, neighbours: Tensor, near: float
) -> Tensor:
    return torch.empty_like(image)


@native.operation("avatar3d::antialias_backward")
def _antialias_backward(
    image: Tensor,
    triangle: Tensor,
    depth: Tensor,
    pixels: Tensor,
    faces: Tensor,
    neighbours: Tensor,
    near: float,
    grad_out: Tensor,
) -> tuple[Tensor, Tensor]:
    grad_image, grad_pixels = torch.empty_like(image), torch.zeros_like(pixels)
    inputs = (image.detach(), triangle, depth, pixels.detach(), faces, neighbours, near, _facing(pixels, faces))
    native.call("antialias_backward", image, *inputs, grad_out.detach(), grad_image, grad_pixels)
    return grad_image, grad_pixels


@_antialias_backward.register_fake
def _(
    image: Tensor,
    triangle: Tensor,
    depth: Tensor,
    pixels: Tensor,
    faces: Tensor,
    neighbours: Tensor,
    near: float,
    grad_out: Tensor,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(image), torch.empty_like(pixels)


def _setup(ctx, inputs, output) -> None:
    *tensors, ctx.near = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_out: Tensor):
    grad_image, grad_pixels = _antialias_backward(*ctx.saved_tensors, ctx.near, grad_out.contiguous())
    return grad_image, None, None, grad_pixels, None, None, None


_antialias.register_autograd(_backward, setup_context=_setup)
