"""Landmark embeddings: planted points are found again, and the packaged ones sit where they should."""

import dataclasses

import numpy as np
import pytest
import torch

from avatar3d import models
from avatar3d.errors import AssetError
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models import embedding
from avatar3d.models.candidates import candidate_vertices
from avatar3d.models.iris_landmarks import LOW, centred_irises
from avatar3d.models.landmark_file import save_landmarks, with_landmarks
from avatar3d.models.views import ViewConfig
from avatar3d.nets.crop import Square
from avatar3d.nets.face_landmarks import LandmarkNet, window_of_points
from avatar3d.types import face_points


@pytest.fixture(scope="module")
def head():
    return models.load("head")


@pytest.fixture(scope="module")
def points(head):
    packaged = head.landmarks["mediapipe478"]

    def place(**shapes: float) -> torch.Tensor:
        expression = torch.zeros(1, len(head.expression_names))
        for name, value in shapes.items():
            expression[0, head.expression_names.index(name)] = value
        vertices = head.rest_vertices(torch.zeros(1, 1), expression)[0]
        return points_on_faces(vertices, head.faces, packaged.faces, packaged.weights)

    return place


@pytest.fixture(scope="module")
def detect():
    network = LandmarkNet()

    def look(image: np.ndarray, box: np.ndarray) -> torch.Tensor | None:
        x0, y0, x1, y1 = box.tolist()
        window = Square((x0 + x1) / 2, (y0 + y1) / 2, 1.5 * max(x1 - x0, y1 - y0))
        reading = network(image, window_of_points(network(image, window).points))
        return torch.from_numpy(reading.points[:, :2]).float() if reading.presence > 0.5 else None

    return look


def test_mirror_points_is_an_involution_of_left_and_right():
    mirror = face_points.mirror_points()
    assert (mirror[mirror] == torch.arange(478)).all()
    for pairs in (face_points.EYE_CORNERS, face_points.LIDS_UPPER, face_points.LIDS_LOWER):
        assert mirror[list(pairs["left"])].tolist() == list(pairs["right"])
    for row in (*face_points.LIPS_UPPER, *face_points.LIPS_LOWER):
        assert mirror[list(row)].tolist() == list(row)[::-1]


def test_planted_points_are_found(head, rng):
    """Detections that are exact projections of surface points, some of them grossly wrong, give the points back."""
    truth = head.landmarks["mediapipe478"]

    def cheat(image: np.ndarray, box: np.ndarray) -> torch.Tensor:
        return torch.arange(478.0)[:, None].repeat(1, 2)

    seen = embedding.observe(head, cheat, 24, 3, ViewConfig(identity=0.5))
    pixels = embedding.gather(seen.pixels, head.faces[truth.faces], truth.weights)
    scale = float((pixels[:, 33] - pixels[:, 263]).norm(dim=-1).median())
    planted = pixels / scale + 0.002 * torch.randn(pixels.shape, generator=rng)
    wrong = torch.rand(planted.shape[:2], generator=rng) < 0.1
    planted[wrong] += 0.3
    state = {**seen.__dict__, "pixels": seen.pixels / scale, "landmarks": planted}
    found = embedding.solve_embedding(head, embedding.Observations(**state))
    a, b = (points_on_faces(head.template, head.faces, e.faces, e.weights) for e in (found, truth))
    # half a millimetre: the search goes in steps of about that
    assert (a - b).norm(dim=1).median() < 5e-4 and (a - b).norm(dim=1).quantile(0.97) < 2e-3


def test_packaged_points_are_symmetric(head, points):
    at, mirror = points(), face_points.mirror_points()
    assert (at[mirror] * torch.tensor([-1.0, 1, 1]) - at).norm(dim=1).max() < 5e-4
    assert at[33, 0] < 0 < at[263, 0], "the subject's left is at +x"


def test_lips_part_when_the_jaw_opens(head, points):
    """The pitfall: an upper inner lip on the lower one would not move apart."""
    closed, opened = points(), points(jawOpen=0.8)
    upper, lower = list(face_points.LIPS_UPPER[3]), list(face_points.LIPS_LOWER[3])
    gap = (opened[upper] - opened[lower]).norm(dim=1) - (closed[upper] - closed[lower]).norm(dim=1)
    travel = (opened[17] - closed[17]).norm()
    assert gap[2:7].min() > 0.6 * travel
    assert (opened[upper] - closed[upper]).norm(dim=1)[1:8].max() < 0.3 * travel


def test_lids_close_with_the_blink(points):
    opened, closed = points(), points(eyeBlinkLeft=1.0)
    upper, lower = face_points.LIDS_UPPER["left"][1:6], face_points.LIDS_LOWER["left"][1:6]
    before, after = ((p[list(upper), 1] - p[list(lower), 1]).mean() for p in (opened, closed))
    assert before > 0.006 and after < 0.25 * before
    other = list(face_points.LIDS_UPPER["right"])
    assert (opened[other] - closed[other]).norm(dim=1).max() < 1e-3


def test_irises_are_on_the_eyes(head, points):
    at = points()
    for side in ("left", "right"):
        centre = head.joint_template[head.joint_index(f"eye_{side}")]
        on_ball = (at[list(face_points.IRIS[side])] - centre).norm(dim=1)
        assert 0.009 < on_ball.min() and on_ball.max() < 0.018
        assert (at[face_points.IRIS[side][0], :2] - centre[:2]).norm() < 0.002
        turned = points(**{f"eyeLookUp{side.capitalize()}": 1.0})
        assert turned[face_points.IRIS[side][0], 1] - at[face_points.IRIS[side][0], 1] > 0.002


def test_close_to_the_canonical_face(points, data):
    """MediaPipe's own mean face, as a weak prior: the same face within a twelfth of the inter-ocular distance."""
    lines = data("mediapipe_expected/canonical_face_model.obj").read_text().splitlines()
    canonical = torch.tensor([[float(x) for x in line.split()[1:4]] for line in lines if line.startswith("v ")])
    ours = points()[:468]
    moved = apply(procrustes(ours, canonical, with_scale=True), ours)
    error = (moved - canonical).norm(dim=1) / (canonical[33] - canonical[263]).norm()
    assert error.mean() < 0.06 and error.quantile(0.95) < 0.15


def test_detections_of_rendered_heads_are_explained(head, detect):
    """Through the real network, on people who were not learned from: fractions of the inter-ocular distance."""
    packaged = head.landmarks["mediapipe478"]
    frontal = embedding.observe(head, detect, 4, 77, ViewConfig(identity=0, expression=0, yaw=3, pitch=3))
    assert embedding.embedding_error(head, frontal, packaged.faces, packaged.weights).mean() < 0.015
    seen = embedding.observe(head, detect, 30, 78, ViewConfig(yaw=12))
    assert embedding.embedding_error(head, seen, packaged.faces, packaged.weights).mean() < 0.035
    ours = embedding.gather(seen.pixels, head.faces[packaged.faces], packaged.weights)
    gaps = [(p[:, 13] - p[:, 14]).norm(dim=1) for p in (ours, seen.landmarks)]
    x, y = (g - g.mean() for g in gaps)
    assert 0.85 < float((x * y).sum() / (x * x).sum()) < 1.15 and x.std() > 0.05


def test_residuals_tell_weak_points(head):
    residual = head.landmarks["mediapipe478"].residual
    assert torch.isfinite(residual).all() and (residual > 0).all()
    weak = [356, 127, 454, 234, 323, 93]
    assert residual[weak].min() > 1.5 * residual.median()
    assert head.landmarks["ibug68"].faces.shape == (68,)


def test_candidates_keep_the_lips_apart(head):
    allowed = candidate_vertices(head, torch.ones(len(head.template), dtype=torch.bool))
    upper, lower = allowed[13], allowed[14]
    assert upper.any() and lower.any() and not (upper & lower).any()
    for side, row in face_points.LIDS_UPPER.items():
        assert (allowed[list(row)] <= head.regions[f"lid_margin_upper_{side}"]).all()
    eyeball = head.regions["eyeball_left"]
    assert (allowed[473] <= eyeball).all() and not allowed[1][eyeball].any()


def test_irises_lie_about_the_middle_of_the_models_own(head):
    """The network sets them a little low in photographs; where they were learned does not matter."""
    packaged = head.landmarks["mediapipe478"]
    low = dataclasses.replace(packaged, faces=packaged.faces.clone(), weights=packaged.weights.clone())
    low.faces[468:473], low.weights[468:473] = packaged.faces[469], packaged.weights[469]
    for learned in (packaged, low):
        found = centred_irises(head, learned)
        places = points_on_faces(head.template, head.faces, found.faces, found.weights)
        for side, points in face_points.IRIS.items():
            own = head.template[head.regions[f"iris_{side}"]]
            middle, reach = (own.amin(0) + own.amax(0)) / 2, (own.amax(0) - own.amin(0))[1] / 2
            off = places[points[0], :2] - middle[:2]
            assert off[0].abs() < 3e-4 and float(off[1] / reach) == pytest.approx(-LOW, abs=0.04)
    torch.testing.assert_close(found.weights[:468], packaged.weights[:468])


def test_files_are_for_one_mesh(head, tmp_path):
    path = tmp_path / "l.safetensors"
    save_landmarks(path, head, head.landmarks["mediapipe478"])
    again = with_landmarks(models.load("head", landmarks=False), path)
    torch.testing.assert_close(again.landmarks["mediapipe478"].weights, head.landmarks["mediapipe478"].weights)
    other = dataclasses.replace(head, faces=head.faces.flip(0))
    with pytest.raises(AssetError, match="other faces"):
        with_landmarks(other, path)
    with pytest.raises(AssetError, match="cannot be read"):
        with_landmarks(head, tmp_path / "none.safetensors")
