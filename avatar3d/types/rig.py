"""A personalised, animatable mesh: what an engine calls a skinned mesh with morph targets."""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Neutral mesh of one person with its 52 ARKit shapes, joints and skinning weights, in model space.

    Self-contained: rendering, driving and exporting need no model file.
    """

    neutral: Float[Tensor, "v 3"]
    """Rest-pose vertices, metres, +y up, face along +z."""
    faces: Int[Tensor, "f 3"]
    uvs: Float[Tensor, "u 2"]
    """Texture coordinates in 0..1, origin at the lower left."""
    uv_faces: Int[Tensor, "f 3"]
    """Index into `uvs` for every corner."""
    shapes: Float[Tensor, "s v 3"]
    """Blendshape displacements at coefficient 1, metres."""
    shape_names: tuple[str, ...]
    """The 52 ARKit names in Apple's order."""
    joint_names: tuple[str, ...]
    joint_parents: tuple[int, ...]
    """Parent index of every joint, -1 for the root; parents come before children."""
    joint_positions: Float[Tensor, "j 3"]
    """Rest positions, metres. Rest rotations are the identity."""
    skinning_weights: Float[Tensor, "v j"]
    regions: dict[str, Bool[Tensor, "v"]] = field(default_factory=dict)
    """Named vertex masks."""
    landmark_faces: Int[Tensor, "n"] | None = None
    """Face of every one of the 478 landmarks."""
    landmark_weights: Float[Tensor, "n 3"] | None = None
    """Barycentric coordinates of the 478 landmarks."""
