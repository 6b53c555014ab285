"""Frames to an H.264 MP4 that plays everywhere, with sound taken over from a clip."""

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from jaxtyping import UInt8

from avatar3d import storage
from avatar3d.errors import ExportError
from avatar3d.typing import typed

_TIME_BASE = Fraction(1, 90000)
_COPIED = ("aac", "ac3", "eac3", "alac", "opus")
"""Sound that MP4 carries as it is; anything else is encoded as AAC."""
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BT709, _LIMITED, _FULL = 1, 1, 2


class VideoWriter:
    """Writes one MP4 (H.264, 4:2:0, tagged BT.709). The file appears under its name when it is complete.

    Use as a context: leaving it closes the file, leaving it by an exception deletes what was written.
    """

    @typed
    def __init__(
        self,
        path: str | Path,
        fps: float | int,
        width: int,
        height: int,
        *,
        audio_from: str | Path | None = None,
        audio_start: float | int = 0.0,
        crf: int = 18,
    ) -> None:
        """Starts a video.

        Args:
            path: Output, `.mp4` or `.mov`.
            fps: Nominal frames per second.
            width: Pixels. The file's size is even: an odd side is padded by one pixel.
            height: Pixels.
            audio_from: A file whose sound is taken over, as far as the video lasts; one without sound adds none.
            audio_start: Time on that file's clock that belongs to the first frame, seconds (`view.audio_start`).
            crf: x264's quality; 18 is visually clean, 23 half the size.

        Raises:
            ExportError: the folder does not exist, or the sound cannot be opened.
        """
        if fps <= 0 or width < 1 or height < 1:
            raise ValueError(f"VideoWriter: {width}x{height} at {fps} frames per second; expected positive numbers.")
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ExportError(f"{self.path.parent} is not a folder; create it, or write elsewhere.")
        self.fps, self.width, self.height, self.count = fps, width, height, 0
        self._partial = storage.beside(self.path)
        self._source = _open_sound(Path(audio_from)) if audio_from is not None else None
        self._audio_start, self._end = audio_start, 0.0
        format = "mov" if self.path.suffix.lower() == ".mov" else "mp4"
        self._container = av.open(str(self._partial), "w", format=format, options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        stream = self._container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        context = stream.codec_context
        context.color_range, context.colorspace = _LIMITED, _BT709
        context.color_primaries, context.color_trc = _BT709, _BT709
        self._stream, self._rate, self._last_pts = stream, rate, -1
        self._sound = self._add_sound_stream()

    @typed
    def write(self, image: UInt8[np.ndarray, "h w 3"], time: float | int | None = None) -> None:
        """Adds an sRGB frame of the video's size.

        Args:
            image: The frame.
            time: Seconds from the first frame, later than the frame before; None for the next at `fps`.
        """
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(f"VideoWriter: frame of {image.shape[1::-1]}; expected {(self.width, self.height)}.")
        padding = ((0, self.height % 2), (0, self.width % 2), (0, 0))
        if self.height % 2 or self.width % 2:
            image = np.pad(image, padding, mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=_BT709,
            src_color_range=_FULL,
            dst_color_range=_LIMITED,
            interpolation="BICUBIC",
        )
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = _LIMITED, _BT709, _BT709, _BT709
        seconds = self.count / self._rate if time is None else time
        frame.pts, frame.time_base = round(seconds / _TIME_BASE), _TIME_BASE
        if frame.pts <= self._last_pts:
            raise ValueError(f"VideoWriter: frame at {float(seconds):.4f} s is not after the frame before it.")
        self._last_pts = frame.pts
        self._container.mux(self._stream.encode(frame))
        self.count += 1
        self._end = float(seconds + 1 / self._rate)

    def close(self) -> None:
        """Completes the file and gives it its name.

        Raises:
            ExportError: no frame was written.
        """
        if self.count == 0:
            self.abort()
            raise ExportError(f"{self.path}: no frame was written.")
        try:
            self._container.mux(self._stream.encode(None))
            self._write_sound()
            self._container.close()
            os.replace(self._partial, self.path)
        except BaseException:
            self.abort()
            raise
        self._close_source()

    def abort(self) -> None:
        """Deletes what was written."""
        try:
            self._container.close()
        except (FFmpegError, OSError, ValueError):
            pass  # an unfinished file: it is deleted anyway
        self._partial.unlink(missing_ok=True)
        self._close_source()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _add_sound_stream(self):
        if self._source is None or not self._source.streams.audio:
            return None
        source = self._source.streams.audio[0]
        if source.codec_context.codec.canonical_name in _COPIED:
            return self._container.add_stream_from_template(source)
        rate = source.codec_context.sample_rate
        stream = self._container.add_stream("aac", rate=rate if rate in _AAC_RATES else 48000)
        stream.bit_rate = 192000
        stream.codec_context.layout = "mono" if source.codec_context.layout.nb_channels == 1 else "stereo"
        return stream

    def _write_sound(self) -> None:
        if self._sound is None:
            return
        assert self._source is not None
        source = self._source.streams.audio[0]
        if source.codec_context.codec.canonical_name in _COPIED:
            self._container.mux(list(self._copied_packets(source)))
            return
        for frame in self._resampled_frames(source):
            self._container.mux(self._sound.encode(frame))
        self._container.mux(self._sound.encode(None))

    def _copied_packets(self, source: av.AudioStream) -> Iterator[av.Packet]:
        """Packets that overlap the video, on its clock."""
        assert self._source is not None
        base = source.time_base or Fraction(1, 1000)
        shift = round(self._audio_start / base)
        for packet in self._source.demux(source):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if (packet.pts + (packet.duration or 0)) * base <= 0:
                continue
            if packet.pts * base >= self._end:
                return
            packet.stream = self._sound  # type: ignore[assignment]
            yield packet

    def _resampled_frames(self, source: av.AudioStream) -> Iterator[av.AudioFrame]:
        """Decoded sound from the first video frame to the last, on the video's clock."""
        assert self._source is not None and self._sound is not None
        context = self._sound.codec_context
        rate = context.sample_rate
        resampler = av.AudioResampler(format="fltp", layout=context.layout, rate=rate)
        position, end = None, math.ceil(self._end * rate)

        def resampled() -> Iterator[tuple[float, av.AudioFrame | None]]:
            for frame in self._source.decode(source):  # type: ignore[union-attr]
                yield frame.time or 0.0, frame
            yield 0.0, None

        for time, frame in resampled():
            if position is None:
                position = round((time - self._audio_start) * rate)
            for out in resampler.resample(frame):
                samples = out.to_ndarray()
                first, last = max(0, -position), min(samples.shape[1], end - position)
                if last > first:
                    kept = np.ascontiguousarray(samples[:, first:last], np.float32)
                    part = av.AudioFrame.from_ndarray(kept, format="fltp", layout=context.layout.name)
                    part.sample_rate, part.pts, part.time_base = rate, position + first, Fraction(1, rate)
                    yield part
                position += samples.shape[1]

    def _close_source(self) -> None:
        if self._source is not None:
            self._source.close()


def _open_sound(path: Path) -> InputContainer:
    try:
        return av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise ExportError(
            f"{path} cannot be read for its sound ({getattr(error, 'strerror', None) or error})."
        ) from None
