"""What drives an avatar, in terms that no model owns."""

from dataclasses import dataclass, field

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

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.expression.shape[0]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps
