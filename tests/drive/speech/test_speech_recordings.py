"""The tool that turns recorded prompts into training data: what it takes for speech, and how it finds the phones."""

import gzip
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[3] / "tools"))

from hama_network import heard, log_mel
from speech_recordings import aligned, fetched, spoken, warp

from avatar3d.drive.speech.phones import SILENCE
from avatar3d.drive.speech.synthesis import synthesize
from avatar3d.sound import resample_audio


def test_lines_that_describe_sounds_are_not_spoken():
    assert spoken("Thank you... please hold.") == "Thank you.  please hold."
    assert [spoken(x) for x in ("[ascending tones]", "(ahooga)", "Citt\ufffd")] == ["", "", ""]


def test_texts_and_recordings_of_unpacked_packages(tmp_path):
    name = "asterisk-core-sounds-it"
    listing = tmp_path / name / f"usr/share/doc/{name}/core-sounds-it.txt.gz"
    sound = tmp_path / f"{name}-g722/usr/share/asterisk/sounds/it_IT/digits/1.g722"
    for path in (listing, sound):
        path.parent.mkdir(parents=True)
    listing.write_bytes(gzip.compress(b"; Core\n\ndigits/1: uno\nbeep: [un tono]\n"))
    sound.write_bytes(b"")
    paths, texts = fetched(tmp_path, "it")
    assert paths == [sound] and texts == {"digits/1": "uno", "beep": "[un tono]"}


def test_warping_finds_the_same_sounds_at_another_pace(rng):
    steps = torch.randn(60, 24, generator=rng).numpy()
    slow = np.repeat(steps, 5, 0)
    pace = np.concatenate([np.full(30, 3), np.full(30, 7)])
    other = np.repeat(steps, pace, 0)
    slow, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (slow, other))
    matched, far = warp(slow, other)
    begins = np.concatenate([[0], np.cumsum(pace)])
    wanted = (begins[:-1] + begins[1:] - 1) / 2
    assert far < 1e-5
    np.testing.assert_allclose(
        matched.reshape(60, 5).mean(1), wanted, atol=1
    )  # equal rows may go with any of their like
    _, strange = warp(slow, np.roll(other[::-1], 7, 1))
    assert strange > 0.5


@pytest.mark.skipif(not find_spec("hama") or not shutil.which("espeak-ng"), reason="needs hama and espeak-ng")
def test_phones_are_found_in_another_voice():
    text = "My mother bought a big brown bag of apples."
    said, known = synthesize(text, voice="espeak-ng:f4", speed=0.8), synthesize(text, voice="espeak-ng", speed=1.2)
    sound = resample_audio(said.samples, said.rate, 16000)
    phones, far = aligned(sound / sound.abs().max() * 0.8, known)
    ours, theirs = ([p for p in x if p.symbol != SILENCE] for x in (phones, said.phones))
    assert [p.symbol for p in ours] == [p.symbol for p in theirs] and far < 0.3
    late = [0.5 * (a.start + a.end - b.start - b.end) for a, b in zip(ours, theirs, strict=True)]
    assert np.median(np.abs(late)) < 0.015 and np.max(np.abs(late)) < 0.1


@pytest.mark.skipif(not find_spec("hama"), reason="needs hama")
def test_the_recogniser_in_torch_is_the_recogniser(rng):
    from hama import ASRModel

    samples = 0.3 * torch.randn(16000, generator=rng) * torch.linspace(0, 1, 16000).sin()
    wave = samples.numpy()[None]
    session = ASRModel().session
    theirs, _ = session.run(["log_probs", "out_lengths"], {"waveform": wave, "waveform_lengths": np.array([16000])})
    _, logits = heard(samples)
    assert log_mel(samples).shape == (101, 80)
    np.testing.assert_allclose(logits.log_softmax(1).numpy(), theirs[0], atol=0.05)
