"""Many small least-squares problems with bounds on every coefficient."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@typed
def solve_normal_equations(
    H: Float[Tensor, "b n n"],
    g: Float[Tensor, "b n"],
    lower: Float[Tensor, "b n"],
    upper: Float[Tensor, "b n"],
    *,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "b n"], Int[Tensor, "b"]]:
    """The minimum of x' H x / 2 + g' x within bounds, exactly, by block principal pivoting.

    Júdice and Pires, "A block principal pivoting algorithm for large-scale strictly monotone linear complementarity
    problems" (1994). Not differentiable.

    Args:
        H: Symmetric and positive definite.
        g: Gradient at x = 0.
        lower: Lower bounds, -inf for none.
        upper: Upper bounds, inf for none.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference. On CUDA n is at most 96.

    Returns:
        The minimum, and the number of factorisations that it took: -1 (and a minimum of 0) where H is not positive
        definite.
    """
    if not native.use_native(backend, "solve_normal_equations", H):
        return reference.solve_normal_equations(H, g, lower, upper)
    x, rounds = torch.empty_like(g), torch.empty(len(g), dtype=torch.int64, device=g.device)
    inputs = (tensor.detach().contiguous() for tensor in (H, g, lower, upper))
    native.call("solve_normal_equations_forward", H, *inputs, x, rounds)
    return x, rounds
