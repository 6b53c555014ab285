"""Heads that the networks never saw: ICT-FaceKit's and ARKit's shapes, animated by a recorded face."""

import sys
from pathlib import Path

import pytest
import torch

from avatar3d import models, stabilize
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.nets.stabilizer import look
from avatar3d.stabilize.packaged import networks

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from stabilizer import sets
from stabilizer.pairs import Generator


def p95(T, pair):
    return float((apply(T, pair.skull) - apply(pair.T_b_a, pair.skull)).norm(dim=1).quantile(0.95) * 1e3)


def means(pairs):
    """Mean error in mm of the learned method, robust Procrustes, and Procrustes over the skull's region."""
    rows = [
        (
            p95(stabilize.compare(stabilize.view(p.a, p.faces), p.b).T_other_view, p),
            p95(stabilize.robust_procrustes(p.a, p.b), p),
            p95(procrustes(p.a, p.b, p.region.double()), p),
        )
        for p in pairs
    ]
    return torch.tensor(rows).mean(0).tolist()


@pytest.mark.parametrize(
    "keywords",
    [{"part": "head"}, {"part": "face", "noise_mm": 0.3}, {"part": "face", "missing": 0.3},
     {"part": "narrow", "noise_mm": 1.0}, {"part": "face", "sliding": True}],
    ids=["head", "0.3 mm of noise", "30% missing", "narrow with noise", "skin slides"],
)  # fmt: skip
def test_ict(data, keywords):
    root = data("3dmm/ict/FaceXModel").parents[2]
    data("motion/llv_dao_DERIVED.npz")
    learned, robust, region = means(sets.pairs(sets.ict(root), root, count=4, **keywords))
    assert learned < 0.5 * robust
    assert learned < region


@pytest.mark.parametrize("keywords", [{}, {"sliding": True}], ids=["plain", "skin slides"])
def test_arkit(data, tmp_path_factory, keywords):
    root = data("3dmm/arkit").parents[1]
    data("motion/llv_dao_DERIVED.npz")
    source = sets.arkit(root, tmp_path_factory.mktemp("arkit"))
    learned, robust, region = means(sets.pairs(source, root, part="all", count=4, **keywords))
    assert learned < 0.5 * robust
    assert learned < region


def test_expressions_do_not_leak_into_a_still_head(data):
    root = data("3dmm/ict/FaceXModel").parents[2]
    data("motion/llv_dao_DERIVED.npz")
    for pair in sets.pairs(sets.ict(root), root, part="face", only="jawOpen", still=True, count=3):
        T = stabilize.compare(stabilize.view(pair.a, pair.faces), pair.b).T_other_view
        assert p95(T, pair) < 0.1
        assert (T[:3, :3] - torch.eye(3)).abs().max() < 1e-3


def test_drawn_pairs_are_what_they_say():
    """The skull's motion and the skin's own are the truth: what is left over is noise."""
    generator = Generator(models.load("head"), seed=3)
    with torch.no_grad():
        pairs = generator.draw(6)
        patches, own, skull, T = generator.located(pairs)
    back = (patches.y - T[:, None, :3, 3]) @ T[:, :3, :3]
    left = (back - patches.x - own).norm(dim=-1)[patches.mask]
    assert left.median() < 2e-3 and torch.isfinite(skull).all()
    again = Generator(models.load("head"), seed=3).draw(6)
    assert torch.equal(again.x, pairs.x) and torch.equal(again.y, pairs.y)
    with torch.no_grad():
        found = look(networks()[1], patches)[-1].T_y_x
    error = (apply(found, skull) - apply(T, skull)).norm(dim=-1).mean(1)
    assert error.median() < 0.5e-3
