"""Blends projected splats into images, nearest first."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@typed
def blend_splats(
    pixels: Float[Tensor, "b n 2"],
    conics: Float[Tensor, "b n 3"],
    opacities: Float[Tensor, "b n"],
    depths: Float[Tensor, "b n"],
    attributes: Float[Tensor, "#b n c"],
    width: int,
    height: int,
    background: Float[Tensor, "#b c"] | None = None,
    *,
    absolute_gradients: Float[Tensor, "b n 2"] | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "b {height} {width} c"], Float[Tensor, "b {height} {width}"]]:
    """Blends two-dimensional Gaussians front to back.

    At a pixel whose centre lies d from that of a splat, its alpha is opacity * exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2),
    cut to 0.99; below 1/255 it is left out. Of equal depths the lower index comes first. A splat that would leave less
    than 1e-4 of the light ends the pixel instead. (Kerbl et al. 2023, "3D Gaussian Splatting for Real-Time Radiance
    Field Rendering", in the form that its public code and gsplat give it.) Splats with a number that is not finite,
    with less opacity than 1/255, or whose conic is not positive definite are left out, with gradients of 0.

    Differentiable in pixels, conics, opacities, attributes and background; depths only sort. The result is the same
    for any number of threads. In float32 the exponential has a relative error under 3e-6.

    Memory, float32, at most four channels: while it runs 16 bytes a splat, and kept for the gradients 64 bytes a splat
    and 16 an intersection of a splat with a tile of 32 x 32 pixels; the backward pass takes 48 more an intersection. On
    CUDA tiles are 16 x 16 pixels, an intersection keeps 8 bytes, and sorting takes 24 a splat and 12 an intersection,
    and as much again for CUB.

    Args:
        pixels: Centres, pixels. Pixel centres lie at (i + 0.5, j + 0.5).
        conics: (a, b, c) of the inverse covariance [[a, b], [b, c]], 1 / pixels^2.
        opacities: 0 to 1.
        depths: What is smaller lies in front.
        attributes: Any number of channels, for each image or for all; 1 to 4 are fast.
        width: Of the images, 1 to 32767 pixels.
        height: Of the images, 1 to 32767 pixels.
        background: What is seen where nothing is, for each image or for all; 0 when left out.
        absolute_gradients: Zeros that require gradients, and change nothing. What they get as their gradient is the
            sum over pixels of |dL/dpixels|, which tells where to add splats.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        Attributes blended over the background, and alpha: the share of the background that is covered.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device; or `absolute_gradients` without one.
        ValueError: wrong size, or differing dtypes.
    """
    tensors = (pixels, conics, opacities, depths, attributes, *(() if background is None else (background,)))
    if len({t.dtype for t in tensors}) != 1:
        raise ValueError(f"blend_splats: dtypes {', '.join(str(t.dtype) for t in tensors)} differ; pass one dtype.")
    if not (0 < width <= 32767 and 0 < height <= 32767):
        raise ValueError(f"blend_splats: size {width} x {height}; expected 1 to 32767 pixels.")
    if background is None:
        background = attributes.new_zeros(1, attributes.shape[2])
    if absolute_gradients is not None and backend == "auto":
        backend = "native"
    if native.use_native(backend, "blend_splats", pixels):
        absolute = pixels.new_empty(0) if absolute_gradients is None else absolute_gradients
        inputs = (pixels, conics, opacities, depths, attributes, background, absolute)
        keep = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        image, alpha, *_ = _blend_splats(*(t.contiguous() for t in inputs), width, height, keep)
        return image, alpha
    if absolute_gradients is not None:
        raise ValueError("blend_splats: the torch reference has no absolute_gradients; leave them out, or the backend.")
    return reference.blend_splats(pixels, conics, opacities, depths, attributes, background, width, height)


@native.operation("avatar3d::blend_splats")
def _blend_splats(
    pixels: Tensor,
    conics: Tensor,
    opacities: Tensor,
    depths: Tensor,
    attributes: Tensor,
    background: Tensor,
    absolute: Tensor,
    width: int,
    height: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = tuple(t.detach() for t in (pixels, conics, opacities, depths, attributes, background))
    image, alpha, transmittance, last, splats, tiles = _empty(pixels, attributes, width, height, keep)
    make_lists = _list_cuda if pixels.is_cuda else _list_cpu
    scratch, intersections = make_lists(inputs, width, height, splats, len(tiles) - 1)
    state = (splats, *scratch, intersections, tiles)
    native.call("blend_splats_forward", pixels, *inputs, width, height, *state, image, alpha, transmittance, last)
    return image, alpha, transmittance, last, splats, intersections, tiles


def _list_cpu(inputs: tuple[Tensor, ...], width: int, height: int, splats: Tensor, tiles: int):
    """Scratch and memory for the lists of tiles: what is drawn is counted first."""
    module = native.module()
    counts = torch.empty(module.BLEND_SPLATS_CHUNKS * tiles, dtype=torch.int32)
    boxes = torch.empty(len(splats) * module.BLEND_SPLATS_BOX_BYTES, dtype=torch.uint8)
    total = native.call("blend_splats_count", inputs[0], *inputs, width, height, splats, boxes, counts)
    return (boxes, counts), torch.empty(total, module.BLEND_SPLATS_INTERSECTION_BYTES, dtype=torch.uint8)


def _list_cuda(inputs: tuple[Tensor, ...], width: int, height: int, splats: Tensor, tiles: int):
    """The same on CUDA, where it waits for the count."""
    module, new = native.module(), splats.new_empty
    counting = new(module.blend_splats_count_bytes(len(splats), inputs[0].dtype == torch.float64))
    total = native.call("blend_splats_count", inputs[0], *inputs, width, height, splats, counting)
    sorting = new(module.blend_splats_sort_bytes(total, tiles))
    return (counting, sorting), new(total, module.BLEND_SPLATS_INTERSECTION_BYTES_CUDA)


def _empty(
    pixels: Tensor, attributes: Tensor, width: int, height: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    module, (b, n, _) = native.module(), pixels.shape
    record = module.BLEND_SPLATS_RECORD_BYTES[pixels.dtype == torch.float64]
    tile = module.BLEND_SPLATS_TILE_CUDA if pixels.is_cuda else module.BLEND_SPLATS_TILE
    tiles = b * -(-width // tile) * -(-height // tile)
    kept = (tiles if keep else 0, tile, tile)  # for the gradients, by tiles
    return (
        pixels.new_empty(b, height, width, attributes.shape[2]),
        pixels.new_empty(b, height, width),
        pixels.new_empty(kept),
        pixels.new_empty(kept, dtype=torch.int32),
        pixels.new_empty(b * n, record, dtype=torch.uint8),
        pixels.new_empty(tiles + 1, dtype=torch.int64),
    )


@_blend_splats.register_fake
def _(
    pixels: Tensor,
    conics: Tensor,
    opacities: Tensor,
    depths: Tensor,
    attributes: Tensor,
    background: Tensor,
    absolute: Tensor,
    width: int,
    height: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    image, alpha, transmittance, last, splats, tiles = _empty(pixels, attributes, width, height, keep)
    total = torch.library.get_ctx().new_dynamic_size()
    module = native.module()
    size = module.BLEND_SPLATS_INTERSECTION_BYTES_CUDA if pixels.is_cuda else module.BLEND_SPLATS_INTERSECTION_BYTES
    intersections = pixels.new_empty(total, size, dtype=torch.uint8)
    return image, alpha, transmittance, last, splats, intersections, tiles


@native.operation("avatar3d::blend_splats_backward")
def _blend_splats_backward(
    pixels: Tensor,
    conics: Tensor,
    opacities: Tensor,
    depths: Tensor,
    attributes: Tensor,
    background: Tensor,
    absolute: Tensor,
    transmittance: Tensor,
    last: Tensor,
    splats: Tensor,
    intersections: Tensor,
    tiles: Tensor,
    grad_image: Tensor,
    grad_alpha: Tensor,
    with_background: bool,
    with_absolute: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads = _empty_grads(pixels, conics, opacities, attributes, background, absolute, with_background, with_absolute)
    inputs = (t.detach() for t in (pixels, conics, opacities, depths, attributes, background))
    height, width = grad_image.shape[1:3]
    saved = (splats, intersections, tiles, transmittance.detach(), last, grad_image.detach(), grad_alpha.detach())
    gradients = pixels.new_empty(len(intersections), native.module().blend_splats_stride(attributes.shape[2]))
    to_background = grads[4]
    if pixels.is_cuda and with_background:  # of every tile
        to_background = pixels.new_empty(len(tiles) - 1, attributes.shape[2])
    out = (*grads[:4], to_background, grads[5])
    native.call("blend_splats_backward", pixels, *inputs, width, height, *saved, gradients, *out)
    if to_background is not grads[4]:
        per_background = (len(tiles) - 1) // max(len(background), 1)
        grads[4].copy_(to_background.view(len(background), per_background, attributes.shape[2]).sum(1))
    return grads


def _empty_grads(
    pixels: Tensor,
    conics: Tensor,
    opacities: Tensor,
    attributes: Tensor,
    background: Tensor,
    absolute: Tensor,
    with_background: bool,
    with_absolute: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(pixels),
        torch.empty_like(conics),
        torch.empty_like(opacities),
        torch.empty_like(attributes),
        torch.empty_like(background) if with_background else pixels.new_empty(0),
        torch.empty_like(absolute) if with_absolute else pixels.new_empty(0),
    )


@_blend_splats_backward.register_fake
def _(
    pixels: Tensor,
    conics: Tensor,
    opacities: Tensor,
    depths: Tensor,
    attributes: Tensor,
    background: Tensor,
    absolute: Tensor,
    transmittance: Tensor,
    last: Tensor,
    splats: Tensor,
    intersections: Tensor,
    tiles: Tensor,
    grad_image: Tensor,
    grad_alpha: Tensor,
    with_background: bool,
    with_absolute: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_grads(pixels, conics, opacities, attributes, background, absolute, with_background, with_absolute)


def _setup(ctx, inputs, output) -> None:
    *tensors, ctx.width, ctx.height, _ = inputs
    ctx.set_materialize_grads(False)  # it would, for all that is kept
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(*tensors, *output[2:])


def _backward(ctx, grad_image: Tensor | None, grad_alpha: Tensor | None, *_: None):
    pixels, attributes, wanted = ctx.saved_tensors[0], ctx.saved_tensors[4], ctx.needs_input_grad[5:7]
    shape = (len(pixels), ctx.height, ctx.width)
    image = pixels.new_zeros(*shape, attributes.shape[2]) if grad_image is None else grad_image.contiguous()
    # The C++ kernel takes nothing for 0.
    alpha = pixels.new_zeros(shape if pixels.is_cuda else 0) if grad_alpha is None else grad_alpha.contiguous()
    grads = _blend_splats_backward(*ctx.saved_tensors, image, alpha, *wanted)
    *firsts, attributes, background, absolute = grads
    background = background if wanted[0] else None
    return *firsts, None, attributes, background, absolute if wanted[1] else None, None, None, None


_blend_splats.register_autograd(_backward, setup_context=_setup)
