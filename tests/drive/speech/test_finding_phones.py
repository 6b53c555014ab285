"""Phones found in sound, against the truth that a synthesised voice brings along."""

import importlib.util
import shutil
from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from avatar3d.drive.speech import articulations, synthesize
from avatar3d.drive.speech.align import _arpabet, align
from avatar3d.drive.speech.recognise import recognise
from avatar3d.errors import AvatarError, DependencyError

TEXT = "My mother put the blue paper on the big table by the window."
needs_hama = pytest.mark.skipif(not importlib.util.find_spec("hama"), reason="the package hama is not installed")
needs_sphinx = pytest.mark.skipif(
    not importlib.util.find_spec("pocketsphinx"), reason="the package pocketsphinx is not installed"
)


@pytest.fixture(scope="module")
def spoken():
    if not shutil.which("flite"):
        pytest.skip("the program flite is not installed")
    speech = synthesize(TEXT, voice="flite:slt")
    sound = resample_poly(speech.samples.numpy(), 16000, speech.rate).astype(np.float32)
    return speech, torch.from_numpy(sound)


def errors(found, truth) -> tuple[float, np.ndarray]:
    """Share of true phones that are found, and errors of their middles, seconds."""
    a, b = ([p for p in phones if p.symbol != "_"] for phones in (truth, found))
    places = [[articulations(p.symbol)[0].place for p in phones] for phones in (a, b)]
    late = [
        0.5 * (b[j + k].start + b[j + k].end - a[i + k].start - a[i + k].end)
        for i, j, n in SequenceMatcher(None, *places, autojunk=False).get_matching_blocks()
        for k in range(n)
    ]
    return len(late) / len(a), np.array(late)


@needs_sphinx
def test_known_words_are_aligned(spoken):
    speech, sound = spoken
    phones = align(sound, TEXT)
    share, late = errors(phones, speech.phones)
    assert share > 0.95
    assert np.median(np.abs(late)) < 0.012 and np.quantile(np.abs(late), 0.9) < 0.03
    assert [p.word for p in phones if p.symbol == "b"] == ["blue", "big", "table", "by"]
    shifted = align(torch.cat([torch.zeros(8000), sound]), TEXT)
    assert shifted[-2].start == pytest.approx(phones[-2].start + 0.5, abs=0.03)


@needs_sphinx
@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="the program espeak-ng is not installed")
def test_words_that_no_dictionary_has_are_aligned():
    speech = synthesize("The zorblefax jumped.", voice="espeak-ng")
    sound = torch.from_numpy(resample_poly(speech.samples.numpy(), 16000, speech.rate).astype(np.float32))
    words = {p.word for p in align(sound, "The zorblefax jumped.")}
    assert words >= {"the", "zorblefax", "jumped"}


def test_any_ipa_becomes_arpabet():
    assert _arpabet("tʃˈɜːtʃ") == ["CH", "ER", "CH"]
    assert _arpabet("bʁɔ̃ɲ") == ["B", "R", "AO", "N"]
    assert _arpabet("ɣ☃ɸ") == ["K", "V"]


@needs_sphinx
def test_bad_alignments(spoken):
    with pytest.raises(ValueError, match="no words"):
        align(spoken[1], "...")
    with pytest.raises(AvatarError, match="does not say"):
        align(torch.zeros(1600), TEXT)


@needs_hama
def test_unknown_words_are_recognised(spoken):
    speech, sound = spoken
    phones = recognise(sound)
    share, late = errors(phones, speech.phones)
    assert share > 0.9
    assert abs(np.median(late)) < 0.01 and np.median(np.abs(late)) < 0.02
    for before, phone in zip(phones, phones[1:], strict=False):
        assert phone.end > phone.start and phone.start >= before.end - 1e-6
    assert phones[-1].end <= len(sound) / 16000 + 1e-6


@needs_hama
def test_long_recordings_go_in_pieces(spoken, monkeypatch):
    sound = torch.cat([spoken[1]] * 3)
    whole = [p for p in recognise(sound) if p.symbol != "_"]
    monkeypatch.setattr("avatar3d.drive.speech.recognise._CHUNK", 5.0)
    phones = [p for p in recognise(sound) if p.symbol != "_"]
    same = SequenceMatcher(None, [p.symbol for p in whole], [p.symbol for p in phones], autojunk=False).ratio()
    assert same > 0.93
    starts = [p.start for p in phones]
    assert starts == sorted(starts)


@needs_hama
def test_silence_has_no_phones():
    assert all(p.symbol == "_" for p in recognise(torch.zeros(16000)))
    assert recognise(torch.zeros(100)) == ()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("avatar3d.drive.speech.recognise.find_spec", lambda name: None)
    monkeypatch.setattr("avatar3d.drive.speech.align.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"avatar3d\[speech\]"):
        recognise(torch.zeros(16000))
    with pytest.raises(DependencyError, match="pocketsphinx"):
        align(torch.zeros(16000), "hello")
