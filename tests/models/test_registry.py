"""Models by name or path, and what is said when one is not there."""

import pytest

from avatar3d import models
from avatar3d.errors import AssetError
from tests.models import flame_file


def test_head_has_landmarks():
    head = models.load()
    assert head.name == "head" and set(head.landmarks) == {"mediapipe478", "ibug68"}


def test_paths(tmp_path, data):
    assert models.load(flame_file.write(tmp_path)).name == "flame"
    assert models.load(str(tmp_path)).name == "flame"
    assert models.load(data("3dmm/ict/FaceXModel/generic_neutral_mesh.obj").parent).name == "ict"


@pytest.mark.parametrize(
    "name, text", [("flame", "flame.is.tue.mpg.de"), ("ict", "ICT-FaceKit"), ("nobody", "expected one of head, flame")]
)
def test_absent(tmp_path, monkeypatch, name, text):
    monkeypatch.setenv("AVATAR3D_ASSETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssetError, match=text):
        models.load(name)
