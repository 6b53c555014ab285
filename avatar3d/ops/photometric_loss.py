"""The loss that pictures are fitted with: absolute difference and structural similarity, in one pass."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.ops.ssim import run
from avatar3d.typing import Backend, typed


@typed
def photometric_loss(
    image: Float[Tensor, "b h w c"],
    target: Float[Tensor, "b h w c"],
    *,
    weights: Float[Tensor, "b h w"] | None = None,
    ssim_weight: float = 0.2,
    backend: Backend = "auto",
) -> Float[Tensor, "b"]:
    """(1 - ssim_weight) L1 + ssim_weight (1 - SSIM) of every image, as in 3D Gaussian splatting (Kerbl et al. 2023).

    Differentiable in the image; the target and the weights are data. The gradient is computed with the value.

    Args:
        image: What is fitted, 0 to 1.
        target: What it should look like.
        weights: Factor of every pixel, and of the SSIM window about it: a mask, say. Where it is 0 the pixel does not
            count, whatever it holds. The sum is divided by the number of pixels, not by the sum of the weights.
        ssim_weight: Share of SSIM (`ops.ssim`, padding "same").
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: sizes or dtypes differ, or there are no pixels.
    """
    if image.dtype != target.dtype or (weights is not None and weights.dtype != image.dtype):
        also = "" if weights is None else f", {weights.dtype}"
        raise ValueError(f"photometric_loss: dtypes {image.dtype}, {target.dtype}{also} differ; pass one dtype.")
    if 0 in image.shape[1:]:
        raise ValueError(f"photometric_loss: images {tuple(image.shape)} have no pixels.")
    if native.use_native(backend, "ssim", image):
        given = image.new_empty(0) if weights is None else weights.contiguous()
        with_grad = image.requires_grad and torch.is_grad_enabled()
        return _photometric_loss(image.contiguous(), target.contiguous(), given, ssim_weight, with_grad)[0]
    return reference.photometric_loss(image, target, weights, ssim_weight)


@native.operation("avatar3d::photometric_loss")
def _photometric_loss(
    image: Tensor, target: Tensor, weights: Tensor, ssim_weight: float, with_grad: bool
) -> tuple[Tensor, Tensor]:
    n = image[0].numel() if len(image) else 1
    value, grad, _ = run(
        image, target, weights=weights, l1=(1 - ssim_weight) / n, ssim=-ssim_weight / n, offset=ssim_weight / n,
        value=True, grads=(with_grad, False),
    )  # fmt: skip
    return value, grad


@_photometric_loss.register_fake
def _(image: Tensor, target: Tensor, weights: Tensor, ssim_weight: float, with_grad: bool) -> tuple[Tensor, Tensor]:
    return image.new_empty(image.shape[0]), torch.empty_like(image) if with_grad else image.new_empty(0)


def _setup(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or zeros are made for what has no gradient, as large as the image
    ctx.save_for_backward(output[1])


def _backward(ctx, grad_out: Tensor | None, _: None):
    (grad,) = ctx.saved_tensors
    if grad_out is None:
        return None, None, None, None, None
    plain = type(grad_out) is Tensor and not grad_out.is_cuda  # numbers that cost nothing to look at
    if not (plain and bool((grad_out == 1).all())):
        grad = grad * grad_out[:, None, None, None]
    return grad, None, None, None, None


_photometric_loss.register_autograd(_backward, setup_context=_setup)
