"""Decoded video frames to upright sRGB: rotation, interlacing, colour matrix and range, HDR, alpha, square pixels.

FFmpeg does the per-pixel work (SIMD, threads). Ordinary 8-bit video takes its fast YUV path: on average one
level of 255 darker than exact arithmetic, at most three, and twice as fast.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from av.error import EOFError as EndOfFile
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from avatar3d.capture.tonemap import cube_file

# AVColorSpace, AVColorTransferCharacteristic and AVColorPrimaries are the code points of ITU-T H.273.
_BT709, _BT601, _SMPTE240M, _BT2020 = 1, 5, 7, 9  # swscale's names of matrices
_MATRIX = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: _SMPTE240M, 9: _BT2020, 10: _BT2020}
_TRANSFER = {16: "pq", 18: "hlg"}
_PRIMARIES = {9: "bt2020", 11: "p3", 12: "p3"}
_LIMITED, _FULL = 1, 2
_DEEP_YUV = re.compile(r"(yuv4\d\dp)(?:9|1\d)(?:le|be)$")
_TRANSPOSABLE = ("yuv420p", "yuvj420p", "yuv444p", "yuvj444p", "yuv420p10le", "yuv444p10le", "gray", "rgb24", "gbrp")


@dataclass(frozen=True)
class Orientation:
    """How to stand a coded picture upright: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """From the display matrix (ISO 14496-12), to the nearest quarter turn; mirrored matrices too."""
        matrix = next((bytes(s) for s in cast(Any, frame.side_data) if s.type.name == "DISPLAYMATRIX"), None)
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
        if abs(int(a)) + abs(int(d)) >= abs(int(b)) + abs(int(c)):
            return cls(False, bool(a < 0), bool(d < 0))
        return cls(True, bool(c < 0), bool(b < 0))

    def filters(self) -> list[tuple[str, str | None]]:
        """The same as FFmpeg filters."""
        if self.transpose:
            return [
                (
                    "transpose",
                    {(False, False): "0", (True, False): "1", (False, True): "2", (True, True): "3"}[
                        self.flip_x, self.flip_y
                    ],
                )
            ]
        return [(name, None) for name, on in (("hflip", self.flip_x), ("vflip", self.flip_y)) if on]

    def apply(self, image: np.ndarray) -> np.ndarray:
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


class PixelPipeline:
    """Turns decoded frames of one stream into RGB arrays, in order; holds FFmpeg's contexts between frames."""

    def __init__(self, first: VideoFrame, aspect: float = 1.0, interlaced: bool = False) -> None:
        """Args:
        first: A frame of the stream, whose format, size and tags stand for the rest.
        aspect: Width of a coded pixel over its height.
        interlaced: Deinterlace those frames that are flagged as interlaced.
        """
        width, height = first.width, first.height
        self.coded_size = max(1, round(width * max(aspect, 1.0))), max(1, round(height / min(aspect, 1.0)))
        self.orientation = Orientation.of(first)
        self.size = self.coded_size[::-1] if self.orientation.transpose else self.coded_size
        self.interlaced = interlaced
        self._reformat, self._narrow = VideoReformatter(), VideoReformatter()
        self._rotate_late = self.orientation.transpose and first.format.name not in _TRANSPOSABLE
        self._graph: Graph | None = None
        self._graph_of: tuple | None = None
        self._lut: Graph | None = None
        self._lut_of: tuple | None = None
        self._waiting: deque = deque()

    def reset(self) -> None:
        """Forgets earlier frames, as after a seek."""
        self._graph = self._graph_of = None
        self._waiting.clear()

    def push(
        self, frame: VideoFrame | None, tag: Any, wanted: bool = True
    ) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None]]:
        """Feeds a frame (None at the end); gives `(tag, rgb, alpha)` of wanted ones, late where filters look ahead."""
        if not self.interlaced and not wanted:
            return
        if frame is not None and not self._filters():
            yield tag, *self._convert(frame)
            return
        if frame is not None:
            self._waiting.append((tag, wanted))
        for upright in self._through_graph(frame):
            tag, wanted = self._waiting.popleft()
            if wanted:
                yield tag, *self._convert(upright)

    def _filters(self) -> list[tuple[str, str | None]]:
        filters: list[tuple[str, str | None]] = (
            [("yadif", "mode=send_frame:deint=interlaced")] if self.interlaced else []
        )
        return filters + ([] if self._rotate_late else self.orientation.filters())

    def _through_graph(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        if frame is not None and self._graph_of != (frame.width, frame.height, frame.format.name):
            if self._graph is not None:  # the stream changes size: empty the old graph first
                yield from self._drain()
            self._graph_of = (frame.width, frame.height, frame.format.name)
            self._graph = _graph(frame, self._filters())
        if self._graph is None:
            return
        if frame is None:
            yield from self._drain()
        else:
            self._graph.push(frame)
            yield from _pull(self._graph)

    def _drain(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        self._graph.push(None)
        yield from _pull(self._graph)
        self._graph = self._graph_of = None

    def _convert(self, frame: VideoFrame) -> tuple[np.ndarray, np.ndarray | None]:
        late = self._rotate_late
        width, height = self.coded_size if late else self.size
        transfer, primaries = _TRANSFER.get(frame.color_trc, "sdr"), _PRIMARIES.get(frame.color_primaries, "bt709")
        rgba = alpha = None
        if has_alpha(frame):
            rgba = _array(self._to(frame, "rgba", width, height), 4)
            alpha = rgba[..., 3]
        if (transfer, primaries) != ("sdr", "bt709"):
            rgb = self._to_srgb(frame, transfer, primaries, width, height)
        elif rgba is not None:
            rgb = rgba[..., :3]
        else:
            rgb = _array(self._to(self._to_8_bit(frame), "rgb24", width, height), 3)
        if late:
            rgb, alpha = self.orientation.apply(rgb), None if alpha is None else self.orientation.apply(alpha)
        return np.array(rgb, order="C"), None if alpha is None else np.array(alpha, order="C")

    def _to_8_bit(self, frame: VideoFrame) -> VideoFrame:
        """Deep YUV to 8-bit YUV: then swscale's fast path follows, which is nearer to exact than its deep one."""
        deep = _DEEP_YUV.match(frame.format.name)
        return frame if deep is None else self._narrow.reformat(frame, format=deep.group(1))

    def _to(self, frame: VideoFrame, format: str, width: int, height: int) -> VideoFrame:
        return self._reformat.reformat(
            frame,
            width,
            height,
            format=format,
            src_colorspace=matrix_of(frame),
            src_color_range=_FULL if is_full_range(frame) else _LIMITED,
            dst_color_range=_FULL,
            interpolation="BICUBIC" if (width, height) != (frame.width, frame.height) else "BILINEAR",
        )

    def _to_srgb(self, frame: VideoFrame, transfer: str, primaries: str, width: int, height: int) -> np.ndarray:
        deep = self._to(frame, "gbrp16le", width, height)
        key = (width, height, transfer, primaries)
        if self._lut_of != key:
            cube = cube_file(transfer, primaries)  # type: ignore[arg-type]
            self._lut, self._lut_of = _graph(deep, [("lut3d", f"file='{cube}':interp=tetrahedral")]), key
        assert self._lut is not None
        self._lut.push(deep)
        mapped = next(_pull(self._lut))
        rgb = np.empty((height, width, 3), np.uint8)
        for channel, plane in zip((1, 2, 0), mapped.planes, strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)  # type: ignore[call-overload]
            rgb[..., channel] = rows[:, 1 : 2 * width : 2]  # high bytes
        return rgb


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the frame's format has an alpha channel."""
    name = frame.format.name
    return name.startswith(("yuva", "rgba", "argb", "bgra", "abgr", "gbrap", "ya8", "ya16")) or name == "pal8"


def is_full_range(frame: VideoFrame) -> bool:
    """Whether black and white are 0 and 255 rather than 16 and 235."""
    return frame.color_range == _FULL or frame.format.name.startswith("yuvj") or frame.format.is_rgb


def matrix_of(frame: VideoFrame) -> int:
    """swscale's name for the YUV matrix: as tagged, or else BT.709 for high definition and BT.601 below."""
    untagged = _BT709 if max(frame.width, frame.height) >= 1280 or min(frame.width, frame.height) > 576 else _BT601
    return _MATRIX.get(frame.colorspace, untagged)


def _graph(frame: VideoFrame, filters: list[tuple[str, str | None]]) -> Graph:
    graph = Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)]
    nodes += [graph.add(name, args) for name, args in filters]
    nodes.append(graph.add("buffersink"))
    for before, after in zip(nodes, nodes[1:], strict=False):
        before.link_to(after)
    graph.configure()
    return graph


def _pull(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.pull()  # type: ignore[misc]
        except (BlockingIOError, EndOfFile):
            return


def _array(frame: VideoFrame, channels: int) -> np.ndarray:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)  # type: ignore[call-overload]
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)
