"""Posing of joints in plain torch."""

from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import posed_rest_transforms


def pose_joints(
    parents: tuple[int, ...], rest: Float[Tensor, "b j 3"], rotvecs: Float[Tensor, "b j 3"]
) -> tuple[Float[Tensor, "b j 3 3"], Float[Tensor, "b j 4 4"]]:
    """See `ops.pose_joints`."""
    R = rotvec_to_matrix(rotvecs)
    return R, posed_rest_transforms(parents, rest, R)
