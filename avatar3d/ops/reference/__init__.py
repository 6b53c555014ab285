"""The operations in plain torch: their definition, and the fallback where no compiler was."""

from avatar3d.ops.reference.skin import skin

__all__ = ["skin"]
