"""What drives an avatar, in terms that no model owns."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Motion:
    """52 ARKit coefficients, joint rotations and root translation over time, at a constant rate."""

    fps: float
    expression: Float[Tensor, "t 52"]
    """ARKit coefficients in Apple's order (`types.arkit.ARKIT_NAMES`), nominally 0..1."""
    rotations: dict[str, Float[Tensor, "t 3"]] = field(default_factory=dict)
    """Rotation vectors by joint name, each relative to its parent: root, neck, head, jaw, eye_left, eye_right, ...

    Joints that are not named stay at rest. Gaze lives in the eyeLook coefficients; eye rotations add to them.
    """
    translation: Float[Tensor, "t 3"] | None = None
    """Root translation, metres; none for a head that stays in place."""
    confidence: Float[Tensor, "t"] | None = None
    """0..1 where the source tells it; 0 where a frame was bridged."""
    source: str = ""
    """Where it came from, in words: a file name, "built-in demo", ..."""

    def check(self) -> None:
        """Checks what types do not say, of a motion that comes from a file.

        Raises:
            ValueError: no rate, other than 52 coefficients, parts of other lengths, or values that are not finite.
        """
        if not (isinstance(self.fps, (int, float)) and 0 < self.fps < float("inf")):
            raise ValueError(f"Motion: {self.fps} frames per second; expected a positive number.")
        if self.expression.ndim != 2 or self.expression.shape[1] != 52:
            raise ValueError(f"Motion: expression is {list(self.expression.shape)}; expected [t, 52].")
        parts = {"expression": self.expression, "translation": self.translation}
        parts |= {f"rotation of {name}": value for name, value in self.rotations.items()}
        for name, value in parts.items():
            if value is None:
                continue
            if name != "expression" and value.shape != (self.frames, 3):
                raise ValueError(f"Motion: {name} is {list(value.shape)}; expected [{self.frames}, 3].")
            if not torch.isfinite(value).all():
                raise ValueError(f"Motion: {name} has values that are not finite.")
        if self.confidence is not None and self.confidence.shape != (self.frames,):
            raise ValueError(f"Motion: confidence is {list(self.confidence.shape)}; expected [{self.frames}].")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.expression.shape[0]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps
