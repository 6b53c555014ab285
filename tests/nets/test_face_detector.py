import json
import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image

from avatar3d.nets import FaceDetector
from avatar3d.nets.face_detector import anchors, levels, merge, overlap
from tests.nets.pictures import read_frames, read_image


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def test_anchors():
    grid = anchors()
    assert grid.shape == (896, 2)
    assert np.allclose(grid[:4], [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32], [3 / 32, 1 / 32]])
    assert np.allclose(grid[512:518], 1 / 16) and np.allclose(grid[-1], 15 / 16)


def test_overlap():
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]])
    assert np.allclose(overlap(box, others), [1, 1 / 3, 0, 0])


def test_merge_weights_by_score_and_keeps_separate_faces():
    points = np.zeros((3, 8, 2))
    points[0, :2], points[1, :2], points[2, :2] = [[0, 0], [10, 10]], [[1, 0], [11, 10]], [[50, 50], [60, 60]]
    (first, score), (second, other) = merge(points, np.array([0.6, 0.9, 0.7]))
    assert score == 0.9 and other == 0.7
    assert np.allclose(first[0], [0.9 / 1.5, 0]) and np.allclose(second[:2], points[2, :2])


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (640, 640), (199, 148), (4032, 3024), (64, 48)])
def test_each_level_covers_the_frame(size):
    width, height = size
    sides = []
    for windows in levels(width, height, min_face=24):
        if windows[0].angle in (math.radians(45), math.radians(-45)):
            continue
        low = np.min([(w.x - w.size / 2, w.y - w.size / 2) for w in windows], axis=0)
        high = np.max([(w.x + w.size / 2, w.y + w.size / 2) for w in windows], axis=0)
        assert (low <= 1e-6).all() and (high >= np.array(size) - 1e-6).all()
        xs = sorted({w.x for w in windows})
        assert all(b - a <= 0.601 * windows[0].size for a, b in zip(xs, xs[1:], strict=False))
        sides.append(windows[0].size)
    assert sides[0] == max(size)


def test_two_children(data, detector):
    """MediaPipe's own expectation for its two-face test picture: boxes as x, y, width, height, and scores."""
    expected = json.loads(data("mediapipe_expected/two_children_expected_DERIVED.json").read_text())
    found = detector.detect(read_image(data("photos/mediapipe_two_children.jpeg")))
    assert len(found) == 2
    for (x, y, w, h), score in zip(expected["detections_xywh_px"], expected["scores"], strict=True):
        box = np.array([x, y, x + w, y + h], dtype=np.float64)
        overlaps = overlap(box, np.stack([f.box.double().numpy() for f in found]))
        assert overlaps.max() > 0.93  # measured 0.95 and 0.97; resampling differs
        assert abs(found[int(overlaps.argmax())].score - score) < 0.04


def test_demo_face(demo_frames, detector):
    (face,) = detector.detect(demo_frames[0])
    assert face.score > 0.85 and abs(face.roll) < math.radians(12)
    eyes = face.keypoints[:2]
    assert eyes[0, 0] < face.keypoints[2, 0] < eyes[1, 0], "the subject's right eye is on the left of the picture"
    assert face.keypoints[3, 1] > face.keypoints[2, 1] > eyes[:, 1].max(), "mouth below nose below eyes"
    x0, y0, x1, y1 = face.box
    inside = (face.keypoints[:4] > torch.stack([x0, y0])) & (face.keypoints[:4] < torch.stack([x1, y1]))
    assert inside.all()


def test_small_face_needs_the_thorough_search(demo_frames, detector):
    """A face of 59 pixels in a 1080 x 1920 frame."""
    canvas = np.full((1920, 1080, 3), 90, np.uint8)
    canvas[300:420, 600:813] = np.asarray(Image.fromarray(demo_frames[0]).resize((213, 120), Image.Resampling.BOX))
    assert detector.detect(canvas, thorough=False) == []
    expected = detector.detect(demo_frames[0])[0].box / 3 + torch.tensor([600.0, 300, 600, 300])
    best = max((face for faces in detector.search(canvas) for face in faces), key=lambda face: face.score)
    assert best.score > 0.8
    assert overlap(expected.double().numpy(), best.box[None].double().numpy())[0] > 0.7


@pytest.mark.parametrize("picture", [np.zeros((90, 120, 3)), np.full((300, 200, 3), 255), np.zeros((1, 1, 3))])
def test_nothing_in_nothing(picture, detector):
    assert detector.detect(picture.astype(np.uint8)) == []


def test_no_face_videos_show_none_in_the_whole_frame(data, detector):
    for name in ("videos/no_face_hand_only.mp4",):
        for frame in read_frames(data(name), 5):
            assert detector.detect(frame, thorough=False) == []


def test_wrong_arguments(detector):
    with pytest.raises(ValueError, match="min_score is 1.5; expected between 0 and 1"):
        FaceDetector(min_score=1.5)
    with pytest.raises(TypeCheckError):
        detector.detect(np.zeros((10, 10, 3), np.float32))
