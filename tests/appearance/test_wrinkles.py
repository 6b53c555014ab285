"""Detail of scans with expressions: what a neutral scan has too stays out, the rest comes with the coefficients."""

import math
from dataclasses import replace

import numpy as np
import torch
from rig_factory import make_avatar

from avatar3d import storage
from avatar3d.appearance.detail import Detail
from avatar3d.appearance.wrinkles import MOST, find_wrinkles
from avatar3d.export.picture import draw, front_camera
from avatar3d.types import Avatar, Wrinkles

SIZE = 96


def detail(slopes: torch.Tensor, known: torch.Tensor | None = None) -> Detail:
    seen = torch.ones(SIZE, SIZE, dtype=torch.bool) if known is None else known
    picture = torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8)
    return Detail(displacement=torch.zeros(SIZE, SIZE), normals=picture, slopes=slopes, known=seen)


def waves(length: float, axis: int, height: float = 0.4) -> torch.Tensor:
    at = torch.arange(SIZE).float()
    at = at[None].expand(SIZE, -1) if axis == 0 else at[:, None].expand(-1, SIZE)
    out = torch.zeros(SIZE, SIZE, 2)
    out[..., axis] = height * torch.sin(2 * math.pi * at / length)
    return out


PORES, SMILE, BROW = waves(5, 0, 0.1), waves(17, 0), waves(23, 1)


def coefficients(*rows: dict[int, float]) -> torch.Tensor:
    out = torch.zeros(len(rows), 52)
    for row, values in zip(out, rows, strict=True):
        for k, x in values.items():
            row[k] = x
    return out


def added(found: Wrinkles, expression: torch.Tensor) -> torch.Tensor:
    return torch.einsum("e,ehwc->hwc", found.weights(expression) / 127, found.slopes.float())


def test_what_comes_with_which_expression():
    C = coefficients({4: 1.0}, {9: 0.9}, {4: 0.5, 9: 0.5})
    scans = [detail(PORES + SMILE), detail(PORES + 0.9 * BROW), detail(PORES + 0.5 * SMILE + 0.5 * BROW)]
    found = find_wrinkles(detail(PORES), scans, C)
    inner = slice(6, -6)
    for row, wanted in zip(C[:2], (SMILE, 0.9 * BROW), strict=True):
        off = (added(found, row) - wanted)[inner, inner]
        assert float(off.abs().mean()) < 0.12 * float(wanted.abs().mean())
    half = added(found, 0.5 * C[0])[inner, inner]
    assert 0.4 < float((half * SMILE[inner, inner]).sum() / SMILE[inner, inner].square().sum()) < 0.6
    assert not added(found, coefficients({30: 1.0})[0]).any() and not added(found, torch.zeros(52)).any()


def test_many_scans_are_brought_to_few_maps():
    C = coefficients(*({4: 0.2 + 0.1 * i, 9: 0.9 - 0.1 * i} for i in range(8)))
    scans = [detail(PORES + c[4] * SMILE + c[9] * BROW) for c in C]
    found = find_wrinkles(detail(PORES), scans, C)
    assert len(found.slopes) == MOST and (found.scales > 0).all()
    inner = slice(6, -6)
    for c in C:
        wanted = (c[4] * SMILE + c[9] * BROW)[inner, inner]
        off = added(found, c)[inner, inner] - wanted
        assert float(off.abs().mean()) < 0.15 * float(wanted.abs().mean())


def test_nothing_is_made_up_where_a_scan_ends():
    known = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    known[:, : SIZE // 2] = True
    found = find_wrinkles(detail(PORES), [detail(PORES + SMILE, known)], coefficients({4: 1.0}))
    shown = added(found, coefficients({4: 1.0})[0])
    assert (shown[:, SIZE // 2 :] == 0).all() and shown[:, : SIZE // 2 - 8].abs().max() > 0.3
    assert find_wrinkles(detail(PORES), [], torch.zeros(0, 52)) is None
    assert find_wrinkles(detail(PORES), [detail(PORES)], coefficients({4: 1.0})) is None


def test_saved_and_drawn(tmp_path):
    """They change the picture as their coefficient grows, and no other."""
    made = make_avatar()
    flat = torch.tensor([128, 128, 255], dtype=torch.uint8).expand(SIZE, SIZE, 3).contiguous()
    own = find_wrinkles(detail(0 * PORES), [detail(SMILE)], coefficients({4: 1.0}))
    avatar = replace(made, appearance=replace(made.appearance, normals=flat, wrinkles=own))
    storage.save(tmp_path / "me.avatar", avatar)
    back = storage.load(tmp_path / "me.avatar", Avatar)
    assert torch.equal(back.appearance.wrinkles.slopes, own.slopes)
    torch.testing.assert_close(back.appearance.wrinkles.mixing, own.mixing)
    camera, white = front_camera(made.rig, 64), np.full((64, 64, 3), 255, np.uint8)

    def drawn(who: Avatar, **shown: float) -> np.ndarray:
        e = coefficients({int(k[1:]): x for k, x in shown.items()})[0]
        return draw(who, made.rig.neutral, camera, white, expression=e).astype(float)

    still = drawn(back)
    plain = replace(back, appearance=replace(back.appearance, wrinkles=None))
    assert np.abs(still - drawn(plain)).max() <= 1 and np.abs(drawn(back, k7=1.0) - still).max() <= 1
    change = [np.abs(drawn(back, k4=x) - still).mean() for x in (0.25, 0.5, 1.0)]
    assert 0.1 < change[0] < change[1] < change[2]
