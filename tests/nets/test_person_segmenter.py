import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from avatar3d.nets.guided_filter import _box_mean, guided_apply, guided_coefficients
from avatar3d.nets.person_masks import PersonMasks, stillness
from avatar3d.nets.person_segmenter import PersonSegmenter, window_around_head


@pytest.fixture(scope="module")
def segmenter():
    return PersonSegmenter()


def head_points(frame: np.ndarray) -> np.ndarray:
    """Points of the head in the demo clip: the face's box as the detector finds it, and as much of hair above."""
    from avatar3d.nets import FaceDetector

    x0, y0, x1, y1 = FaceDetector().detect(frame)[0].box.tolist()
    y0 -= 0.6 * (y1 - y0)
    return np.stack(np.meshgrid(np.linspace(x0, x1, 5), np.linspace(y0, y1, 7)), -1).reshape(-1, 2)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 7])
def test_box_mean_is_a_mean_over_what_is_there(rng, radius):
    maps = torch.rand(2, 20, 33, generator=rng, dtype=torch.float64)
    size = 2 * radius + 1
    expected = functional.avg_pool2d(maps, size, 1, radius, count_include_pad=False)
    torch.testing.assert_close(_box_mean(maps, radius), expected, rtol=1e-14, atol=1e-14)


def test_guided_filter_moves_a_blurred_edge_to_the_picture_s():
    x = torch.arange(64.0)
    guide = torch.where(x > 30.5, 0.9, 0.2).expand(3, 64, 64) * torch.tensor([1.0, 0.7, 0.5])[:, None, None]
    blurred = torch.sigmoid((x - 32) / 1.5).expand(64, 64)
    coefficients = guided_coefficients(guide.contiguous(), blurred.contiguous(), radius=4, epsilon=1e-4)
    refined = guided_apply(coefficients, guide.contiguous())
    steps = refined.diff(dim=1)
    assert (steps[:, 30] > 0.4).all() and blurred.diff(dim=1).max() < 0.17
    assert steps[:, 25:30].abs().max() < 0.1 and steps[:, 31:36].abs().max() < 0.1


def test_guided_filter_keeps_a_constant_and_an_affine_map(rng):
    guide = torch.rand(3, 40, 50, generator=rng, dtype=torch.float64)
    constant = torch.full((40, 50), 0.3, dtype=torch.float64)
    coefficients = guided_coefficients(guide, constant, radius=3, epsilon=1e-3)
    torch.testing.assert_close(guided_apply(coefficients, guide), constant)
    affine = 0.2 * guide[0] - 0.1 * guide[1] + 0.3 * guide[2] + 0.2
    coefficients = guided_coefficients(guide, affine, radius=3, epsilon=1e-9)
    torch.testing.assert_close(guided_apply(coefficients, guide), affine, rtol=1e-5, atol=1e-5)


def test_the_man_is_person_and_the_corner_is_not(segmenter, demo_frames):
    frame = demo_frames[0]
    points = head_points(frame)
    for mask in (segmenter(frame), segmenter(frame, points)):
        assert mask.shape == frame.shape[:2] and mask.dtype == np.float32
        assert 0 <= mask.min() and mask.max() <= 1 and 0.1 < mask.mean() < 0.7
        x, y = points.mean(0).astype(int)
        assert mask[y - 20 : y + 20, x - 20 : x + 20].min() > 0.95 and mask[:20, :20].max() < 0.05


def test_someone_small_is_seen_as_well_as_someone_large(segmenter, demo_frames):
    frame = demo_frames[0]
    h, w = frame.shape[:2]
    large = segmenter(frame, head_points(frame)) > 0.5
    small = np.full((4 * h, 4 * w, 3), 128, np.uint8)
    small[2 * h : 3 * h, 2 * w : 3 * w] = frame
    points = head_points(frame) + (2 * w, 2 * h)
    left, top, right, bottom = window_around_head(points, 4 * w, 4 * h)
    close = np.s_[top : min(bottom, 3 * h), left:right]
    with_head, without = segmenter(small, points)[close] > 0.5, segmenter(small)[close] > 0.5
    large = np.pad(large, ((2 * h, h), (2 * w, w)))[close]

    def iou(a, b):
        return (a & b).sum() / (a | b).sum()

    assert iou(with_head, large) > 0.97 > 0.7 > iou(without, large)


def test_only_the_person_with_the_head_counts(segmenter, demo_frames):
    frame = demo_frames[0]
    both = np.concatenate([frame, frame[:, ::-1]], 1)
    w = frame.shape[1]
    points = head_points(frame)
    mask, everyone = segmenter(both, points), segmenter(both)
    assert everyone[:, w:].mean() > 0.1 and mask[:, w:].mean() < 0.02 * everyone[:, w:].mean()
    assert abs(mask[:, :w].mean() - everyone[:, :w].mean()) < 0.02


def test_window_around_head():
    square = np.array([[100.0, 100], [200, 200], [np.nan, 0]])
    window = window_around_head(square, 1000, 1000)
    assert window == (60, 78, 241, 259)
    assert window_around_head(square, 150, 150) == (60, 78, 150, 150)
    assert window_around_head(square - 300, 1000, 1000) is None
    assert window_around_head(np.full((3, 2), np.nan), 100, 100) is None


def test_agrees_with_annotated_people(segmenter, data):
    """Head and shoulders of a man who turns round, cut out by hand: mean intersection over union."""
    scores = []
    for i in range(0, 8, 2):
        folder = "multiview/octopus_turnaround"
        frame = np.asarray(Image.open(data(f"{folder}/frames/{i:04d}.png")).convert("RGB"))
        truth = np.asarray(Image.open(data(f"{folder}/segmentations/{i:04d}.png")).convert("RGB")).max(-1) > 0
        rows, columns = np.nonzero(truth)
        head = rows < rows.min() + 0.13 * (rows.max() - rows.min())
        points = np.stack([columns[head], rows[head]], -1).astype(float)
        left, top, right, bottom = window_around_head(points, *frame.shape[1::-1])
        mask = segmenter(frame, points)[top:bottom, left:right] > 0.5
        truth = truth[top:bottom, left:right]
        scores.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(scores) > 0.998


def test_stillness():
    a = np.full((10, 14, 3), 100, np.uint8)
    b = a.copy()
    b[4:8, 8:12, 1] = 160
    still = stillness(a, b)
    assert still.shape == (10, 14) and (still[4:8, 8:12] < 1e-6).all()
    still[4:8, 8:12] = 1
    assert (still == 1).all()


class Scripted:
    """A segmenter that says what it is told."""

    def __init__(self, masks):
        self.masks = iter(masks)

    def __call__(self, image, head=None):
        return next(self.masks).copy()


def test_masks_are_steady_where_nothing_moves_and_prompt_where_something_does():
    first, second = np.full((8, 8), 0.2, np.float32), np.full((8, 8), 0.8, np.float32)
    still = np.full((8, 8, 3), 90, np.uint8)
    moved = still.copy()
    moved[:, 4:] = 200
    masks = PersonMasks(Scripted([first, second, second, second]))
    np.testing.assert_array_equal(masks(still), first)
    mixed = masks(moved)
    assert (mixed[:, :4] < 0.5).all() and (mixed[:, 4:] > 0.799).all()
    masks.forget()
    np.testing.assert_array_equal(masks(still), second)
    inside = np.zeros((8, 8), bool)
    inside[2, 3] = True
    assert masks(still, inside=inside)[2, 3] == 1


def test_masks_flicker_less_than_the_network(segmenter, demo_frames):
    masks, raw, steady = PersonMasks(segmenter), [], []
    frames = demo_frames[:8]
    for frame in frames:
        raw.append(segmenter(frame))
        steady.append(masks(frame))
    still = [stillness(a, b) > 0.8 for a, b in zip(frames[1:], frames[:-1], strict=True)]

    def flicker(m):
        return np.mean([np.abs(b - a)[s].mean() for a, b, s in zip(m[:-1], m[1:], still, strict=True)])

    assert flicker(steady) < 0.8 * flicker(raw)
