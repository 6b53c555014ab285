"""Faces with landmarks: from one picture, or followed from frame to frame of a video.

Finding them is `FaceSearch`'s; following them, their numbers and their coefficients are here.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatar3d.nets.blendshapes import BlendshapeNet
from avatar3d.nets.crop import Square
from avatar3d.nets.face_detector import FaceDetector
from avatar3d.nets.face_landmarks import FaceLandmarks, LandmarkNet, Reading, window_of_points
from avatar3d.nets.face_search import FaceSearch, agree, box_of, same_face, size_of
from avatar3d.typing import typed

REDETECT = 10
"""Frames between looks for faces that are not yet followed."""
SEARCH = 15
"""Frames between thorough searches of a video in which no face is known."""
RECOVER = 30
"""Frames for which a lost face is looked for where it was, in every frame."""
REMEMBER = 150
"""Frames for which a lost face keeps its number."""


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
        self._net = LandmarkNet(threads=threads)
        self._search = FaceSearch(
            FaceDetector(min_score=min_score, threads=threads),
            self._net,
            max_faces=max_faces,
            min_presence=min_presence,
            both_ways=both_ways,
        )
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
        return [self._face(reading, i) for i, reading in enumerate(self._search.still(image))]

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

    def _follow(self, image: np.ndarray, last: Reading) -> Reading | None:
        """The face where it was in the last frame; a jump must be confirmed by a second look."""
        window = window_of_points(last.points)
        reading = self._net(image, window, both_ways=self._both_ways)
        if reading.presence < self.min_presence:  # at a profile a little more to one side may help
            looks = (self._net(image, near, both_ways=self._both_ways) for near in _perturbed(window))
            reading = max(looks, key=lambda look: look.logit)
            seen = reading.presence >= self.min_presence
            return reading if seen and agree(window, window_of_points(reading.points)) else None
        if not agree(window, window_of_points(reading.points)):
            settled = self._search.settle(image, window_of_points(reading.points))
            return None if settled is None else self._search.closer(image, settled)
        return reading

    def _distinct(self, faces: list[_Known]) -> list[_Known]:
        """Where two followed faces have slid onto one, keeps the one that is known longer."""
        kept: list[_Known] = []
        for face in sorted(faces, key=lambda f: f.id):
            if not any(same_face(face.reading, other.reading) for other in kept):
                kept.append(face)
        return kept

    def _admit(self, readings: list[Reading]) -> None:
        """Starts to follow new faces, under the number of the nearest lost one where that is plausible."""
        for reading in readings:
            if len(self._known) >= self.max_faces or any(same_face(reading, known.reading) for known in self._known):
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
            self._search.verify(image, self._search.detector.detect_in(image, [around]), readings)
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
            readings = self._search.search(image)
        elif force or self._since_look >= REDETECT or not (self._known or self._fresh_losses()):
            self._since_look = 0
            self._search.verify(image, self._search.detector.detect(image, thorough=False), readings)
        self._admit(sorted(readings, key=size_of, reverse=True))


def _perturbed(window: Square) -> list[Square]:
    """Six windows about one: shifted, scaled and turned both ways."""
    step, turn = 0.05 * window.size, math.radians(6)
    changes = [(1, 0, 1, 0), (-1, 0, 1, 0), (0, 1, 1.08, 0), (0, -1, 0.92, 0), (0, 0, 1.04, 1), (0, 0, 0.96, -1)]
    return [
        Square(window.x + a * step, window.y + b * step, window.size * scale, window.angle + r * turn)
        for a, b, scale, r in changes
    ]
