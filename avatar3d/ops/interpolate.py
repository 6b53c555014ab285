"""Attributes of a mesh at the pixels that see it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@typed
def interpolate(
    attributes: Float[Tensor, "n u c"],
    corners: Int[Tensor, "f 3"],
    triangle: Int[Tensor, "b h w"],
    barycentrics: Float[Tensor, "b h w 3"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b h w c"]:
    """Blends the attributes of each pixel's triangle by its barycentrics.

    Differentiable in attributes and barycentrics, and through these in the vertices that were rasterised. Linear in
    the barycentrics: given their screen derivative it returns the attributes' screen derivative.

    Args:
        attributes: Rows per vertex or per texture coordinate; one set for each image, or one for all (n = 1).
        corners: Row of each corner of each triangle: `faces`, or `uv_faces` for texture coordinates.
        triangle: From `rasterize`, -1 for none.
        barycentrics: From `rasterize`.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        Attributes, 0 where there is no triangle.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: dtypes or batch sizes differ, or an index is out of range.
    """
    if attributes.dtype != barycentrics.dtype:
        raise ValueError(f"interpolate: dtypes {attributes.dtype}, {barycentrics.dtype} differ; pass one dtype.")
    if attributes.shape[0] not in (1, triangle.shape[0]):
        raise ValueError(f"interpolate: {attributes.shape[0]} sets of attributes for {triangle.shape[0]} images.")
    corners, triangle = corners.to(torch.int32).contiguous(), triangle.to(torch.int32).contiguous()
    if native.use_native(backend, "interpolate", attributes):
        return _interpolate(attributes.contiguous(), corners, triangle, barycentrics.contiguous())
    return reference.interpolate(attributes, corners, triangle, barycentrics)


@native.operation("avatar3d::interpolate")
def _interpolate(attributes: Tensor, corners: Tensor, triangle: Tensor, barycentrics: Tensor) -> Tensor:
    out = attributes.new_empty(*triangle.shape, attributes.shape[2])
    inputs = (attributes.detach(), corners, triangle, barycentrics.detach())
    native.call("interpolate_forward", attributes, *inputs, out)
    return out


@_interpolate.register_fake
def _(attributes: Tensor, corners: Tensor, triangle: Tensor, barycentrics: Tensor) -> Tensor:
    return attributes.new_empty(*triangle.shape, attributes.shape[2])


@native.operation("avatar3d::interpolate_backward")
def _interpolate_backward(
    attributes: Tensor, corners: Tensor, triangle: Tensor, barycentrics: Tensor, grad_out: Tensor, with_attributes: bool
) -> tuple[Tensor, Tensor]:
    grad_attributes = (
        torch.zeros_like(attributes) if with_attributes else attributes.new_empty(0, *attributes.shape[1:])
    )
    grad_barycentrics = torch.empty_like(barycentrics)
    inputs = (attributes.detach(), corners, triangle, barycentrics.detach(), grad_out.detach())
    native.call("interpolate_backward", attributes, *inputs, grad_attributes, grad_barycentrics)
    return grad_attributes, grad_barycentrics


@_interpolate_backward.register_fake
def _(
    attributes: Tensor, corners: Tensor, triangle: Tensor, barycentrics: Tensor, grad_out: Tensor, with_attributes: bool
) -> tuple[Tensor, Tensor]:
    grad = torch.empty_like(attributes) if with_attributes else attributes.new_empty(0, *attributes.shape[1:])
    return grad, torch.empty_like(barycentrics)


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_out: Tensor):
    wanted = ctx.needs_input_grad[0]
    attributes, barycentrics = _interpolate_backward(*ctx.saved_tensors, grad_out.contiguous(), wanted)
    return attributes if wanted else None, None, None, barycentrics


_interpolate.register_autograd(_backward, setup_context=_setup)
