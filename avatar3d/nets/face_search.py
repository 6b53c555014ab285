"""Faces in one picture, wherever, however large and whichever way up.

Joins the detector (where may a face be?) and the landmark network (where is it exactly, is it one at all?).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from avatar3d.nets.crop import Square
from avatar3d.nets.face_detector import SIDE, Detection, FaceDetector, overlap, tiles
from avatar3d.nets.face_landmarks import LandmarkNet, Reading, window_of_detection, window_of_points

PASSES = 4
"""Looks at most at a newly detected face, each from where the last one saw it, until two agree."""
HOPELESS = 0.01
"""Presence below which two looks in a row end it."""
SAME_FACE = 0.4
"""Overlap of landmark boxes from which two findings are one face."""
CONFIRM = 0.65
"""Detector score that a new face must reach once more in windows set around its landmarks. Of 40 true faces the lowest
had 0.66 (cut off by the frame), of 5 false ones (hair, ears) that the landmark network believed one was above."""
DEEP_PRESENCE = 0.99
"""Presence that a face must have that only turned windows or fine tiles show: they show many false ones, too."""
PROFILE_SCORE = 0.8
"""Detector score from which a still's face that no look settles on is looked at from `_around`. Strict profiles have
0.72 to 0.93; of what is no face a held ball had most, 0.75."""
PROFILE_LOOKS = 3
"""Of the looks from `_around` that must settle on the same place."""
CROWD_TILE = 0.115
"""Side of the tiles in which a crowd's faces are looked for, relative to the picture's long side (but at least 0.9 of
the network's, which sees faces of a tenth of that): about 150 tiles, 0.4 s."""
CROWD_SCORE, CROWD_AGAIN = 0.75, 0.6
"""Detector scores that they must have there, and once more around the landmarks: enlarged, they lose."""


def box_of(points: Float[np.ndarray, "478 d"]) -> Float[np.ndarray, "4"]:
    """x0, y0, x1, y1 around landmarks."""
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])


def size_of(reading: Reading) -> float:
    """Longer side of the box around the landmarks, pixels."""
    return float(np.ptp(reading.points[:, :2], axis=0).max())


def same_face(a: Reading, b: Reading) -> bool:
    """Whether two findings lie on one another."""
    return float(overlap(box_of(a.points), box_of(b.points)[None])[0]) > SAME_FACE


def _inside(window: Square, reading: Reading) -> bool:
    """Whether a window is centred on a face that is known already and about as large."""
    known = window_of_points(reading.points)
    return math.hypot(window.x - known.x, window.y - known.y) < 0.2 * known.size and window.size > 0.4 * known.size


def _around(window: Square) -> list[Square]:
    """27 windows about one: up to 15% beside it, 30 degrees turned, and a quarter smaller or larger."""
    steps = itertools.product((0.8, 1.0, 1.25), (-1, 0, 1), (-1, 0, 1))
    return [
        replace(window, x=window.x + 0.15 * x * window.size, size=s * window.size, angle=window.angle + a * math.pi / 6)
        for s, a, x in steps
    ]


def agree(a: Square, b: Square) -> bool:
    """Whether two looks at a face saw it at the same place, size (within 1.4) and roll (within 25 degrees)."""
    turn = (a.angle - b.angle + math.pi) % (2 * math.pi) - math.pi
    return (
        math.hypot(a.x - b.x, a.y - b.y) < 0.15 * max(a.size, b.size)
        and 1 / 1.4 < a.size / max(b.size, 1e-6) < 1.4
        and abs(turn) < math.radians(25)
    )


class FaceSearch:
    """Finds faces and settles looks at them; keeps nothing between calls."""

    def __init__(
        self, detector: FaceDetector, net: LandmarkNet, *, max_faces: int, min_presence: float, both_ways: bool
    ) -> None:
        """As `FaceLandmarker`."""
        self.detector = detector
        self._net = net
        self._max_faces = max_faces
        self._min_presence = min_presence
        self._both_ways = both_ways

    def still(self, image: np.ndarray) -> list[Reading]:
        """Faces of a single picture, largest first, with the time that stills have: strict profiles and crowds, too."""
        readings = self.search(image)
        if not readings:
            readings = self._profiles(image)
        if len(readings) < self._max_faces and not self._any_large(image, readings):
            self._crowd(image, readings)
            readings.sort(key=size_of, reverse=True)
        return readings[: self._max_faces]

    def search(self, image: np.ndarray) -> list[Reading]:
        """Faces anywhere in the picture, largest first.

        Stops at `max_faces`, or after the upright coarse windows if they show a face that fills a tenth of the
        frame's short side: small ones may be a crowd.
        """
        readings: list[Reading] = []
        for level, detections in enumerate(self.detector.search(image)):
            presence = self._min_presence if level <= 2 else max(self._min_presence, DEEP_PRESENCE)
            self.verify(image, detections, readings, presence)
            if len(readings) >= self._max_faces:
                break
            if level >= 2 and self._any_large(image, readings):
                break
        return sorted(readings, key=size_of, reverse=True)

    @staticmethod
    def _any_large(image: np.ndarray, readings: list[Reading]) -> bool:
        return any(size_of(reading) > 0.1 * min(image.shape[:2]) for reading in readings)

    def _profiles(self, image: np.ndarray) -> list[Reading]:
        """The face that the detector is sure of and from whose middle no look settles: from places around it."""
        for detections in itertools.islice(self.detector.search(image), 3):
            for detection in detections:
                if detection.score < PROFILE_SCORE:
                    continue
                looks = [self.settle(image, window) for window in _around(window_of_detection(detection))]
                settled = [look for look in looks if look is not None]
                agreed = [look for look in settled if sum(same_face(look, other) for other in settled) >= PROFILE_LOOKS]
                best = max(agreed, key=lambda look: look.logit, default=None)
                confirmed = None if best is None else self._confirm(image, best)
                if confirmed is not None:
                    return [confirmed]
        return []

    def _crowd(self, image: np.ndarray, readings: list[Reading]) -> None:
        """Appends faces that only enlarged tiles show."""
        height, width = image.shape[:2]
        windows = tiles(width, height, max(0.9 * SIDE, CROWD_TILE * max(height, width)))
        for detection in self.detector.detect_in(image, windows):
            window = window_of_detection(detection)
            if len(readings) >= self._max_faces or detection.score < CROWD_SCORE:
                break
            reading = None if any(_inside(window, known) for known in readings) else self.settle(image, window)
            if reading is None or reading.presence < DEEP_PRESENCE or any(same_face(reading, o) for o in readings):
                continue
            seen = [self._seen_again(image, window_of_points(reading.points), factor, 0.2) for factor in (1.3, 1.6, 2)]
            if any(again is not None and again.score >= CROWD_AGAIN for again in seen):
                readings.append(reading)

    def settle(self, image: np.ndarray, window: Square) -> Reading | None:
        """Looks until two looks in a row agree; None where they never do, or see no face."""
        before = 1.0
        for _ in range(PASSES):
            reading = self._net(image, window)
            seen = window_of_points(reading.points)
            if max(before, reading.presence) < HOPELESS or not 8 < seen.size < 8 * max(image.shape):
                return None
            before = reading.presence
            if reading.presence >= self._min_presence and agree(window, seen):
                again = self._net(image, seen)
                if again.presence >= self._min_presence and agree(seen, window_of_points(again.points)):
                    return again
            window = seen
        return None

    def _confirm(self, image: np.ndarray, reading: Reading) -> Reading | None:
        """Whether the detector, too, sees a face where the landmark network does, and which way up.

        Both networks can take a face for one that stands on its head. So the detector looks at all four quarter
        turns; where it prefers another one, the landmark network has the last word.
        """
        window = window_of_points(reading.points)
        upright = self._seen_again(image, window, 1.3, 0.2)
        score = upright.score if upright else 0.0
        for quarters in (1, 2, 3):
            turned = replace(window, angle=window.angle + quarters * math.pi / 2)
            detection = self._seen_again(image, turned, 1.3, 0.4)
            if detection is None or detection.score <= max(score, CONFIRM):
                continue
            other = self.settle(image, window_of_detection(detection))
            if other is not None and other.logit > reading.logit:
                reading, score = other, detection.score
        if score >= CONFIRM:
            return reading
        upright = self._seen_again(image, window, 1.0, 0.2)
        return reading if upright and upright.score >= CONFIRM else None

    def _seen_again(self, image: np.ndarray, window: Square, factor: float, shift: float) -> Detection | None:
        """The detector's best face in a window enlarged by a factor, if it is about as large and where the window is.

        Its centre may be off by a share `shift` of the window.
        """
        for detection in self.detector.detect_in(image, [replace(window, size=factor * window.size)]):
            x, y = ((detection.box[:2] + detection.box[2:]) / 2).tolist()
            placed = math.hypot(x - window.x, y - window.y) < shift * window.size
            if placed and 0.3 < detection.size / window.size < 1:
                return detection
        return None

    def verify(
        self, image: np.ndarray, detections: Iterable[Detection], readings: list[Reading], presence: float = 0.0
    ) -> None:
        """Appends the detections that prove to be faces of at least this presence and are not in `readings` yet."""
        for detection in list(detections)[: 4 * self._max_faces]:
            window = window_of_detection(detection)
            if any(_inside(window, reading) for reading in readings):
                continue
            reading = self.settle(image, window)
            if reading is None or reading.presence < presence or any(same_face(reading, other) for other in readings):
                continue
            reading = self._confirm(image, reading)
            if reading is None or any(same_face(reading, other) for other in readings):
                continue
            readings.append(self.closer(image, reading))

    def closer(self, image: np.ndarray, reading: Reading) -> Reading:
        """A settled reading, looked at both ways where that is asked for."""
        return self._net(image, window_of_points(reading.points), both_ways=True) if self._both_ways else reading
