"""avatar3d: from ordinary footage of a person to an animatable 3D avatar."""

__version__ = "0.1.0"
