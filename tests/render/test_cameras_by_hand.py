import pytest
import torch

from avatar3d.render import look_at


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
