"""Departures of seen faces are shared out among the shapes that the faces show."""

from dataclasses import replace

import pytest
import torch

from avatar3d.models.head import load_head
from avatar3d.models.personal import corrective_shapes, personal_model, shares
from avatar3d.models.rig import build_rig, pose_rig
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES

SMILE = [ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]]
JAW, BROW, BLINK = (ARKIT_INDEX[n] for n in ("jawOpen", "browInnerUp", "eyeBlinkLeft"))


@pytest.fixture(scope="module")
def model():
    return load_head()


@pytest.fixture(scope="module")
def rig(model):
    return build_rig(model, torch.zeros(len(model.identity_basis)))


def faces(*shown: dict[int, float]) -> torch.Tensor:
    out = torch.zeros(len(shown), 52)
    for row, values in zip(out, shown, strict=True):
        for k, x in values.items():
            row[k] = x
    return out


def test_shares_give_back_what_was_seen():
    C = faces({JAW: 1.0}, {SMILE[0]: 0.8, SMILE[1]: 0.8}, {BROW: 0.9, JAW: 0.1})
    again = C @ shares(C)
    torch.testing.assert_close(again, torch.eye(3), atol=0.05, rtol=0)
    assert (shares(C)[[BLINK, 3, 9]] == 0).all(), "what no face shows takes nothing"


def test_faint_expressions_are_hardly_believed():
    assert float((faces({JAW: 0.05}) @ shares(faces({JAW: 0.05})))[0, 0]) < 0.1
    assert float((faces({JAW: 0.6}) @ shares(faces({JAW: 0.6})))[0, 0]) > 0.9


def test_a_persons_shapes_are_found(rig):
    """Other shapes than the rig's, seen in four faces that mix them."""
    rng = torch.Generator().manual_seed(0)
    own = torch.zeros_like(rig.shapes)
    for k in (JAW, BROW, *SMILE):
        bump = torch.exp(-((rig.neutral - rig.neutral[rig.regions["cheeks"]].mean(0)) ** 2).sum(1) / (2 * 0.03**2))
        own[k] = 0.004 * bump[:, None] * torch.randn(3, generator=rng)
    C = faces({JAW: 0.9}, {BROW: 0.8, JAW: 0.2}, {SMILE[0]: 0.9, SMILE[1]: 0.7}, {SMILE[0]: 0.3, SMILE[1]: 0.9})
    found = corrective_shapes(rig, C, torch.einsum("tk,kvc->tvc", C, own))
    cheeks = rig.regions["cheeks"]
    before = torch.einsum("tk,kvc->tvc", C, own)[:, cheeks].norm(dim=2)
    after = torch.einsum("tk,kvc->tvc", C, own - found)[:, cheeks].norm(dim=2)
    assert float(after.mean()) < 0.15 * float(before.mean())
    assert (found[BLINK] == 0).all()


def test_lids_eyes_and_mouth_keep_their_shapes(rig):
    C = faces({JAW: 1.0, BLINK: 1.0, ARKIT_INDEX["eyeLookUpLeft"]: 1.0, ARKIT_INDEX["tongueOut"]: 1.0})
    found = corrective_shapes(rig, C, torch.full((1, len(rig.neutral), 3), 0.005))
    for name in ("eyelids", "eyeball_left", "teeth_upper", "tongue", "scalp", "neck"):
        mask = rig.regions[name] & ~rig.regions["face"] if name in ("scalp", "neck") else rig.regions[name]
        assert (found[:, mask] == 0).all(), name
    assert (found[[ARKIT_INDEX["eyeLookUpLeft"], ARKIT_INDEX["tongueOut"]]] == 0).all()
    moved = found[JAW].norm(dim=1)
    assert float(moved[rig.regions["chin"]].median()) > 0.001
    e = rig.faces[:, [0, 1]]
    assert float((moved[e[:, 0]] - moved[e[:, 1]]).abs().max()) < 0.003, "no cliff at the edge of the face"


def test_a_personal_model_is_the_rig(model, rig, rng):
    own = personal_model(model, replace(rig, neutral=rig.neutral * 1.05))
    c = torch.rand(2, 52, generator=rng)
    posed = own.forward(torch.zeros(2, 1), c).vertices
    torch.testing.assert_close(posed, pose_rig(replace(rig, neutral=rig.neutral * 1.05), c), atol=1e-6, rtol=0)
    assert own.expression_names == ARKIT_NAMES and own.faces is model.faces
