"""Faces with landmarks: from one picture, or followed from frame to frame of a video.

Joins the detector (where may a face be?) and the landmark network (where is it exactly, is it one at all?).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.nets.blendshapes import BlendshapeNet
from avatar3d.nets.crop import Square
from avatar3d.nets.face_detector import SIDE, Detection, FaceDetector, overlap, tiles
from avatar3d.nets.face_landmarks import (
    FaceLandmarks,
    LandmarkNet,
    Reading,
    window_of_detection,
    window_of_points,
)
from avatar3d.typing import typed

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
REDETECT = 10
"""Frames between looks for faces that are not yet followed."""
SEARCH = 15
"""Frames between thorough searches of a video in which no face is known."""
RECOVER = 30
"""Frames for which a lost face is looked for where it was, in every frame."""
REMEMBER = 150
"""Frames for which a lost face keeps its number."""


def box_of(points: Float[np.ndarray, "478 d"]) -> Float[np.ndarray, "4"]:
    """x0, y0, x1, y1 around landmarks."""
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])


@dataclass
class _Known:
    """A face that is followed, or was `missed` frames ago."""

    id: int
    reading: Reading
    missed: int = 0

    @property
    def box(self) -> np.ndarray:
        return box_of(self.reading.points)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two boxes can be one face a moment apart: centres within 1.5 sizes, sizes within a factor of 2."""
    size_a, size_b = (float((box[2:] - box[:2]).max()) for box in (a, b))
    distance = float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))
    return distance < 1.5 * max(size_a, size_b) and 0.5 < size_a / max(size_b, 1e-6) < 2


def _agree(a: Square, b: Square) -> bool:
    """Whether two looks at a face saw it at the same place, size (within 1.4) and roll (within 25 degrees)."""
    turn = (a.angle - b.angle + math.pi) % (2 * math.pi) - math.pi
    return (
        math.hypot(a.x - b.x, a.y - b.y) < 0.15 * max(a.size, b.size)
        and 1 / 1.4 < a.size / max(b.size, 1e-6) < 1.4
        and abs(turn) < math.radians(25)
    )


class FaceLandmarker:
    """478 landmarks and 52 ARKit coefficients of each face.

    `detect` is for single pictures and keeps nothing. `track` is for the frames of a video in order and remembers
    faces between calls; call `reset` after a cut. Not to be shared between threads.
    """

    def __init__(
        self,
        *,
        max_faces: int = 1,
        min_presence: float = 0.5,
        min_score: float = 0.5,
        blendshapes: bool = True,
        both_ways: bool = False,
        threads: int = 1,
    ) -> None:
        """Loads the networks.

        Args:
            max_faces: Faces to find or follow at most. `track` looks for further ones until it has so many.
            min_presence: Faces of which the landmark network is less sure are dropped or lost, 0 to 1.
            min_score: The same for the detector.
            blendshapes: Whether to compute ARKit coefficients (0.6 ms a face).
            both_ways: Takes the mean of every face's landmarks and of those in the mirrored picture, for steadier
                and truer ones: `LandmarkNet`.
            threads: Threads of each network.

        Raises:
            AssetError: a network's file is missing or damaged.
        """
        if max_faces < 1:
            raise ValueError(f"max_faces is {max_faces}; expected 1 or more.")
        if not 0 < min_presence < 1:
            raise ValueError(f"min_presence is {min_presence}; expected between 0 and 1.")
        self.max_faces = max_faces
        self.min_presence = min_presence
        self._detector = FaceDetector(min_score=min_score, threads=threads)
        self._net = LandmarkNet(threads=threads)
        self._both_ways = both_ways
        self._blendshapes = BlendshapeNet() if blendshapes else None
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        """Forgets the faces that are followed, as after a cut. Numbers are not used again."""
        self._known: list[_Known] = []
        self._lost: list[_Known] = []
        self._since_look = self._since_search = 1 << 30

    def state(self) -> dict[str, Tensor]:
        """What it remembers of the frames so far."""
        faces = [*self._known, *self._lost]
        counters = [self._next_id, self._since_look, self._since_search, len(self._known)]
        points = np.stack([f.reading.points for f in faces]) if faces else np.zeros((0, 478, 3))
        readings = [[f.reading.presence, f.reading.logit, f.reading.tongue] for f in faces]
        return {
            "counters": torch.tensor(counters),
            "numbers": torch.tensor([[f.id, f.missed] for f in faces], dtype=torch.int64).reshape(-1, 2),
            "points": torch.from_numpy(points.astype(np.float64)),
            "readings": torch.tensor(readings, dtype=torch.float64).reshape(-1, 3),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on as after `state()`."""
        self._next_id, self._since_look, self._since_search, known = state["counters"].tolist()
        points, readings, numbers = state["points"].numpy(), state["readings"].tolist(), state["numbers"].tolist()
        faces = [
            _Known(number, Reading(p.copy(), *reading), missed)
            for (number, missed), p, reading in zip(numbers, points, readings, strict=True)
        ]
        self._known, self._lost = faces[:known], faces[known:]

    @typed
    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> list[FaceLandmarks]:
        """Faces of one picture, largest first; `id` is their place in the list.

        The whole frame and two sizes of tiles are searched for up to `max_faces`, and where they show none, turned
        windows and finer tiles until something is found. Then, as stills have the time: strict profiles, and crowds.
        """
        readings = self._search(image)
        if not readings:
            readings = self._profiles(image)
        if len(readings) < self.max_faces and not self._any_large(image, readings):
            self._crowd(image, readings)
            readings.sort(key=_size, reverse=True)
        return [self._face(reading, i) for i, reading in enumerate(readings[: self.max_faces])]

    @typed
    def track(self, image: UInt8[np.ndarray, "h w 3"]) -> list[FaceLandmarks]:
        """Faces of the next frame of a video, in the order of their `id`, which a face keeps."""
        followed, missing = [], []
        for known in self._known:
            reading = self._follow(image, known.reading)
            if reading is None:
                missing.append(known)
            else:
                followed.append(_Known(known.id, reading))
        self._known = self._distinct(followed)
        kept = {known.id for known in self._known}
        self._lost += missing + [known for known in followed if known.id not in kept]
        self._recover(image)
        self._look(image, force=bool(missing))
        for lost in self._lost:
            lost.missed += 1
        self._lost = [lost for lost in self._lost if lost.missed < REMEMBER]
        self._known.sort(key=lambda known: known.id)
        return [self._face(known.reading, known.id) for known in self._known]

    @typed
    def refine(self, image: UInt8[np.ndarray, "h w 3"], face: FaceLandmarks) -> FaceLandmarks:
        """The same face from the mean of seven looks, with a cue to how sure each landmark is. For stills, keyframes.

        Six looks are through windows that are shifted by 5%, scaled by up to 8% and turned by 6 degrees. Their spread
        (typically 0.7% of the inter-ocular distance for one look, so 0.3% for the mean) tells good faces from bad
        (rank correlation with the true error 0.7 on 17 annotated faces), good landmarks of one face from bad ones
        only weakly (0.16). About 45 ms.

        Returns:
            The face with new `points`, `box`, `blendshapes` and with `spread`: root mean square distance in the
            picture of a look from the mean.
        """
        before = face.points.double().numpy()
        windows = _perturbed(window_of_points(before))
        readings = [self._net(image, window, both_ways=self._both_ways) for window in windows]
        looks = np.stack([before, *(reading.points for reading in readings)])
        mean = looks.mean(0)
        wander = np.sqrt(((looks - mean)[..., :2] ** 2).sum(-1).mean(0))
        tongue = float(np.mean([reading.tongue for reading in readings]))
        refined = self._face(Reading(mean, face.presence, 0.0, tongue), face.id)
        return replace(refined, spread=torch.from_numpy(wander.astype(np.float32)))

    def _face(self, reading: Reading, number: int) -> FaceLandmarks:
        points = torch.from_numpy(reading.points.astype(np.float32))
        return FaceLandmarks(
            points=points,
            presence=reading.presence,
            box=torch.from_numpy(box_of(reading.points).astype(np.float32)),
            blendshapes=self._blendshapes(points, tongue=reading.tongue) if self._blendshapes else None,
            id=number,
        )

    def _search(self, image: np.ndarray) -> list[Reading]:
        """Faces anywhere in the picture, largest first.

        Stops at `max_faces`, or after the upright coarse windows if they show a face that fills a tenth of the
        frame's short side: small ones may be a crowd.
        """
        readings: list[Reading] = []
        for level, detections in enumerate(self._detector.search(image)):
            presence = self.min_presence if level <= 2 else max(self.min_presence, DEEP_PRESENCE)
            self._verify(image, detections, readings, presence)
            if len(readings) >= self.max_faces:
                break
            if level >= 2 and self._any_large(image, readings):
                break
        return sorted(readings, key=_size, reverse=True)

    @staticmethod
    def _any_large(image: np.ndarray, readings: list[Reading]) -> bool:
        return any(_size(reading) > 0.1 * min(image.shape[:2]) for reading in readings)

    def _profiles(self, image: np.ndarray) -> list[Reading]:
        """The face that the detector is sure of and from whose middle no look settles: from places around it."""
        for detections in itertools.islice(self._detector.search(image), 3):
            for detection in detections:
                if detection.score < PROFILE_SCORE:
                    continue
                looks = [self._settle(image, window) for window in _around(window_of_detection(detection))]
                settled = [look for look in looks if look is not None]
                agreed = [look for look in settled if sum(_same(look, other) for other in settled) >= PROFILE_LOOKS]
                best = max(agreed, key=lambda look: look.logit, default=None)
                confirmed = None if best is None else self._confirm(image, best)
                if confirmed is not None:
                    return [confirmed]
        return []

    def _crowd(self, image: np.ndarray, readings: list[Reading]) -> None:
        """Appends faces that only enlarged tiles show."""
        height, width = image.shape[:2]
        windows = tiles(width, height, max(0.9 * SIDE, CROWD_TILE * max(height, width)))
        for detection in self._detector.detect_in(image, windows):
            window = window_of_detection(detection)
            if len(readings) >= self.max_faces or detection.score < CROWD_SCORE:
                break
            reading = None if any(_inside(window, known) for known in readings) else self._settle(image, window)
            if reading is None or reading.presence < DEEP_PRESENCE or any(_same(reading, o) for o in readings):
                continue
            seen = [self._seen_again(image, window_of_points(reading.points), factor, 0.2) for factor in (1.3, 1.6, 2)]
            if any(again is not None and again.score >= CROWD_AGAIN for again in seen):
                readings.append(reading)

    def _settle(self, image: np.ndarray, window: Square) -> Reading | None:
        """Looks until two looks in a row agree; None where they never do, or see no face."""
        before = 1.0
        for _ in range(PASSES):
            reading = self._net(image, window)
            seen = window_of_points(reading.points)
            if max(before, reading.presence) < HOPELESS or not 8 < seen.size < 8 * max(image.shape):
                return None
            before = reading.presence
            if reading.presence >= self.min_presence and _agree(window, seen):
                again = self._net(image, seen)
                if again.presence >= self.min_presence and _agree(seen, window_of_points(again.points)):
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
            other = self._settle(image, window_of_detection(detection))
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
        for detection in self._detector.detect_in(image, [replace(window, size=factor * window.size)]):
            x, y = ((detection.box[:2] + detection.box[2:]) / 2).tolist()
            placed = math.hypot(x - window.x, y - window.y) < shift * window.size
            if placed and 0.3 < detection.size / window.size < 1:
                return detection
        return None

    def _verify(
        self, image: np.ndarray, detections: Iterable[Detection], readings: list[Reading], presence: float = 0.0
    ) -> None:
        """Appends the detections that prove to be faces of at least this presence and are not in `readings` yet."""
        for detection in list(detections)[: 4 * self.max_faces]:
            window = window_of_detection(detection)
            if any(_inside(window, reading) for reading in readings):
                continue
            reading = self._settle(image, window)
            if reading is None or reading.presence < presence or any(_same(reading, other) for other in readings):
                continue
            reading = self._confirm(image, reading)
            if reading is None or any(_same(reading, other) for other in readings):
                continue
            readings.append(self._closer(image, reading))

    def _follow(self, image: np.ndarray, last: Reading) -> Reading | None:
        """The face where it was in the last frame; a jump must be confirmed by a second look."""
        window = window_of_points(last.points)
        reading = self._net(image, window, both_ways=self._both_ways)
        if reading.presence < self.min_presence:  # at a profile a little more to one side may help
            looks = (self._net(image, near, both_ways=self._both_ways) for near in _perturbed(window))
            reading = max(looks, key=lambda look: look.logit)
            seen = reading.presence >= self.min_presence
            return reading if seen and _agree(window, window_of_points(reading.points)) else None
        if not _agree(window, window_of_points(reading.points)):
            settled = self._settle(image, window_of_points(reading.points))
            return None if settled is None else self._closer(image, settled)
        return reading

    def _closer(self, image: np.ndarray, reading: Reading) -> Reading:
        """A settled reading, looked at both ways where that is asked for."""
        return self._net(image, window_of_points(reading.points), both_ways=True) if self._both_ways else reading

    def _distinct(self, faces: list[_Known]) -> list[_Known]:
        """Where two followed faces have slid onto one, keeps the one that is known longer."""
        kept: list[_Known] = []
        for face in sorted(faces, key=lambda f: f.id):
            if not any(_same(face.reading, other.reading) for other in kept):
                kept.append(face)
        return kept

    def _admit(self, readings: list[Reading]) -> None:
        """Starts to follow new faces, under the number of the nearest lost one where that is plausible."""
        for reading in readings:
            if len(self._known) >= self.max_faces or any(_same(reading, known.reading) for known in self._known):
                continue
            box = box_of(reading.points)
            near = [lost for lost in self._lost if _near(lost.box, box)]
            if near:
                old = min(near, key=lambda lost: float(np.linalg.norm(lost.box - box)))
                self._lost.remove(old)
                self._known.append(_Known(old.id, reading))
            else:
                self._known.append(_Known(self._next_id, reading))
                self._next_id += 1

    def _fresh_losses(self) -> list[_Known]:
        return [lost for lost in self._lost if lost.missed < RECOVER]

    def _recover(self, image: np.ndarray) -> None:
        """Looks for each recently lost face around the place where it was."""
        readings: list[Reading] = []
        for lost in self._fresh_losses():
            x0, y0, x1, y1 = lost.box.tolist()
            side = 2.5 * max(x1 - x0, y1 - y0)
            around = Square((x0 + x1) / 2, (y0 + y1) / 2, side, window_of_points(lost.reading.points).angle)
            self._verify(image, self._detector.detect_in(image, [around]), readings)
        self._admit(readings)

    def _look(self, image: np.ndarray, *, force: bool) -> None:
        """Looks at the whole frame for faces that are not followed, and everywhere while none is known."""
        self._since_look += 1
        self._since_search += 1
        if len(self._known) >= self.max_faces:
            return
        readings: list[Reading] = []
        if not self._known and self._since_search >= SEARCH:
            self._since_look = self._since_search = 0
            readings = self._search(image)
        elif force or self._since_look >= REDETECT or not (self._known or self._fresh_losses()):
            self._since_look = 0
            self._verify(image, self._detector.detect(image, thorough=False), readings)
        self._admit(sorted(readings, key=_size, reverse=True))


def _size(reading: Reading) -> float:
    return float(np.ptp(reading.points[:, :2], axis=0).max())


def _same(a: Reading, b: Reading) -> bool:
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


def _perturbed(window: Square) -> list[Square]:
    """Six windows about one: shifted, scaled and turned both ways."""
    step, turn = 0.05 * window.size, math.radians(6)
    changes = [(1, 0, 1, 0), (-1, 0, 1, 0), (0, 1, 1.08, 0), (0, -1, 0.92, 0), (0, 0, 1.04, 1), (0, 0, 0.96, -1)]
    return [
        Square(window.x + a * step, window.y + b * step, window.size * scale, window.angle + r * turn)
        for a, b, scale, r in changes
    ]
