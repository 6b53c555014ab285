"""Exposures that change are found by a background that stands still, and by nothing else."""

from dataclasses import replace

import pytest
import torch

from avatar3d.appearance.splats.exposure import Balances, balance
from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.colour import linear_to_srgb
from avatar3d.types import Camera

HEIGHT, WIDTH, FRAMES = 90, 120, 7


@pytest.fixture
def scene(rng):
    """Linear colours of a room, and of a person who moves before it and changes with the turn."""
    room = 0.05 + 0.5 * torch.rand(HEIGHT // 6, WIDTH // 6, 3, generator=rng)
    return room.repeat_interleave(6, 0).repeat_interleave(6, 1)


def footage(room, gains, *, shift=0, close=False):
    camera = Camera(K=torch.eye(3), T_camera_world=torch.eye(4), width=WIDTH, height=HEIGHT)
    shots = []
    for t, gain in enumerate(gains):
        linear = room.roll(shift * t, 1).clone()
        mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
        mask[20:, 30 + 3 * t : 70 + 3 * t] = 255
        linear[mask > 0] = torch.tensor([0.4, 0.25, 0.2]) * (1 + 0.1 * t)
        image = (linear_to_srgb((linear * torch.as_tensor(gain)).clamp(0, 1)) * 255).round().byte()
        shots.append(Shot(frame=t, image=image, mask=mask, camera=camera, close=close))
    return shots


def gains(rng):
    return torch.exp(0.25 * (torch.rand(FRAMES, 3, generator=rng) - 0.5))


def test_exposure_and_white_balance_are_taken_out(scene, rng):
    g = gains(rng)
    shots = footage(scene, g)
    found = balance(shots)
    assert found is not None
    plain = footage(scene, (g / g).mul(g.log().median(0).values.exp()))  # as the usual frame has it
    mended = found(shots + [replace(s, close=True) for s in shots])
    for before, after, near, true in zip(shots, mended, mended[FRAMES:], plain, strict=False):
        error = (after.image.float() - true.image.float()).abs().mean()
        assert float(error) < 2.5
        assert torch.equal(near.image, after.image)
        assert torch.equal(after.mask, before.mask)
    assert max(float((a.image.float() - b.image.float()).abs().mean()) for a, b in zip(shots, plain, strict=True)) > 4
    # frames that were not asked about before, and one that shows no background
    later = footage(scene, gains(rng))
    assert all(
        float((s.image.float() - p.image.float()).abs().mean()) < 2.5 for s, p in zip(found(later), plain, strict=True)
    )
    hidden = replace(later[0], mask=torch.full_like(later[0].mask, 255))
    assert torch.equal(found([hidden])[0].image, hidden.image)


def test_what_does_not_change_or_cannot_be_told_is_left_alone(scene, rng):
    g = gains(rng)
    assert balance(footage(scene, torch.ones(FRAMES, 3))) is None
    assert balance(footage(scene, g, shift=7)) is None  # a phone that moves
    assert balance(footage(scene, g)[:2]) is None
    assert balance(footage(torch.ones_like(scene), g.clamp_min(1))) is None  # white, and clipped
    everywhere = [replace(s, mask=torch.full_like(s.mask, 255)) for s in footage(scene, g)]
    assert balance(everywhere) is None
    assert balance([]) is None


def test_videos_are_told_apart(scene, rng):
    first = footage(scene, gains(rng))
    other = [replace(s, frame=s.frame + FRAMES) for s in footage(scene.flip(1), torch.ones(FRAMES, 3))]
    video = torch.arange(2 * FRAMES) // FRAMES
    balances = Balances(first + other, video)
    assert balances.changes
    done = balances(first + other)
    assert [s.frame for s in done] == list(range(2 * FRAMES))
    assert not torch.equal(done[0].image, first[0].image)
    assert all(a is b for a, b in zip(done[FRAMES:], other, strict=True))
    assert not Balances(other, video).changes
