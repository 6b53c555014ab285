"""Video files as views: opening, frame-accurate seeking, and what damage leaves."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avatar3d.capture.exif import DIAGONAL_35MM
from avatar3d.capture.pixels import PixelPipeline
from avatar3d.errors import CaptureError
from avatar3d.types.capture import Frame, View

_SEEK_GAP = 24
"""Gaps up to this many frames are decoded through rather than sought over."""
_INTERLACED = (2, 3, 4, 5)
"""AVFieldOrder of interlaced streams."""
_LEAD = 2
"""Frames decoded before the wanted one, so that deinterlacing sees what it sees when iterating."""


@dataclass(frozen=True)
class _Index:
    """Presentation times of all frames, ascending, and where decoding may start."""

    pts: list[int]
    keys: list[int]
    """First frame that each key packet leads to."""
    key_pts: list[int]
    """Time of each key packet: before its frame's where an edit list hides the key itself."""

    def key_before(self, index: int) -> int:
        return max(0, bisect_right(self.keys, index) - 1)


@dataclass(eq=False)
class VideoSource:
    """Frames of one video file. Every read opens the file anew, so that reads do not disturb each other."""

    path: Path
    first_pts: int
    time_base: Fraction
    fps: float
    stated: int
    """Frames that the header states; 0 where it states none."""
    stated_end: float = 0.0
    """Seconds that the header states for this stream; 0 where it states none."""
    warnings: list[str] = field(default_factory=list)
    _index: _Index | None = None
    _no_index: bool = False
    _decoded: int | None = None
    """Frames that a whole pass gave."""

    def count(self) -> int:
        if self._decoded is None:
            index = self.index()
            if index is not None:
                return len(index.pts)
            with _open(self.path) as (container, stream):
                self._decoded = sum(1 for _ in self._frames(container, stream))
        return self._decoded

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        wanted = iter(indices)
        target = next(wanted, None)
        if target is None:
            return
        with _open(self.path) as (container, stream):
            position, decoded, pipeline, whole, last = 0, None, None, True, 0.0
            while target is not None:
                key = self._worth_seeking(position, target)
                if key is not None:
                    decoded, whole = self._seek(container, stream, key, pipeline), False
                    position = self._index.keys[key]  # type: ignore[union-attr]
                decoded = self._frames(container, stream) if decoded is None else decoded
                frame = next(decoded, None)
                if pipeline is None:
                    if frame is None:
                        return
                    pipeline = _pipeline(frame, stream)
                last = self._time(frame, position) if frame is not None else last
                tag = (position, last)
                for (index, time), image, alpha in pipeline.push(frame, tag, wanted=position >= target):
                    if index == target:
                        yield Frame(index, time, image, alpha)
                        target = next(wanted, None)
                    if target is None:
                        return
                if frame is None:
                    self._ended(position, last, whole)
                    return
                position += 1

    def index(self) -> _Index | None:
        """Times of all frames, from the packets (read, not decoded); None where they do not tell."""
        if self._index is None and not self._no_index:
            self._index = _read_index(self.path)
            self._no_index = self._index is None
        return self._index

    def _worth_seeking(self, position: int, target: int) -> int | None:
        if target - position <= _SEEK_GAP or (index := self.index()) is None:
            return None
        key = index.key_before(max(0, min(target, len(index.pts) - 1) - _LEAD))
        return key if index.keys[key] > position + _LEAD else None

    def _seek(
        self, container: InputContainer, stream: VideoStream, key: int, pipeline: PixelPipeline | None
    ) -> Iterator[VideoFrame]:
        """Decoded frames from key number `key` on.

        Containers seek by decoding time, or to an earlier place than asked: frames before `key` are
        dropped by their presentation time, and a place behind it is tried again from further back.
        """
        assert self._index is not None
        if pipeline is not None:
            pipeline.reset()
        place, start, back = self._index.key_pts[key], self._index.pts[self._index.keys[key]], 0
        while True:
            container.seek(place - back, stream=stream)
            decoded = self._frames(container, stream, report=False)
            first = next(decoded, None)
            if first is None or first.pts is None or first.pts <= start or place - back < self._index.key_pts[0]:
                break
            back = max(2 * back, int(1 / self.time_base))
        decoded = chain([first] if first is not None else [], decoded)
        return (frame for frame in decoded if frame.pts is None or frame.pts >= start)

    def _frames(self, container: InputContainer, stream: VideoStream, report: bool = True) -> Iterator[VideoFrame]:
        """Decoded frames in order, passing over what is damaged.

        Not reported after a seek, where frames that refer to what lies before the key cannot be decoded.
        """
        packets, broken = container.demux(stream), 0
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, OSError):
                packet, broken = None, broken + 1
            try:
                frames = stream.decode(packet) if packet is not None else _flush(stream)
            except (FFmpegError, OSError):
                frames, broken = [], broken + 1
            for frame in frames:
                broken += bool(frame.is_corrupt)
                yield frame
            if packet is None or packet.dts is None and packet.size == 0:
                break
        if broken and report:
            self._warn(
                f"{self.path.name} is damaged: {broken} places could not be decoded, and their frames were skipped."
            )

    def _time(self, frame: VideoFrame, position: int) -> float:
        return position / self.fps if frame.pts is None else float((frame.pts - self.first_pts) * self.time_base)

    def _ended(self, position: int, last: float, whole: bool) -> None:
        if not whole:
            return
        self._decoded = position
        index = self.index()
        if index is not None and position != len(index.pts):
            self._index, self._no_index = None, True  # frames are missing: positions can only be counted
        if position < self.stated:
            self._warn(f"{self.path.name} is damaged: {position} of {self.stated} frames could be read.")
        elif not self.stated and last + max(0.5, 3 / self.fps) < self.stated_end:
            self._warn(f"{self.path.name} is damaged: it ends after {last:.1f} of {self.stated_end:.1f} seconds.")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


class _open:
    """Context that gives a file's container and its main video stream, with threaded decoding."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple[InputContainer, VideoStream]:
        try:
            self.container = av.open(str(self.path))
        except (FFmpegError, OSError) as error:
            raise CaptureError(
                f"{self.path} cannot be read as a video or picture: {getattr(error, 'strerror', None) or error}.\n"
                f"Either it is neither, or it was cut off while it was recorded or copied."
            ) from None
        streams = [s for s in self.container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            self.container.close()
            raise CaptureError(f"{self.path} has no pictures in it (sound only?); expected a video or photos.")
        streams[0].thread_type = "AUTO"  # type: ignore[assignment]
        return self.container, streams[0]

    def __exit__(self, *_: object) -> None:
        self.container.close()


def open_video(path: Path) -> View:
    """A view of a video file; reads its header and first frame.

    Raises:
        CaptureError: not a video, empty, or not one frame of it can be decoded.
    """
    with _open(path) as (container, stream):
        probe = VideoSource(path, 0, stream.time_base or Fraction(1, 25), 25.0, stream.frames)
        first = next(probe._frames(container, stream), None)
        if first is None:
            raise CaptureError(f"{path} holds no picture that can be decoded; it is damaged or was cut off.")
        pipeline = _pipeline(first, stream)
        first_pts = first.pts or 0
        seconds = _duration(container, stream)
        stated, fps = _header_rate(stream)
        stated_end = _stream_seconds(stream)
        focal35 = _focal35(container, stream)
        audio = bool(container.streams.audio)
    width, height = pipeline.size
    frame_count = stated or max(1, round(seconds * fps))
    return View(
        name=path.stem,
        kind="video",
        width=width,
        height=height,
        fps=fps,
        frame_count=frame_count,
        frame_count_exact=stated > 0,
        duration=seconds or frame_count / fps,
        source=VideoSource(path, first_pts, probe.time_base, fps, stated, stated_end),
        focal_pixels_hint=focal35 and focal35 * float(np.hypot(width, height)) / DIAGONAL_35MM,
        path=path,
        audio=path if audio else None,
        audio_start=float(first_pts * probe.time_base),
    )


def _pipeline(first: VideoFrame, stream: VideoStream) -> PixelPipeline:
    interlaced = bool(first.interlaced_frame) or getattr(stream.codec_context, "field_order", 0) in _INTERLACED
    return PixelPipeline(first, float(stream.sample_aspect_ratio or 1) or 1.0, interlaced)


def _flush(stream: VideoStream) -> list[VideoFrame]:
    try:
        return stream.decode(None)
    except EndOfFile:
        return []


def _read_index(path: Path) -> _Index | None:
    """The index from all packets, or None if any has no time."""
    shown, keys = [], []
    with _open(path) as (container, stream):
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.pts is None:
                    return None
                if packet.is_keyframe:
                    keys.append(packet.pts)
                if not packet.is_discard:
                    shown.append(packet.pts)
        except (FFmpegError, OSError):
            pass  # a cut-off tail; reading will say so
    shown.sort()
    keys = sorted(pts for pts in keys if shown and pts <= shown[-1])
    if not keys or keys[0] > shown[0] or len(set(shown)) != len(shown):
        return None
    return _Index(shown, [bisect_left(shown, pts) for pts in keys], keys)


def _duration(container: InputContainer, stream: VideoStream) -> float:
    return _stream_seconds(stream) or (container.duration or 0) / 1e6


def _stream_seconds(stream: VideoStream) -> float:
    """Length of this stream as its header states it, or 0."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    return sum(float(part) * unit for part, unit in zip(clock.groups(), (3600, 60, 1), strict=True)) if clock else 0.0


def _header_rate(stream: VideoStream) -> tuple[int, float]:
    """Frames that the header states (0 if none) and the mean rate."""
    entries: Any = getattr(stream, "index_entries", ())
    if 1 < len(entries) == stream.frames and stream.time_base:
        span = (entries[-1].timestamp - entries[0].timestamp) * stream.time_base
        if span > 0:
            hidden = sum(entry.is_discard for entry in entries)  # by an edit list
            return stream.frames - hidden, float((len(entries) - 1) / span)
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return stream.frames, next((float(rate) for rate in rates if rate and 0 < rate <= 1000), 25.0)


def _focal35(container: InputContainer, stream: VideoStream) -> float | None:
    """35 mm equivalent focal length as phones write it beside their videos, or None."""
    for metadata in (stream.metadata, container.metadata):
        for key, value in metadata.items():
            if key.lower().endswith("focal_length.35mm_equivalent"):
                try:
                    return float(value) or None
                except ValueError:
                    return None
    return None
