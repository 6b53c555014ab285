"""Capture and track to an avatar: rig, texture, light, motion, footage, provenance."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import avatar3d
from avatar3d.appearance.chart import build_chart
from avatar3d.appearance.finish import balanced, brightened, finish, lift
from avatar3d.appearance.inside import measure_inside, settle_tints
from avatar3d.appearance.layout import in_one_texture
from avatar3d.appearance.observe import (
    Observation,
    Picture,
    choose_frames,
    cut_out,
    observe,
    posed_vertices,
    sharpness,
)
from avatar3d.appearance.shape import refine_shape
from avatar3d.appearance.texture import COARSE, bake
from avatar3d.errors import TrackingError
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.arkit import track_in_arkit
from avatar3d.models.linear import LinearModel
from avatar3d.models.motion import track_to_motion
from avatar3d.models.rig import build_rig
from avatar3d.nets.registry import NETWORKS
from avatar3d.types import Avatar, Footage, Rig, TextureSet, Track
from avatar3d.types.capture import Capture
from avatar3d.typing import typed

Progress = Callable[[str, int, int], None]
FRAMES = 36
DETAIL_FRAMES = 14  # of them give fine detail
SHAPE_FRAMES = 12  # of them show the outline


@dataclass(frozen=True)
class _Place:
    """Where a frame of the track lies in the capture."""

    view: int
    index: int


@typed
def reconstruct(
    capture: Capture,
    track: Track,
    model: LinearModel,
    *,
    appearance: Literal["mesh"] = "mesh",
    texture_size: int = 1024,
    frames: int = FRAMES,
    holdout: int = 0,
    refine: bool = True,
    progress: Progress | None = None,
) -> Avatar:
    """An animatable avatar of the person that was tracked, textured from the footage.

    Args:
        capture: The footage that was tracked. Only the chosen frames are decoded.
        track: Its track.
        model: The model that it was tracked with.
        appearance: "mesh": a textured mesh.
        texture_size: Side of the albedo in texels, a multiple of 64.
        frames: At most this many frames are looked at.
        holdout: The last frames of the footage, kept out of the appearance.
        refine: Bring cranium, ears and jaw line to the outline in the frames (`refine_shape`); the avatar's identity
            and rig then differ from the track's.
        progress: Called with stage, done, total.

    Raises:
        TrackingError: no tracked frame shows the head.
        ValueError: a texture size that is not a multiple of 64, or a model other than the track's.
    """
    if appearance != "mesh":
        raise ValueError(f"reconstruct: appearance {appearance!r}; expected 'mesh'.")
    if texture_size < 64 or texture_size % 64:
        raise ValueError(f"reconstruct: texture_size {texture_size}; expected a multiple of 64 texels.")
    if track.model != model.name:
        raise ValueError(f"reconstruct: the track is of model {track.model!r}, and {model.name!r} was given.")
    pictures = take_pictures(capture, track, model, frames, holdout, progress)
    if not pictures:
        raise TrackingError(
            f"None of the {len(track.tracked)} frames shows the head where it was tracked, so there is no texture. "
            "Check that the footage is the one that was tracked."
        )
    if refine:
        track = refine_shape(_spread(pictures, SHAPE_FRAMES), track, model)
    rig = in_one_texture(build_rig(model, track.identity, track.offsets))
    texture = _texture(pictures, track, model, rig, texture_size, progress)
    places = frame_places(capture, len(track.tracked))
    footage = Footage(
        sources=tuple(view.path.name if view.path else view.name for view in capture.views),
        frames=len(places),
        cameras=track.cameras,
        camera_of_frame=track.camera_of_frame,
        frame_of_motion=torch.tensor([p.index for p in places]),
        source_of_frame=torch.tensor([p.view for p in places]),
    )
    return Avatar(
        model=model.name,
        identity=track.identity,
        rig=rig,
        appearance=texture,
        motion=track_to_motion(track_in_arkit(model, track)[0], rig),
        footage=footage,
        manifest=_manifest(capture, model, track, {"texture_size": texture_size, "frames": frames, "holdout": holdout}),
    )


def frame_places(capture: Capture, count: int) -> list[_Place]:
    """View and index of every entry of a track: the views' frames one after the other."""
    if len(capture.views) == 1:
        return [_Place(0, i) for i in range(count)]
    places = [_Place(v, i) for v, view in enumerate(capture.views) for i in range(view.count_frames())]
    if len(places) < count:
        raise ValueError(f"reconstruct: the track has {count} frames and the capture {len(places)}; pass its own.")
    return places[:count]


def _texture(
    pictures: list[Picture], track: Track, model: LinearModel, rig: Rig, size: int, progress: Progress | None
) -> TextureSet:
    observations = _observations(pictures, track, model)
    chart, coarse = build_chart(rig, size), build_chart(rig, min(size, COARSE))
    baked = balanced(bake(observations, rig, chart, coarse, sharp=_merit(observations, track)), rig, coarse)
    if progress:
        progress("texture", 1, 2)
    readings = measure_inside(observations, track.landmarks, baked.lighting.gain, baked.lighting.light)
    factor = lift(baked, rig, coarse, readings.sclera_level)
    baked, tints = brightened(baked, factor), settle_tints(readings.scaled(factor))
    albedo, seen = finish(baked, rig, chart, coarse, mirror=model.mirror, tints=tints)
    light = baked.lighting
    if progress:
        progress("texture", 2, 2)
    return TextureSet(
        albedo=(albedo * 255).round().byte(),
        light=light.light,
        exposure=_exposures([o.frame for o in observations], light.gain, len(track.tracked)),
        seen=seen.byte() * 255,
    )


def take_pictures(
    capture: Capture, track: Track, model: LinearModel, count: int, holdout: int, progress: Progress | None
) -> list[Picture]:
    """Chooses frames, decodes them and nothing else, and cuts out the head with its surroundings."""
    total = len(track.tracked)
    chosen = choose_frames(track, model.expression_names, count, torch.arange(total) < max(1, total - holdout))
    if not len(chosen):
        return []
    vertices = posed_vertices(model, track, chosen)
    places = frame_places(capture, total)
    row = {int(frame): i for i, frame in enumerate(chosen)}
    out: list[Picture] = []
    for v, view in enumerate(capture.views):
        offset = {places[f].index: f for f in row if places[f].view == v}
        for image in view.frames_at(sorted(offset)):
            f = offset[image.index]
            camera = track.cameras[int(track.camera_of_frame[f])]
            picture = cut_out(f, image.image, camera, vertices[row[f]])
            if picture is not None:
                out.append(picture)
            if progress:
                progress("frames", len(out), len(chosen))
    return out


def _observations(pictures: list[Picture], track: Track, model: LinearModel) -> list[Observation]:
    vertices = posed_vertices(model, track, torch.tensor([p.frame for p in pictures]))
    out = [observe(p, vertices[i], model.faces) for i, p in enumerate(pictures)]
    clarity = [sharpness(o.image) for o in out]
    usual = max(float(np.median(clarity)), 1e-9)
    return [
        replace(o, quality=float(track.confidence[o.frame].clamp(0.05, 1)) * float(np.clip(c / usual, 0.2, 1.25)))
        for o, c in zip(out, clarity, strict=True)
    ]


def _merit(observations: list[Observation], track: Track) -> list[float]:
    """Merit of every frame for fine detail: relaxed faces that were tracked well; 0 but for the best."""
    rows = torch.tensor([o.frame for o in observations])
    effort = track.expression[rows].abs().sum(1)
    effort = effort / effort.median().clamp_min(1e-6)
    residual = track.residual[rows] / track.residual[rows].nanmedian().clamp_min(1e-6)
    merit = torch.tensor([o.quality for o in observations]) * torch.exp(-0.25 * effort)
    merit = merit / (0.5 + residual.nan_to_num(2.0))
    # the best, but from all sides that were seen
    R = rotvec_to_matrix(track.rotation[rows].float())
    side = torch.stack([normalize(o.towards - o.vertices.mean(0), dim=0) for o in observations])
    side = (side[:, None] @ R)[:, 0]
    apart = torch.ones(len(rows))
    chosen: list[int] = []
    while len(chosen) < min(DETAIL_FRAMES, len(rows)):
        best = int((merit * (0.2 + apart)).index_fill(0, torch.tensor(chosen, dtype=torch.long), -1.0).argmax())
        chosen.append(best)
        apart = torch.minimum(apart, (side - side[best]).norm(dim=1) / 0.3)
    return [float(m) if i in chosen else 0.0 for i, m in enumerate(merit / merit.max())]


def _spread(pictures: list[Picture], count: int) -> list[Picture]:
    """At most `count` of them, evenly."""
    return [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, count).round().astype(int))]


def _exposures(rows: list[int], gain: Tensor, count: int) -> Tensor:
    """Gains of all frames, linear in time between the frames that were looked at."""
    order = np.argsort(rows)
    at = np.array(rows)[order]
    columns = [np.interp(np.arange(count), at, gain[:, c].numpy()[order]) for c in range(3)]
    return torch.from_numpy(np.stack(columns, 1)).float()


TOLD = ("frames", "faces", "nme", "jitter", "focal", "photometric", "advice")
"""What of the tracker's report stays with the avatar, for `evaluate`."""


def _manifest(capture: Capture, model: LinearModel, track: Track, settings: dict) -> dict:
    return {
        "avatar3d": avatar3d.__version__,
        "model": {"name": model.name, "licence": model.licence, "provenance": dict(model.provenance)},
        "networks": [
            {"name": n.name, "sha256": n.sha256, "licence": n.licence, "source": n.source}
            for n in NETWORKS.values()
            if n.name.startswith("face_")
        ],
        "footage": [
            {
                "name": v.path.name if v.path else v.name,
                "kind": v.kind,
                "width": v.width,
                "height": v.height,
                "fps": v.fps,
                "frames": v.frame_count,
            }
            for v in capture.views
        ],  # fmt: skip
        "track": {key: track.report[key] for key in TOLD if key in track.report},
        "appearance": {"kind": "mesh", **settings},
    }
