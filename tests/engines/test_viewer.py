"""The viewer in headless Chromium: what a browser asks for, and that it gets pictures of it."""

import threading

import browser
import pytest
import torch
from rig_factory import make_avatar, make_motion

import avatar3d


def test_a_browser_is_served_pictures_from_where_it_looks():
    pytest.importorskip("viser", reason="viser is not installed (extra `view`)")
    try:
        browser.chromium()
    except browser.Missing as missing:
        pytest.skip(str(missing))
    avatar = make_avatar(make_motion(frames=3))
    view = avatar3d.view(avatar, motion="none", port=0)
    s, right = view._settings, threading.Event()
    seen = []

    def draw(pose, camera, behind, clay, real=view._draw):
        picture = real(pose, camera, behind, clay)
        eye = -camera.T_camera_world[:3, :3].T @ camera.T_camera_world[:3, 3]
        expected = torch.tensor(s.target, dtype=torch.float64) + torch.tensor([0, 0, s.distance])
        if float((eye - expected).norm()) < 0.02:  # a browser begins elsewhere, until it is told where
            seen.append((camera, picture))
            right.set()
        return picture

    view._draw = draw
    try:
        with browser.opened(view.url, size=(500, 400)):
            assert right.wait(90), "the browser did not ask for a picture from the front"
    finally:
        view.stop()
    camera, picture = seen[-1]
    assert camera.width == 500 and 192 <= camera.height <= 400  # its window, less what the browser takes
    assert 0.05 < (picture != 255).any(2).mean() < 0.95  # an avatar, and something behind
