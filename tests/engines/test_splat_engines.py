"""Splats in programs that others wrote: same count, same bounds, same splats."""

from dataclasses import replace

import engine_checks
import numpy as np
import pytest
from rig_factory import make_avatar, make_gaussians, make_motion

from avatar3d.export import export
from avatar3d.export.splat_check import Tolerance, check_cloud
from avatar3d.export.splat_frame import cloud_of_frame
from avatar3d.export.splat_glb import read_splat_glb
from avatar3d.export.spz import read_spz
from avatar3d.models.splat_ply import read_splat_ply

FRAME = 3
EXACT = Tolerance(means=1e-6, turn=1e-4, log_scales=1e-4, opacities=1e-5, sh=1e-5)


@pytest.fixture(scope="module")
def avatar():
    avatar = make_avatar(make_motion(frames=5))
    return replace(avatar, gaussians=make_gaussians(avatar.rig, 400))


def converted(path, output):
    try:
        engine_checks.splat_transform(path, output)
    except engine_checks.Missing as missing:
        pytest.skip(str(missing))
    return output


@pytest.mark.parametrize("suffix", ["ply", "spz"])
def test_splat_transform_reads_the_same(avatar, tmp_path, suffix):
    path = export(avatar, tmp_path / f"me.{suffix}", frame=FRAME)
    theirs = read_splat_ply(converted(path, tmp_path / "theirs.ply"))
    cloud = cloud_of_frame(avatar, avatar.motion, FRAME)
    assert len(theirs.means) == 400
    np.testing.assert_allclose(theirs.bounds, cloud.bounds, atol=1e-6)
    check_cloud(theirs, read_splat_ply(path) if suffix == "ply" else read_spz(path), EXACT, path)


def test_glb_has_the_attributes_that_splat_transform_writes(avatar, tmp_path):
    """It turns splats by 180 degrees about z on the way from PLY to glTF, whose axes are up; ours are up already."""
    ours = read_splat_glb(export(avatar, tmp_path / "me.glb", frame=FRAME))
    theirs = read_splat_glb(converted(export(avatar, tmp_path / "me.ply", frame=FRAME), tmp_path / "theirs.glb"))
    np.testing.assert_allclose(theirs.means * (-1, -1, 1), ours.means, atol=1e-6)
    w, x, y, z = ours.quats.T  # (0, 0, 0, 1) times the quaternion
    turned = replace(ours, means=theirs.means, quats=np.stack([-z, -y, x, w], 1))
    check_cloud(replace(theirs, sh=ours.sh), turned, EXACT, tmp_path / "me.glb")
    np.testing.assert_allclose(theirs.sh[:, 0], ours.sh[:, 0], atol=1e-6)
    signs = np.array([1, -1, 1, -1, 1, -1, 1, -1, 1])[None, :, None]  # y z x, xy yz zz xz xx-yy with x, y negated
    np.testing.assert_allclose(theirs.sh * signs, ours.sh, atol=1e-5)


def test_khronos_validator_finds_nothing_but_the_extension(avatar, tmp_path):
    """This release of the validator does not know the extension, and so neither the names of its attributes."""
    path = export(avatar, tmp_path / "me.glb", frame=FRAME)
    try:
        report = engine_checks.validate(path)
    except engine_checks.Missing as missing:
        pytest.skip(str(missing))
    messages = [m for m in report["issues"]["messages"] if "KHR_gaussian_splatting" not in m["pointer"] + m["message"]]
    assert messages == []
