"""ARKit on other models: carried over from `head`, expressed in the model's own terms, and back."""

import dataclasses

import numpy as np
import pytest
import torch

from avatar3d import models
from avatar3d.geometry.surface import points_on_faces
from avatar3d.models.arkit import arkit_shapes, arkit_to_model, model_to_arkit, named_shapes
from avatar3d.models.correspondence import correspond
from avatar3d.models.obj import read_obj
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, face_points
from tests.models import flame_file


def arkit(**values: float) -> torch.Tensor:
    out = torch.zeros(1, 52)
    for name, value in values.items():
        out[0, ARKIT_INDEX[name]] = value
    return out


@pytest.fixture(scope="module")
def flame(tmp_path_factory, data):
    """FLAME's mesh and format; its expressions are random mixtures of plausible faces, which FLAME's are, too."""
    mesh = read_obj(data("3dmm/flame_side/flame_zero_pose.obj"))
    path = flame_file.write(tmp_path_factory.mktemp("flame"), mesh=(mesh.vertices, mesh.quads[:, :3]))
    model = models.load(path)
    shapes = arkit_shapes(model)
    rng = torch.Generator().manual_seed(5)
    mixtures = torch.randn(100, 52, generator=rng) * 0.3
    ball = model.regions["eyeball_left"] | model.regions["eyeball_right"]
    basis = torch.einsum("es,svc->evc", mixtures, shapes)
    basis[:, ball] = 0
    weights = torch.zeros_like(model.skinning_weights)
    weights[:, model.joint_index("head")] = 1
    changed = dataclasses.replace(
        model, expression_basis=basis, skinning_weights=weights, pose_basis=None,
        joint_expression_basis=torch.zeros(100, 6, 3),
    )  # fmt: skip
    return changed


@pytest.fixture(scope="module")
def head():
    return models.load("head")


def test_flame_gets_regions_landmarks_and_mirror(flame):
    assert {"face", "lips_inner_upper", "eyelids", "scalp", "ears", "skull_attached"} <= set(flame.regions)
    assert set(flame.landmarks) == {"mediapipe478", "ibug68"}
    mirror = flame.mirror
    assert (mirror[mirror] == torch.arange(5023)).all()
    assert (flame.regions["eyeball_left"][mirror] == flame.regions["eyeball_right"]).all()


def test_flame_landmarks_agree_with_a_published_embedding(flame, data):
    """105 of MediaPipe's points on FLAME as others placed them by hand: within 3 mm, at rest."""
    with np.load(data("3dmm/flame_side/mediapipe_landmark_embedding.npz")) as theirs:
        faces, index = (torch.from_numpy(theirs[k].astype(np.int64)) for k in ("lmk_face_idx", "landmark_indices"))
        weights = torch.from_numpy(theirs["lmk_b_coords"].astype(np.float32))
    ours = flame.landmarks["mediapipe478"]
    a = points_on_faces(flame.template, flame.faces, ours.faces[index], ours.weights[index])
    b = points_on_faces(flame.template, flame.faces, faces, weights)
    distance = (a - b).norm(dim=1)
    assert distance.median() < 0.003 and distance.quantile(0.9) < 0.007


def test_carried_shapes_move_the_same_places(flame, head):
    """Landmarks of the two models move alike, up to the models' size."""
    shapes, ours = arkit_shapes(flame), named_shapes(head)
    points = {m.name: m.landmarks["mediapipe478"] for m in (flame, head)}
    for name in ("jawOpen", "eyeBlinkLeft", "mouthSmileRight", "browInnerUp", "mouthPucker"):
        moved = [
            points_on_faces(s[ARKIT_INDEX[name]], m.faces, points[m.name].faces, points[m.name].weights)[:468]
            for s, m in ((shapes, flame), (ours, head))
        ]
        a, b = (v.flatten() for v in moved)
        assert float(a @ b / (a.norm() * b.norm())) > 0.9, name
        assert 0.8 < float(a.norm() / b.norm()) < 1.15, name


def test_lids_close_and_lips_part_on_flame(flame):
    shapes, e = arkit_shapes(flame), flame.landmarks["mediapipe478"]

    def at(name: str, value: float) -> torch.Tensor:
        return points_on_faces(flame.template + value * shapes[ARKIT_INDEX[name]], flame.faces, e.faces, e.weights)

    upper, lower = list(face_points.LIDS_UPPER["left"][1:6]), list(face_points.LIDS_LOWER["left"][1:6])
    gaps = [(at("eyeBlinkLeft", v)[upper, 1] - at("eyeBlinkLeft", v)[lower, 1]).mean() for v in (0.0, 1.0)]
    assert gaps[1] < 0.3 * gaps[0]
    assert (at("jawOpen", 1.0)[13] - at("jawOpen", 1.0)[14]).norm() > 0.02


def test_there_and_back(flame, rng):
    """In a basis that can follow, hardly anything is lost, and the way back gives the coefficients."""
    cases = [{"jawOpen": 0.7}, {"mouthSmileLeft": 0.6, "browInnerUp": 0.5}, {"eyeBlinkLeft": 0.8},
             {"mouthPucker": 0.7, "jawLeft": 0.3}, {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5}, {}]  # fmt: skip
    frames = torch.cat([arkit(**case) for case in cases])
    found, lost = arkit_to_model(flame, frames)
    assert found.expression.shape == (6, 100) and set(found.joints) == {"jaw", "eye_left", "eye_right"}
    assert lost.max() < 4e-4 and lost[-1] < 1e-6
    back, left = model_to_arkit(flame, found.expression, found.joints)
    assert left.max() < 4e-4 and 0 <= back.min() and back.max() <= 1
    assert (back - frames).abs().mean() < 0.02 and (back - frames).abs().max() < 0.25
    gaze = [ARKIT_INDEX["eyeLookOutLeft"], ARKIT_INDEX["eyeLookInRight"]]
    torch.testing.assert_close(back[4, gaze], frames[4, gaze], rtol=0, atol=1e-3)


def test_what_cannot_be_followed_is_told(flame):
    """Without any expression basis the residual is the shape itself."""
    stiff = dataclasses.replace(
        flame, expression_basis=torch.zeros(1, 5023, 3), expression_names=("none",), joint_names=flame.joint_names[:3],
        joint_parents=flame.joint_parents[:3], joint_template=flame.joint_template[:3],
        joint_identity_basis=flame.joint_identity_basis[:, :3], joint_expression_basis=None,
        skinning_weights=torch.eye(3)[2].repeat(5023, 1),
    )  # fmt: skip
    _, lost = arkit_to_model(stiff, torch.cat([arkit(jawOpen=1.0), arkit(eyeBlinkLeft=1.0)]))
    face = flame.regions["face"]
    jaw = arkit_shapes(flame)[ARKIT_INDEX["jawOpen"]][face].square().sum(1).mean().sqrt()
    assert lost[0] > 0.8 * jaw and lost[0] > 0.004 and lost[1] > 3e-4


def test_models_with_arkit_names_convert_by_name(head, rng):
    frames = torch.rand(3, 52, generator=rng)
    found, lost = arkit_to_model(head, frames)
    torch.testing.assert_close(found.expression, frames)
    assert lost.max() == 0
    back, left = model_to_arkit(head, found.expression)
    torch.testing.assert_close(back, frames)
    assert left.max() == 0


def test_rigs_of_flame_and_ict_have_all_shapes(flame, data):
    ict = models.load(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parent)
    for model in (flame, ict):
        rig = models.build_rig(model, torch.zeros(1))
        moving = rig.shapes.norm(dim=2).amax(1)
        still = {ARKIT_NAMES[i] for i in (moving < 5e-4).nonzero()[:, 0].tolist()}
        assert still <= {"tongueOut"}, (model.name, still)
        assert rig.landmark_faces is not None and rig.regions["face"].any()


def test_ict_keeps_its_own_shapes(data):
    ict = models.load(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parent)
    shapes = arkit_shapes(ict)
    own = ict.expression_basis[ict.expression_names.index("jawOpen")]
    torch.testing.assert_close(shapes[ARKIT_INDEX["jawOpen"]], own)


def test_correspondence_of_a_model_with_itself(head):
    found = correspond(head, head)
    skin = head.regions["face"]
    at = points_on_faces(head.template, head.faces, found.faces, found.weights)
    assert (at - head.template)[skin].norm(dim=1).quantile(0.95) < 0.0015
    assert found.distance[head.regions["tongue"]].isinf().all()
    with pytest.raises(ValueError, match="no landmarks"):
        correspond(head, dataclasses.replace(head, landmarks={}))


def test_no_landmarks_no_conversion(flame):
    with pytest.raises(ValueError, match="neither ARKit shapes nor landmarks"):
        arkit_to_model(dataclasses.replace(flame, landmarks={}), arkit(jawOpen=1.0))
