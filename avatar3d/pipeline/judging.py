"""How near an avatar comes to footage."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar3d import appearance, capture, models, storage
from avatar3d.errors import DetectionError, TrackingError
from avatar3d.evaluate.perceptual import Lpips, find_lpips
from avatar3d.evaluate.reenactment import score
from avatar3d.export.film import Director, FilmSettings
from avatar3d.export.picture import posed_vertices
from avatar3d.geometry.rotation import matrix_to_rotvec, rotvec_to_matrix
from avatar3d.models.motion import track_to_motion
from avatar3d.pipeline.common import Progress, Say, peak_memory, timed
from avatar3d.track import TrackConfig
from avatar3d.track import track as track_capture
from avatar3d.types import Avatar, Camera, Footage
from avatar3d.types.capture import Capture


def splat_report(avatar: Avatar, footage: Capture, holdout: int, size: int) -> dict:
    """`splats` and, where frames were held out, `holdout`: how near splats and mesh come to those frames."""
    assert avatar.gaussians is not None and avatar.motion is not None
    rate = round(frames_per_second(avatar, size), 1)
    out: dict = {"splats": {"count": avatar.gaussians.count, "frames_per_second": rate, "size": size}}
    total = avatar.motion.frames
    frames = torch.arange(total - holdout, total) if holdout else torch.empty(0, dtype=torch.long)
    if avatar.motion.confidence is not None:
        frames = frames[avatar.motion.confidence[frames] > 0]
    if not len(frames):
        return out
    frames = frames[torch.linspace(0, len(frames) - 1, min(len(frames), SCORED)).round().long()]
    sights = [s for s in appearance.load_shots(avatar, footage, frames, size) if not s.close]
    scores = score_pictures(avatar, sights, find_lpips()[0])
    mesh = score_pictures(replace(avatar, gaussians=None), sights)
    out["holdout"] = {**scores, "frames": holdout, "scored": scores["frames"], "psnr_mesh": mesh["psnr"],
                      "ssim_mesh": mesh["ssim"]}  # fmt: skip
    return out


def frames_per_second(avatar: Avatar, size: int, count: int = 12) -> float:
    """How many pictures of the avatar's own motion, `size` pixels square, are drawn in a second: the median of some."""
    director = Director(avatar, avatar.motion, FilmSettings(size=size), None)
    frames = np.linspace(0, director.frames - 1, count).round().astype(int).tolist()
    seconds, start = [], time.perf_counter()
    for _ in director.pictures(frames):
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return 1 / float(np.median(seconds))


SCORED = 100
"""At most this many held-out frames are scored, evenly."""


def score_pictures(avatar: Avatar, sights: Sequence, lpips: Lpips | None = None) -> dict:
    """PSNR and SSIM, and LPIPS where it is given, of an avatar, moved by its own motion, against its footage."""
    motion = avatar.motion

    def pose(frame: int) -> Tensor:
        return posed_vertices(avatar.rig, motion, frame)

    summary = score(sights, painter(avatar), avatar.rig, pose, lpips).summary()
    return summary if lpips is None else {**summary, "lpips_network": lpips.network}


def painter(avatar: Avatar) -> Callable[[int, Camera], Tensor]:
    """What draws a frame of the avatar's own motion through a camera: `[h, w, 3]` on white, 0..1."""
    director = Director(avatar, avatar.motion, FilmSettings(camera="track"), None)

    def picture(frame: int, camera: Camera) -> Tensor:
        white = np.full((camera.height, camera.width, 3), 255, np.uint8)
        return torch.from_numpy(director.draw(frame, camera, white)).float() / 255

    return picture


def evaluate(
    avatar: Avatar,
    against: Path | str,
    *,
    cross: bool = False,
    frames: int = 150,
    size: int = 512,
    worst: Path | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> dict:
    """An avatar against a clip, through our own tracker (RESEARCH.md 3).

    The avatar's own footage is re-enacted by the motion that the avatar carries. Any other clip is tracked, and the
    avatar makes the tracked motion in the tracked camera. What it shows is then tracked in its turn: that gives the
    distance of landmarks (AKD), of expression and of pose.

    Args:
        avatar: Who is judged.
        against: The clip.
        cross: The clip shows someone else: no PSNR and SSIM.
        frames: At most this many, the last ones of the clip.
        size: Longer side of the pictures, pixels.
        worst: PNG of the worst frames: footage, avatar, error.
        progress: Called with stage, done, total.
        say: Called with what a person should know.

    Returns:
        The report's keys (DESIGN.md 7): of the clip's track `frames` (with `judged`), `faces`, `nme`, `jitter`, `focal`
        and `advice`; `timings`, `memory`; of splats `splats`. Then `akd {pixels, nme, size}`,
        `expression {mean_absolute}`, `pose {rotation_deg}` and, unless `cross`, `psnr`, `ssim`, `lpips` and
        `lpips_network` where it is installed, `by_region`, `worst`, and as in the report
        `holdout {frames, psnr, ssim, psnr_mesh}`.

    Raises:
        DetectionError: no face in the clip, or none in what the avatar shows.
    """
    timings: dict[str, float] = {}
    with timed(timings, "open"):
        footage = capture.open_capture(against)
        own = avatar.footage
        name, count = Path(against).name, footage.views[0].count_frames()
    told = avatar.manifest.get("track", {})
    if own is None or avatar.motion is None or own.sources != (name,) or own.frames != count:
        with timed(timings, "track"):
            avatar, told = _reenacting(avatar, footage, progress, say)
    motion = avatar.motion
    assert motion is not None
    usable = torch.ones(motion.frames, dtype=torch.bool) if motion.confidence is None else motion.confidence > 0
    chosen = usable.nonzero()[:, 0][-frames:]
    start = time.perf_counter()
    sights = [s for s in appearance.load_shots(avatar, footage, chosen, size, progress) if not s.close]
    timings["footage"] = time.perf_counter() - start
    if not sights:
        raise TrackingError(f"{name}: no frame shows the person, so there is nothing to compare the avatar with.")
    picture = painter(avatar)
    start = time.perf_counter()
    drawn = [(picture(s.frame, s.camera).clamp(0, 1) * 255).round().byte().numpy() for s in sights]
    seen = [on_white(s) for s in sights]
    timings["draw"] = time.perf_counter() - start
    out: dict = {**told, "frames": _frames(usable, told) | {"judged": len(sights)}}
    with timed(timings, "distances"):
        out |= _distances(drawn, seen, motion.fps, say)
    out["akd"]["size"] = [sights[0].camera.width, sights[0].camera.height]
    splats = avatar.gaussians
    if splats is not None:
        out["splats"] = {"count": splats.count, "bytes": storage.tensor_bytes(splats)}
    if not cross:
        start = time.perf_counter()
        lpips, missing = find_lpips()
        if lpips is None:
            say(missing)
        scores = score_pictures(avatar, sights, lpips)
        mesh = scores if splats is None else score_pictures(replace(avatar, gaussians=None), sights)
        timings["pictures"] = time.perf_counter() - start
        kept = ("psnr", "ssim", "lpips", "lpips_network", "by_region", "worst")
        out |= {name: scores[name] for name in kept if name in scores}
        pictures = {name: scores[name] for name in ("psnr", "ssim", "lpips") if name in scores}
        out["holdout"] = {"frames": len(sights), **pictures, "psnr_mesh": mesh["psnr"]}
        if worst is not None:
            _write_worst(worst, [i for i, s in enumerate(sights) if s.frame in scores["worst"]], seen, drawn)
    out["timings"] = {stage: round(seconds, 3) for stage, seconds in timings.items()}
    out["memory"] = {"peak_mb": peak_memory()}
    return out


def _frames(usable: Tensor, told: dict) -> dict:
    """`frames` of the report; what an avatar of an older version does not tell is told by its motion."""
    dropped = [{"index": i, "reason": "not tracked"} for i in (~usable).nonzero()[:, 0].tolist()]
    found = {"total": len(usable), "tracked": int(usable.sum()), "dropped": dropped, "cuts": []}
    return told.get("frames", found)


def _reenacting(avatar: Avatar, footage: Capture, progress: Progress | None, say: Say) -> tuple[Avatar, dict]:
    """The avatar with the motion and the cameras of other footage, and what the tracker told about that."""
    tracked = track_capture(
        footage, models.load("head"), TrackConfig(), new_shot=capture.CutDetector, progress=progress, say=say
    )
    places = appearance.frame_places(footage, len(tracked.tracked))
    own = Footage(
        sources=tuple(view.path.name if view.path else view.name for view in footage.views),
        frames=len(places),
        cameras=tracked.cameras,
        camera_of_frame=tracked.camera_of_frame,
        frame_of_motion=torch.tensor([p.index for p in places]),
        source_of_frame=torch.tensor([p.view for p in places]),
    )
    told = {key: tracked.report[key] for key in appearance.TOLD if key in tracked.report}
    return replace(avatar, motion=track_to_motion(tracked, avatar.rig), footage=own), told


def on_white(sight: appearance.Shot) -> np.ndarray:
    """The person of a picture on white, uint8 `[h, w, 3]`."""
    return (255 * appearance.on_background(sight, torch.ones(3))).round().byte().numpy()


def _distances(drawn: list[np.ndarray], seen: list[np.ndarray], fps: float, say: Say) -> dict:
    """AKD, expression and pose between two clips of the same frames, both tracked."""
    tracks = []
    for pictures, what in ((seen, "the clip"), (drawn, "what the avatar shows")):
        view = capture.open_capture(np.stack(pictures), fps=fps)
        try:
            tracks.append(track_capture(view, models.load("head"), TrackConfig(), new_shot=capture.CutDetector))
        except DetectionError as error:
            raise DetectionError(f"No face found in {what}, so there is no AKD: {error}") from error
    a, b = tracks
    both = a.tracked & b.tracked
    if not both.any() or a.landmarks is None or b.landmarks is None:
        raise DetectionError("No frame in which both the clip and the avatar show a face, so there is no AKD.")
    apart = (a.landmarks[both] - b.landmarks[both]).norm(dim=-1).nanmean(1)
    eyes = (a.landmarks[both][:, 33] - a.landmarks[both][:, 263]).norm(dim=-1)
    R = rotvec_to_matrix(a.rotation[both].double()).mT @ rotvec_to_matrix(b.rotation[both].double())
    angle = matrix_to_rotvec(R).norm(dim=1).rad2deg()
    if int(both.sum()) < len(both):
        say(f"a face was found in both clip and avatar in {int(both.sum())} of {len(both)} frames")
    return {
        "akd": {"pixels": float(apart.mean()), "nme": float((apart / eyes).mean())},
        "expression": {"mean_absolute": float((a.expression[both] - b.expression[both]).abs().mean())},
        "pose": {"rotation_deg": float(angle.median())},
    }


def _write_worst(path: Path, rows: list[int], seen: list[np.ndarray], drawn: list[np.ndarray]) -> None:
    """Footage, avatar and three times their difference, a row each."""
    lines = []
    for i in rows:
        error = np.abs(seen[i].astype(int) - drawn[i].astype(int)) * 3
        lines.append(np.concatenate([seen[i], drawn[i], error.clip(0, 255).astype(np.uint8)], 1))
    with storage.replacing(path) as temporary:
        Image.fromarray(np.concatenate(lines)).save(temporary, format="png")
