"""Photos, folders and arrays: EXIF, colour profiles, bit depths, and how inputs become views."""

import io

import numpy as np
import pytest
import torch
from footage_cases import picture, psnr, write_video
from PIL import Image, ImageCms

from avatar3d.capture import open_capture, read_image
from avatar3d.errors import CaptureError, DependencyError

ORIENTATION, MODEL, FOCAL35, FOCAL, PITCH, UNIT, WIDTH = 0x0112, 0x0110, 0xA405, 0x920A, 0xA20E, 0xA210, 0xA002
EXIF_IFD = 0x8769


def exif_with(**tags) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        if name in ("ORIENTATION", "MODEL"):
            exif[globals()[name]] = value
        else:
            exif.get_ifd(EXIF_IFD)[globals()[name]] = value
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = picture(0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "p.png", exif=exif_with(ORIENTATION=orientation))
    view = open_capture(tmp_path / "p.png").views[0]
    assert (view.width, view.height, view.kind, view.frame_count) == (64, 48, "photos", 1)
    np.testing.assert_array_equal(view.frame(0).image, upright)


@pytest.mark.parametrize(
    "tags, focal",
    [
        ({"FOCAL35": 26}, 26 * np.hypot(64, 48) / np.hypot(36, 24)),
        ({"FOCAL": 50.0, "PITCH": 200.0, "UNIT": 4, "WIDTH": 6400}, 50 * 200 * 64 / 6400),
        ({"FOCAL": 50.0, "PITCH": 2000.0, "UNIT": 3, "WIDTH": 6400}, 50 * 200 * 64 / 6400),
        ({"FOCAL": 50.0, "MODEL": "Canon EOS 5D Mark III"}, 50 / 36 * 64),
        ({"FOCAL": 50.0, "MODEL": "Canon EOS 550D"}, None),
        ({"FOCAL": 50.0}, None),
        ({"FOCAL35": 0, "FOCAL": 0.0}, None),
        ({}, None),
    ],
)
def test_focal_length_from_exif(tmp_path, tags, focal):
    Image.fromarray(picture(0)).save(tmp_path / "p.jpg", exif=exif_with(**tags))
    hint = open_capture(tmp_path / "p.jpg").views[0].focal_pixels_hint
    assert hint == (None if focal is None else pytest.approx(focal, rel=1e-6))


def test_focal_length_of_real_photos(data):
    canon = open_capture(data("photos/portrait_exif_focal.jpg")).views[0]
    assert canon.focal_pixels_hint == pytest.approx(82 / 36 * 1728, rel=0.01)  # full frame, 82 mm
    capture = open_capture([data(f"photos/felix_{i}.png") for i in (1, 2, 3, 4)])
    assert capture.kind == "photos" and not capture.synchronised and len(capture.views) == 4
    for view in capture.views:  # 48 mm equivalent
        assert view.focal_pixels_hint == pytest.approx(48 / 43.27 * np.hypot(756, 1008), rel=0.001)


def test_colour_profile_is_applied(tmp_path):
    wide = np.full((8, 8, 3), (160, 120, 110), np.uint8)
    image = Image.fromarray(wide)
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    assert ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB") is not None
    swapped = _profile_with_red_and_blue_swapped()
    image.save(tmp_path / "p.png", icc_profile=swapped)
    pixels, alpha = read_image(tmp_path / "p.png")
    np.testing.assert_allclose(pixels[0, 0].astype(int), (110, 120, 160), atol=6)
    assert alpha is None


def _profile_with_red_and_blue_swapped() -> bytes:
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    r, b = content.index(b"rXYZ"), content.index(b"bXYZ")
    content[r : r + 4], content[b : b + 4] = b"bXYZ", b"rXYZ"
    at = content.index("sRGB".encode("utf-16-be"))
    content[at : at + 8] = "test".encode("utf-16-be")
    return bytes(content)


def test_depths_and_modes(tmp_path):
    grey = picture(0)[..., 0]
    images = {
        "grey.png": (Image.fromarray(grey), grey[..., None].repeat(3, 2)),
        "grey16.png": (Image.fromarray(grey.astype(np.uint16) * 257), grey[..., None].repeat(3, 2)),
        "bilevel.png": (Image.fromarray(grey > 128), np.where(grey > 128, 255, 0)[..., None].repeat(3, 2)),
    }
    for name, (image, expected) in images.items():
        image.save(tmp_path / name)
        pixels, alpha = read_image(tmp_path / name)
        assert alpha is None and pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected, err_msg=name)
    palette = Image.fromarray(picture(0)).quantize(64)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png")[0], np.array(palette.convert("RGB")))
    Image.fromarray(picture(0)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert psnr(read_image(tmp_path / "print.jpg")[0], picture(0)) > 30
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(CaptureError, match="floating-point"):
        read_image(tmp_path / "float.tif")


def test_alpha_is_kept_unless_solid(tmp_path):
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    Image.fromarray(np.dstack([picture(0), alpha])).save(tmp_path / "p.png")
    frame = open_capture(tmp_path / "p.png").views[0].frame(0)
    np.testing.assert_array_equal(frame.image, picture(0))
    np.testing.assert_array_equal(frame.alpha, alpha)
    Image.fromarray(np.dstack([picture(0), np.full_like(alpha, 255)])).save(tmp_path / "solid.png")
    assert read_image(tmp_path / "solid.png")[1] is None


def test_damaged_photos(tmp_path):
    with io.BytesIO() as file:
        Image.fromarray(picture(0, 400, 300)).save(file, "png")
        content = file.getvalue()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    for name, message in (("cut.png", "is damaged"), ("text.jpg", "not an image")):
        with pytest.raises(CaptureError, match=message):
            open_capture(tmp_path / name).views[0].frame(0)


@pytest.mark.parametrize("suffix", ["webp", "png", "tiff"])
def test_pictures_that_are_not_taken_are_told(tmp_path, suffix):
    first, *others = (Image.fromarray(picture(i)) for i in range(3))
    first.save(tmp_path / f"moving.{suffix}", save_all=True, append_images=others)
    first.save(tmp_path / f"still.{suffix}")
    moving, still = (open_capture(tmp_path / f"{name}.{suffix}") for name in ("moving", "still"))
    (line,) = moving.warnings
    assert f"moving.{suffix} holds 3 pictures" in line and "\n" not in line
    assert still.warnings == ()


def test_an_empty_name_is_refused():
    with pytest.raises(CaptureError, match="an empty name"):
        open_capture("")


def test_photos_beyond_what_is_read_are_told(tmp_path):
    Image.new("1", (60_000, 4_000)).save(tmp_path / "wide.png")
    with pytest.raises(CaptureError, match=r"wide.png is too large; expected up to 179 megapixels"):
        read_image(tmp_path / "wide.png")


def test_heic_names_the_package_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "p.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DependencyError, match="pillow-heif"):
        open_capture(tmp_path / "p.heic")


def save_numbered(folder, count, *, exif=None, prefix="frame_"):
    folder.mkdir()
    for i in range(count):
        Image.fromarray(picture(i)).save(folder / f"{prefix}{i}.png", exif=exif or Image.Exif())
    return folder


def test_folder_of_numbered_frames_is_a_clip(tmp_path):
    capture = open_capture(save_numbered(tmp_path / "frames", 12), fps=10)
    view = capture.views[0]
    assert (capture.kind, len(capture.views), view.frame_count, view.fps, view.name) == ("images", 1, 12, 10, "frames")
    assert "12 numbered images, taken as one clip at 10 frames per second" in capture.warnings[0]
    for i, frame in enumerate(view.frames()):  # frame_2 before frame_10
        assert (frame.index, frame.time) == (i, i / 10)
        np.testing.assert_array_equal(frame.image, picture(i))


def test_folder_of_photos_is_several_photos(tmp_path):
    camera = exif_with(MODEL="A phone", FOCAL35=26)
    by_exif = open_capture(save_numbered(tmp_path / "a", 3, exif=camera, prefix="IMG_"))
    assert (by_exif.kind, len(by_exif.views)) == ("photos", 3)
    folder = save_numbered(tmp_path / "b", 3)
    Image.fromarray(picture(0, 32, 24)).save(folder / "frame_9.png")
    assert open_capture(folder).kind == "photos"
    with pytest.raises(CaptureError, match="no image files"):
        (tmp_path / "empty").mkdir()
        open_capture(tmp_path / "empty")


def test_clips_among_the_images_of_a_folder_are_not_left_out_silently(tmp_path):
    folder = save_numbered(tmp_path / "a", 2)
    (folder / "take.MOV").touch()
    (folder / "notes.txt").touch()
    assert "left out: take.MOV." in open_capture(folder).warnings[0]


def test_arrays(tmp_path):
    images = np.stack([picture(i) for i in range(5)])
    for given in (images, torch.from_numpy(images)):
        view = open_capture(given, fps=25).views[0]
        assert (view.kind, view.frame_count, view.duration) == ("video", 5, 0.2)
        np.testing.assert_array_equal(view.frame(3).image, images[3])
    assert open_capture(images[0]).kind == "photos"
    with pytest.raises(ValueError, match="expected uint8"):
        open_capture(images.astype(np.float32))
    with pytest.raises(ValueError, match="expected a video"):
        open_capture()


def test_several_clips_are_more_footage_of_one_person(tmp_path):
    paths = [write_video(tmp_path / f"{name}.mp4", [picture(i) for i in range(4)]) for name in "ab"]
    capture = open_capture(*paths)
    assert (capture.kind, capture.synchronised, capture.frame_count) == ("video", False, 8)
    assert [v.name for v in capture.views] == ["a", "b"]
    Image.fromarray(picture(0)).save(tmp_path / "p.png")
    assert open_capture([paths[0], tmp_path / "p.png"]).kind == "video"
