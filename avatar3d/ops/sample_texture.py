"""Texture look-up: bilinear, or trilinear in a pyramid."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@typed
def sample_texture(
    texture: Float[Tensor, "n th tw c"],
    uv: Float[Tensor, "b h w 2"],
    level: Float[Tensor, "b h w"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b h w c"]:
    """Reads a texture at given coordinates, clamped at its edges.

    Differentiable in all three tensors.

    Args:
        texture: One for each image, or one for all (n = 1). Row 0 is the top, v = 1.
        uv: Texture coordinates, 0..1 over the texture, origin at the lower left; texel centres lie at half texels.
        level: Level of detail of every pixel, log2 of its size in texels (see `texture_level`): reads between the
            two nearest levels of a pyramid that halves by averaging. None reads the texture itself.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: dtypes or batch sizes differ, or the texture is empty.
    """
    if texture.dtype != uv.dtype or (level is not None and level.dtype != uv.dtype):
        raise ValueError(f"sample_texture: dtypes {texture.dtype}, {uv.dtype} differ; pass one dtype.")
    if texture.shape[0] not in (1, uv.shape[0]) or 0 in texture.shape[1:3]:
        raise ValueError(f"sample_texture: texture {tuple(texture.shape)} for {uv.shape[0]} images.")
    levels = pyramid(texture) if level is not None else [texture]
    if not native.use_native(backend, "sample_texture", texture):
        return reference.sample_pyramid(levels, uv, level)
    texels = torch.cat([t.flatten(1, 2) for t in levels], 1) if level is not None else texture.flatten(1, 2)
    sizes = [n for t in levels for n in t.shape[1:3]]
    flat_level = uv.new_empty(0) if level is None else level.flatten(1).contiguous()
    out = _sample_texture(texels.contiguous(), uv.flatten(1, 2).contiguous(), flat_level, sizes)
    return out.view(*uv.shape[:3], texture.shape[3])


@typed
def texture_level(
    duv_dx: Float[Tensor, "b h w 2"], duv_dy: Float[Tensor, "b h w 2"], height: int, width: int
) -> Float[Tensor, "b h w"]:
    """Level of detail at which a texel is as large as a pixel's longer side; 0 is the texture itself.

    Args:
        duv_dx: Change of the texture coordinates from a pixel to its right neighbour.
        duv_dy: Change to the neighbour below.
        height: Texture height, texels.
        width: Texture width, texels.
    """
    size = torch.tensor([width, height], dtype=duv_dx.dtype, device=duv_dx.device)
    square = torch.maximum(((duv_dx * size) ** 2).sum(-1), ((duv_dy * size) ** 2).sum(-1))
    return 0.5 * torch.log2(square.clamp_min(1))


def pyramid(texture: Tensor) -> list[Tensor]:
    """The texture and its halvings down to one texel; each texel averages what it covers."""
    levels = [texture]
    while max(levels[-1].shape[1:3]) > 1 and len(levels) < 16:
        h, w = levels[-1].shape[1:3]
        planes = levels[-1].permute(0, 3, 1, 2)
        half = torch.nn.functional.adaptive_avg_pool2d(planes, (max(1, h // 2), max(1, w // 2)))
        levels.append(half.permute(0, 2, 3, 1))
    return levels


def _sizes(flat: list[int]) -> list[tuple[int, int]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


@native.operation("avatar3d::sample_texture")
def _sample_texture(texels: Tensor, uv: Tensor, level: Tensor, sizes: list[int]) -> Tensor:
    out = texels.new_empty(*uv.shape[:2], texels.shape[2])
    inputs = (texels.detach(), _sizes(sizes), uv.detach(), level.detach())
    native.call("sample_texture_forward", texels, *inputs, out)
    return out


@_sample_texture.register_fake
def _(texels: Tensor, uv: Tensor, level: Tensor, sizes: list[int]) -> Tensor:
    return texels.new_empty(*uv.shape[:2], texels.shape[2])


@native.operation("avatar3d::sample_texture_backward")
def _sample_texture_backward(
    texels: Tensor, uv: Tensor, level: Tensor, sizes: list[int], grad_out: Tensor, with_texels: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_texels = torch.zeros_like(texels) if with_texels else texels.new_empty(0, *texels.shape[1:])
    grad_uv, grad_level = torch.empty_like(uv), torch.empty_like(level)
    inputs = (texels.detach(), _sizes(sizes), uv.detach(), level.detach(), grad_out.detach())
    native.call("sample_texture_backward", texels, *inputs, grad_texels, grad_uv, grad_level)
    return grad_texels, grad_uv, grad_level


@_sample_texture_backward.register_fake
def _(
    texels: Tensor, uv: Tensor, level: Tensor, sizes: list[int], grad_out: Tensor, with_texels: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_texels = torch.empty_like(texels) if with_texels else texels.new_empty(0, *texels.shape[1:])
    return grad_texels, torch.empty_like(uv), torch.empty_like(level)


def _setup(ctx, inputs, output) -> None:
    texels, uv, level, ctx.sizes = inputs
    ctx.save_for_backward(texels, uv, level)


def _backward(ctx, grad_out: Tensor):
    wanted = ctx.needs_input_grad[0]
    texels, uv, level = _sample_texture_backward(*ctx.saved_tensors, ctx.sizes, grad_out.contiguous(), wanted)
    return texels if wanted else None, uv, level, None


_sample_texture.register_autograd(_backward, setup_context=_setup)
