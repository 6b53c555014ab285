"""Tracks become motions that put the head where it was tracked; resampling keeps what was there."""

from dataclasses import replace

import pytest
import torch
from rig_factory import make_motion, make_rig

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.models.motion import continuous, head_rotation, resample, track_to_motion
from avatar3d.models.rig import pose_rig
from avatar3d.types import Camera, Track


def make_track(rng, t: int = 40, coefficients: int = 52, cuts: tuple[int, ...] = ()) -> Track:
    phase = 0.15 * torch.arange(t)[:, None]
    return Track(
        model="egg",
        identity=torch.zeros(3),
        expression=torch.rand(t, coefficients, generator=rng),
        rotation=0.8 * torch.cat([phase.sin(), (2 * phase).cos(), 0.5 * phase.cos()], 1),
        translation=0.2 * torch.randn(t, 3, generator=rng),
        joints={"jaw": 0.1 * torch.randn(t, 3, generator=rng)},
        cameras=(Camera.from_focal(900.0, 640, 360),),
        camera_of_frame=torch.zeros(t, dtype=torch.long),
        fps=29.97,
        time=torch.arange(t) / 29.97,
        residual=torch.zeros(t),
        confidence=torch.ones(t),
        tracked=torch.ones(t, dtype=torch.bool),
        cuts=cuts,
    )


@pytest.mark.parametrize("cuts", [(), (13,), (1, 39)])
def test_the_head_lies_where_it_was_tracked(rng, cuts):
    rig, track = make_rig(), make_track(rng, cuts=cuts)
    motion = track_to_motion(track, rig)
    posed = pose_rig(
        rig, torch.zeros(40, 52), {k: v for k, v in motion.rotations.items() if k != "jaw"}, motion.translation
    )
    head = rig.skinning_weights[:, rig.joint_names.index("head")] == 1
    assert head.sum() > 50
    expected = rig.neutral[head] @ rotvec_to_matrix(track.rotation).mT + track.translation[:, None]
    torch.testing.assert_close(posed[:, head], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(head_rotation(motion).float(), rotvec_to_matrix(track.rotation), rtol=0, atol=1e-5)
    assert torch.equal(motion.expression, track.expression) and motion.fps == track.fps
    assert torch.equal(motion.rotations["jaw"], track.joints["jaw"])


def test_neck_and_head_share_and_the_root_is_slow(rng):
    motion = track_to_motion(make_track(rng, t=200), make_rig())
    assert torch.equal(motion.rotations["neck"], motion.rotations["head"])
    speed = {name: value.diff(dim=0).norm(dim=1).mean() for name, value in motion.rotations.items()}
    assert speed["root"] < 0.3 * speed["head"]


def test_a_cut_does_not_leak_into_the_root(rng):
    track = make_track(rng, cuts=(20,))
    rotation = torch.zeros(40, 3)
    rotation[20:, 1] = 1.0
    motion = track_to_motion(Track(**(track.__dict__ | {"rotation": rotation})), make_rig())
    torch.testing.assert_close(motion.rotations["root"], rotation, rtol=0, atol=1e-6)


def test_expression_in_other_terms_needs_a_conversion(rng):
    track = make_track(rng, coefficients=100)
    with pytest.raises(ValueError, match="100 expression coefficients"):
        track_to_motion(track, make_rig())
    arkit = torch.rand(40, 52, generator=rng)
    assert torch.equal(track_to_motion(track, make_rig(), arkit).expression, arkit)


@pytest.mark.parametrize("fps", [10.0, 29.97, 30.0, 60.0])
def test_resampling_keeps_duration_and_values(fps):
    motion = make_motion(frames=51, fps=25.0)
    there = resample(motion, fps)
    assert there.fps == fps and abs((there.frames - 1) / fps - 2.0) < 1 / fps + 1e-9
    torch.testing.assert_close(there.expression[0], motion.expression[0])
    if fps == 60.0:  # every 12th new frame is every 5th old one
        for a, b in [(there.expression, motion.expression), (there.rotations["head"], motion.rotations["head"])]:
            torch.testing.assert_close(a[::12], b[::5], rtol=0, atol=2e-6)
    assert resample(motion, 25.0) is motion
    with pytest.raises(ValueError, match="positive rate"):
        resample(motion, 0.0)


def test_rotations_go_along_the_arc():
    motion = make_motion(frames=2, fps=1.0)
    motion.rotations["head"][:] = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    torch.testing.assert_close(resample(motion, 2.0).rotations["head"][1], torch.tensor([0.0, 0.0, 1.0]))


def test_continuous_quaternions(rng):
    quats = torch.nn.functional.normalize(torch.randn(1, 4, generator=rng), dim=1).repeat(9, 1)
    signs = torch.tensor([1, -1, -1, 1, 1, -1, 1, -1, -1.0])[:, None]
    assert torch.equal(continuous(quats * signs), quats)


@pytest.mark.parametrize("t", [1, 3])
def test_photos_become_a_motion_that_can_be_played(rng, t):
    motion = track_to_motion(replace(make_track(rng, t=t), fps=0.0), make_rig())
    assert motion.fps == 1.0 and motion.frames == t
    motion.check()
