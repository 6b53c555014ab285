"""Calibrated cameras from files: avatar3d's cameras.json, OpenCV-style JSON, COLMAP text models.

cameras.json is an object with a list "cameras"; each entry has

    name      matches a view: its file name, with or without suffix, or a word of it
    width     pixels
    height    pixels
    K         3x3, pixels; pixel centres at (i + 0.5, j + 0.5)
    T_camera_world   4x4, metres, OpenCV camera axes, world +y up (optional: identity)
    distortion       OpenCV's k1, k2, p1, p2, k3 (optional)
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar3d.errors import FormatError
from avatar3d.geometry.rotation import quat_to_matrix
from avatar3d.types.camera import Camera

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""World of a y-down, z-forward reference camera <-> ours: +y up, a face that looks at the camera looks along +z."""


def read_cameras(path: str | Path) -> dict[str, Camera]:
    """Cameras by name.

    Args:
        path: A .json, or a COLMAP folder (or the cameras.txt in it). `FILE.json#NAME` picks one of several
            calibration sets in an OpenCV-style JSON.

    Raises:
        FormatError: missing, or of another form.
    """
    name, _, chosen = str(path).partition("#")
    file = Path(name)
    if file.is_dir():
        file = file / "cameras.txt"
    if not file.is_file():
        raise FormatError(f"{file} does not exist; expected cameras.json, or a COLMAP folder with cameras.txt.")
    try:
        if file.suffix.lower() == ".txt":
            return _read_colmap(file)
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "cameras" in content:
            return {str(c["name"]): _ours(c) for c in content["cameras"]}
        if isinstance(content, dict):
            return _read_opencv(file, content, chosen)
    except FormatError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, UnicodeDecodeError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{file} is not a camera file that can be read ({detail}).") from None
    raise FormatError(f'{file} is not a camera file: expected an object with "cameras", or one camera per name.')


def write_cameras(path: str | Path, cameras: dict[str, Camera]) -> None:
    """Writes cameras.json."""
    entries: list[dict[str, Any]] = []
    for name, camera in cameras.items():
        arrays = {"K": camera.K, "T_camera_world": camera.T_camera_world, "distortion": camera.distortion}
        lists = {key: value.tolist() for key, value in arrays.items() if value is not None}
        entries.append({"name": name, "width": camera.width, "height": camera.height, **lists})
    Path(path).write_text(json.dumps({"cameras": entries}, indent=1), encoding="utf-8")


def assign_cameras(cameras: dict[str, Camera], names: list[str]) -> list[Camera]:
    """The camera of each view, by name; every view gets one and no camera serves two.

    A camera's name is a view's file name with or without suffix, or a word of it, or the first letter of a word.

    Raises:
        FormatError: a view has no camera, or more than one that could be its own.
    """
    by_rule = (
        lambda camera, view: camera.lower() in (view.lower(), Path(view).stem.lower()) or Path(camera).name == view,
        lambda camera, view: camera.lower() in _words(view),
        lambda camera, view: len(camera) == 1 and any(word.startswith(camera.lower()) for word in _words(view)),
    )
    for matches in by_rule:
        found = [[camera for camera in cameras if matches(camera, view)] for view in names]
        if all(len(f) == 1 for f in found) and len({f[0] for f in found}) == len(names):
            return [cameras[f[0]] for f in found]
    raise FormatError(
        f"The cameras ({', '.join(cameras)}) cannot be told apart among the views ({', '.join(names)}).\n"
        f"Give each camera the name of its view's file."
    )


def fit_to_image(camera: Camera, name: str, width: int, height: int) -> Camera:
    """The camera for an image of its own size, or of that size scaled.

    Raises:
        FormatError: the image has other proportions.
    """
    if (camera.width, camera.height) == (width, height):
        return camera
    if abs(camera.width * height - camera.height * width) > 0.01 * camera.width * height:
        raise FormatError(
            f"{name} is {width}x{height}, and its camera was calibrated for {camera.width}x{camera.height}.\n"
            f"Expected the same proportions; was the footage cropped or rotated after calibration?"
        )
    return camera.resized(width, height)


def _words(view: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", view.lower())


def _ours(entry: dict[str, Any]) -> Camera:
    return Camera(
        np.array(entry["K"], float),  # type: ignore[arg-type]
        int(entry["width"]),
        int(entry["height"]),
        np.array(entry.get("T_camera_world", np.eye(4)), float),  # type: ignore[arg-type]
        np.array(entry["distortion"], float) if entry.get("distortion") is not None else None,  # type: ignore[arg-type]
    )


def _read_opencv(file: Path, content: dict[str, Any], chosen: str) -> dict[str, Camera]:
    """{name: {K, dist, R, t | t_mm}}, beside "image_size" or in "sets" of such: x_camera = R x_world + t.

    OpenCV puts pixel centres at whole numbers, and its world is the reference camera's (y down, z forward).
    """
    sets = content.get("sets")
    group = content
    if sets:
        if chosen not in sets and (chosen or len(sets) > 1):
            missing = f", none named {chosen!r}" if chosen else ""
            raise FormatError(
                f"{file.name} holds {len(sets)} calibrations ({', '.join(sets)}){missing}.\n"
                f"Say which one as {file.name}#{next(iter(sets))}."
            )
        group = sets[chosen or next(iter(sets))]
    cameras = {}
    for name, entry in group.items():
        if not (isinstance(entry, dict) and "K" in entry):
            continue
        width, height = entry.get("image_size") or group.get("image_size") or content["image_size"]
        K = np.array(entry["K"], float)
        K[:2, 2] += 0.5
        T = np.eye(4)
        T[:3, :3] = np.array(entry.get("R", np.eye(3)), float)
        scale = 0.001 if "t_mm" in entry else 1.0
        T[:3, 3] = scale * np.array(entry.get("t_mm", entry.get("t", [0, 0, 0])), float).reshape(3)
        distortion = entry.get("dist", entry.get("distortion"))
        distortion = None if distortion is None else np.array(distortion, float).reshape(-1)
        cameras[name] = Camera(K, int(width), int(height), T @ _FLIP, distortion)  # type: ignore[arg-type]
    if not cameras:
        raise FormatError(f'{file} names no camera: expected "cameras", or entries with "K", "R", "t_mm" and "dist".')
    return cameras


# COLMAP's camera models: how many focal lengths come first, and where OpenCV's k1, k2, p1, p2 follow the centre.
_COLMAP_MODELS = {
    "SIMPLE_PINHOLE": (1, 0),
    "PINHOLE": (2, 0),
    "SIMPLE_RADIAL": (1, 1),
    "RADIAL": (1, 2),
    "OPENCV": (2, 4),
}


def _read_colmap(file: Path) -> dict[str, Camera]:
    """A COLMAP text model. Its units are arbitrary; they are taken as metres, and its world as y down."""
    intrinsics = {}
    for line in _lines(file):
        id_, model, width, height, *parameters = line.split()
        if model not in _COLMAP_MODELS:
            raise FormatError(f"{file}: camera model {model} is not read; expected {', '.join(_COLMAP_MODELS)}.")
        focals, distortions = _COLMAP_MODELS[model]
        p = np.array(parameters, float)
        K = np.array([[p[0], 0, p[focals]], [0, p[focals - 1], p[focals + 1]], [0, 0, 1]])
        distortion = np.zeros(5)
        distortion[:distortions] = p[focals + 2 : focals + 2 + distortions]
        intrinsics[id_] = K, int(width), int(height), distortion if distortions else None
    images = file.with_name("images.txt")
    if not images.is_file():
        raise FormatError(f"{images} is missing; a COLMAP text model has cameras.txt and images.txt.")
    cameras = {}
    rows = [line for line in images.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for line in rows[::2]:  # each image's line is followed by one with its points, which may be empty
        if not line.strip():
            continue
        _, qw, qx, qy, qz, tx, ty, tz, camera, name = line.split(maxsplit=9)
        T = np.eye(4)
        T[:3, :3] = quat_to_matrix(torch.tensor([float(q) for q in (qw, qx, qy, qz)], dtype=torch.float64)).numpy()
        T[:3, 3] = np.array([tx, ty, tz], float)
        K, width, height, distortion = intrinsics[camera]
        cameras[name.strip()] = Camera(K, width, height, T @ _FLIP, distortion)  # type: ignore[arg-type]
    return cameras


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
