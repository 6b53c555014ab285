"""Written videos read back: count, times, colours, sound in step, nothing left behind on failure."""

import av
import numpy as np
import pytest
import torch
from footage_cases import picture, psnr

from avatar3d.errors import ExportError
from avatar3d.export.video import VideoWriter


def read(path):
    with av.open(str(path)) as container:
        frames = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
        stream = container.streams.video[0]
        return frames, stream.codec_context


def sound_of(path, rate=16000):
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    with av.open(str(path)) as container:
        frames = [out for f in [*container.decode(audio=0), None] for out in resampler.resample(f)]
    return torch.from_numpy(np.concatenate([f.to_ndarray()[0] for f in frames]))


@pytest.mark.parametrize("fps", [25, 29.97, 12.0])
def test_reads_back(tmp_path, fps):
    images = [picture(i, 160, 120) for i in range(24)]
    with VideoWriter(tmp_path / "out.mp4", fps, 160, 120) as writer:
        for image in images:
            writer.write(image)
    frames, context = read(tmp_path / "out.mp4")
    assert len(frames) == 24 and (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)
    np.testing.assert_allclose([t for t, _ in frames], np.arange(24) / fps, atol=2e-4)
    assert min(psnr(a, b) for a, (_, b) in zip(images, frames, strict=True)) > 35
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


def test_given_times_and_odd_size(tmp_path):
    times = [0.0, 0.04, 0.055, 0.2, 0.21]
    with VideoWriter(tmp_path / "out.mp4", 25.0, 163, 121) as writer:
        for i, time in enumerate(times):
            writer.write(picture(i, 163, 121), time)
        with pytest.raises(ValueError, match="is not after the frame before it"):
            writer.write(picture(0, 163, 121), 0.1)
        with pytest.raises(ValueError, match=r"expected \(163, 121\)"):
            writer.write(picture(0))
    frames, _ = read(tmp_path / "out.mp4")
    np.testing.assert_allclose([t for t, _ in frames], times, atol=1e-4)
    assert frames[0][1].shape == (122, 164, 3) and psnr(frames[2][1][:121, :163], picture(2, 163, 121)) > 30


@pytest.mark.parametrize(
    "name, start",
    [
        ("audio/librispeech_116-288045-0001.m4a", 0.0),  # AAC: copied
        ("audio/librispeech_116-288045-0001.m4a", 0.7),
        ("audio/voca_test_sentence_22k.wav", 0.7),  # PCM at a rate that AAC does not have
    ],
)
def test_sound_stays_in_step(tmp_path, data, name, start):
    with VideoWriter(tmp_path / "out.mp4", 25, 64, 48, audio_from=data(name), audio_start=start) as writer:
        for i in range(50):
            writer.write(picture(i))
    original, written = sound_of(data(name))[round(start * 16000) :], sound_of(tmp_path / "out.mp4")
    assert len(written) / 16000 == pytest.approx(2.0, abs=0.08)  # whole packets
    n = 28000
    spectrum = torch.fft.rfft(original[:n], 2 * n).conj() * torch.fft.rfft(written[:n], 2 * n)
    lag = int(torch.fft.irfft(spectrum).argmax())
    assert min(lag, 2 * n - lag) <= 2  # of 16000 a second
    assert float(torch.corrcoef(torch.stack([original[:n], written[:n]]))[0, 1]) > 0.98


def test_nothing_is_left_of_a_failure(tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"the one before")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "out.mp4", 25, 64, 48) as writer:
        writer.write(picture(0))
        raise RuntimeError("stop")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.mp4", b"the one before")]
    with pytest.raises(ExportError, match="no frame was written"), VideoWriter(tmp_path / "new.mp4", 25, 64, 48):
        pass
    with pytest.raises(ExportError, match="is not a folder"):
        VideoWriter(tmp_path / "nowhere" / "out.mp4", 25, 64, 48)
    with pytest.raises(ExportError, match="cannot be read for its sound"):
        VideoWriter(tmp_path / "new.mp4", 25, 64, 48, audio_from=tmp_path / "out.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
