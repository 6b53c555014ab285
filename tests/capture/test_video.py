"""Video files: what frames come out, from every kind of file that phones and cameras write."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from footage_cases import picture, psnr, set_display_matrix, write_video

from avatar3d.capture import open_capture
from avatar3d.capture.tonemap import to_srgb
from avatar3d.errors import CaptureError

IMAGES = [picture(i) for i in range(24)]


def view_of(path: Path):
    return open_capture(path).views[0]


def test_header_is_what_iterating_gives(tmp_path):
    view = view_of(write_video(tmp_path / "clip.mp4", IMAGES))
    frames = list(view.frames())
    assert (view.name, view.kind, view.width, view.height, view.fps) == ("clip", "video", 64, 48, 25.0)
    assert view.frame_count == view.count_frames() == len(frames) == 24 and view.frame_count_exact
    assert view.duration == pytest.approx(24 / 25)
    assert [f.index for f in frames] == list(range(24))
    np.testing.assert_allclose([f.time for f in frames], np.arange(24) / 25, atol=1e-6)
    assert all(psnr(a, b.image) > 38 for a, b in zip(IMAGES, frames, strict=True))
    assert not view.has_audio and view.warnings == () and view.frame(0).alpha is None


@pytest.mark.parametrize(
    "matrix, upright",
    [
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # how phones store portrait video
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    ],
)
@pytest.mark.parametrize("format", ["yuv420p", "yuv422p"])
def test_rotation_metadata(tmp_path, matrix, upright, format):
    path = write_video(tmp_path / "clip.mp4", IMAGES[:4], format=format)
    set_display_matrix(path, *matrix)
    view = view_of(path)
    frames = [f.image for f in view.frames()]
    expected = [upright(image) for image in IMAGES[:4]]
    assert (view.height, view.width) == expected[0].shape[:2]
    assert all(psnr(a, b) > 38 for a, b in zip(expected, frames, strict=True))


def test_variable_frame_rate_keeps_true_times(tmp_path):
    times = [0, 40, 47, 110, 300, 301, 350, 420, 999, 1200, 1201, 1500]
    view = view_of(write_video(tmp_path / "clip.mp4", IMAGES[:12], times=times))
    assert [round(f.time * 1000) for f in view.frames()] == times


@pytest.mark.parametrize(
    "suffix, codec", [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")]
)
def test_seeking_equals_iterating(tmp_path, suffix, codec):
    images = [picture(i) for i in range(80)]
    view = view_of(write_video(tmp_path / f"clip.{suffix}", images, codec=codec, options={"g": "9"}))
    frames = list(view.frames())
    assert len(frames) == view.count_frames() == 80
    for i in (0, 8, 9, 10, 63, 35, 79):
        frame = view.frame(i)
        assert (frame.index, frame.time) == (i, frames[i].time)
        np.testing.assert_array_equal(frame.image, frames[i].image)
    assert [f.index for f in view.frames(30, 75, 40)] == [30, 70]
    sparse = list(view.frames_at([3, 4, 60, 79, 90]))
    assert [f.index for f in sparse] == [3, 4, 60, 79]
    np.testing.assert_array_equal(sparse[2].image, frames[60].image)


def test_bad_positions(tmp_path):
    view = view_of(write_video(tmp_path / "clip.mp4", IMAGES))
    with pytest.raises(IndexError, match="clip has no frame 24; it has 24"):
        view.frame(24)
    with pytest.raises(ValueError, match="step from 1"):
        view.frames(0, None, 0)
    with pytest.raises(ValueError, match="must increase"):
        list(view.frames_at([3, 3]))


@pytest.mark.parametrize(
    "tags, format",
    [
        ((1, 1, 1, 1), "yuv420p"),
        ((1, 5, 6, 6), "yuv420p"),
        ((2, 1, 1, 1), "yuv420p"),
        ((0, 2, 2, 2), "yuv420p"),  # untagged and small: BT.601, limited
        ((1, 1, 1, 1), "yuv422p"),
        ((1, 1, 1, 1), "yuv444p"),
        ((1, 1, 1, 1), "yuv420p10le"),
    ],
)
def test_colours_by_matrix_and_range(tmp_path, tags, format):
    black, white, red, green = (0, 0, 0), (255, 255, 255), (200, 30, 30), (30, 180, 60)
    colours = np.array([black, white, red, green, (40, 60, 220), (220, 170, 140)], np.uint8)
    image = colours.reshape(2, 3, 3).repeat(32, 0).repeat(32, 1)
    view = view_of(write_video(tmp_path / "clip.mkv", [image], format=format, codec="ffv1", options={}, tags=tags))
    decoded = view.frame(0).image[16::32, 16::32].reshape(-1, 3)
    np.testing.assert_allclose(decoded.astype(int), colours, atol=4)


def test_untagged_high_definition_is_bt709(tmp_path):
    image = np.full((720, 1280, 3), (200, 40, 40), np.uint8)
    tagged = write_video(tmp_path / "a.mkv", [image], tags=(1, 1, 1, 1), options={"preset": "ultrafast"})
    image601 = view_of(write_video(tmp_path / "b.mkv", [image], tags=(1, 2, 2, 2), options={"preset": "ultrafast"}))
    np.testing.assert_allclose(view_of(tagged).frame(0).image.mean((0, 1)), (200, 40, 40), atol=4)
    # written with BT.601's matrix, read with BT.709's
    assert np.abs(image601.frame(0).image.mean((0, 1)) - (200, 40, 40)).max() > 10


@pytest.mark.parametrize("name, transfer", [("pq", 16), ("hlg", 18)])
def test_hdr_is_tone_mapped_by_the_table(tmp_path, name, transfer):
    rng = np.random.default_rng(0)
    signal = np.concatenate([np.linspace(0, 1, 24)[:, None].repeat(3, 1), 0.6 * rng.random((40, 3))])
    luma = signal @ (0.2627, 0.6780, 0.0593)  # ITU-R BT.2020, limited range
    chroma = (signal[:, 2] - luma) / 1.8814, (signal[:, 0] - luma) / 1.4746
    yuv = np.stack([16 + 219 * luma, 128 + 224 * chroma[0], 128 + 224 * chroma[1]], -1) * 256
    planes = np.rint(yuv.reshape(8, 8, 3).repeat(16, 0).repeat(16, 1)).astype(np.uint16)
    path, deep = tmp_path / "clip.mkv", {"format": "yuv444p10le", "codec": "ffv1", "source": "yuv444p16le"}
    write_video(path, [planes], options={}, tags=(1, 9, 9, transfer), **deep)
    decoded = view_of(path).frame(0).image[8::16, 8::16].reshape(-1, 3).astype(float)
    error = np.abs(decoded - to_srgb(signal, name, "bt2020") * 255)
    assert error.mean() < 0.6 and np.percentile(error, 98) < 3


def test_tone_mapping_keeps_white_black_and_order():
    grey = np.linspace(0, 1, 200)[:, None].repeat(3, 1)
    for name, white in (("pq", 0.5807), ("hlg", 0.75)):  # signals of 203 cd/m2, ITU-R BT.2408
        mapped = to_srgb(grey, name, "bt2020")
        assert mapped[0].max() < 1e-3 and mapped[-1].min() > 0.999
        assert (np.diff(mapped[:, 0]) >= 0).all() and np.ptp(mapped, axis=1).max() < 2e-3
        diffuse = to_srgb(np.full((1, 3), white), name, "bt2020")[0, 0]
        assert 0.90 < diffuse < 0.96  # room for highlights above it
    np.testing.assert_allclose(to_srgb(grey, "sdr", "bt709"), grey, atol=1e-6)


def test_interlaced_fields_are_separated(tmp_path):
    y, x = np.mgrid[:48, :64]
    fields = [np.where((x + y // 6 + 6 * i) // 16 % 2, 200, 40) for i in range(24)]
    woven = []
    for top, bottom in zip(fields[::2], fields[1::2], strict=True):
        frame = top.copy()
        frame[1::2] = bottom[1::2]
        woven.append(frame[..., None].repeat(3, 2).astype(np.uint8))
    options = {"crf": "5", "x264-params": "tff=1:interlaced=1"}
    view = view_of(write_video(tmp_path / "clip.mp4", woven, options=options))
    frames = [f.image for f in view.frames()]
    assert len(frames) == 12

    def combing(image):
        image = image.astype(float)
        return np.abs(image[1:-1] - 0.5 * (image[:-2] + image[2:])).mean()

    assert combing(frames[5]) < 0.35 * combing(woven[5])
    for i in (0, 5, 11):
        np.testing.assert_array_equal(view.frame(i).image, frames[i])


@pytest.mark.parametrize("codec, format", [("qtrle", "argb"), ("prores_ks", "yuva444p10le")])
def test_alpha(tmp_path, codec, format):
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    images = [np.dstack([image, alpha]) for image in IMAGES[:3]]
    view = view_of(write_video(tmp_path / "clip.mov", images, codec=codec, format=format, options={}, source="rgba"))
    frame = view.frame(1)
    assert psnr(frame.image, IMAGES[1]) > 45 and psnr(frame.alpha, alpha) > 45


def test_odd_sizes_and_pixel_aspect(tmp_path):
    odd = view_of(write_video(tmp_path / "odd.mkv", [picture(1, 63, 47)], codec="ffv1", options={}))
    assert (odd.width, odd.height) == (63, 47) and psnr(odd.frame(0).image, picture(1, 63, 47)) > 30
    for aspect, size in ((Fraction(4, 3), (85, 48)), (Fraction(3, 4), (64, 64))):
        view = view_of(write_video(tmp_path / "wide.mp4", IMAGES[:2], aspect=aspect))
        assert (view.width, view.height) == size == view.frame(1).image.shape[1::-1]


def test_cut_off_tail_gives_what_there_is_and_says_so(tmp_path):
    images = [picture(i, 320, 240) for i in range(30)]
    whole = write_video(tmp_path / "whole.mp4", images, container={"movflags": "+faststart"})
    path = tmp_path / "tail.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    capture = open_capture(path)
    frames = list(capture.views[0].frames())
    assert 5 < len(frames) < 30 and capture.views[0].count_frames() == len(frames)
    assert capture.warnings[-1] == f"tail.mp4 is damaged: {len(frames)} of 30 frames could be read."
    for frame, image in zip(frames, view_of(whole).frames(), strict=False):
        np.testing.assert_array_equal(frame.image, image.image)


def test_matroska_cut_off_says_so(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", [picture(i, 320, 240) for i in range(50)])
    path = tmp_path / "tail.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    view = view_of(path)
    assert 0 < len(list(view.frames())) < 40
    assert len(view.warnings) == 1 and view.warnings[0].startswith("tail.mkv is damaged: it ends after")


def test_damage_in_the_middle_is_passed_over(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [picture(i, 320, 240) for i in range(30)])
    content = bytearray(path.read_bytes())
    start, stop = content.index(b"mdat"), content.index(b"moov")
    a, b = (int(start + share * (stop - start)) for share in (0.4, 0.5))
    content[a:b] = np.random.default_rng(0).integers(0, 256, b - a, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    view = view_of(path)
    frames = list(view.frames())
    assert 10 < len(frames) < 30 and [f.index for f in frames] == list(range(len(frames)))
    assert any("could not be decoded" in warning for warning in view.warnings)
    np.testing.assert_array_equal(view.frame(len(frames) - 1).image, frames[-1].image)


@pytest.mark.parametrize(
    "content, message",
    [(b"", "is empty"), (b"no video", "cannot be read as a video"), (bytes(range(256)) * 400, "cannot be read as")],
)
def test_what_is_not_a_video(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=message) as error:
        open_capture(path)
    assert len(str(error.value).splitlines()) <= 3


def test_missing_file():
    with pytest.raises(CaptureError, match="nowhere.mp4 does not exist"):
        open_capture("nowhere.mp4")


CLIPS = {
    "selfie_d13_man_glasses.mp4": (720, 1280, 30.0, 352),
    "portrait_1080x1920_speech.mp4": (1080, 1920, 30.0, 600),  # HEVC
    "webcam_xiaoming_large_yaw.mp4": (1486, 720, 30.0, 306),
    "talkingface_franck_200s.mp4": (360, 288, 24.0, 4800),
    "no_face_cartoon.mp4": (960, 540, 24.0, 95),  # an edit list hides three more
    "phone_selfie_smile.mp4": (640, 360, 30.0, 72),
    "mead_W036_happy.mp4": (1920, 1080, 25.0, 76),
}


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(data, name):
    width, height, fps, count = CLIPS[name]
    view = view_of(data(f"videos/{name}"))
    assert (view.width, view.height, view.frame_count, view.count_frames()) == (width, height, count, count)
    assert view.fps == pytest.approx(fps, rel=1e-4)
    middle = view.frame(40)
    for frame in view.frames(38, 41):
        last = frame
    np.testing.assert_array_equal(middle.image, last.image)
    assert view.warnings == ()
