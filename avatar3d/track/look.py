"""A view, looked through once: the faces of every frame, the cuts, light and sharpness."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatar3d.nets import FaceLandmarker, FaceLandmarks
from avatar3d.types.arkit import ARKIT_NAMES
from avatar3d.types.capture import Frame, View

MAX_FACES, MAX_FACES_OF_PHOTOS = 4, 16
INSPECT = 15
"""Frames between looks at light and sharpness."""
AHEAD = 4
"""Frames that are decoded ahead."""


class ShotFinder(Protocol):
    """Takes the frames of a view in order and says which begins a new shot."""

    def push(self, image: UInt8[np.ndarray, "h w 3"]) -> bool: ...
    def state(self) -> dict[str, Tensor]: ...
    def restore(self, state: dict[str, Tensor]) -> None: ...


NewShot = Callable[[], ShotFinder]


@dataclass
class Sighting:
    """One face through one view."""

    frames: list[int] = field(default_factory=list)
    points: list[Tensor] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)

    def add(
        self, index: int, points: Float[Tensor, "478 2"], scores: Float[Tensor, "52"], presence: float, size: float
    ) -> None:
        self.frames.append(index)
        self.points.append(points)
        self.scores.append(scores)
        self.presence.append(presence)
        self.sizes.append(size)

    @property
    def score(self) -> float:
        """Size times how long it was seen: the largest and steadiest face has the most."""
        return float(np.sum(np.square(self.sizes) * np.array(self.presence)))


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What some frames in a row showed, and how to go on after them."""

    times: Float[Tensor, "t"]
    cuts: Int[Tensor, "c"]
    light: Float[Tensor, "i"]
    sharpness: Float[Tensor, "i2"]
    frame: Int[Tensor, "n"]
    """Frame of every face that was seen."""
    face: Int[Tensor, "n"]
    """Its number."""
    points: Float[Tensor, "n 478 2"]
    scores: Float[Tensor, "n 52"]
    figures: Float[Tensor, "n 2"]
    """Presence and size."""
    state: dict[str, Tensor]
    """Of the landmarker ("faces.") and of the shot finder ("shots.")."""
    complete: bool
    """Whether the view ends here."""


@dataclass
class Seen:
    """One view, as far as it was looked through."""

    view: View
    faces: dict[int, Sighting] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)

    def add(self, part: Slice) -> None:
        """What was seen before, once more."""
        self.times += part.times.tolist()
        self.cuts += part.cuts.tolist()
        self.light += part.light.tolist()
        self.sharpness += part.sharpness.tolist()
        figures = part.figures.tolist()
        for n, (index, face) in enumerate(zip(part.frame.tolist(), part.face.tolist(), strict=True)):
            self.faces.setdefault(face, Sighting()).add(index, part.points[n], part.scores[n], *figures[n])

    def since(self, begin: "Mark", state: dict[str, Tensor], complete: bool) -> Slice:
        """What was added after a mark."""
        rows = [
            (index, number, s.points[k], s.scores[k], s.presence[k], s.sizes[k])
            for number, s in self.faces.items()
            for k, index in enumerate(s.frames)
            if index >= begin.frames
        ]
        rows.sort(key=lambda row: row[:2])
        return Slice(
            times=torch.tensor(self.times[begin.frames :], dtype=torch.float64),
            cuts=torch.tensor(self.cuts[begin.cuts :], dtype=torch.int64),
            light=torch.tensor(self.light[begin.light :], dtype=torch.float64),
            sharpness=torch.tensor(self.sharpness[begin.sharpness :], dtype=torch.float64),
            frame=torch.tensor([row[0] for row in rows], dtype=torch.int64),
            face=torch.tensor([row[1] for row in rows], dtype=torch.int64),
            points=torch.stack([row[2] for row in rows]) if rows else torch.zeros(0, 478, 2),
            scores=torch.stack([row[3] for row in rows]) if rows else torch.zeros(0, len(ARKIT_NAMES)),
            figures=torch.tensor([row[4:] for row in rows], dtype=torch.float64).reshape(-1, 2),
            state=state,
            complete=complete,
        )


@dataclass(frozen=True)
class Mark:
    """How much a `Seen` held at some moment."""

    frames: int = 0
    cuts: int = 0
    light: int = 0
    sharpness: int = 0

    @classmethod
    def of(cls, seen: Seen) -> "Mark":
        return cls(len(seen.times), len(seen.cuts), len(seen.light), len(seen.sharpness))


class Keeper(Protocol):
    """Keeps slices of one view."""

    def kept(self) -> list[Slice]: ...
    def due(self) -> bool: ...
    def keep(self, part: Slice) -> None: ...


def look(view: View, shots: ShotFinder | None, keeper: Keeper | None, progress: Callable[[int], None] | None) -> Seen:
    """Looks through a view, from where the kept slices end."""
    most = MAX_FACES_OF_PHOTOS if view.kind == "photos" else MAX_FACES
    net = FaceLandmarker(max_faces=most, both_ways=True)
    out, kept = Seen(view), keeper.kept() if keeper is not None else []
    for part in kept:
        out.add(part)
    if kept and kept[-1].complete:
        return out
    if kept:
        _restore(kept[-1].state, net, shots)
    mark = Mark.of(out)
    for i, frame in enumerate(_ahead(view.frames(len(out.times))), len(out.times)):
        if shots is not None and shots.push(frame.image):
            out.cuts.append(i)
            net.reset()
        if view.kind == "photos":
            found = [net.refine(frame.image, face) for face in net.detect(frame.image)]
        else:
            found = net.track(frame.image)
        for face in found:
            sighting = out.faces.setdefault(face.id, Sighting())
            assert face.blendshapes is not None  # the landmarker was asked for them
            sighting.add(i, face.points[:, :2].clone(), face.blendshapes, face.presence, face.size)
        out.times.append(frame.time)
        if found and i % INSPECT == 0:
            _inspect(frame.image, max(found, key=lambda f: f.size), out)
        if keeper is not None and keeper.due():
            keeper.keep(out.since(mark, _state(net, shots), False))
            mark = Mark.of(out)
        if progress is not None:
            progress(i + 1)
    if keeper is not None:
        keeper.keep(out.since(mark, {}, True))
    return out


def _state(net: FaceLandmarker, shots: ShotFinder | None) -> dict[str, Tensor]:
    own = {"faces": net.state(), "shots": shots.state() if shots is not None else {}}
    return {f"{who}.{name}": value for who, state in own.items() for name, value in state.items()}


def _restore(state: dict[str, Tensor], net: FaceLandmarker, shots: ShotFinder | None) -> None:
    for who, owner in (("faces.", net), ("shots.", shots)):
        if owner is not None:
            owner.restore({name.removeprefix(who): v for name, v in state.items() if name.startswith(who)})


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
