"""LPIPS is scored where its package and weights are, and said to be missing where they are not."""

import sys
import types

import pytest
import torch

from avatar3d.evaluate.images import ImageScores
from avatar3d.evaluate.perceptual import find_lpips


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A package with the interface of lpips 0.1.4 whose distance is the mean absolute difference, and its weights."""

    class Network(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert net == "alex" and not verbose

        def forward(self, a, b, normalize):
            assert normalize and a.shape == b.shape and a.shape[1] == 3
            return (a - b).abs().mean().view(1, 1, 1, 1)

    models = types.ModuleType("torchvision.models")
    weights = types.SimpleNamespace(url="https://example.org/models/alexnet-owt-0.pth")
    models.AlexNet_Weights = types.SimpleNamespace(IMAGENET1K_V1=weights)
    package = types.ModuleType("lpips")
    package.LPIPS = Network
    for name, module in {
        "lpips": package,
        "torchvision": types.ModuleType("torchvision"),
        "torchvision.models": models,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "alexnet-owt-0.pth"
    file.parent.mkdir()
    file.touch()
    return file


def test_without_the_package_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    metric, line = find_lpips()
    assert metric is None and "pip install lpips" in line and "\n" not in line


def test_without_weights_nothing_is_fetched(installed):
    installed.unlink()
    metric, line = find_lpips()
    assert metric is None and "alexnet-owt-0.pth" in line


def test_scores_have_it_where_it_is_there(installed):
    metric, line = find_lpips()
    assert metric is not None and line == ""
    picture, target, mask = torch.full((8, 8, 3), 0.25), torch.full((8, 8, 3), 0.5), torch.ones(8, 8)
    scores = ImageScores(perceptual=metric)
    scores.add(0, picture, target, mask)
    assert scores.summary()["lpips"] == pytest.approx(0.25)
    plain = ImageScores()
    plain.add(0, picture, target, mask)
    assert "lpips" not in plain.summary()
