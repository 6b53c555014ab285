"""Structural similarity of images."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed

RADIUS = 5


@typed
def ssim(
    a: Float[Tensor, "b h w c"],
    b: Float[Tensor, "b h w c"],
    *,
    padding: Literal["same", "valid"] = "same",
    backend: Backend = "auto",
) -> Float[Tensor, "b"]:
    """Structural similarity (Wang et al. 2004, "Image quality assessment"), mean over pixels and channels.

    Gaussian windows of 11 x 11 pixels and sigma 1.5, constants 0.01^2 and 0.03^2, population variances.
    Differentiable in both images.

    Args:
        a: Images, 0 to 1.
        b: Images to compare with.
        padding: "same" counts a window about every pixel, with zeros beyond the border, as the losses of the field
            do; "valid" only those that lie in the image, as published and as metrics do.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: sizes or dtypes differ, or the images are too small to hold a window.
    """
    margin = RADIUS if padding == "valid" else 0
    if a.dtype != b.dtype:
        raise ValueError(f"ssim: dtypes {a.dtype}, {b.dtype} differ; pass one dtype.")
    if min(a.shape[1], a.shape[2]) < 2 * margin + 1 or a.shape[3] == 0:
        raise ValueError(
            f"ssim: images {tuple(a.shape)}; padding={padding!r} needs {2 * margin + 1} pixels each way, and a channel."
        )
    if native.use_native(backend, "ssim", a):
        return _ssim(a.contiguous(), b.contiguous(), margin)
    return reference.ssim(a, b, margin=margin)


def run(
    a: Tensor,
    b: Tensor,
    *,
    weights: Tensor | None = None,
    scale: Tensor | None = None,
    margin: int = 0,
    l1: float = 0.0,
    ssim: float = 0.0,
    offset: float = 0.0,
    value: bool = False,
    grads: tuple[bool, bool] = (False, False),
) -> tuple[Tensor, Tensor, Tensor]:
    """Calls the kernel: sum of weights * (l1 |a - b| + ssim S + offset), and `scale` times its gradients; each one
    that is not asked for is empty."""
    nothing = a.new_empty(0)
    out = a.new_empty(a.shape[0]) if value else nothing
    grad_a, grad_b = (torch.empty_like(a) if wanted else nothing for wanted in grads)
    scratch = a.new_empty(native.module().ssim_scratch(*a.shape, any(grads))) if a.is_cuda else nothing
    given = (nothing if t is None else t.detach() for t in (weights, scale))
    outputs = (out, grad_a, grad_b, scratch)
    native.call("ssim_forward", a, a.detach(), b.detach(), *given, margin, l1, ssim, offset, *outputs)
    return out, grad_a, grad_b


def _share(a: Tensor, margin: int) -> float:
    return 1 / ((a.shape[1] - 2 * margin) * (a.shape[2] - 2 * margin) * a.shape[3])


@native.operation("avatar3d::ssim")
def _ssim(a: Tensor, b: Tensor, margin: int) -> Tensor:
    return run(a, b, margin=margin, ssim=_share(a, margin), value=True)[0]


@_ssim.register_fake
def _(a: Tensor, b: Tensor, margin: int) -> Tensor:
    return a.new_empty(a.shape[0])


@native.operation("avatar3d::ssim_backward")
def _ssim_backward(
    a: Tensor, b: Tensor, grad_out: Tensor, margin: int, with_a: bool, with_b: bool
) -> tuple[Tensor, Tensor]:
    return run(a, b, scale=grad_out, margin=margin, ssim=_share(a, margin), grads=(with_a, with_b))[1:]


@_ssim_backward.register_fake
def _(a: Tensor, b: Tensor, grad_out: Tensor, margin: int, with_a: bool, with_b: bool) -> tuple[Tensor, Tensor]:
    grad_a, grad_b = (torch.empty_like(a) if wanted else a.new_empty(0) for wanted in (with_a, with_b))
    return grad_a, grad_b


def _setup(ctx, inputs, output) -> None:
    a, b, ctx.margin = inputs
    ctx.save_for_backward(a, b)


def _backward(ctx, grad_out: Tensor):
    wanted = ctx.needs_input_grad[:2]
    grads = _ssim_backward(*ctx.saved_tensors, grad_out.contiguous(), ctx.margin, *wanted)
    return (*(grad if with_it else None for grad, with_it in zip(grads, wanted, strict=True)), None)


_ssim.register_autograd(_backward, setup_context=_setup)
