import pytest
import torch

from avatar3d.render import ambient_light, look_at, render_rig
from avatar3d.types import Rig
from tests.mesh_cases import sphere


def ball_rig(**regions):
    """A ball of 12 mm radius: an eye that looks along +z."""
    vertices, faces = sphere(24, 32)
    v = (vertices[:, [0, 2, 1]] * torch.tensor([1.0, -1, 1]) * 0.012).float()  # poles on the z axis
    return Rig(
        neutral=v, faces=faces, uvs=torch.rand(len(v), 2, generator=torch.Generator().manual_seed(0)), uv_faces=faces,
        shapes=torch.zeros(0, len(v), 3), shape_names=(), joint_names=("root",), joint_parents=(-1,),
        joint_positions=torch.zeros(1, 3), skinning_weights=torch.ones(len(v), 1), regions=regions,
    )  # fmt: skip


FRONT = look_at(torch.zeros(3), torch.tensor([0.0, 0, 0.3]), 80, 60, field_of_view=0.1)


def test_look_at():
    eye, target = torch.tensor([0.3, 0.2, 0.9]), torch.tensor([0.1, -0.1, 0.0])
    camera = look_at(target, eye, 64, 48)
    T = camera.T_camera_world
    torch.testing.assert_close(T[:3, :3] @ T[:3, :3].T, torch.eye(3).double())
    assert torch.det(T[:3, :3]) > 0
    torch.testing.assert_close(
        T[:3, :3] @ target.double() + T[:3, 3], torch.tensor([0, 0, 0.969536], dtype=torch.float64)
    )
    above = T[:3, :3] @ (target.double() + torch.tensor([0, 0.1, 0])) + T[:3, 3]
    assert above[1] < 0 and abs(above[0]) < 1e-6  # up in the picture
    with pytest.raises(ValueError, match="lies above"):
        look_at(target, target + torch.tensor([0, 1.0, 0]), 64, 48)


def test_flat_light_shows_the_colours_as_they_are_over_the_background():
    rig = ball_rig()
    colours = torch.tensor([0.2, 0.5, 0.8]).expand(len(rig.neutral), 3)
    background = torch.tensor([1.0, 0, 0.5])
    out = render_rig(rig, rig.neutral, FRONT, vertex_colours=colours, light=ambient_light(1.0), background=background)
    assert out.shape == (60, 80, 3)
    torch.testing.assert_close(out[30, 40], colours[0], rtol=0, atol=2e-3)
    assert torch.equal(out[0, 0], background)
    mixed = ((out - colours[0]).abs().amax(-1) > 0.01) & ((out - background).abs().amax(-1) > 0.01)
    assert 20 < int(mixed.sum()) < 200  # a smooth outline, and nothing else

    texture = torch.tensor([51, 128, 204], dtype=torch.uint8).expand(16, 16, 3)
    textured = render_rig(rig, rig.neutral, FRONT, texture=texture, light=ambient_light(1.0), background=background)
    torch.testing.assert_close(textured[30, 40], texture[0, 0] / 255, rtol=0, atol=2e-3)


def test_eyes_get_a_small_highlight():
    rig = ball_rig()
    everywhere = torch.ones(len(rig.neutral), dtype=torch.bool)
    front = rig.neutral[:, 2] > 0.0105
    plain = render_rig(rig, rig.neutral, FRONT)
    eye = render_rig(ball_rig(eyeball_left=everywhere, iris_left=front), rig.neutral, FRONT)
    glint = (eye - plain).amax(-1)
    assert float((eye - plain).min()) > -1e-6 and float(glint.max()) > 0.2
    y, x = torch.nonzero(glint > 0.1, as_tuple=True)
    assert 3 < len(x) < 60 and x.double().mean() < 40 and y.double().mean() < 30  # small, where the key light is
    other = render_rig(ball_rig(eyeball_left=~everywhere), rig.neutral, FRONT)
    assert torch.equal(other, plain)
