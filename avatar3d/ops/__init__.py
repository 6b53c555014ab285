"""Differentiable operations, each with a torch reference, a C++ kernel and a CUDA kernel."""

from avatar3d.ops.skin import skin

__all__ = ["skin"]
