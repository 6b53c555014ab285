import pytest
import torch

from avatar3d import models


@pytest.fixture(scope="session")
def head():
    torch.set_num_threads(1)
    return models.load("head")
