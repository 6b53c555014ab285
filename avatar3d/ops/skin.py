"""Linear blend skinning. The template that every other compiled operation copies."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@typed
def skin(
    points: Float[Tensor, "b v 3"],
    weights: Float[Tensor, "v j"],
    T_posed_rest: Float[Tensor, "b j 4 4"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b v 3"]:
    """Moves rest-pose points with the joints they are bound to.

    Differentiable in all three tensors.

    Args:
        points: Rest-pose positions, metres.
        weights: Share of each joint in each point. Rows sum to 1; this is not checked.
        T_posed_rest: Maps rest-pose to posed coordinates, one affine map per joint.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        Posed positions, metres.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: the tensors differ in dtype or device.
    """
    if not (points.dtype == weights.dtype == T_posed_rest.dtype):
        raise ValueError(f"skin: dtypes {points.dtype}, {weights.dtype}, {T_posed_rest.dtype} differ; pass one dtype.")
    if native.use_native(backend, "skin", points):
        return _skin(points.contiguous(), weights.contiguous(), T_posed_rest.contiguous())
    return reference.skin(points, weights, T_posed_rest)


@native.operation("avatar3d::skin")
def _skin(points: Tensor, weights: Tensor, T_posed_rest: Tensor) -> Tensor:
    out = torch.empty_like(points)
    native.call("skin_forward", points, points.detach(), weights.detach(), T_posed_rest.detach(), out)
    return out


@_skin.register_fake
def _(points: Tensor, weights: Tensor, T_posed_rest: Tensor) -> Tensor:
    return torch.empty_like(points)


@native.operation("avatar3d::skin_backward")
def _skin_backward(
    points: Tensor, weights: Tensor, T_posed_rest: Tensor, grad_out: Tensor, with_weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_points = torch.empty_like(points)
    grad_weights = torch.zeros_like(weights) if with_weights else weights.new_empty(0, weights.shape[1])
    grad_maps = torch.zeros_like(T_posed_rest)
    inputs = (t.detach() for t in (points, weights, T_posed_rest, grad_out))
    native.call("skin_backward", points, *inputs, grad_points, grad_weights, grad_maps)
    return grad_points, grad_weights, grad_maps


@_skin_backward.register_fake
def _(
    points: Tensor, weights: Tensor, T_posed_rest: Tensor, grad_out: Tensor, with_weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_weights = torch.empty_like(weights) if with_weights else weights.new_empty(0, weights.shape[1])
    return torch.empty_like(points), grad_weights, torch.empty_like(T_posed_rest)


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_out: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    with_weights = ctx.needs_input_grad[1]
    points, weights, maps = _skin_backward(*ctx.saved_tensors, grad_out.contiguous(), with_weights)
    return points, weights if with_weights else None, maps


_skin.register_autograd(_backward, setup_context=_setup)
