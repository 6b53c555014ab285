import numpy as np
import pytest
from footage_cases import picture, write_video
from PIL import Image

from avatar3d.capture import open_capture, read_mask, with_masks
from avatar3d.errors import CaptureError


def mask(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    values = np.zeros((height, width), np.uint8)
    values[:, : 4 * i + 4] = 255
    return values


def write_masks(folder, count: int, *, start: int = 0, pattern: str = "mask_{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(mask(i)).save(folder / pattern.format(i + start))
    return folder


def test_masks_of_a_video_go_by_the_numbers_in_their_names(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", [picture(i) for i in range(12)])
    capture = with_masks(open_capture(clip), write_masks(tmp_path / "masks", 12, start=1))
    view = capture.views[0]
    assert [f.index for f in view.frames(0, 12, 5)] == [0, 5, 10] and view.count_frames() == 12
    for frame in (*view.frames(8), view.frame(10)):
        np.testing.assert_array_equal(frame.alpha, mask(frame.index))
        assert frame.image.shape == (48, 64, 3)


def test_photos_go_by_name_and_clips_by_folder(tmp_path):
    for name in ("left", "right"):
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask(3)).save(tmp_path / "masks" / "right.png")
    Image.fromarray(mask(7)).save(tmp_path / "masks" / "left.png")
    capture = with_masks(open_capture(tmp_path / "left.jpg", tmp_path / "right.jpg"), tmp_path / "masks")
    np.testing.assert_array_equal(capture.views[0].frame(0).alpha, mask(7))
    clips = [write_video(tmp_path / f"{n}.mp4", [picture(i) for i in range(n)]) for n in (3, 4)]
    for n in (3, 4):
        write_masks(tmp_path / "many" / str(n), n)
    capture = with_masks(open_capture(*clips), tmp_path / "many")
    np.testing.assert_array_equal(capture.views[1].frame(3).alpha, mask(3))
    with pytest.raises(CaptureError, match="masks has no folder 3; with several clips"):
        with_masks(open_capture(*clips), tmp_path / "masks")


def test_a_mask_may_be_an_alpha_channel(tmp_path):
    image = np.dstack([picture(0), mask(5)])
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask(5))
    Image.fromarray(np.uint16(mask(2)) * 257).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), mask(2))


def test_masks_that_do_not_fit(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", [picture(i) for i in range(5)])
    capture = open_capture(clip)
    with pytest.raises(CaptureError, match="nowhere is not a folder"):
        with_masks(capture, tmp_path / "nowhere")
    with pytest.raises(CaptureError, match="There are 4 masks for the 5 frames of clip; expected one for each"):
        with_masks(capture, write_masks(tmp_path / "few", 4))
    masks = write_masks(tmp_path / "masks", 5)
    Image.fromarray(mask(0, 32, 24)).save(masks / "mask_3.png")
    view = with_masks(capture, masks).views[0]
    with pytest.raises(CaptureError, match="mask_3.png is 32x24; the frame that it is the mask of is 64x48"):
        view.frame(3)
    Image.fromarray(mask(0, 32, 24)).save(masks / "mask_0.png")
    with pytest.raises(CaptureError, match="mask_0.png is 32x24; clip is 64x48"):
        with_masks(capture, masks)
    Image.fromarray(picture(0)).save(masks / "mask_0.png")
    with pytest.raises(CaptureError, match="mask_0.png is coloured; expected a mask"):
        with_masks(capture, masks)
