"""Films of an avatar: camera, background and comparison with the footage, frame by frame to MP4 or PNG."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from avatar3d import storage
from avatar3d.errors import ExportError, UsageError
from avatar3d.export.picture import draw, front_camera, posed_vertices
from avatar3d.export.splat_frame import draw_splats
from avatar3d.export.video import VideoWriter
from avatar3d.types import Avatar, Camera, Motion, TextureSet
from avatar3d.types.capture import Capture

COMPARE_HEIGHT = 720
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class FilmSettings:
    """How an avatar is filmed."""

    camera: str | Camera = "front"
    """"front", "orbit", "track" (the footage's own camera), or a camera."""
    background: str = "white"
    """"black", "white", "footage", or "#rrggbb"."""
    compare: bool = False
    """Footage, overlay and avatar side by side, the avatar last."""
    frame: int = 0
    """Which frame a PNG shows."""
    size: int = 720
    """Pixels, for the front and orbit cameras."""
    untextured: bool = False
    """Clay instead of texture or splats."""


def film(
    avatar: Avatar,
    output: Path,
    motion: Motion | None,
    settings: FilmSettings,
    *,
    footage: Capture | None = None,
    sound: tuple[Path, float] | None = None,
    progress: Progress | None = None,
) -> dict:
    """Draws one PNG, or every frame of a motion into an MP4.

    Args:
        avatar: Who is filmed.
        output: An .mp4, .mov or .png.
        motion: What is done; none for a still.
        settings: How it is filmed.
        footage: For backgrounds, comparisons, and the sound of the footage's own motion.
        sound: File of the motion's sound, and the time on its clock that belongs to the first frame.
        progress: Called with stage, done, total.

    Returns:
        Number of frames, width, height, and frames drawn per second.

    Raises:
        ExportError: unknown suffix, or the avatar has no footage where its camera or pictures are needed.
        ValueError: an unknown camera or background, or a frame that does not exist.
    """
    director = Director(avatar, motion, settings, footage)
    start = time.perf_counter()
    if output.suffix.lower() == ".png":
        if not 0 <= settings.frame < director.frames:
            raise UsageError(f"render: frame {settings.frame} of {director.frames}; they count from 0.")
        picture = next(director.pictures([settings.frame]))
        with storage.replacing(output) as temporary:
            Image.fromarray(picture).save(temporary, format="png")
        Image.open(output).load()
        return _summary(1, picture, start)
    if output.suffix.lower() not in (".mp4", ".mov"):
        raise UsageError(f"render: {output.name}: expected .mp4, .mov or .png.")
    writer, picture = None, None
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        for i, picture in enumerate(director.pictures(range(director.frames))):
            if writer is None:
                height, width = picture.shape[:2]
                if sound is None and motion is avatar.motion:
                    sound = director.sound()
                file, begins = sound or (None, 0.0)
                writer = VideoWriter(output, director.fps, width, height, audio_from=file, audio_start=begins)
            writer.write(picture)
            if progress:
                progress("render", i + 1, director.frames)
        if writer is None or picture is None:
            raise ExportError("render: the motion has no frames.")
        writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return _summary(director.frames, picture, start)


def _summary(frames: int, picture: UInt8[np.ndarray, "h w 3"], start: float) -> dict:
    height, width = picture.shape[:2]
    return {"frames": frames, "width": width, "height": height, "fps": frames / (time.perf_counter() - start)}


class Director:
    """Knows for every frame the pose, the camera, the light and what is behind."""

    def __init__(self, avatar: Avatar, motion: Motion | None, settings: FilmSettings, footage: Capture | None) -> None:
        self.avatar, self.motion, self.settings, self.footage = avatar, motion, settings, footage
        self.tracked = settings.camera == "track" or settings.compare
        if self.tracked and avatar.footage is None:
            raise ExportError("render: this avatar has no footage, so there is no track camera; use --camera front.")
        if (settings.background == "footage" or settings.compare) and footage is None:
            raise ExportError("render: the footage itself is needed for this; give it with --footage or --compare.")
        if settings.background == "footage" and not self.tracked:
            raise UsageError("render: --background footage needs --camera track.")
        if isinstance(settings.camera, str) and settings.camera not in ("front", "orbit", "track"):
            raise UsageError(f"render: camera {settings.camera!r}; expected front, orbit, track, or a cameras.json.")
        self.colour = _colour(settings.background)
        self.fps = motion.fps if motion else 30.0
        self.frames = motion.frames if motion else 1
        if settings.camera == "orbit":
            self.frames = max(self.frames, int(4 * self.fps))

    def sound(self) -> tuple[Path, float] | None:
        """File and start of the footage's sound."""
        view = self.footage.views[0] if self.footage else None
        return (view.audio, view.audio_start) if view and view.audio else None

    def pictures(self, frames: "range | list[int]") -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Finished pictures of these frames, in order."""
        originals = self._originals(frames)
        for frame in frames:
            camera = self._camera(frame)
            vertices = posed_vertices(self.avatar.rig, self.motion, frame)
            original = next(originals, None)
            _check_size(original, camera)
            behind = np.empty((camera.height, camera.width, 3), np.uint8)
            behind[:] = self.colour
            if self.settings.background == "footage" and original is not None:
                behind = original
            picture = self.draw(frame, camera, behind)
            if self.settings.compare:
                assert original is not None
                overlay = draw(self.avatar, vertices, camera, original, textured=False, opacity=0.65)
                picture = _side_by_side([original, overlay, picture])
            yield picture

    def draw(self, frame: int, camera: Camera, behind: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The avatar as one frame shows it, through any camera, over a background."""
        textured = not self.settings.untextured
        if textured and self.avatar.gaussians is not None:
            return draw_splats(self.avatar, self.motion, frame, camera, behind)
        vertices = posed_vertices(self.avatar.rig, self.motion, frame)
        return draw(
            self.avatar, vertices, camera, behind, light=self._light(frame), textured=textured,
            expression=_expression(self.motion, frame),
        )  # fmt: skip

    def _originals(self, frames: "range | list[int]") -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        if self.footage is None or not (self.settings.compare or self.settings.background == "footage"):
            return
        own = self.avatar.footage
        assert own is not None
        last: UInt8[np.ndarray, "h w 3"] | None = None
        if len(self.footage.views) < len(own.sources):
            raise ExportError(
                f"render: this avatar was made from {len(own.sources)} files ({own.sources[0]}, ...); "
                "put them into one folder and name one of them."
            )
        pending = [
            (int(own.source_of_frame[t]), int(own.frame_of_motion[t])) for t in frames if t < len(own.source_of_frame)
        ]
        while pending:
            source = pending[0][0]
            run = [index for s, index in pending if s == source]
            view = self.footage.views[source]
            given = 0
            for picture in view.frames_at(run):
                last = picture.image
                given += 1
                yield last
            if last is None:
                raise ExportError(
                    f"render: {view.name} has no frame {run[0]}; the avatar was made from {own.sources[source]} "
                    f"({own.frames} frames). Give that with --compare or --footage."
                )
            for _ in range(len(run) - given):  # a damaged tail: the last picture stays
                if last is not None:
                    yield last
            pending = [p for p in pending if p[0] != source]

    def _camera(self, frame: int) -> Camera:
        chosen = self.settings.camera
        if isinstance(chosen, Camera):
            return chosen
        if self.tracked:
            own = self.avatar.footage
            assert own is not None
            return own.cameras[int(own.camera_of_frame[min(frame, len(own.camera_of_frame) - 1)])]
        turn = 0.0
        if chosen == "orbit":
            turn = math.radians(50) * math.sin(2 * math.pi * frame / self.frames)
        centre = None
        if self.motion is not None and self.motion.translation is not None:
            centre = self.motion.translation.median(0).values
        return front_camera(self.avatar.rig, self.settings.size, turn=turn, centre=centre)

    def _light(self, frame: int) -> Tensor | None:
        looks = self.avatar.appearance
        if not self.tracked or self.settings.untextured or not isinstance(looks, TextureSet) or looks.light is None:
            return None
        if looks.exposure is None or frame >= len(looks.exposure):
            return looks.light
        return looks.light * looks.exposure[frame]


def _check_size(original: np.ndarray | None, camera: Camera) -> None:
    if original is not None and original.shape[:2] != (camera.height, camera.width):
        raise ExportError(
            f"render: this footage is {original.shape[1]} x {original.shape[0]}; what the avatar was made from is "
            f"{camera.width} x {camera.height}. Give that with --compare or --footage."
        )


def _colour(name: str) -> tuple[int, int, int]:
    named = {"white": (255, 255, 255), "black": (0, 0, 0), "footage": (255, 255, 255)}
    if name in named:
        return named[name]
    try:
        if len(name) != 7 or name[0] != "#":
            raise ValueError
        return int(name[1:3], 16), int(name[3:5], 16), int(name[5:7], 16)
    except ValueError:
        raise UsageError(f"render: background {name!r}; expected black, white, footage or #rrggbb.") from None


def _side_by_side(panels: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = panels[0].shape[:2]
    if height > COMPARE_HEIGHT:
        size = (round(width * COMPARE_HEIGHT / height), COMPARE_HEIGHT)
        panels = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in panels]
    return np.concatenate(panels, 1)


def _expression(motion: Motion | None, frame: int) -> Tensor | None:
    """Coefficients of a frame, the last one's after the end."""
    if motion is None or motion.frames == 0:
        return None
    return motion.expression[min(max(frame, 0), motion.frames - 1)]


SHEET_SHAPES = ("jawOpen", "eyeBlink", "mouthSmile", "eyeLookLeft", "mouthPucker", "browInnerUp")


def contact_sheet(avatar: Avatar, output: Path, *, footage: Capture | None = None, size: int = 320) -> None:
    """One PNG to judge an avatar by: footage with overlay and render, the untextured and textured head from five
    sides, and its expressions.
    """
    rig = avatar.rig
    white = np.full((size, size, 3), 255, np.uint8)
    rows: list[list[np.ndarray]] = []
    if footage is not None and avatar.motion is not None and avatar.footage is not None:
        rows += _footage_rows(avatar, footage, size)
    turns = [math.radians(a) for a in (-80, -40, 0, 40, 80)]
    for textured in (False, True):
        rows.append([_figure(avatar, None, front_camera(rig, size, turn=a), white, textured) for a in turns])
    camera = front_camera(rig, size)
    faces = []
    for shape in SHEET_SHAPES:
        expression = torch.zeros(1, len(rig.shape_names))
        wanted = {"eyeLookLeft": ("eyeLookOutLeft", "eyeLookInRight")}.get(
            shape, (shape, f"{shape}Left", f"{shape}Right")
        )
        for name in wanted:
            if name in rig.shape_names:
                expression[0, rig.shape_names.index(name)] = 1
        motion = Motion(fps=1, expression=expression)
        faces.append(_figure(avatar, motion, camera, white))
    rows.append(faces)
    width = max(sum(p.shape[1] for p in row) for row in rows)
    lines = [np.concatenate(row, 1) for row in rows]
    lines = [np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in lines]
    with storage.replacing(output) as temporary:
        Image.fromarray(np.concatenate(lines)).save(temporary, format="png")


def _figure(
    avatar: Avatar, motion: Motion | None, camera: Camera, behind: UInt8[np.ndarray, "h w 3"], textured: bool = True
) -> UInt8[np.ndarray, "h w 3"]:
    """The first frame of a motion, in the studio's light: splats where there are some."""
    if textured and avatar.gaussians is not None:
        return draw_splats(avatar, motion, 0, camera, behind)
    vertices, expression = posed_vertices(avatar.rig, motion, 0), _expression(motion, 0)
    return draw(avatar, vertices, camera, behind, textured=textured, expression=expression)


def _footage_rows(avatar: Avatar, footage: Capture, size: int) -> list[list[np.ndarray]]:
    """Three moments of the footage: picture, overlay, render, cut out around the head."""
    motion = avatar.motion
    assert motion is not None
    settings = FilmSettings(camera="track", background="footage")
    director = Director(avatar, motion, settings, footage)
    usable = torch.arange(motion.frames)
    if motion.confidence is not None and bool((motion.confidence > 0.3).any()):
        usable = usable[motion.confidence > 0.3]
    chosen = [int(usable[int(q * (len(usable) - 1))]) for q in (0.1, 0.5, 0.9)]
    cells = []
    for t in sorted(set(chosen)):
        original = next(director._originals([t]))
        camera = director._camera(t)
        _check_size(original, camera)
        vertices = posed_vertices(avatar.rig, motion, t)
        overlay = draw(avatar, vertices, camera, original, textured=False, opacity=0.65)
        blank = np.full_like(original, 255)
        if avatar.gaussians is not None:
            render = draw_splats(avatar, motion, t, camera, blank)
        else:
            render = draw(avatar, vertices, camera, blank, light=director._light(t), expression=_expression(motion, t))
        cells.append([_around_head(p, vertices, camera, size) for p in (original, overlay, render)])
    return [[panel for cell in cells[:2] for panel in cell], *([cells[2]] if len(cells) > 2 else [])]


def _around_head(picture: np.ndarray, vertices: Tensor, camera: Camera, size: int) -> np.ndarray:
    from avatar3d.geometry.projection import project

    pixels = project(vertices[None].double(), camera)[0]
    centre, extent = (pixels.amin(0) + pixels.amax(0)) / 2, (pixels.amax(0) - pixels.amin(0)).max() * 0.55
    x, y, r = float(centre[0]), float(centre[1]), max(8.0, float(extent))
    around = Image.new("RGB", (round(2 * r), round(2 * r)), "white")
    around.paste(Image.fromarray(picture), (round(r - x), round(r - y)))
    return np.asarray(around.resize((size, size), Image.Resampling.BILINEAR))
