"""A capture to the landmarks of one face: decodes every view once, follows all faces, and chooses whom to keep."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatar3d.errors import DetectionError
from avatar3d.geometry.projection import distort
from avatar3d.nets import FaceLandmarker, FaceLandmarks
from avatar3d.track.detections import Detections, Lens
from avatar3d.types.camera import Camera
from avatar3d.types.capture import Capture, Frame, View

Face = int | tuple[float, float] | None
Progress = Callable[[str, int, int], None]
NewShot = Callable[[], Callable[[UInt8[np.ndarray, "h w 3"]], bool]]
"""Makes a function that takes the frames of a view in order and says which begins a new shot."""

MAX_FACES = 4
INSPECT = 15
"""Frames between looks at light and sharpness."""
AHEAD = 4
"""Frames that are decoded ahead."""


@dataclass
class Sighting:
    """One face through one view."""

    frames: list[int] = field(default_factory=list)
    points: list[Tensor] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    def add(self, index: int, face: FaceLandmarks) -> None:
        self.frames.append(index)
        self.points.append(face.points[:, :2].clone())
        self.presence.append(face.presence)
        self.sizes.append(face.size)

    @property
    def score(self) -> float:
        """Size times how long it was seen: the largest and steadiest face has the most."""
        return float(np.sum(np.square(self.sizes) * np.array(self.presence)))


@dataclass
class Seen:
    """One view, looked through."""

    view: View
    faces: dict[int, Sighting] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The face that is followed, and what there is to say."""

    detections: Detections
    faces: int
    """Faces seen."""
    followed: int
    """Rank of the one that is followed; 0 is the largest and steadiest."""
    light: float
    """Median brightness of the face, 0..255."""
    sharpness: float
    """Median standard deviation of its second derivative, levels of 255, at 128 pixels across."""
    notes: tuple[str, ...]


def find_face(capture: Capture, *, face: Face, new_shot: NewShot | None, progress: Progress | None) -> Found:
    """Looks through the footage and follows one face.

    Raises:
        DetectionError: no face, or not the one that was asked for.
    """
    total, done = max(capture.frame_count, 1), 0
    seen: list[Seen] = []
    for view in capture.views:
        shots = new_shot() if new_shot is not None and view.kind != "photos" else None
        report = None if progress is None else (lambda i, before=done: progress("landmarks", before + i, total))
        seen.append(_look(view, shots, report))
        done += len(seen[-1].times)
    count = max(len(s.faces) if not s.cuts else _most_at_once(s) for s in seen)
    if count == 0:
        frames = sum(len(s.times) for s in seen)
        raise DetectionError(
            f"No face found in {', '.join(v.name for v in capture.views[:3])} ({frames} frames). "
            "The face must be upright, lit, and at least 40 pixels wide."
        )
    notes: list[str] = []
    parts = [_choose(s, face, notes) for s in seen]
    followed = face if isinstance(face, int) else max((p.rank for p in parts), default=0)
    light = [x for s in seen for x in s.light]
    sharp = [x for s in seen for x in s.sharpness]
    return Found(
        detections=_join(capture, seen, parts),
        faces=count,
        followed=followed,
        light=float(np.median(light)) if light else float("nan"),
        sharpness=float(np.median(sharp)) if sharp else float("nan"),
        notes=tuple(notes),
    )


def _most_at_once(seen: Seen) -> int:
    """Most faces in any one shot; numbers begin anew after a cut."""
    bounds = [0, *seen.cuts, 1 << 40]
    return max(
        sum(any(a <= f < b for f in s.frames) for s in seen.faces.values())
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    )


def _ahead(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The same frames, decoded in a thread of their own."""
    waiting: queue.Queue = queue.Queue(AHEAD)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for frame in frames:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:  # handed to the reader
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _look(view: View, new_shot: Callable | None, progress: Callable[[int], None] | None) -> Seen:
    net = FaceLandmarker(max_faces=MAX_FACES, blendshapes=False)
    out = Seen(view)
    for i, frame in enumerate(_ahead(view.frames())):
        if new_shot is not None and new_shot(frame.image):
            out.cuts.append(i)
            net.reset()
        if view.kind == "photos":
            found = [net.refine(frame.image, face) for face in net.detect(frame.image)]
        else:
            found = net.track(frame.image)
        for face in found:
            out.faces.setdefault(face.id, Sighting()).add(i, face)
        out.times.append(frame.time)
        if found and i % INSPECT == 0:
            _inspect(frame.image, max(found, key=lambda f: f.size), out)
        if progress is not None:
            progress(i + 1)
    return out


def _inspect(image: np.ndarray, face: FaceLandmarks, out: Seen) -> None:
    """Brightness and sharpness of the middle of a face."""
    x0, y0, x1, y1 = face.box.tolist()
    dx, dy = 0.2 * (x1 - x0), 0.2 * (y1 - y0)
    h, w = image.shape[:2]
    rows = slice(max(0, int(y0 + dy)), min(h, int(y1 - dy)))
    columns = slice(max(0, int(x0 + dx)), min(w, int(x1 - dx)))
    part = image[rows, columns].astype(np.float32).mean(2)
    if min(part.shape) < 8:
        return
    out.light.append(float(part.mean()))
    step = max(1, round((x1 - x0) / 128))
    small = part[: part.shape[0] // step * step, : part.shape[1] // step * step]
    small = small.reshape(small.shape[0] // step, step, -1, step).mean((1, 3))
    if min(small.shape) > 4:
        bend = 4 * small[1:-1, 1:-1] - small[2:, 1:-1] - small[:-2, 1:-1] - small[1:-1, 2:] - small[1:-1, :-2]
        out.sharpness.append(float(bend.std()))


@dataclass(frozen=True)
class _Part:
    """The chosen face of one view."""

    points: Tensor  # [t, 478, 2]
    presence: Tensor  # [t]
    rank: int


def _choose(seen: Seen, face: Face, notes: list[str]) -> _Part:
    """One face of every shot of a view."""
    frames = len(seen.times)
    points = torch.full((frames, 478, 2), torch.nan)
    presence = torch.zeros(frames)
    bounds = [0, *seen.cuts, frames]
    rank = 0
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        here = {n: s for n, s in seen.faces.items() if s.frames[0] < end and s.frames[-1] >= begin}
        if not here:
            continue
        order = sorted(here.values(), key=lambda s: -s.score)
        chosen, found = _pick(order, face)
        rank = max(rank, found)
        if len(order) > 1:
            where = f"frames {begin} to {end - 1} of {seen.view.name}" if seen.cuts else seen.view.name
            notes.append(
                f"{len(order)} faces in {where}; following {_describe(chosen)}. "
                f"To choose: --face 0 (largest and steadiest) to {len(order) - 1}, or --face X,Y."
            )
        for i, p, c in zip(chosen.frames, chosen.points, chosen.presence, strict=True):
            if begin <= i < end:
                points[i], presence[i] = p, c
    return _Part(points, presence, rank)


def _pick(order: list[Sighting], face: Face) -> tuple[Sighting, int]:
    if face is None:
        return order[0], 0
    if isinstance(face, int):
        if not 0 <= face < len(order):
            raise DetectionError(f"--face {face}: there are {len(order)} faces, numbered from 0.")
        return order[face], face
    target = torch.tensor(face)
    away = [float((s.points[0].mean(0) - target).norm()) / max(s.sizes[0], 1.0) for s in order]
    best = int(np.argmin(away))
    if away[best] > 1.5:
        x, y = order[best].points[0].mean(0).tolist()
        raise DetectionError(f"--face {face[0]:g},{face[1]:g}: no face there; the nearest is at {x:.0f},{y:.0f}.")
    return order[best], best


def _describe(sighting: Sighting) -> str:
    x, y = sighting.points[0].mean(0).tolist()
    return f"the one at {x:.0f},{y:.0f} ({np.median(sighting.sizes):.0f} px tall)"


def undistort(pixels: Tensor, camera: Camera) -> Tensor:
    """Pixels as they would be without lens distortion, by fixed-point iteration."""
    if camera.distortion is None or not bool(camera.distortion.any()):
        return pixels
    K = camera.K
    seen = (pixels.double() - K[:2, 2]) @ torch.linalg.inv(K[:2, :2]).T
    xy = seen
    for _ in range(20):
        xy = xy + (seen - distort(xy, camera.distortion))
    return (xy @ K[:2, :2].T + K[:2, 2]).to(pixels)


def _join(capture: Capture, seen: list[Seen], parts: list[_Part]) -> Detections:
    lenses = tuple(
        Lens(width=v.width, height=v.height, camera=v.camera, focal_hint=v.focal_pixels_hint) for v in capture.views
    )
    points = [
        part.points if lens.camera is None else undistort(part.points, lens.camera)
        for part, lens in zip(parts, lenses, strict=True)
    ]
    lengths = [len(s.times) for s in seen]
    camera = torch.repeat_interleave(torch.arange(len(seen)), torch.tensor(lengths))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    cuts = [int(start) + cut for start, s in zip(starts, seen, strict=True) for cut in s.cuts]
    order = torch.arange(len(camera))
    instant = None
    if capture.synchronised and len(seen) > 1:
        within = torch.cat([torch.arange(n) for n in lengths])
        order = (within * len(seen) + camera).argsort()
        instant = within[order]
        cuts = []
    times = torch.tensor([t for s in seen for t in s.times], dtype=torch.float64)
    return Detections(
        landmarks=torch.cat(points)[order],
        presence=torch.cat([p.presence for p in parts])[order],
        lenses=lenses,
        camera=camera[order],
        time=times[order],
        fps=float(max(v.fps for v in capture.views)),
        cuts=tuple(cuts),
        instant=instant,
    )
