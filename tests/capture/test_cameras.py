"""Camera files: what is read is what was written, in avatar3d's conventions."""

import json

import numpy as np
import pytest
import torch
from footage_cases import picture
from PIL import Image

from avatar3d.capture import open_capture, read_cameras, write_cameras
from avatar3d.errors import FormatError
from avatar3d.types import Camera


def project(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixels, by the definition: K [R|t] x."""
    T, K = camera.T_camera_world.numpy(), camera.K.numpy()
    x = (points @ T[:3, :3].T + T[:3, 3]) @ K.T
    return x[:, :2] / x[:, 2:]


def random_camera(seed: int, width: int = 64, height: int = 48) -> Camera:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    T = np.eye(4)
    T[:3, :3] = q * np.linalg.det(q)
    T[:3, 3] = (*rng.normal(size=2) * 0.1, 3)
    K = np.array([[70.0, 0, width / 2 + 1], [0, 71, height / 2 - 2], [0, 0, 1]])
    return Camera(K, width, height, T, np.array([0.1, 0.01, 0.001, 0.002, 0.0]))


@pytest.fixture
def photos(tmp_path):
    for name in ("me_Left_1", "me_Middle_1", "me_Right_1"):
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.png")
    return sorted(tmp_path.glob("*.png"))


def test_own_format_round_trip(tmp_path, photos):
    cameras = {path.stem: random_camera(i) for i, path in enumerate(photos)}
    write_cameras(tmp_path / "cameras.json", cameras)
    capture = open_capture(list(reversed(photos)), cameras=tmp_path / "cameras.json")
    assert capture.synchronised and capture.kind == "photos"
    for view in capture.views:
        expected = cameras[view.name]
        for key in ("K", "T_camera_world", "distortion"):
            torch.testing.assert_close(getattr(view.camera, key), getattr(expected, key), rtol=0, atol=0)


def test_opencv_calibration_of_three_cameras(data):
    path = data("multiview/ipcv_3cam/calibration_opencv_DERIVED.json")
    names = [f"multiview/ipcv_3cam/subject1/subject1_{side}_1.jpg" for side in ("Left", "Middle", "Right")]
    with pytest.raises(FormatError, match=r"holds 2 calibrations \(1, 2\)"):
        read_cameras(path)
    capture = open_capture([data(name) for name in names], cameras=f"{path}#1")
    calibration = json.loads(path.read_text())["sets"]["1"]
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3)) * 0.05 + (0, 0, 0.6)  # middle camera's axes, metres
    for view, letter in zip(capture.views, "LMR", strict=True):
        entry = calibration[letter]
        x = points @ np.array(entry["R"]).T + np.array(entry["t_mm"]) / 1000
        opencv = (x @ np.array(entry["K"]).T)[:, :2] / x[:, 2:]
        ours = project(view.camera, points * (1, -1, -1))  # +y up, and a face towards the camera looks along +z
        np.testing.assert_allclose(ours, opencv + 0.5, atol=1e-9)
    centres = [-v.camera.T_camera_world[:3, :3].T @ v.camera.T_camera_world[:3, 3] for v in capture.views]
    assert torch.allclose(centres[1], torch.zeros(3, dtype=torch.float64))
    assert 0.10 < (centres[0] - centres[1]).norm() < 0.13 and centres[0][0] * centres[2][0] < 0


@pytest.mark.parametrize(
    "model, parameters, K, distortion",
    [
        ("SIMPLE_PINHOLE", "70 32 24", [70, 70, 32, 24], None),
        ("PINHOLE", "70 71 32 24", [70, 71, 32, 24], None),
        ("SIMPLE_RADIAL", "70 32 24 0.1", [70, 70, 32, 24], [0.1, 0, 0, 0, 0]),
        ("OPENCV", "70 71 32 24 0.1 0.2 0.3 0.4", [70, 71, 32, 24], [0.1, 0.2, 0.3, 0.4, 0]),
    ],
)
def test_colmap_text(tmp_path, photos, model, parameters, K, distortion):
    (tmp_path / "cameras.txt").write_text(f"# Camera list\n3 {model} 64 48 {parameters}\n")
    lines = ["# Image list"]
    for i, path in enumerate(photos):
        lines += [f"{i + 1} 0.8 0.6 0 0 0.1 {i} 2 3 {path.name}", "" if i else "1.0 2.0 -1"]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    capture = open_capture(photos, cameras=tmp_path)
    for i, view in enumerate(capture.views):
        camera = view.camera
        assert [camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2]] == K
        assert (None if camera.distortion is None else camera.distortion.tolist()) == distortion
        colmap = np.array([[1, 0, 0, 0.1], [0, 0.28, -0.96, i], [0, 0.96, 0.28, 2], [0, 0, 0, 1]])
        expected = colmap @ np.diag([1.0, -1, -1, 1])
        np.testing.assert_allclose(camera.T_camera_world.numpy(), expected, atol=1e-12)


def test_camera_for_a_scaled_image(tmp_path, photos):
    cameras = [random_camera(i, 128, 96) for i in range(3)]
    capture = open_capture(photos, cameras=cameras)
    points = np.random.default_rng(1).normal(size=(5, 3)) * 0.1
    for view, camera in zip(capture.views, cameras, strict=True):
        assert (view.camera.width, view.camera.height) == (64, 48)
        np.testing.assert_allclose(2 * project(view.camera, points), project(camera, points), atol=1e-9)
    with pytest.raises(FormatError, match="same proportions"):
        open_capture(photos, cameras=[random_camera(i, 64, 64) for i in range(3)])


def test_bad_camera_files(tmp_path, photos):
    path = tmp_path / "cameras.json"
    for content, message in (
        ("{", "not a camera file"),
        ('{"cameras": [{"name": "a"}]}', "no 'K'"),
        ('{"a": 1}', "names no camera"),
        ("[1]", "not a camera file"),
    ):
        path.write_text(content)
        with pytest.raises(FormatError, match=message):
            open_capture(photos, cameras=path)
    with pytest.raises(FormatError, match="does not exist"):
        open_capture(photos, cameras=tmp_path / "none.json")
    write_cameras(path, {"left": random_camera(0), "right": random_camera(1)})
    with pytest.raises(FormatError, match="cannot be told apart"):
        open_capture(photos, cameras=path)
    with pytest.raises(FormatError, match="2 cameras were given for 3 views"):
        open_capture(photos, cameras=[random_camera(0), random_camera(1)])
