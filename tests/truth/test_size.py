"""How large heads come out that one camera saw. Their size cannot be seen: what can be asked is that it is right on
average, whatever the size, and that people of known size come out as they are."""

import json
import math

import numpy as np
import pytest
import torch
from truth_cases import detections, landmarks_of, neutral

from avatar3d import capture, models
from avatar3d.evaluate.synthetic import ClipConfig, make_clip, with_noise
from avatar3d.geometry.transform import procrustes
from avatar3d.track import TrackConfig, track, track_landmarks
from avatar3d.track.problem import make_problem
from avatar3d.track.size import likely_size

FRAMES = ClipConfig(frames=24)


def log_error(found, true) -> float:
    """Logarithm of the size of one set of points over that of another."""
    away = [points - points.mean(0) for points in (found[:468], true[:468])]
    return math.log(float(away[0].norm() / away[1].norm()))


@pytest.mark.parametrize("grown", [0.0, -1.5])
def test_heads_are_as_large_as_the_prior_draws_them(grown):
    """Errors of people that the prior draws, and of small ones: none of them has anything but proportions to tell."""
    head = models.load("head")
    growth = make_problem(head, TrackConfig()).growth.float()
    errors = []
    for seed in range(6):
        rng = torch.Generator().manual_seed(seed)
        identity = torch.randn(len(head.identity_basis), generator=rng) + grown * growth / growth.norm()
        clip = make_clip(head, FRAMES, seed=seed, identity=identity)
        seen = detections(clip, with_noise(clip.landmarks, 0.003, seed))
        found = neutral(head, track_landmarks(seen, head, TrackConfig(focal=clip.camera.focal)))
        errors.append(log_error(landmarks_of(head, found), landmarks_of(head, head.rest_vertices(identity[None])[0])))
    print([round(e, 3) for e in errors])
    # The prior's own spread of the size of heads of the same proportions is 3.5%; the largest density was 15% off
    assert abs(np.mean(errors)) < 0.03
    assert np.median(np.abs(errors)) < 0.05


def test_proportions_that_tell_nothing_leave_the_mean_adult():
    head = models.load("head")
    problem = make_problem(head, TrackConfig())
    person = torch.randn(len(head.identity_basis), generator=torch.Generator().manual_seed(0)).double()
    size = float(likely_size(problem, person, error=1.0))
    pupils = problem.rows.points[[468, 473]]
    assert size * float((pupils[0] - pupils[1]).norm()) == pytest.approx(0.063, abs=1e-4)
    sharp = float(likely_size(problem, person, error=1e-4))
    assert sharp == pytest.approx(1 + float(problem.growth @ person), rel=0.08)
    assert abs(sharp - size) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "person"), [("mead_M026_disgust", "M026"), ("mead_W036_happy", "W036")])
def test_real_people(data, clip, person):
    """Against metrical reconstructions of the same people by others, on FLAME's mesh. These err by some percent."""
    folder = data("3dmm/flame_side/mediapipe_landmark_embedding.npz").parent
    embedding = np.load(folder / "mediapipe_landmark_embedding.npz")
    shapes = np.load(data("motion/mead_flame_shapes_DERIVED.npz"), allow_pickle=True)
    vertices = shapes["neutral_vertices"][list(shapes["vert_subjects"]).index(person)]
    faces = np.array(
        [[int(c.split("/")[0]) - 1 for c in line.split()[1:]]
         for line in (folder / "flame_zero_pose.obj").read_text().splitlines() if line.startswith("f ")]
    )  # fmt: skip
    corners = vertices[faces[embedding["lmk_face_idx"].astype(int)]]
    true = torch.from_numpy(np.einsum("nk,nkc->nc", embedding["lmk_b_coords"], corners)).double()
    head = models.load("head")
    found = track(capture.open_capture(str(data(f"videos/{clip}.mp4"))), head)
    points = landmarks_of(head, neutral(head, found))[embedding["landmark_indices"].astype(int)].double()
    ratio = float(torch.linalg.det(procrustes(points, true, with_scale=True)[:3, :3])) ** (1 / 3)
    print(json.dumps({"clip": clip, "true_over_found": round(ratio, 3)}))
    assert ratio == pytest.approx(1, abs=0.06)
