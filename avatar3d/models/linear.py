"""The one kind of head model: linear identity and expression, joints, linear blend skinning.

`head`, `flame` and `ict` are all of this class; they differ in where the arrays come from.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.ops import SkinnedBasis, pose_joints, pose_mesh, skin
from avatar3d.typing import Backend, typed


@dataclass(frozen=True, kw_only=True)
class LandmarkEmbedding:
    """Where the points of a landmark scheme lie on a model's surface."""

    faces: Int[Tensor, "n"]
    weights: Float[Tensor, "n 3"]
    """Barycentric coordinates."""
    residual: Float[Tensor, "n"]
    """Reprojection error of every landmark when the embedding was computed, as a fraction of the inter-ocular
    distance; infinite for a landmark that the model does not have."""


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A model's surface and joints for a batch of coefficients, in model space, metres."""

    vertices: Float[Tensor, "b v 3"]
    joints: Float[Tensor, "b j 3"]
    rest: Float[Tensor, "b v 3"]
    """Vertices before skinning: identity and expression only."""


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Buffers of a linear model. Identity coefficients have a unit Gaussian prior."""

    name: str
    licence: str
    template: Float[Tensor, "v 3"]
    identity_basis: Float[Tensor, "k v 3"]
    expression_basis: Float[Tensor, "e v 3"]
    expression_names: tuple[str, ...]
    """ARKit names where the model has them, else expression_000, ..."""
    expression_scale: Float[Tensor, "k"] | None = None
    """Expression displacements are multiplied by 1 + expression_scale . identity (head size)."""
    faces: Int[Tensor, "f 3"]
    uvs: Float[Tensor, "u 2"]
    uv_faces: Int[Tensor, "f 3"]
    joint_names: tuple[str, ...]
    joint_parents: tuple[int, ...]
    joint_template: Float[Tensor, "j 3"]
    joint_identity_basis: Float[Tensor, "k j 3"]
    joint_expression_basis: Float[Tensor, "e j 3"] | None = None
    pose_basis: Float[Tensor, "p v 3"] | None = None
    """Pose correctives on the rotation matrices (minus identity) of all joints but the first, p = 9 (j - 1)."""
    skinning_weights: Float[Tensor, "v j"]
    regions: dict[str, Bool[Tensor, "v"]] = field(default_factory=dict)
    mirror: Int[Tensor, "v"] | None = None
    """Index of every vertex's mirror image."""
    landmarks: dict[str, LandmarkEmbedding] = field(default_factory=dict)
    """By scheme: "mediapipe478", "ibug68"."""
    provenance: dict = field(default_factory=dict)

    def joint_index(self, name: str) -> int:
        """Index of a joint by name.

        Raises:
            ValueError: the model has no such joint.
        """
        if name not in self.joint_names:
            raise ValueError(f"{self.name} has no joint {name!r}; it has {', '.join(self.joint_names)}.")
        return self.joint_names.index(name)

    @typed
    def rest_vertices(
        self, identity: Float[Tensor, "b k"], expression: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b v 3"]:
        """Vertices of identities and expressions in the rest pose. Fewer coefficients than the model has are padded."""
        return self._rest(identity, expression, None)

    def _rest(self, identity: Tensor, expression: Tensor | None, R: Tensor | None) -> Tensor:
        """Vertices before skinning; one matrix product where all coefficients are given."""
        coefficients, bases = [identity], [self.identity_basis[: identity.shape[1]]]
        if expression is not None:
            coefficients.append(
                expression if self.expression_scale is None else expression * self.scale(identity)[:, None]
            )
            bases.append(self.expression_basis[: expression.shape[1]])
        if R is not None and self.pose_basis is not None:
            coefficients.append((R[:, 1:] - torch.eye(3).to(R)).flatten(1))
            bases.append(self.pose_basis)
        template = self.template.reshape(1, -1).to(identity)
        whole = self._basis.whole
        if sum(map(len, bases)) == len(whole):
            return torch.addmm(template, torch.cat(coefficients, 1), whole.to(identity)).view(-1, *self.template.shape)
        flat = template.expand(len(identity), -1)
        for values, basis in zip(coefficients, bases, strict=True):
            flat = flat.addmm(values, basis.flatten(1).to(identity))
        return flat.view(-1, *self.template.shape)

    @cached_property
    def _basis(self) -> SkinnedBasis:
        """All that is constant, as `ops.pose_mesh` takes it."""
        joints = self.joint_expression_basis
        if joints is None:
            joints = self.joint_identity_basis.new_zeros(len(self.expression_basis), *self.joint_template.shape)
        return SkinnedBasis(
            parents=self.joint_parents, template=self.template, bases=(self.identity_basis, self.expression_basis),
            pose_basis=self.pose_basis, joint_template=self.joint_template,
            joint_basis=torch.cat([self.joint_identity_basis, joints]), weights=self.skinning_weights,
        )  # fmt: skip

    @cached_property
    def _is_constant(self) -> bool:
        """Whether one operation does the whole forward pass: nobody wants gradients of the model itself."""
        arrays = (self.template, self.identity_basis, self.expression_basis, self.pose_basis, self.joint_template,
                  self.joint_identity_basis, self.joint_expression_basis, self.skinning_weights)  # fmt: skip
        if self.expression_scale is not None and self.joint_expression_basis is not None:
            return False  # joints move by the expression as it is, vertices by the scaled one
        return len(self.joint_names) > 0 and not any(x is not None and x.requires_grad for x in arrays)

    def _factors(self, identity: Tensor, expression: Tensor | None) -> Tensor | None:
        """All coefficients of a model in one row each; None where some are missing."""
        if expression is None or identity.shape[1] < len(self.identity_basis):
            return None
        if expression.shape[1] < len(self.expression_basis):
            return None
        if self.expression_scale is not None:
            expression = expression * (1 + identity @ self.expression_scale.to(identity))[:, None]
        return torch.cat([identity, expression], 1)

    @typed
    def scale(self, identity: Float[Tensor, "b k"]) -> Float[Tensor, "b"]:
        """Factor on expression displacements: the head's size relative to the mean."""
        if self.expression_scale is None:
            return torch.ones_like(identity[:, 0])
        return 1 + identity @ self.expression_scale[: identity.shape[1]].to(identity)

    @typed
    def joints(
        self, identity: Float[Tensor, "b k"], expression: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b j 3"]:
        """Rest positions of the joints, metres."""
        k = identity.shape[1]
        basis = self.joint_identity_basis[:k].flatten(1).to(identity)
        rest = torch.addmm(self.joint_template.reshape(1, -1).to(identity), identity, basis)
        if expression is not None and self.joint_expression_basis is not None:
            e = expression.shape[1]
            rest = rest.addmm(expression, self.joint_expression_basis[:e].flatten(1).to(identity))
        return rest.view(-1, *self.joint_template.shape)

    @typed
    def forward(
        self,
        identity: Float[Tensor, "b k"],
        expression: Float[Tensor, "b e"] | None = None,
        rotations: Float[Tensor, "b j 3"] | None = None,
        translation: Float[Tensor, "b 3"] | None = None,
        *,
        backend: Backend = "auto",
    ) -> Posed:
        """Identity, expression and pose to vertices and joints.

        Args:
            identity: Identity coefficients, standard deviations.
            expression: Expression coefficients.
            rotations: Rotation vector of every joint relative to its parent; none for the rest pose.
            translation: Added to everything, metres.
            backend: As for `ops.skin`.
        """
        factors = self._factors(identity, expression) if self._is_constant else None
        if rotations is not None and factors is not None:
            posed = pose_mesh(self._basis, factors, rotations, backend=backend)
            if translation is None:
                return Posed(vertices=posed.vertices, joints=posed.joints, rest=posed.rest)
            moved = posed.vertices + translation[:, None], posed.joints + translation[:, None]
            return Posed(vertices=moved[0], joints=moved[1], rest=posed.rest)
        joints = self.joints(identity, expression)
        if rotations is None:
            vertices = rest = self._rest(identity, expression, None)
        else:
            R, maps = pose_joints(self.joint_parents, joints, rotations, backend=backend)
            rest = self._rest(identity, expression, R)
            vertices = skin(rest, self.skinning_weights.to(rest), maps, backend=backend)
            joints = (maps[..., :3, :3] @ joints[..., None])[..., 0] + maps[..., :3, 3]
        if translation is not None:
            vertices, joints = vertices + translation[:, None], joints + translation[:, None]
        return Posed(vertices=vertices, joints=joints, rest=rest)
