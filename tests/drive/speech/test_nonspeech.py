"""Laughs and sighs: recognised where they were made, not in speech, and acted."""

import numpy as np
import pytest
import torch
from made_voices import RATE, laugh, sigh, talk

from avatar3d.drive.speech.nonspeech import NonSpeech
from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.prosody import ProsodyStream
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.errors import CaptureError
from avatar3d.sound import load_audio
from avatar3d.types import ARKIT_INDEX


def heard(sound):
    stream, ears = ProsodyStream(), NonSpeech()
    return [h for row in stream.push(sound.numpy()) + stream.flush() if (h := ears.step(row))]


@pytest.mark.parametrize("make, kind", [(laugh, "laugh"), (sigh, "sigh")])
def test_made_ones_are_recognised(make, kind):
    rng = np.random.default_rng(4)
    found = [heard(make(rng)) for _ in range(20)]
    assert np.mean([any(h.kind == kind for h in one) for one in found]) >= 0.75
    assert all(h.kind == kind for one in found for h in one)
    starts = [one[0].start / 50 for one in found if one]
    assert np.abs(np.median(starts) - (0.4 if kind == "laugh" else 0.6)) < 0.2


def test_neither_is_heard_in_made_speech_or_noise():
    assert not heard(talk(30))
    assert not heard(torch.from_numpy(np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32) * 0.05))


def test_neither_is_heard_in_recorded_speech(data):
    seconds = 0.0
    for path in sorted(data("audio").iterdir()):
        try:
            sound = load_audio(path)
        except CaptureError:
            continue
        seconds += len(sound) / RATE
        assert not heard(sound), path.name
    assert seconds > 90


def test_a_laugh_that_is_heard_is_acted_from_its_start():
    rng = np.random.default_rng(4)
    sound = next(s for s in (laugh(rng, 9) for _ in range(20)) if heard(s))
    rows = -(-len(sound) * 50 // RATE)
    acted, calm = (
        perform(torch.zeros(rows, 52), sound, SpeechSettings(nonspeech=gain), fps=50).expression for gain in (1.0, 0.0)
    )
    smile = ARKIT_INDEX["mouthSmileLeft"]
    assert calm[:, smile].max() < 0.05 < 0.4 < acted[:, smile].max()
    assert acted[35:60, smile].mean() > 0.3  # within its first second
