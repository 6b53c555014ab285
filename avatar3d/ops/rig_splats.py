"""Gaussian splats that ride on the triangles of a posed mesh."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


class RiggedSplats(NamedTuple):
    """Splats in the world, one set for each item of the batch."""

    means: Float[Tensor, "b n 3"]
    """Centres, metres."""
    quats: Float[Tensor, "b n 4"]
    """Unit quaternions wxyz."""
    scales: Float[Tensor, "b n 3"]
    """Standard deviations along the axes, metres."""


@typed
def rig_splats(
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    face: Int[Tensor, "n"],
    barycentrics: Float[Tensor, "n 3"],
    offsets: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    *,
    backend: Backend = "auto",
) -> RiggedSplats:
    """Carries splats along with the triangles they are bound to (Qian et al. 2024, GaussianAvatars).

    A triangle's frame has x along its first edge, z along its normal (v1 - v0) x (v2 - v0) and y = z x x; its size is
    s = sqrt(2 area). The splat's mean is the barycentric point plus s R offset, its orientation that of the frame
    times its own, its scale s times its own. Differentiable in vertices, barycentrics, offsets, quats and scales. A
    triangle without area has size 0 and the identity for a frame, both constant.

    Args:
        vertices: Posed positions, metres.
        faces: Corners of every triangle.
        face: Triangle of every splat.
        barycentrics: Where on the triangle the splat is anchored; rows sum to 1, which is not checked.
        offsets: From there, in the triangle's frame and in units of its size.
        quats: Orientations wxyz of any length, relative to the triangle's frame.
        scales: Standard deviations along the axes in units of the triangle's size.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        The splats in the world. One that is not finite gets no gradient.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: differing dtypes, or an index out of range (on the CPU; on CUDA such splats are 0).
    """
    tensors = (vertices, barycentrics, offsets, quats, scales)
    if len({t.dtype for t in tensors}) > 1:
        raise ValueError(f"rig_splats: dtypes {', '.join(str(t.dtype) for t in tensors)} differ; pass one dtype.")
    faces, face = faces.to(torch.int32).contiguous(), face.to(torch.int32).contiguous()
    if native.use_native(backend, "rig_splats", vertices):
        rest = (t.contiguous() for t in (barycentrics, offsets, quats, scales))
        return RiggedSplats(*_rig_splats(vertices.contiguous(), faces, face, *rest))
    return RiggedSplats(*reference.rig_splats(vertices, faces, face, barycentrics, offsets, quats, scales))


_Out = tuple[Tensor, Tensor, Tensor]
_Grads = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@native.operation("avatar3d::rig_splats")
def _rig_splats(
    vertices: Tensor,
    faces: Tensor,
    face: Tensor,
    barycentrics: Tensor,
    offsets: Tensor,
    quats: Tensor,
    scales: Tensor,
) -> _Out:
    out = _empty(vertices, face)
    rest = (t.detach() for t in (barycentrics, offsets, quats, scales))
    native.call("rig_splats_forward", vertices, vertices.detach(), faces, face, *rest, *out)
    return out


def _empty(vertices: Tensor, face: Tensor) -> _Out:
    b, n = vertices.shape[0], face.shape[0]
    return vertices.new_empty(b, n, 3), vertices.new_empty(b, n, 4), vertices.new_empty(b, n, 3)


@_rig_splats.register_fake
def _(vertices, faces, face, barycentrics, offsets, quats, scales):
    return _empty(vertices, face)


@native.operation("avatar3d::rig_splats_backward")
def _rig_splats_backward(
    vertices: Tensor,
    faces: Tensor,
    face: Tensor,
    barycentrics: Tensor,
    offsets: Tensor,
    quats: Tensor,
    scales: Tensor,
    g_means: Tensor,
    g_quats: Tensor,
    g_scales: Tensor,
    with_vertices: bool,
) -> _Grads:
    splats = (barycentrics, offsets, quats, scales)
    grads = _empty_grads(vertices, *splats, with_vertices)
    records = vertices.new_empty(0)
    order = starts = face.new_empty(0, dtype=torch.int64)
    if vertices.is_cuda and with_vertices:
        records = vertices.new_empty(vertices.shape[0] * len(face) * 9)
        corners = faces[face.long()].flatten()
        corners, order = torch.sort(corners, stable=True)
        starts = torch.searchsorted(corners, torch.arange(vertices.shape[1] + 1, device=face.device, dtype=face.dtype))
    inputs = (t.detach() for t in (vertices, faces, face, *splats, g_means, g_quats, g_scales))
    native.call("rig_splats_backward", vertices, *inputs, *grads, records, order, starts)
    return grads


def _empty_grads(
    vertices: Tensor, barycentrics: Tensor, offsets: Tensor, quats: Tensor, scales: Tensor, with_vertices: bool
) -> _Grads:
    return (
        *(torch.empty_like(t) for t in (barycentrics, offsets, quats, scales)),
        torch.empty_like(vertices) if with_vertices else vertices.new_empty(0),
    )  # type: ignore[return-value]


@_rig_splats_backward.register_fake
def _(vertices, faces, face, barycentrics, offsets, quats, scales, g_means, g_quats, g_scales, with_vertices):
    return _empty_grads(vertices, barycentrics, offsets, quats, scales, with_vertices)


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, *cotangents: Tensor):
    wanted = ctx.needs_input_grad[0]
    dense = (g.contiguous() for g in cotangents)
    *splats, vertices = _rig_splats_backward(*ctx.saved_tensors, *dense, wanted)
    return vertices if wanted else None, None, None, *splats


_rig_splats.register_autograd(_backward, setup_context=_setup)
