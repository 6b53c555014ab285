"""Where Gaussian splats fall on the image: the first half of `render_splats`."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed

SH_COEFFICIENTS = (1, 4, 9, 16)


class ProjectedSplats(NamedTuple):
    """Splats as the cameras see them. One that is not drawn has opacity 0, is 0 throughout, and gets no gradient."""

    pixels: Float[Tensor, "b n 2"]
    """Centres, pixels; pixel centres lie at (i + 0.5, j + 0.5)."""
    conics: Float[Tensor, "b n 3"]
    """(a, b, c) of the inverse covariance: exp(-(a dx^2 + c dy^2) / 2 - b dx dy)."""
    opacities: Float[Tensor, "b n"]
    """Opacities, compensated for the low-pass filter where `antialiased`."""
    depths: Float[Tensor, "b n"]
    """Along the optical axis, metres."""
    colors: Float[Tensor, "b n 3"] | None
    """From the spherical harmonics, at least 0."""
    normals: Float[Tensor, "b n 3"] | None
    """Shortest axes, world space, unit length, facing the camera."""


@typed
def project_splats(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    K: Float[Tensor, "b 3 3"],
    T_camera_world: Float[Tensor, "b 4 4"],
    width: int,
    height: int,
    *,
    sh: Float[Tensor, "n k 3"] | None = None,
    antialiased: bool = False,
    normals: bool = False,
    near: float = 0.01,
    backend: Backend = "auto",
) -> ProjectedSplats:
    """Projects splats by the camera's linearisation at their centres (Zwicker et al. 2001, Kerbl et al. 2023).

    0.3 square pixels are added to the diagonal of the covariance in the image. The linearisation is taken within 1.3
    times the frustum. Left out are splats nearer than `near`, fainter than 1/255, without a pixel in their reach, or
    with anything that is not finite. Differentiable in all tensors, the cameras included.

    Args:
        means: Centres, metres.
        quats: Orientations wxyz of any length.
        scales: Standard deviations along the axes, metres.
        opacities: 0 to 1.
        K: Intrinsics, pixels; the last row is 0 0 1.
        T_camera_world: Rigid maps to camera space, OpenCV axes.
        width: Image width, 1 to 32767 pixels.
        height: Image height, 1 to 32767 pixels.
        sh: Spherical harmonics of degree 0 to 3 (k = 1, 4, 9 or 16), in the order and sign of 3D Gaussian splatting:
            colour = max(0, 0.5 + sum), the direction being from the camera's centre to the splat's.
        antialiased: Fade splats that the low-pass filter widens (Yu et al. 2024).
        normals: Also return the normals.
        near: Least depth that is drawn, metres.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: wrong size, near plane or number of coefficients, or differing dtypes or batch sizes.
    """
    tensors = [means, quats, scales, opacities, K, T_camera_world, *([] if sh is None else [sh])]
    if len({t.dtype for t in tensors}) > 1:
        raise ValueError(f"project_splats: dtypes {', '.join(str(t.dtype) for t in tensors)} differ; pass one dtype.")
    if not (0 < width <= 32767 and 0 < height <= 32767 and near > 0):
        raise ValueError(
            f"project_splats: size {width} x {height}, near {near}; expected 1 to 32767 pixels, a positive near plane."
        )
    if sh is not None and sh.shape[1] not in SH_COEFFICIENTS:
        raise ValueError(f"project_splats: {sh.shape[1]} coefficients; expected 1, 4, 9 or 16 (degree 0 to 3).")
    if native.use_native(backend, "project_splats", means):
        harmonics = means.new_empty(len(means), 0, 3) if sh is None else sh
        inputs = (t.contiguous() for t in (means, quats, scales, opacities, K, T_camera_world, harmonics))
        *out, colors, axes = _project_splats(*inputs, width, height, near, antialiased, normals)
        pixels, conics, opacities, depths = out
        colors, axes = None if sh is None else colors, axes if normals else None
        return ProjectedSplats(pixels, conics, opacities, depths, colors, axes)
    inputs = (means, quats, scales, opacities, K, T_camera_world, width, height)
    return ProjectedSplats(
        *reference.project_splats(*inputs, sh=sh, antialiased=antialiased, normals=normals, near=near)
    )


_Out = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
_Grads = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@native.operation("avatar3d::project_splats")
def _project_splats(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    K: Tensor,
    T_camera_world: Tensor,
    sh: Tensor,
    width: int,
    height: int,
    near: float,
    antialiased: bool,
    with_normals: bool,
) -> _Out:
    out = _empty(means, K, sh, with_normals)
    inputs = (t.detach() for t in (means, quats, scales, opacities, K, T_camera_world, sh))
    native.call("project_splats_forward", means, *inputs, width, height, near, antialiased, with_normals, *out)
    return out


def _empty(means: Tensor, K: Tensor, sh: Tensor, with_normals: bool) -> _Out:
    b, n = K.shape[0], means.shape[0]
    return (
        means.new_empty(b, n, 2),
        means.new_empty(b, n, 3),
        means.new_empty(b, n),
        means.new_empty(b, n),
        means.new_empty(b, n if sh.shape[1] else 0, 3),
        means.new_empty(b, n if with_normals else 0, 3),
    )


@_project_splats.register_fake
def _(means, quats, scales, opacities, K, T_camera_world, sh, width, height, near, antialiased, with_normals):
    return _empty(means, K, sh, with_normals)


@native.operation("avatar3d::project_splats_backward")
def _project_splats_backward(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    K: Tensor,
    T_camera_world: Tensor,
    sh: Tensor,
    width: int,
    height: int,
    near: float,
    antialiased: bool,
    g_pixels: Tensor,
    g_conics: Tensor,
    g_opacities: Tensor,
    g_depths: Tensor,
    g_colors: Tensor,
    g_normals: Tensor,
    with_sh: bool,
    with_cameras: bool,
) -> _Grads:
    tensors = (means, quats, scales, opacities, K, T_camera_world, sh)
    grads = _empty_grads(*tensors, with_sh, with_cameras)
    if K.shape[0] == 0:
        return tuple(g.zero_() for g in grads)  # type: ignore[return-value]
    scratch = means.new_empty(0)
    if means.is_cuda and with_cameras:
        scratch = means.new_empty(native.module().project_splats_scratch(K.shape[0], means.shape[0]))
    cotangents = (t.detach() for t in (g_pixels, g_conics, g_opacities, g_depths, g_colors, g_normals))
    settings = (width, height, near, antialiased)
    native.call(
        "project_splats_backward", means, *(t.detach() for t in tensors), *settings, *cotangents, *grads, scratch
    )
    return grads


def _empty_grads(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    K: Tensor,
    T_camera_world: Tensor,
    sh: Tensor,
    with_sh: bool,
    with_cameras: bool,
) -> _Grads:
    return (
        *(torch.empty_like(t) for t in (means, quats, scales, opacities)),
        torch.empty_like(sh) if with_sh else sh.new_empty(0),
        torch.empty_like(K) if with_cameras else K.new_empty(0),
        torch.empty_like(T_camera_world) if with_cameras else K.new_empty(0),
    )  # type: ignore[return-value]


@_project_splats_backward.register_fake
def _(means, quats, scales, opacities, K, T_camera_world, sh, *rest):
    return _empty_grads(means, quats, scales, opacities, K, T_camera_world, sh, *rest[-2:])


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.settings = inputs[7:11]


def _backward(ctx, *cotangents: Tensor):
    need = ctx.needs_input_grad
    with_sh, with_cameras = need[6], need[4] or need[5]
    dense = (g.contiguous() for g in cotangents)
    *grads, sh, K, T = _project_splats_backward(*ctx.saved_tensors, *ctx.settings, *dense, with_sh, with_cameras)
    cameras = (K if need[4] else None, T if need[5] else None)
    return *grads, *cameras, sh if with_sh else None, None, None, None, None, None


_project_splats.register_autograd(_backward, setup_context=_setup)
