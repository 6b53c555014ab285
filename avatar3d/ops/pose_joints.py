"""Rotation vectors along a chain of joints to the maps that `skin` takes."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


class JointPoses(NamedTuple):
    """What `pose_joints` gives."""

    R: Float[Tensor, "b j 3 3"]
    """Rotation of every joint relative to its parent."""
    T_posed_rest: Float[Tensor, "b j 4 4"]
    """Maps rest-pose to posed coordinates."""


@typed
def pose_joints(
    parents: tuple[int, ...],
    rest: Float[Tensor, "b j 3"],
    rotvecs: Float[Tensor, "b j 3"],
    *,
    backend: Backend = "auto",
) -> JointPoses:
    """Poses joints: Rodrigues' formula and forward kinematics in one.

    Differentiable in both tensors, at zero rotation too.

    Args:
        parents: Parent of every joint, -1 for a root; parents come before children.
        rest: Rest positions in model space, metres; rest rotations are the identity.
        rotvecs: Rotation vector of every joint relative to its parent, radians.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        Rotation matrices, and the map of every joint for `ops.skin`.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: differing dtypes, or parents that do not come before their children.
    """
    if rest.dtype != rotvecs.dtype:
        raise ValueError(f"pose_joints: dtypes {rest.dtype}, {rotvecs.dtype} differ; pass one dtype.")
    if len(parents) != rest.shape[1] or any(not -1 <= parent < joint for joint, parent in enumerate(parents)):
        raise ValueError(
            f"pose_joints: parents {parents} of {rest.shape[1]} joints; expected one each, -1 or an earlier joint."
        )
    if native.use_native(backend, "pose_joints", rest):
        return JointPoses(*_pose_joints(rest.contiguous(), rotvecs.contiguous(), parents_tensor(parents, rest.device)))
    return JointPoses(*reference.pose_joints(parents, rest, rotvecs))


@lru_cache(64)
def parents_tensor(parents: tuple[int, ...], device: torch.device) -> Tensor:
    """As the kernels read them."""
    return torch.tensor(parents, dtype=torch.int32, device=device)


@native.operation("avatar3d::pose_joints")
def _pose_joints(rest: Tensor, rotvecs: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
    R, maps = _empty(rest)
    native.call("pose_joints_forward", rest, rest.detach(), rotvecs.detach(), parents, R, maps)
    return R, maps


def _empty(rest: Tensor) -> tuple[Tensor, Tensor]:
    return rest.new_empty(*rest.shape, 3), rest.new_empty(*rest.shape[:2], 4, 4)


@_pose_joints.register_fake
def _(rest: Tensor, rotvecs: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(rest)


@native.operation("avatar3d::pose_joints_backward")
def _pose_joints_backward(
    rest: Tensor, rotvecs: Tensor, parents: Tensor, R: Tensor, maps: Tensor, grad_R: Tensor, grad_maps: Tensor
) -> tuple[Tensor, Tensor]:
    scratch = rest.new_zeros(*rest.shape[:2], 12)
    grad_rest, grad_rotvecs = torch.empty_like(rest), torch.empty_like(rotvecs)
    inputs = (t.detach() for t in (rest, rotvecs, parents, R, maps, grad_R, grad_maps))
    native.call("pose_joints_backward", rest, *inputs, scratch, grad_rest, grad_rotvecs)
    return grad_rest, grad_rotvecs


@_pose_joints_backward.register_fake
def _(
    rest: Tensor, rotvecs: Tensor, parents: Tensor, R: Tensor, maps: Tensor, grad_R: Tensor, grad_maps: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(rest), torch.empty_like(rotvecs)


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx, grad_R: Tensor, grad_maps: Tensor) -> tuple[Tensor, Tensor, None]:
    rest, rotvecs = _pose_joints_backward(*ctx.saved_tensors, grad_R.contiguous(), grad_maps.contiguous())
    return rest, rotvecs, None


_pose_joints.register_autograd(_backward, setup_context=_setup)
