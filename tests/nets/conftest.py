import shutil

import numpy as np
import pytest
from torch import Tensor

from avatar3d.data import packaged
from avatar3d.drive.speech.phones import Speech
from avatar3d.drive.speech.synthesis import synthesize
from avatar3d.sound import resample_audio
from tests.nets.pictures import read_frames


@pytest.fixture(scope="session")
def demo_frames() -> list[np.ndarray]:
    """Two seconds of a man's selfie, 640 x 360; it ships with the package."""
    return read_frames(packaged("assets/phone_selfie_smile.mp4"), 24)


@pytest.fixture(scope="session")
def said() -> tuple[Speech, Tensor]:
    """A sentence by a variant of espeak-ng that was held out of training, and its sound at 16 kHz."""
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    sentence = "My mother bought a big brown bag of plump apples, and Bob mopped up the milk."
    speech = synthesize(sentence, voice="espeak-ng:f4")
    return speech, resample_audio(speech.samples, speech.rate, 16000)
