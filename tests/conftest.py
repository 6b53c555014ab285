"""Fixtures that every test may use: seeded randomness, devices, and the real footage where it is present."""

import os
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("AVATAR3D_TEST_DATA", REPO.parent / "shared" / "data"))


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data():
    """Maps a path inside the real test data to a file, and skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = DATA / relative
        if not path.exists():
            pytest.skip(f"test data not present: {relative} (set AVATAR3D_TEST_DATA)")
        return path

    return find
