"""A capture to the landmarks of one face: decodes every view once, follows all faces, and chooses whom to keep."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatar3d.errors import DetectionError
from avatar3d.geometry.projection import distort
from avatar3d.track.detections import Detections, Lens
from avatar3d.track.look import NewShot, Seen, Sighting, look
from avatar3d.track.slices import Slices
from avatar3d.types.arkit import ARKIT_NAMES
from avatar3d.types.camera import Camera
from avatar3d.types.capture import Capture

Face = int | tuple[float, float] | None
Progress = Callable[[str, int, int], None]


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


def find_face(
    capture: Capture,
    *,
    face: Face = None,
    new_shot: NewShot | None = None,
    slices: Slices | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Looks through the footage and follows one face; goes on from slices that an earlier run kept.

    Raises:
        DetectionError: no face, or not the one that was asked for.
    """
    total, done = max(capture.frame_count, 1), 0
    seen: list[Seen] = []
    for number, view in enumerate(capture.views):
        shots = new_shot() if new_shot is not None and view.kind != "photos" else None
        report = None if progress is None else (lambda i, before=done: progress("landmarks", before + i, total))

        def resumed(frames: int, name: str = view.name) -> None:
            if say is not None:
                say(f"going on from a checkpoint: {frames} frames of {name} need not be looked at again")

        keeper = None if slices is None else slices.of_view(number, resumed)
        seen.append(look(view, shots, keeper, report))
        done += len(seen[-1].times)
    count = max(len(s.faces) if not s.cuts else _most_at_once(s) for s in seen)
    if count == 0:
        frames = sum(len(s.times) for s in seen)
        raise DetectionError(
            f"No face found in {', '.join(v.name for v in capture.views[:3])} ({frames} frames). "
            "It must be lit, at least 40 pixels wide, and seen from the front or in half profile, not from above."
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


@dataclass(frozen=True)
class _Part:
    """The chosen face of one view."""

    points: Tensor  # [t, 478, 2]
    presence: Tensor  # [t]
    scores: Tensor  # [t, 52]
    rank: int


def _choose(seen: Seen, face: Face, notes: list[str]) -> _Part:
    """One face of every shot of a view."""
    frames = len(seen.times)
    points = torch.full((frames, 478, 2), torch.nan)
    presence = torch.zeros(frames)
    scores = torch.full((frames, len(ARKIT_NAMES)), torch.nan)
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
        for k, i in enumerate(chosen.frames):
            if begin <= i < end:
                points[i], presence[i], scores[i] = chosen.points[k], chosen.presence[k], chosen.scores[k]
    return _Part(points, presence, scores, rank)


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
        scores=torch.cat([p.scores for p in parts])[order],
        lenses=lenses,
        camera=camera[order],
        time=times[order],
        fps=float(max(v.fps for v in capture.views)),
        cuts=tuple(cuts),
        instant=instant,
    )
