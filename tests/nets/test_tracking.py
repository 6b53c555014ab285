"""Following faces from frame to frame."""

import numpy as np
import pytest
import torch

from avatar3d.nets import FaceLandmarker
from avatar3d.types.face_points import mirror_points
from tests.nets.pictures import read_frames


def follow(frames, **options):
    follower = FaceLandmarker(blendshapes=False, **options)
    return [follower.track(frame) for frame in frames]


def test_demo_clip_is_followed_under_one_number(demo_frames):
    found = follow(demo_frames)
    assert [[face.id for face in faces] for faces in found] == [[0]] * len(demo_frames)
    assert min(faces[0].presence for faces in found) > 0.99


def test_tracked_equals_detected(demo_frames):
    """The window comes from the last frame instead of a detection: the landmarks hardly depend on it."""
    still = FaceLandmarker(blendshapes=False)
    for faces, frame in list(zip(follow(demo_frames), demo_frames, strict=True))[4::6]:
        expected = still.detect(frame)[0]
        distance = torch.linalg.vector_norm((faces[0].points - expected.points)[:, :2], dim=1)
        assert float(distance.mean()) / expected.interocular < 0.012


def test_both_ways_a_mirrored_picture_has_mirrored_landmarks(demo_frames):
    """To within what the smaller differences of the windows do; one look each way differs by several times that."""
    mirror = mirror_points()

    def asymmetry(**options) -> float:
        out = []
        for frame in demo_frames[::8]:
            net = FaceLandmarker(blendshapes=False, **options)
            face, other = net.detect(frame)[0], net.detect(np.ascontiguousarray(frame[:, ::-1]))[0]
            flipped = other.points[mirror] * torch.tensor([-1.0, 1, 1]) + torch.tensor([float(frame.shape[1]), 0, 0])
            out.append(float((flipped - face.points)[:, :2].norm(dim=1).mean()) / face.interocular)
        return max(out)

    assert asymmetry(both_ways=True) < 0.5 * asymmetry()


def test_a_face_is_followed_into_profile(data):
    """Frames 130 to 150 of a head that turns away by 90 degrees, of which one look loses seven."""
    frames = read_frames(data("videos/nha_person0004_input_DERIVED.mp4"), 152)[120:]
    found = follow(frames, both_ways=True)
    assert all(faces and faces[0].id == 0 for faces in found)


def test_detector_is_not_run_while_the_face_is_followed(demo_frames, monkeypatch):
    follower = FaceLandmarker(blendshapes=False)
    follower.track(demo_frames[0])
    monkeypatch.setattr(follower._search.detector, "_network", None)
    for frame in demo_frames[1:]:
        assert len(follower.track(frame)) == 1


def test_lost_and_found_keeps_its_number(demo_frames):
    black = np.zeros_like(demo_frames[0])
    found = follow([*demo_frames[:3], black, black, *demo_frames[5:8]])
    assert [[face.id for face in faces] for faces in found] == [[0]] * 3 + [[]] * 2 + [[0]] * 3


def test_reset_starts_anew(demo_frames):
    follower = FaceLandmarker(blendshapes=False)
    assert follower.track(demo_frames[0])[0].id == 0
    follower.reset()
    assert follower.track(demo_frames[1])[0].id == 1


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left[:, 130:450], right[:, 130:450]], axis=1)


def test_two_faces_keep_their_numbers(demo_frames):
    black = np.zeros_like(demo_frames[0])
    pairs = [side_by_side(a, b) for a, b in zip(demo_frames, reversed(demo_frames), strict=True)]
    pairs[6] = side_by_side(black, demo_frames[6])  # one is hidden for a frame
    found = follow(pairs, max_faces=3)
    where = [{face.id: float(face.box[0]) > 320 for face in faces} for faces in found]
    assert len(where[0]) == 2 and set(where[0]) == {0, 1}
    assert len(where[6]) == 1
    for now in where:
        assert all(now[number] == where[0][number] for number in now)
    assert len(where[-1]) == 2


def test_a_second_face_is_noticed(demo_frames):
    black = np.zeros_like(demo_frames[0])
    frames = [side_by_side(f, black) for f in demo_frames[:4]] + [side_by_side(f, f) for f in demo_frames[4:]]
    counts = [len(faces) for faces in follow(frames, max_faces=2)]
    assert counts[:4] == [1] * 4 and counts[-1] == 2
    assert [len(faces) for faces in follow(frames, max_faces=1)] == [1] * len(frames)


def test_a_jump_is_followed(demo_frames):
    """The picture shifts by half a face between frames."""
    shifted = [np.roll(frame, 90, axis=1) for frame in demo_frames[3:6]]
    found = follow([*demo_frames[:3], *shifted])
    assert [[face.id for face in faces] for faces in found] == [[0]] * 6
    assert float(found[3][0].box[0] - found[2][0].box[0]) == pytest.approx(90, abs=8)


@pytest.mark.parametrize(
    "video, start, share",
    [
        ("webcam_cap12_occlusion_scale.mp4", 0, 1.0),
        ("woman_emotions_hand_occlusion.mp4", 200, 1.0),
        ("head_rotation_wojtek.mp4", 100, 1.0),
        ("portrait_1080x1920_speech.mp4", 0, 1.0),
        ("nha_person0004_input_DERIVED.mp4", 109, 0.7),  # ends in strict profile; measured 42 of 50
    ],
)
def test_real_footage(data, video, start, share):
    frames = read_frames(data(f"videos/{video}"), 50, start)
    found = follow(frames)
    assert np.mean([len(faces) > 0 for faces in found]) >= share
    assert {face.id for faces in found for face in faces} == {0}


def test_two_people(data):
    frames = read_frames(data("videos/two_people_father_child.mp4"), 60)
    found = follow(frames, max_faces=3)
    assert {face.id for faces in found for face in faces} == {0, 1}
    assert np.mean([len(faces) == 2 for faces in found]) > 0.5
