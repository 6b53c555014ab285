"""What the viewer's sliders do, and that a browser would be served pictures of it."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import make_transform
from avatar3d.models.motion import head_rotation
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Camera, Motion
from avatar3d.view import Puppet, View, ViewSettings, stage
from avatar3d.view.puppet import frame_at


def nodding(frames: int = 5) -> Motion:
    rng = torch.Generator().manual_seed(1)
    return Motion(
        fps=10.0, expression=torch.rand(frames, 52, generator=rng),
        rotations={"root": 0.1 * torch.randn(frames, 3, generator=rng),
                   "head": 0.2 * torch.randn(frames, 3, generator=rng)},
        translation=torch.randn(frames, 3, generator=rng),
    )  # fmt: skip


def test_untouched_sliders_leave_the_motion_as_it_is():
    motion = nodding()
    one = Puppet(motion=motion, frame=3).pose()
    assert torch.equal(one.expression[0], motion.expression[3])
    assert all(torch.equal(one.rotations[name][0], motion.rotations[name][3]) for name in motion.rotations)
    assert one.translation is not None and motion.translation is not None
    assert torch.equal(one.translation[0], motion.translation[3])


def test_sliders_add_and_stay_within_bounds():
    puppet = Puppet(motion=nodding(), frame=1)
    before = puppet.pose().expression[0]
    puppet.coefficients[ARKIT_INDEX["jawOpen"]] = 1.0
    puppet.gaze = (0.5, -0.25)
    after = puppet.pose().expression[0]
    changed = {ARKIT_NAMES[i] for i in torch.nonzero(after != before).flatten().tolist()}
    assert changed == {"jawOpen", "eyeLookOutLeft", "eyeLookInRight", "eyeLookDownLeft", "eyeLookDownRight"}
    assert after[ARKIT_INDEX["jawOpen"]] == 1
    expected = min(1.0, float(before[ARKIT_INDEX["eyeLookDownLeft"]]) + 0.25)
    assert float(after[ARKIT_INDEX["eyeLookDownLeft"]]) == pytest.approx(expected)


@pytest.mark.parametrize("axis, column, sign", [(0, 1, 1), (1, 0, 1), (2, 2, 1)])
def test_turns_go_about_their_axes_without_moving_the_torso(axis, column, sign):
    puppet = Puppet()
    turn = [0.0, 0.0, 0.0]
    turn[axis] = 0.6
    puppet.turn = (turn[0], turn[1], turn[2])
    pose = puppet.pose()
    assert set(pose.rotations) == {"neck", "head"}
    rotvec = torch.zeros(1, 3)
    rotvec[0, column] = sign * 0.6
    torch.testing.assert_close(head_rotation(pose).float(), rotvec_to_matrix(rotvec), rtol=0, atol=1e-6)
    assert float(rotvec_to_matrix(rotvec)[0, 0, 2]) == pytest.approx(math.sin(0.6) if axis == 0 else 0.0)  # to +x


def test_frames_go_round():
    assert [frame_at(t, 10, 3) for t in (0, 0.05, 0.1, 0.25, 0.3, 0.95)] == [0, 0, 1, 2, 0, 0]


def test_the_browsers_camera_is_ours():
    R = rotvec_to_matrix(torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64))[0]
    angle = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    half = angle.norm() / 2
    wxyz = torch.cat([half.cos()[None], half.sin() * angle / angle.norm()])
    position = np.array([0.1, 0.2, 1.5])
    handle = SimpleNamespace(wxyz=wxyz.numpy(), position=position, fov=0.5, aspect=1.5)
    camera = stage._camera(handle, 200)
    assert (camera.width, camera.height) == (300, 200)
    expected = make_transform(R.T, -R.T @ torch.tensor(position))
    torch.testing.assert_close(camera.T_camera_world, expected)
    assert float(camera.K[1, 1]) == pytest.approx(100 / math.tan(0.25))


class Client:
    """A browser, as far as the viewer sees one."""

    def __init__(self, height: int) -> None:
        self.client_id, self.pictures = 7, []
        self.camera = SimpleNamespace(
            wxyz=np.array([0.0, 1, 0, 0]), position=np.array([0, 0, 1.0]), fov=0.5, aspect=1.0, image_height=height,
            update_timestamp=1.0, on_update=lambda f: None,
        )  # fmt: skip
        self.scene = SimpleNamespace(set_background_image=lambda picture, **_: self.pictures.append(picture))


def wait_for(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "nothing was drawn"
        time.sleep(0.02)


def test_pictures_follow_the_sliders_and_the_motion():
    pytest.importorskip("viser", reason="viser is not installed (extra `view`)")
    poses: list[Motion] = []

    def draw(pose: Motion, camera: Camera, behind, clay: bool):
        poses.append(pose)
        return behind

    avatar = SimpleNamespace(model="head", gaussians=None)
    view = View(avatar, nodding(), draw, ViewSettings(port=0))  # type: ignore[arg-type]
    try:
        client = Client(240)
        view.server.get_clients = lambda: {7: client}
        view._welcome(client)
        wait_for(lambda: client.pictures)
        wait_for(lambda: client.pictures[-1].shape == (240, 240, 3))  # in full once it stands still
        drawn = len(poses)
        time.sleep(0.3)
        assert len(poses) == drawn  # nothing changes, nothing is drawn
        view.puppet.coefficients[ARKIT_INDEX["jawOpen"]] = 1.0
        view._touch()
        wait_for(lambda: poses[-1].expression[0, ARKIT_INDEX["jawOpen"]] == 1)
        view.play()
        wait_for(lambda: view.puppet.frame >= 2)
        view.pause()
        assert view._repr_html_().startswith("<iframe") and view.url in view._repr_html_()
    finally:
        view.stop()
    assert not view._thread.is_alive()
