"""Small videos written for the tests, and what their frames should look like."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame


def picture(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A smooth picture that differs from frame to frame and from each of its mirror images."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    red = 0.5 + 0.4 * np.sin(5 * x + 0.3 * i)
    green = 0.15 + 0.7 * y
    blue = 0.8 - 0.6 * x * (1 - 0.02 * i)
    image = np.stack([red, green, blue], -1)
    image[: height // 4, : width // 4] = [0.9, 0.85, 0.2]
    return np.clip(image * 255, 0, 255).astype(np.uint8)


def write_video(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    format: str = "yuv420p",
    rate: int = 25,
    times: list[int] | None = None,
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    source: str = "rgb24",
) -> Path:
    """Writes frames; `times` in milliseconds, `tags` are range, matrix, primaries and transfer (H.273)."""
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options if options is not None else {"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, format
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = tags
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if times is not None:
            context.time_base = Fraction(1, 1000)
        matrix = {0: 5, 1: 1, 2: 5, 5: 5, 6: 5, 9: 9}[tags[1]]
        for i, image in enumerate(images):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format=source)
            if source.startswith("yuv"):
                frame = frame.reformat(format=format)
            elif source != format:
                ranges = {"src_color_range": 2, "dst_color_range": tags[0]}
                frame = frame.reformat(format=format, dst_colorspace=matrix, interpolation="BICUBIC", **ranges)
            frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = tags
            frame.pts, frame.time_base = (i, Fraction(1, rate)) if times is None else (times[i], Fraction(1, 1000))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Writes the rotation of an MP4's first track (tkhd: 9 numbers, the first two columns in 16.16)."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    u, v, w = 0, 0, 1 << 30
    content[at : at + 36] = struct.pack(">9i", a << 16, b << 16, u, c << 16, d << 16, v, 0, 0, w)
    path.write_bytes(content)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels between two uint8 images."""
    return float(10 * np.log10(255**2 / max(float(np.mean((a.astype(float) - b) ** 2)), 1e-9)))
