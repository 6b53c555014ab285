import numpy as np
import pytest

from avatar3d.data import packaged
from tests.nets.pictures import read_frames


@pytest.fixture(scope="session")
def demo_frames() -> list[np.ndarray]:
    """Two seconds of a man's selfie, 640 x 360; it ships with the package."""
    return read_frames(packaged("assets/phone_selfie_smile.mp4"), 24)
