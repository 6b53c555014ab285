"""The ear that hears sound as a whole: its rows, that pieces and levels do not matter, and what it hears."""

import sys
from pathlib import Path

import pytest
import torch

from avatar3d.drive.speech.coarticulation import articulate
from avatar3d.drive.speech.phones import articulations
from avatar3d.evaluate.speech_motion import correlation, lip_opening
from avatar3d.nets import NETWORKS, speech_ear
from avatar3d.nets.registry import WEIGHTS
from avatar3d.nets.speech_ear import OUTPUTS, hear_whole, load_ear
from avatar3d.nets.speech_motion import CONTACTS, CURVES, ROW, VOWELS, answered, spread

CLOSED, CLASS = len(CURVES), len(CURVES) + len(CONTACTS)


@pytest.fixture(scope="module")
def spoken(said):
    """The sentence, its 16 kHz sound, and what was heard."""
    speech, samples = said
    return speech, samples, hear_whole(samples)


@pytest.mark.parametrize("count", [0, 1, 319, 320, 321, 16000])
def test_rows_cover_the_sound(count, rng):
    rows = hear_whole(0.1 * torch.randn(count, generator=rng))
    assert rows.shape == (-(-count // ROW), OUTPUTS)
    assert torch.isfinite(rows).all()


def test_lips_follow_the_articulation_of_the_phones(spoken):
    speech, _, rows = spoken
    made = lip_opening(spread(answered(rows, load_ear()[2]).clamp(0, 1)))
    wanted = lip_opening(articulate(speech.phones, speech.duration))
    count = min(len(made), len(wanted))
    assert correlation(made[:count], wanted[:count]) > 0.75


def test_closures_are_heard_and_vowels_are_told_from_them(spoken):
    speech, _, rows = spoken
    closed, vowel = rows[:, CLOSED].sigmoid(), rows[:, CLASS:].softmax(1)[:, VOWELS:].sum(1)
    met, opened = [], []
    for phone in speech.phones:
        part = articulations(phone.symbol)[0]
        first, last = int(phone.start * 50), max(int(phone.end * 50), int(phone.start * 50) + 1)
        if part.closes:
            met.append(float(closed[first:last].max()))
        elif part.place == "vowel" and part.height < 0.4 and phone.end - phone.start > 0.05:
            middle = int((phone.start + phone.end) * 25)
            opened.append(float(closed[middle] * (1 - vowel[middle])))
    assert len(met) >= 12 and sum(p > 0.4 for p in met) >= 0.85 * len(met)
    assert len(opened) >= 4 and sum(p < 0.4 for p in opened) >= 0.85 * len(opened)


def test_pieces_are_heard_like_the_whole(spoken, monkeypatch):
    _, samples, rows = spoken
    monkeypatch.setattr(speech_ear, "_PIECE", 80)
    parts = hear_whole(samples)
    assert len(rows) > 160 and parts.shape == rows.shape
    a, b = (x[:, CLOSED].sigmoid() for x in (rows, parts))
    assert correlation(a, b) > 0.95


def test_the_level_does_not_matter(spoken):
    _, samples, rows = spoken
    torch.testing.assert_close(hear_whole(0.01 * samples), rows, atol=2e-2, rtol=0)


def test_the_encoder_is_the_one_of_hama(spoken):
    pytest.importorskip("hama")
    sys.path.append(str(Path(__file__).parents[2] / "tools"))
    import hama_network

    sound = spoken[1] * (0.8 / spoken[1].abs().max())
    with torch.inference_mode():
        ours = load_ear()[0](sound[None])[0]
    theirs = torch.cat([hama_network.heard(sound)[0][k] for k in speech_ear.TAPPED], 1)
    count = min(len(ours), len(theirs))
    torch.testing.assert_close(ours[:count], theirs[:count], atol=0.1, rtol=0)  # half precision


def test_both_networks_are_small():
    sizes = [(WEIGHTS / NETWORKS[name].file).stat().st_size for name in ("speech_motion", "speech_ear")]
    assert sum(sizes) < 10_000_000
