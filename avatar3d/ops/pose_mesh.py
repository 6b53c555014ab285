"""A linear head model's vertices from coefficients and rotations in one operation, forward and backward."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.ops import native
from avatar3d.ops.pose_joints import parents_tensor, pose_joints
from avatar3d.ops.skin import skin
from avatar3d.typing import Backend, typed

PANEL, GROUP, ROWS = 16, 4, 4
"""Vertices of a panel of the packed basis, panels of a group, and what its number of rows is a multiple of."""


@dataclass(frozen=True, kw_only=True)
class SkinnedBasis:
    """The constants of a linear model. No gradient reaches them."""

    parents: tuple[int, ...]
    template: Float[Tensor, "v 3"]
    bases: tuple[Float[Tensor, "_ v 3"], ...]
    """Displacements per coefficient: k rows in all, one after the other."""
    pose_basis: Float[Tensor, "p v 3"] | None
    """Pose correctives on the rotation matrices (minus identity) of all joints but the first, p = 9 (j - 1)."""
    joint_template: Float[Tensor, "j 3"]
    joint_basis: Float[Tensor, "k j 3"]
    weights: Float[Tensor, "v j"]
    _packed: dict[torch.dtype, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @cached_property
    def whole(self) -> Float[Tensor, "q n"]:
        """All bases, pose correctives last, in one matrix."""
        parts = self.bases if self.pose_basis is None else (*self.bases, self.pose_basis)
        return torch.cat([part.flatten(1) for part in parts])

    def packed(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The constants as the kernel reads them (cuda_ext/skin/pose_mesh.h), and the weights."""
        if dtype not in self._packed:
            if any(not -1 <= parent < joint for joint, parent in enumerate(self.parents)):
                raise ValueError(f"pose_mesh: parents {self.parents}; expected -1 or an earlier joint each.")
            bases = self.bases if self.pose_basis is None else (*self.bases, self.pose_basis)
            v, q = len(self.template), sum(map(len, bases))
            more = -v % (PANEL * GROUP)
            panels = (v + more) // PANEL
            basis = torch.zeros(panels, q + -q % ROWS, PANEL * 3, dtype=dtype)
            k = 0
            for part in bases:
                padded = torch.nn.functional.pad(part.detach().to(dtype), (0, 0, 0, more))
                basis[:, k : k + len(part)] = padded.view(len(part), panels, PANEL * 3).transpose(0, 1)
                k += len(part)
            template = torch.nn.functional.pad(self.template.detach().to(dtype), (0, 0, 0, more))
            parts = basis, template, self.joint_template.detach().to(dtype), self.joint_basis.detach().to(dtype)
            weights = self.weights.detach().to(dtype).contiguous()
            self._packed[dtype] = torch.cat([part.flatten() for part in parts]), weights
        return self._packed[dtype]


class PosedMesh(NamedTuple):
    """What `pose_mesh` gives, metres."""

    vertices: Float[Tensor, "b v 3"]
    joints: Float[Tensor, "b j 3"]
    """Posed."""
    rest: Float[Tensor, "b v 3"]
    """Vertices before skinning, correctives included."""


@typed
def pose_mesh(
    basis: SkinnedBasis,
    coefficients: Float[Tensor, "b k"],
    rotvecs: Float[Tensor, "b j 3"],
    *,
    backend: Backend = "auto",
) -> PosedMesh:
    """Shapes, joints, pose correctives and linear blend skinning.

    Differentiable in coefficients and rotations. One kernel on the CPU, which reads the basis once each way; elsewhere
    a matrix product, `pose_joints` and `skin`.

    Args:
        basis: The model.
        coefficients: Factors of all rows of `basis.bases`.
        rotvecs: Rotation vector of every joint relative to its parent, radians.
        backend: "auto" runs compiled kernels where there are any, else the torch references.

    Raises:
        BackendError: `backend="native"` and no compiled kernel for this device.
        ValueError: differing dtypes, or sizes that are not the model's.
    """
    if coefficients.dtype != rotvecs.dtype:
        raise ValueError(f"pose_mesh: dtypes {coefficients.dtype}, {rotvecs.dtype} differ; pass one dtype.")
    if coefficients.shape[1] != len(basis.joint_basis) or rotvecs.shape[1] != len(basis.parents):
        raise ValueError(
            f"pose_mesh: {coefficients.shape[1]} coefficients, {rotvecs.shape[1]} joints; "
            f"the model has {len(basis.joint_basis)} and {len(basis.parents)}."
        )
    if coefficients.device.type == "cpu" and native.use_native(backend, "skin", coefficients):
        packed, weights = basis.packed(coefficients.dtype)
        parents = parents_tensor(basis.parents, coefficients.device)
        inputs = coefficients.contiguous(), rotvecs.contiguous(), parents, weights, packed
        return PosedMesh(*_pose_mesh(*inputs, basis.pose_basis is not None)[:3])
    rest_joints = basis.joint_template.to(coefficients) + torch.einsum(
        "bk,kjc->bjc", coefficients, basis.joint_basis.to(coefficients)
    )
    R, maps = pose_joints(basis.parents, rest_joints, rotvecs, backend=backend)
    factors = coefficients
    if basis.pose_basis is not None:
        factors = torch.cat([coefficients, (R[:, 1:] - torch.eye(3).to(R)).flatten(1)], 1)
    flat = torch.addmm(basis.template.reshape(1, -1).to(factors), factors, basis.whole.to(factors))
    rest = flat.view(len(flat), *basis.template.shape)
    joints = (maps[..., :3, :3] @ rest_joints[..., None])[..., 0] + maps[..., :3, 3]
    return PosedMesh(skin(rest, basis.weights.to(rest), maps, backend=backend), joints, rest)


@native.operation("avatar3d::pose_mesh")
def _pose_mesh(
    coefficients: Tensor, rotvecs: Tensor, parents: Tensor, weights: Tensor, packed: Tensor, correctives: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out = _empty(rotvecs, weights)
    inputs = coefficients.detach(), rotvecs.detach(), parents, weights, packed, correctives
    native.call("pose_mesh_forward", coefficients, *inputs, *out)
    return out


def _empty(rotvecs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices, posed joints, rest vertices, and what the backward pass needs of the joints."""
    b, j, v = *rotvecs.shape[:2], len(weights)
    empty = rotvecs.new_empty
    return empty(b, v, 3), empty(b, j, 3), empty(b, v, 3), empty(b, j * 28)


@_pose_mesh.register_fake
def _(
    coefficients: Tensor, rotvecs: Tensor, parents: Tensor, weights: Tensor, packed: Tensor, correctives: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty(rotvecs, weights)


@native.operation("avatar3d::pose_mesh_backward")
def _pose_mesh_backward(
    coefficients: Tensor, rotvecs: Tensor, parents: Tensor, weights: Tensor, packed: Tensor, correctives: bool,
    rest: Tensor, state: Tensor, grad_vertices: Tensor | None, grad_joints: Tensor | None, grad_rest: Tensor | None,
    with_coefficients: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out = _grads(coefficients, rotvecs, with_coefficients)
    none = coefficients.new_empty(0)
    grads = (none if grad is None else grad.detach() for grad in (grad_vertices, grad_joints, grad_rest))
    inputs = coefficients.detach(), rotvecs.detach(), parents, weights, packed, correctives, rest.detach(), state
    native.call("pose_mesh_backward", coefficients, *inputs, *grads, *out)
    return out


def _grads(coefficients: Tensor, rotvecs: Tensor, with_coefficients: bool) -> tuple[Tensor, Tensor]:
    shape = coefficients.shape if with_coefficients else (0,)
    return coefficients.new_empty(shape), torch.empty_like(rotvecs)


@_pose_mesh_backward.register_fake
def _(
    coefficients: Tensor, rotvecs: Tensor, parents: Tensor, weights: Tensor, packed: Tensor, correctives: bool,
    rest: Tensor, state: Tensor, grad_vertices: Tensor | None, grad_joints: Tensor | None, grad_rest: Tensor | None,
    with_coefficients: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _grads(coefficients, rotvecs, with_coefficients)


def _setup(ctx, inputs, output) -> None:
    *tensors, ctx.correctives = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[2], output[3])


def _backward(ctx, *cotangents: Tensor | None):
    *tensors, rest, state = ctx.saved_tensors
    if all(grad is None for grad in cotangents[:3]):
        return (None,) * 6
    grads = (None if grad is None else grad.contiguous() for grad in cotangents[:3])
    wanted = ctx.needs_input_grad[0]
    coefficients, rotvecs = _pose_mesh_backward(*tensors, ctx.correctives, rest, state, *grads, wanted)
    return coefficients if wanted else None, rotvecs, None, None, None, None


_pose_mesh.register_autograd(_backward, setup_context=_setup)
