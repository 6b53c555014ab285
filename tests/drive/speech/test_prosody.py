"""Prosody of sounds whose pitch, stress and pauses are known."""

import numpy as np
import pytest
from made_voices import RATE, syllables, talk

from avatar3d.drive.speech.prosody import ProsodyStream


def heard(sound):
    stream = ProsodyStream()
    return stream.push(sound.numpy()) + stream.flush()


@pytest.mark.parametrize("hertz", [80.0, 123.0, 220.0, 400.0])
def test_pitch(hertz):
    sound, _ = syllables([hertz] * 6)
    pitches = [row.pitch for row in heard(sound) if row.pitch]
    assert len(pitches) > 30
    assert np.median(pitches) == pytest.approx(hertz, rel=0.01)
    assert np.mean(np.abs(np.log2(np.array(pitches) / hertz)) < 0.06) > 0.95


def test_noise_is_no_speech():
    noise = np.random.default_rng(1).standard_normal(5 * RATE).astype(np.float32) * 0.1
    stream = ProsodyStream()
    rows = stream.push(noise) + stream.flush()
    assert len(rows) == 250
    assert not any(row.speaking or row.accent or row.syllable for row in rows)


@pytest.mark.parametrize("fill", [0.0, 1e-5])
def test_silence_is_silence(fill):
    rows = ProsodyStream().push(np.full(RATE, fill, np.float32))
    assert rows and not any(row.speaking or row.loudness > 0.01 for row in rows)


def test_syllables_stress_and_pauses():
    stress = (3, 7, 14, 18)
    pitches = [150.0] * 10 + [0] * 4 + [150.0] * 8
    sound, peaks = syllables(pitches, stress=stress)
    rows = heard(sound)
    found = np.array([(i + 0.5) / 50 for i, row in enumerate(rows) if row.syllable])
    assert len(found) == len(peaks) and np.abs(found - peaks).max() < 0.05
    loud = [peaks[[i for i, p in enumerate(pitches) if p].index(k)] for k in stress]
    strong = sorted((row.accent, (i + 0.5) / 50) for i, row in enumerate(rows) if row.accent)[-len(loud) :]
    assert np.abs(np.sort([t for _, t in strong]) - loud).max() < 0.05
    assert sum(row.starts for row in rows) == 2 and sum(row.ends for row in rows) == 1  # the second goes on
    end = next(i for i, row in enumerate(rows) if row.ends) / 50
    assert 0.1 < end - 10 * 0.28 < 0.35  # a pause counts as one after 0.2 s or so


def test_gain_does_not_matter():
    sound = talk(6)
    loud, quiet = heard(sound), heard(sound * 0.05)
    same = [a.speaking == b.speaking and (a.accent > 0) == (b.accent > 0) for a, b in zip(loud, quiet, strict=True)]
    assert np.mean(same) > 0.97


@pytest.mark.parametrize("sizes", [(160,), (333, 1, 8000), (16000,)])
def test_blocks_do_not_matter(sizes):
    sound = talk(4).numpy()
    stream, rows, at, k = ProsodyStream(), [], 0, 0
    while at < len(sound):
        size = sizes[k % len(sizes)]
        rows += stream.push(sound[at : at + size])
        at, k = at + size, k + 1
    assert rows + stream.flush() == heard(talk(4))
    assert len(heard(talk(4))) == 200


def test_same_at_another_rate(data):
    from avatar3d.sound import load_audio

    a = heard(load_audio(data("audio/nvidia_Claire_sadness.wav")))
    b = heard(load_audio(data("audio/nvidia_Claire_sadness_44.1k.wav")))
    count = min(len(a), len(b))
    x, y = (np.array([row.loudness for row in rows[:count]]) for rows in (a, b))
    assert np.abs(x - y).mean() < 0.02
    assert np.mean([p.speaking == q.speaking for p, q in zip(a[:count], b[:count], strict=True)]) > 0.98
