"""From a model and one person's coefficients to a self-contained rig, and from a rig to posed vertices."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.models.arkit import arkit_shapes
from avatar3d.models.lids import close_lids
from avatar3d.models.linear import LinearModel
from avatar3d.ops import pose_joints, skin
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Rig
from avatar3d.typing import Backend, typed


@typed
def build_rig(
    model: LinearModel,
    identity: Float[Tensor, "k"],
    offsets: Float[Tensor, "v 3"] | None = None,
    *,
    shapes: Float[Tensor, "52 v 3"] | None = None,
) -> Rig:
    """One person's neutral mesh with the 52 ARKit shapes, joints and skinning weights on the model's topology.

    Args:
        model: Any linear model.
        identity: Identity coefficients; fewer than the model has are padded.
        offsets: Free-form residual on the neutral vertices, metres.
        shapes: ARKit displacements of the mean identity, metres; `models.arkit.arkit_shapes` by default: the
            model's own where it has them, else those of `head`, carried over.

    Raises:
        ValueError: the model has neither ARKit shapes nor landmarks.
    """
    neutral = model.rest_vertices(identity[None])[0]
    if offsets is not None:
        neutral = neutral + offsets.to(neutral)
    if shapes is None:
        shapes = arkit_shapes(model)
    shapes = shapes.to(neutral) * model.scale(identity[None])[0]
    for side in ("Left", "Right"):
        blink = ARKIT_INDEX[f"eyeBlink{side}"]
        shapes[blink] = close_lids(neutral, shapes[blink], model.regions, side.lower())
    landmarks = model.landmarks.get("mediapipe478")
    return Rig(
        neutral=neutral,
        faces=model.faces,
        uvs=model.uvs,
        uv_faces=model.uv_faces,
        shapes=shapes,
        shape_names=ARKIT_NAMES,
        joint_names=model.joint_names,
        joint_parents=model.joint_parents,
        joint_positions=model.joints(identity[None])[0],
        skinning_weights=model.skinning_weights,
        regions=dict(model.regions),
        landmark_faces=landmarks.faces if landmarks else None,
        landmark_weights=landmarks.weights if landmarks else None,
    )


@typed
def pose_rig(
    rig: Rig,
    expression: Float[Tensor, "b s"],
    rotations: dict[str, Float[Tensor, "b 3"]] | None = None,
    translation: Float[Tensor, "b 3"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b v 3"]:
    """Vertices of a rig for a batch of ARKit coefficients, joint rotations and translations, metres.

    Args:
        rig: The rig.
        expression: Coefficients of the rig's shapes, in their order.
        rotations: Rotation vectors by joint name, each relative to its parent. Joints that are not named stay at
            rest; names that the rig does not have (a body's, for a head) move nothing.
        translation: Added to everything, metres.
        backend: As for `ops.skin`.

    Raises:
        ValueError: not as many coefficients as the rig has shapes.
    """
    if expression.shape[1] != len(rig.shape_names):
        raise ValueError(
            f"pose_rig: {expression.shape[1]} coefficients for a rig of {len(rig.shape_names)} shapes; pass one each."
        )
    shapes, neutral = rig.shapes.to(expression), rig.neutral.to(expression)
    vertices = torch.addmm(neutral.reshape(1, -1), expression, shapes.flatten(1)).view(-1, *neutral.shape)
    named = {name: r for name, r in (rotations or {}).items() if name in rig.joint_names}
    if named:
        zero = expression.new_zeros(len(expression), 3)
        rotvecs = torch.stack([named.get(name, zero).to(zero) for name in rig.joint_names], 1)
        rest = rig.joint_positions.to(expression).expand(len(expression), -1, -1)
        maps = pose_joints(rig.joint_parents, rest, rotvecs, backend=backend).T_posed_rest
        vertices = skin(vertices, rig.skinning_weights.to(expression), maps, backend=backend)
    return vertices if translation is None else vertices + translation.to(vertices)[:, None]
