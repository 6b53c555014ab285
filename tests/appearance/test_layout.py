import torch

from avatar3d import models
from avatar3d.appearance.chart import build_chart
from avatar3d.appearance.layout import _squares, in_one_texture


def test_a_layout_that_is_one_texture_stays(ball):
    assert in_one_texture(ball) is ball
    rig = models.build_rig(models.load("head"), torch.zeros(1))
    assert in_one_texture(rig) is rig


def test_tiles_and_shared_texels_are_packed(ball):
    from dataclasses import replace

    n = len(ball.neutral)
    faces = torch.cat([ball.faces, ball.faces + n, ball.faces + 2 * n])
    three = replace(
        ball, neutral=torch.cat([ball.neutral] * 3), faces=faces, uv_faces=faces,
        uvs=torch.cat([ball.uvs * 0.99, ball.uvs * 0.99 + torch.tensor([1.0, 0.0]), ball.uvs * 0.99]),
    )  # fmt: skip
    packed = in_one_texture(three)
    assert packed.uvs.min() >= 0 and packed.uvs.max() <= 1
    chart = build_chart(packed, 256)
    seen = chart.face.long().bincount(minlength=len(faces)) > 0
    for part in range(3):  # each of the three has texels of its own
        assert seen[part * len(ball.faces) : (part + 1) * len(ball.faces)].float().mean() > 0.8


def test_squares_do_not_overlap():
    for count in range(2, 14):
        boxes = _squares(count)
        assert len(boxes) == count
        for i, (x, y, s) in enumerate(boxes):
            assert min(x, y) > -1e-9 and max(x, y) + s < 1 + 1e-9
            for u, v, t in boxes[:i]:
                assert x >= u + t - 1e-9 or u >= x + s - 1e-9 or y >= v + t - 1e-9 or v >= y + s - 1e-9
