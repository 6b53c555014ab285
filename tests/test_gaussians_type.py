from dataclasses import fields, replace

import pytest
import torch

from avatar3d import storage
from avatar3d.errors import FormatError
from avatar3d.types import Avatar
from avatar3d.types.gaussians import BASIS_ROWS
from tests.rig_factory import make_avatar, make_gaussians, make_rig


@pytest.mark.parametrize("degree, components", [(0, 0), (1, 3), (2, 8)])
def test_round_trip(tmp_path, degree, components):
    avatar = make_avatar()
    avatar = replace(avatar, gaussians=make_gaussians(avatar.rig, degree=degree, components=components))
    storage.save(tmp_path / "a.avatar", avatar)
    back = storage.load(tmp_path / "a.avatar", Avatar).gaussians
    for field in fields(back):
        saved, read = getattr(avatar.gaussians, field.name), getattr(back, field.name)
        if isinstance(saved, torch.Tensor):
            assert saved.dtype == read.dtype and torch.equal(saved, read)
        else:
            assert saved == read
    assert back.degree == degree and back.count == 200


def test_splats_of_another_rig_are_refused(tmp_path):
    avatar = make_avatar()
    gaussians = replace(make_gaussians(avatar.rig), face=torch.full((200,), 10_000, dtype=torch.int32))
    storage.save(tmp_path / "a.avatar", replace(avatar, gaussians=gaussians))
    with pytest.raises(FormatError, match="damaged: Gaussians: faces 10000 to 10000 for a rig of 358 triangles"):
        storage.load(tmp_path / "a.avatar", Avatar)


def test_an_avatar_without_splats_reads_as_one(tmp_path):
    storage.save(tmp_path / "a.avatar", make_avatar())
    assert storage.load(tmp_path / "a.avatar", Avatar).gaussians is None


def test_shapes_must_agree():
    gaussians = make_gaussians(make_rig(), 10)
    with pytest.raises(ValueError, match=r"quats is \(9, 4\); expected \(10, 4\)"):
        replace(gaussians, quats=gaussians.quats[:9])
    with pytest.raises(ValueError, match=r"sh is \(10, 16, 3\); expected \(10, 1, 4 or 9, 3\)"):
        replace(gaussians, sh=torch.zeros(10, 16, 3))
    with pytest.raises(ValueError, match="go together"):
        replace(gaussians, basis=None)
    with pytest.raises(ValueError, match=r"basis \(4, 10, 13\)"):
        replace(gaussians, basis=torch.zeros(4, 10, 13))
    with pytest.raises(ValueError, match=r"limits is \(3, 2\)"):
        replace(gaussians, limits=torch.zeros(3, 2))


def test_content_is_checked_against_the_rig():
    rig = make_rig()
    gaussians = make_gaussians(rig, 10)
    gaussians.check(len(rig.faces) + 6, 52)
    with pytest.raises(ValueError, match=f"for a rig of {int(gaussians.face.max())} triangles"):
        gaussians.check(int(gaussians.face.max()), 52)
    with pytest.raises(ValueError, match="mixing is for 52 shapes, and the rig has 51"):
        gaussians.check(len(rig.faces) + 6, 51)
    for name in ("offsets", "basis", "sh"):
        spoilt = getattr(gaussians, name).clone()
        spoilt.flatten()[3] = torch.nan
        with pytest.raises(ValueError, match=f"{name} has values that are not finite"):
            replace(gaussians, **{name: spoilt}).check(len(rig.faces) + 6, 52)
    with pytest.raises(ValueError, match="a quaternion is zero"):
        replace(gaussians, quats=gaussians.quats * torch.arange(10)[:, None]).check(len(rig.faces) + 6, 52)
    with pytest.raises(ValueError, match="group 9, but only 5 are named"):
        replace(gaussians, group=gaussians.group * 0 + 9).check(len(rig.faces) + 6, 52)


def test_select():
    gaussians = make_gaussians(make_rig(), 10)
    some = gaussians.select(gaussians.group > 1)
    assert some.count == int((gaussians.group > 1).sum()) and some.basis.shape == (4, some.count, 14)
    assert torch.equal(gaussians.select(torch.tensor([7])).quats[0], gaussians.quats[7])


def test_the_basis_rows_fill_the_basis():
    covered = sorted(i for rows in BASIS_ROWS.values() for i in range(rows.start, rows.stop))
    assert covered == list(range(14))
