"""Splats that ride on a rig: what makes an avatar photoreal and gives it hair."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

GROUP_NAMES: tuple[str, ...] = ("skin", "hair", "mouth", "eyes", "other")
"""Of `Gaussians.group`: 0 surface, 1 hair, 2 inside of the mouth, 3 eyes, 4 the rest (glasses, collar, clothes)."""
BASIS_ROWS: dict[str, slice] = {
    "offsets": slice(0, 3),
    "quats": slice(3, 7),
    "log_scales": slice(7, 10),
    "colour": slice(10, 13),
    "logit_opacities": slice(13, 14),
}
"""Columns of `Gaussians.basis`."""
TURN = 3
"""Columns that `Gaussians.mixing` may have beyond the rig's shapes: the rotation vector R_world_head, radians."""
SH_COUNTS = (1, 4, 9)
"""Coefficients per colour of the degrees that an avatar may have: 0, 1, 2."""


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Splats bound to the triangles of a rig.

    A splat lives in its triangle's frame and in units of its triangle's size, so that it turns and stretches with it:
    see `ops.rig_splats`. `render.gaussians.pose_gaussians` brings it into the world.
    """

    face: Int[Tensor, "n"]
    """int32, triangle of `models.anchors.with_anchors(rig)`: the rig's own, then one for every joint."""
    barycentrics: Float[Tensor, "n 3"]
    """Where on the triangle."""
    offsets: Float[Tensor, "n 3"]
    """From there, in the triangle's frame, in units of its size."""
    quats: Float[Tensor, "n 4"]
    """wxyz, relative to the triangle's frame; need not be of unit length."""
    log_scales: Float[Tensor, "n 3"]
    """Natural logarithm of the standard deviations, in units of the triangle's size."""
    logit_opacities: Float[Tensor, "n"]
    """Before the sigmoid."""
    sh: Float[Tensor, "n k 3"]
    """Real spherical harmonics of the sRGB colour less 0.5, in 3DGS's order and sign, degree 0 to 2. Directions are in
    the head joint's frame, so that they turn with the head."""
    mixing: Float[Tensor, "e s"] | None = None
    """Components of `basis` from the rig's shape coefficients and, where there are `TURN` columns more, from the
    rotation vector of the head in the world: what its turn changes beside moving it."""
    basis: Float[Tensor, "e n 14"] | None = None
    """Change of the attributes for each component at 1: offsets 3, quats 4 (added, then normalised), log_scales 3,
    colour 3 (of the first SH coefficient), logit_opacities 1; see `BASIS_ROWS`."""
    limits: Float[Tensor, "e 2"] | None = None
    """Least and greatest value of each component in the footage: posing keeps them within."""
    group: UInt8[Tensor, "n"]
    """Index into `group_names`."""
    group_names: tuple[str, ...] = GROUP_NAMES

    def __post_init__(self) -> None:
        """Shapes must agree.

        Raises:
            ValueError: they do not, or the SH count is none of 1, 4, 9, or only one of mixing and basis is given.
        """
        n = len(self.face)
        expected = {"face": (n,), "barycentrics": (n, 3), "offsets": (n, 3), "quats": (n, 4), "log_scales": (n, 3),
                    "logit_opacities": (n,), "group": (n,)}  # fmt: skip
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Gaussians: {name} is {tuple(getattr(self, name).shape)}; expected {shape}.")
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[1] not in SH_COUNTS or self.sh.shape[2] != 3:
            raise ValueError(f"Gaussians: sh is {tuple(self.sh.shape)}; expected ({n}, 1, 4 or 9, 3).")
        if (self.mixing is None) != (self.basis is None):
            raise ValueError("Gaussians: mixing and basis go together; give both or neither.")
        if self.mixing is not None and self.basis is not None:
            e = len(self.mixing)
            if self.mixing.ndim != 2 or tuple(self.basis.shape) != (e, n, 14):
                raise ValueError(
                    f"Gaussians: mixing is {tuple(self.mixing.shape)} and basis {tuple(self.basis.shape)}; "
                    f"expected (e, shapes) and (e, {n}, 14)."
                )
        if self.limits is not None and (self.mixing is None or tuple(self.limits.shape) != (len(self.mixing), 2)):
            raise ValueError(f"Gaussians: limits is {tuple(self.limits.shape)}; expected one row of 2 per component.")

    @property
    def count(self) -> int:
        """Number of splats."""
        return len(self.face)

    @property
    def degree(self) -> int:
        """Of the spherical harmonics."""
        return SH_COUNTS.index(self.sh.shape[1])

    def check(self, faces: int, shapes: int) -> None:
        """Checks the content against the rig that the splats are bound to.

        Args:
            faces: Triangles of the rig with its anchors.
            shapes: Blendshapes of the rig.

        Raises:
            ValueError: faces or groups out of range, values that are not finite, zero quaternions, or a mixing matrix
                for another number of shapes.
        """
        if self.count and not (0 <= int(self.face.min()) and int(self.face.max()) < faces):
            raise ValueError(
                f"Gaussians: faces {int(self.face.min())} to {int(self.face.max())} for a rig of {faces} triangles."
            )
        if self.count and int(self.group.max()) >= len(self.group_names):
            raise ValueError(f"Gaussians: group {int(self.group.max())}, but only {len(self.group_names)} are named.")
        if self.mixing is not None and self.mixing.shape[1] not in (shapes, shapes + TURN):
            raise ValueError(f"Gaussians: mixing is for {self.mixing.shape[1]} shapes, and the rig has {shapes}.")
        names = ("barycentrics", "offsets", "quats", "log_scales", "logit_opacities", "sh", "mixing", "basis",
                 "limits")  # fmt: skip
        for name in names:
            value = getattr(self, name)
            if value is not None and not torch.isfinite(value).all():
                raise ValueError(f"Gaussians: {name} has values that are not finite.")
        if self.count and float(self.quats.detach().norm(dim=-1).min()) == 0:
            raise ValueError("Gaussians: a quaternion is zero.")

    def select(self, keep: Tensor) -> "Gaussians":
        """Some of the splats: a mask or indices."""
        return Gaussians(
            **{name: getattr(self, name)[keep] for name in _PER_SPLAT},
            mixing=self.mixing,
            limits=self.limits,
            basis=None if self.basis is None else self.basis[:, keep],
            group_names=self.group_names,
        )


_PER_SPLAT = ("face", "barycentrics", "offsets", "quats", "log_scales", "logit_opacities", "sh", "group")
