"""Quadratic problems along time: frames that are tied to each other by their second differences."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@typed
def solve_chain(
    blocks: Float[Tensor, "b t n n"],
    first: Float[Tensor, "b t n"],
    second: Float[Tensor, "b t n"],
    rhs: Float[Tensor, "b t n"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b t n"]:
    """Solves symmetric positive definite systems of frames that are coupled to two neighbours on each side.

    Exact, in time linear in t: block Cholesky factorisation along time. Not differentiable.

    Args:
        blocks: Every frame's own block.
        first: Diagonal of the block between a frame and the next; the last frame's is not read.
        second: Diagonal of the block between a frame and the next but one; the last two frames' are not read.
        rhs: Right side.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        The solution; not finite where a system is not positive definite.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: the tensors differ in dtype.
    """
    if len({x.dtype for x in (blocks, first, second, rhs)}) > 1:
        raise ValueError("solve_chain: dtypes differ; pass one dtype.")
    if not native.use_native(backend, "solve_chain", blocks):
        return reference.solve_chain(blocks, first, second, rhs)
    x = torch.empty_like(rhs)
    scratch = rhs.new_empty(native.module().solve_chain_scratch(*rhs.shape))
    inputs = (tensor.detach().contiguous() for tensor in (blocks, first, second, rhs))
    native.call("solve_chain_forward", blocks, *inputs, scratch, x)
    return x
