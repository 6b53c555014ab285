"""Settings of the tracker."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """How a head is tracked through footage. Lengths as shares of the inter-ocular distance where not said."""

    focal: float | None = None
    """Focal length in pixels, where it is known and the footage does not say."""
    keyframes: int = 40
    """Frames, spread in pose and expression, from which identity and focal length are found together."""
    joint_iterations: int = 14
    """Steps of that joint fit."""
    iterations: int = 6
    """Steps of the fit of every frame by itself."""
    smooth_iterations: int = 1
    """Steps of the fit of all frames of a window together; 0 leaves every frame by itself."""
    window: int = 256
    """Frames that are in memory at once."""
    overlap: int = 32
    """Frames of the next window that a window looks ahead to."""
    sigma: float = 0.012
    """Typical error of a landmark."""
    lid_sigma: float = 0.0015
    """Error of the opening between two lids."""
    lip_sigma: float = 0.003
    """Error of the opening between the lips."""
    cauchy: float = 3.0
    """Errors beyond this many sigmas lose their weight."""
    discount: float = 0.1
    """Factor on all landmarks, whose errors are not independent."""
    l1: float = 1.0
    """Cost of an expression coefficient at 1, in units of half a squared sigma; draws unused ones to zero."""
    expression_sigma: float = 2.0
    """Gaussian prior on expression coefficients."""
    told_sigma: float = 0.12
    """Error of the detector's own coefficients, where they are asked for; see `track.told`."""
    focal_sigma: float = 0.25
    """Prior on the logarithm of an unknown focal length about 1.2 times the longer side of the picture."""
    hint_sigma: float = 0.05
    """The same about a focal length that the footage's metadata gives."""
    smooth_rotation: float = 0.06
    """Second difference of rotation between frames that is usual at 30 frames a second, degrees."""
    smooth_translation: float = 0.45
    """Second difference of translation, mm."""
    smooth_expression: float = 0.035
    """Second difference of expression coefficients."""
    surface_rounds: int = 1
    """Times that a free-form residual is found and the keyframes are fitted again; 0 for none."""
    surface_sigma: float = 2.0
    """Usual free-form displacement of the surface, mm."""
    surface_length: float = 12.0
    """Distance over which it varies, mm."""
    photometric: bool = False
    """Whether keyframes are fitted to their pixels too, where the footage is at hand; see `track.photometric`. Turns
    and depth come out truer, but the projected landmarks move off the detector's marks."""
    bridge: float = 0.5
    """Gaps up to this many seconds are bridged along the motion on both sides; longer ones on a straight path."""
    outlier: float = 0.035
    """Median landmark error from which a frame is dropped, if it is also far above what is usual in this footage."""
