"""What the speech network is trained on: pauses that nobody makes, segments at another pace, and the losses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[3] / "tools"))

from speech_corpus import COLUMNS, Corpus, batch, unbroken
from train_speech import _contact_loss, _early, _together

from avatar3d.drive.speech.phones import SILENCE, Phone
from avatar3d.nets.speech_motion import CLASSES, CONTACTS, CURVES

CLOSED, CLASS = len(CURVES), len(CURVES) + len(CONTACTS)


def phones(*spans):
    return [Phone(symbol=s, start=a, end=b) for s, a, b in spans]


def test_pauses_that_are_not_heard_are_taken_out():
    said = phones(("a", 0, 0.3), (SILENCE, 0.3, 0.4), ("m", 0.4, 0.5), (SILENCE, 0.5, 0.6), ("a", 0.6, 1.0))
    mel = np.full((100, 40), -3.0, np.float32)
    mel[50:60] = -8  # the second pause is one
    kept = unbroken(said, mel)
    assert [p.symbol for p in kept] == ["a", "m", SILENCE, "a"]
    assert kept[0].end == kept[1].start == pytest.approx(0.35)


@pytest.fixture
def corpus(tmp_path):
    """Two voices: `ana` (recorded) says ama, `espeak` hums; the levels of the bands tell them apart."""
    for name, level in (("ana", -3.0), ("espeak", -5.0)):
        mel = np.full((200, 40), level, np.float16)
        said = [["a", 0, 0.9, 0], ["m", 0.9, 1.1, 0], ["a", 1.1, 2.0, 0]]
        notes = json.dumps([{"voice": name, "stretch": 1.0, "dry": True, "phones": said}])
        np.savez(tmp_path / f"{name}-1-000.npz", mel=mel, lengths=[200], notes=notes)
    return lambda share: Corpus(sorted(tmp_path.glob("*.npz")), share)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_share_of_recordings(corpus, share):
    rng = np.random.default_rng(0)
    levels = {round(float(corpus(share).segment(rng, 60)[0].max())) for _ in range(5)}
    assert levels == {-3 if share else -5}


def test_segments_have_targets_of_what_is_heard(corpus):
    rng = np.random.default_rng(1)
    for _ in range(20):
        mel, goal = corpus(0.5).segment(rng, 150)
        assert mel.shape == (300, 40) and goal.shape == (150, COLUMNS)
        spoken = mel.reshape(150, 2, 40).max((1, 2)) > -6
        kinds = goal[:, CLASS]
        assert set(kinds) <= {float(CLASSES.index(k)) for k in ("silence", "open", "bilabial")}
        assert ((kinds > 0) == spoken).mean() > 0.97  # rows at edges may be between
        assert goal[kinds == CLASSES.index("bilabial"), CLOSED].min(initial=1) > 0.3


def test_a_batch_has_the_speech_alone_beside_what_is_heard(corpus):
    rng = np.random.default_rng(2)
    songs = [np.zeros((300, 40))]
    heard, alone, goal = batch(rng, corpus(0.5), songs, 30, 50, np.zeros(40))
    assert heard.shape == alone.shape == (30, 100, 41) and goal.shape == (30, 50, COLUMNS)
    spoken = goal[..., CLASS - 1].amax(1) > 0.5
    assert 15 < int(spoken.sum()) < 30
    assert float((heard - alone)[spoken].abs().mean()) > 0.1  # microphones, noise
    quiet = alone[~spoken]
    assert float((quiet[..., :40] - quiet[:1, :, :1]).abs().max()) < 1e-4  # nobody says anything


def test_contacts_begin_early_but_not_in_the_middle_of_vowels():
    goal = torch.zeros(1, 8, COLUMNS)
    goal[0, :, CLASS] = torch.tensor([CLASSES.index(k) for k in ["open"] * 5 + ["bilabial"] * 3], dtype=torch.float)
    goal[0, :, CLOSED] = torch.tensor([0, 0, 0, 0.3, 0.8, 1, 1, 0.5])
    early = _early(goal)[0]
    torch.testing.assert_close(early[:, 0], torch.tensor([0, 0, 0, 0.8, 1, 1, 1, 0.5]))
    assert not early[:, 1:].any() and float(goal[0, 3, CLOSED]) == pytest.approx(0.3)


def test_correlation_and_missed_contacts():
    t = torch.linspace(0, 6, 100)
    real = torch.stack([t.sin(), t.cos(), torch.zeros(100)])
    made = torch.stack([2 * t.sin() + 5, -t.cos(), t.sin()])
    torch.testing.assert_close(_together(made, real), torch.tensor([1.0, -1.0, 1.0]), atol=1e-4, rtol=0)
    goal = torch.zeros(1, 30, 3)
    goal[0, 10:13, 0] = 1
    hit, early, missed = (torch.full((1, 30, 3), -6.0) for _ in range(3))
    hit[0, 10:13, 0], early[0, 9:12, 0] = 6, 6
    losses = [float(_contact_loss(x, goal)) for x in (hit, early, missed)]
    assert losses[0] < losses[1] < losses[2] and losses[2] - losses[1] > losses[1] - losses[0]
