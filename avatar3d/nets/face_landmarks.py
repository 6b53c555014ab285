"""478 landmarks of one face from a window around it: Face Mesh V2."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.nets.crop import Square, crop
from avatar3d.nets.face_detector import Detection
from avatar3d.nets.runtime import LiteNetwork
from avatar3d.types.face_points import mirror_points
from avatar3d.types.landmarks import LEFT_EYE_OUTER, RIGHT_EYE_OUTER

COUNT = 478
SIDE = 256
MARGIN = 1.5
"""Side of the window in terms of the face's box."""
APART = 0.02
"""Mean distance, as a share of the window, from which two looks are not of one face. Usual are 0.004, at a profile
0.015."""


@dataclass(frozen=True, eq=False)
class FaceLandmarks:
    """One face in one picture."""

    points: Float[Tensor, "478 3"]
    """x, y in pixels, pixel centres at (i + 0.5, j + 0.5); z in the same scale, away from the camera, 0 near the
    middle of the head."""
    presence: float
    """Probability that the window shows a face, 0 to 1."""
    box: Float[Tensor, "4"]
    """x0, y0, x1, y1 around the landmarks, pixels; the upper edge is the hairline's, not the skull's."""
    blendshapes: Float[Tensor, "52"] | None = None
    """ARKit coefficients in the order of `ARKIT_NAMES`, 0 to 1; None where they were not asked for."""
    spread: Float[Tensor, "478"] | None = None
    """How far each landmark wanders when the window around the face moves, pixels; None unless refined."""
    id: int = 0
    """Number of the face, the same through a video."""

    @property
    def size(self) -> float:
        """Longer side of the box, pixels."""
        return float((self.box[2:] - self.box[:2]).max())

    @property
    def interocular(self) -> float:
        """Distance of the outer eye corners in the picture, pixels."""
        return float(torch.linalg.vector_norm(self.points[RIGHT_EYE_OUTER, :2] - self.points[LEFT_EYE_OUTER, :2]))


def window_of_detection(detection: Detection) -> Square:
    """Where the landmark network should look for a detected face."""
    x0, y0, x1, y1 = detection.box.tolist()
    return Square((x0 + x1) / 2, (y0 + y1) / 2, MARGIN * max(x1 - x0, y1 - y0), detection.roll)


def window_of_points(points: Float[np.ndarray, "478 d"]) -> Square:
    """Where the landmark network should look for a face that it has seen: upright by the eyes, around all points."""
    dx, dy = points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]
    angle = math.atan2(float(dy), float(dx))
    c, s = math.cos(angle), math.sin(angle)
    upright = points[:, :2] @ np.array([[c, -s], [s, c]])
    low, high = upright.min(0), upright.max(0)
    u, v = ((low + high) / 2).tolist()
    return Square(c * u - s * v, s * u + c * v, MARGIN * float((high - low).max()), angle)


class Reading(NamedTuple):
    """What the landmark network says of one window."""

    points: Float[np.ndarray, "478 3"]
    """Image pixels."""
    presence: float
    """Probability that the window shows a face."""
    logit: float
    """The same before the sigmoid, where sure ones still differ."""
    tongue: float
    """Probability that the tongue is out. The network's third output, which its makers do not describe: it is 0.34 on
    the test photograph with a tongue stuck out, and under 0.04 on 70 others."""


class LandmarkNet:
    """The landmark network on one window of an image."""

    def __init__(self, *, threads: int = 1) -> None:
        """Loads the network.

        Raises:
            AssetError: the network's file is missing or damaged.
        """
        self._network = LiteNetwork("face_landmarks", threads=threads)
        self._mirror = mirror_points().numpy()

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], window: Square, *, both_ways: bool = False) -> Reading:
        """Landmarks in image pixels, face presence and tongue.

        Args:
            image: sRGB.
            window: Where the face is.
            both_ways: Looks at the mirrored window too and takes the mean: half the variance, and a face and its
                mirror image are seen alike. Where the two looks disagree, the surer one counts. Twice the time.
        """
        seen = crop(image, window, SIDE, extend=True)
        raw, certainty, tongue = self._look(seen)
        if both_ways:
            other, sure, _ = self._look(seen.flip(1))
            other = other[self._mirror] * [-1, 1, 1] + [1, 0, 0]
            shares = np.exp(np.minimum([certainty, sure], 0))  # about the presences
            if np.linalg.norm((raw - other)[:, :2], axis=1).mean() > APART:
                shares = np.array([certainty >= sure, certainty < sure])
            raw = (shares[0] * raw + shares[1] * other) / shares.sum()
            certainty = (certainty + sure) / 2
        points = np.empty((COUNT, 3))
        points[:, :2] = window.to_image(raw[:, :2])
        points[:, 2] = raw[:, 2] * window.size
        presence = 1 / (1 + math.exp(-max(-80.0, certainty)))
        return Reading(points, presence, certainty, tongue)

    def _look(self, seen: Float[Tensor, "side side 3"]) -> tuple[Float[np.ndarray, "478 3"], float, float]:
        """Landmarks as shares of the window, certainty of the face, tongue."""
        raw, logit, tongue = self._network(seen, scale=1 / 255)
        return raw.reshape(COUNT, 3).astype(np.float64) / SIDE, float(logit.item()), float(tongue.item())
