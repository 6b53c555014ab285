"""Pinhole cameras, in OpenCV's convention: +x right, +y down, +z forward."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A calibrated pinhole camera.

    Pixel centres lie at (i + 0.5, j + 0.5). Arrays of any kind are accepted and kept as float64 tensors.
    """

    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels."""
    width: int
    """Image width in pixels."""
    height: int
    """Image height in pixels."""
    T_camera_world: Float[Tensor, "4 4"] = None  # type: ignore[assignment]
    """Extrinsics: maps world to camera coordinates, metres. Identity when left out."""
    distortion: Float[Tensor, "k"] | None = None
    """OpenCV's (k1, k2, p1, p2, k3), or None for none."""

    def __post_init__(self) -> None:
        K = torch.as_tensor(self.K)
        T = torch.eye(4) if self.T_camera_world is None else torch.as_tensor(self.T_camera_world)
        if K.shape != (3, 3) or T.shape != (4, 4):
            raise ValueError(
                f"Camera: K is {tuple(K.shape)} and T_camera_world {tuple(T.shape)}; expected [3,3], [4,4]."
            )
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"Camera: size {self.width} x {self.height}; expected positive pixels.")
        object.__setattr__(self, "K", K if K.requires_grad else K.double())
        object.__setattr__(self, "T_camera_world", T if T.requires_grad else T.double())
        if self.distortion is not None:
            object.__setattr__(self, "distortion", torch.as_tensor(self.distortion).double().flatten())

    @classmethod
    def from_focal(cls, focal: float, width: int, height: int, T_camera_world: Tensor | None = None) -> "Camera":
        """A camera with square pixels and a centred principal point; `focal` in pixels."""
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
        return cls(K, width, height, T_camera_world)  # type: ignore[arg-type]

    @property
    def focal(self) -> float:
        """Mean focal length in pixels."""
        return float((self.K[0, 0] + self.K[1, 1]) / 2)

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera for an image scaled to another size."""
        scale = torch.diag(torch.tensor([width / self.width, height / self.height, 1.0], dtype=torch.float64))
        return replace(self, K=scale @ self.K.double(), width=width, height=height)
