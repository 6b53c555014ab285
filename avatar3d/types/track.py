"""What tracking found out about footage: who is in it, and how the head moved in every frame."""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.types.camera import Camera


@dataclass(frozen=True, kw_only=True)
class DroppedFrame:
    """A frame that was not tracked, and why in words."""

    index: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Track:
    """A parametric head (or body) through footage.

    One entry per frame of the footage, `t` in all; where `tracked` is false the entry bridges its neighbours.
    The world is right-handed with +y up; the head's mean pose faces +z near the origin.
    """

    model: str
    """Model id: "head", "flame", "ict", ..."""
    identity: Float[Tensor, "k"]
    """Identity coefficients, shared by all frames."""
    offsets: Float[Tensor, "v 3"] | None = None
    """Free-form residual on the neutral vertices, metres."""
    expression: Float[Tensor, "t e"]
    """Expression coefficients in the model's own terms (ARKit order where the model has them)."""
    rotation: Float[Tensor, "t 3"]
    """Head rotation: rotation vector of T_world_head."""
    translation: Float[Tensor, "t 3"]
    """Head translation of T_world_head, metres."""
    joints: dict[str, Float[Tensor, "t 3"]] = field(default_factory=dict)
    """Rotation vectors of further joints by name (FLAME: jaw, eye_left, eye_right)."""
    cameras: tuple[Camera, ...]
    """The cameras, given or solved."""
    camera_of_frame: Int[Tensor, "t"]
    """Index into `cameras` for every frame."""
    fps: float
    time: Float[Tensor, "t"]
    """Seconds."""
    landmarks: Float[Tensor, "t n 2"] | None = None
    """Detections in pixels; NaN where there are none."""
    residual: Float[Tensor, "t"]
    """Median landmark residual, pixels; NaN where not tracked."""
    confidence: Float[Tensor, "t"]
    """0..1; 0 where not tracked."""
    tracked: Bool[Tensor, "t"]
    dropped: tuple[DroppedFrame, ...] = ()
    cuts: tuple[int, ...] = ()
    """First frames of new shots."""
    focal_determined: bool = True
    """False where the footage cannot tell the focal length and a typical one was assumed."""
    report: dict = field(default_factory=dict)
    """What `--report` prints about tracking."""
