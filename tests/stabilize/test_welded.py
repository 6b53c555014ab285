"""Vertices that are welded to the skull."""

import pytest
import torch

from avatar3d import models, stabilize
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.stabilize.welded import welded

MOTION = make_transform(
    rotvec_to_matrix(torch.tensor([2e-3, -1e-3, 1.5e-3])), torch.tensor([2e-4, -1e-4, 3e-4])
).double()


@pytest.fixture(scope="module")
def skin():
    """The face of the mean head, and how it moves smoothly by some millimetres, everywhere."""
    model = models.load("head")
    x = model.template[(model.template[:, 2] > 0.02) & (model.template[:, 1].abs() < 0.1)].double()
    rng = torch.Generator().manual_seed(0)
    way, wave = torch.randn(2, 6, 3, generator=rng, dtype=torch.float64)
    own = 1e-3 * torch.einsum("vk,kc->vc", torch.cos(60 * x @ wave.mT + torch.arange(6)), way)
    return x, own


def moved(x, own, held):
    own = own.clone()
    own[held] = 0
    return apply(MOTION, x + own)


def temples(x, count):
    """As many vertices on either side."""
    order = (x - torch.tensor([0.07, 0.03, 0.03]).double()).norm(dim=1).argsort()
    other = (x - torch.tensor([-0.07, 0.03, 0.03]).double()).norm(dim=1).argsort()
    return torch.cat([order[:80], other[:80]]).view(2, count, -1)[..., 0].reshape(-1)


def test_a_few_vertices_tell_the_motion_exactly(skin):
    x, own = skin
    for count in (4, 80):
        held = temples(x, count)
        found = welded(x.numpy(), moved(x, own, held).numpy(), 2e-3)
        assert found is not None and found[1] >= 2 * count
        assert (apply(torch.from_numpy(found[0]), x) - apply(MOTION, x)).abs().max() < 2e-6


def test_most_of_the_surface_may_be_welded(skin):
    x, own = skin
    found = welded(x.numpy(), moved(x, own, x[:, 1] > 0.02).numpy(), 2e-3)
    assert found is not None and found[1] >= int((x[:, 1] > 0.02).sum())
    torch.testing.assert_close(torch.from_numpy(found[0]), MOTION, atol=1e-7, rtol=0)


def test_smooth_motion_is_no_weld(skin):
    x, own = skin
    for gain in (0.01, 0.1, 1.0):
        assert welded(x.numpy(), moved(x, gain * own, []).numpy(), 2e-3) is None


def test_noise_of_a_hundredth_of_a_millimetre_is_no_weld(skin):
    x, own = skin
    y = moved(x, own, x[:, 1] > 0.02)
    y = y + 1e-5 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert welded(x.numpy(), y.numpy(), 2e-3) is None


def test_what_is_small_or_low_is_no_weld(skin):
    x, own = skin
    eye = (x - torch.tensor([0.03, 0.035, 0.085]).double()).norm(dim=1) < 0.013
    jaw = x[:, 1] < -0.03
    for held in (eye, jaw):
        assert held.sum() >= 8
        assert welded(x.numpy(), moved(x, own, held).numpy(), 5e-3) is None


def test_what_is_out_of_reach_is_no_weld(skin):
    x, own = skin
    y = moved(x, own, temples(x, 80))
    assert welded(x.numpy(), y.numpy(), 2e-3) is not None
    assert welded(x.numpy(), y.numpy(), 1e-4) is None
    assert welded(x[:3].numpy(), x[:3].numpy(), 2e-3) is None


def test_meshes_of_a_rig_are_stabilised_exactly(skin):
    model = models.load("head")
    used = (model.template[:, 2] > 0.02) & (model.template[:, 1].abs() < 0.1)
    faces = model.faces[used[model.faces].all(1)]
    x, y = model.template.double(), model.template.double()
    y = y.clone()
    held = temples(skin[0], 20)
    y[used] = moved(skin[0], 0.3 * skin[1], held)
    truth = torch.stack([x, y])
    off = []
    for welds in (True, False):
        found = stabilize.stabilize_meshes(truth, faces, welds=welds)
        off.append(float((apply(found.T_frame_anchor[1], skin[0]) - apply(MOTION, skin[0])).norm(dim=1).max()))
        assert found.welded[0] == 0 and bool(found.welded[1] >= 20) == welds
    assert off[0] < 2e-6 < 1e-4 < off[1]
