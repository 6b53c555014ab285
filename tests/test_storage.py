import os
import subprocess
import sys

import pytest
import torch

from avatar3d import storage
from avatar3d.errors import FileError, FormatError
from avatar3d.types import ARKIT_NAMES, Avatar, Camera, Footage, Motion, Rig, TextureSet


def make_avatar(rng) -> Avatar:
    rig = Rig(
        neutral=torch.rand(4, 3, generator=rng),
        faces=torch.tensor([[0, 1, 2], [0, 2, 3]]),
        uvs=torch.rand(4, 2, generator=rng),
        uv_faces=torch.tensor([[0, 1, 2], [0, 2, 3]]),
        shapes=torch.rand(52, 4, 3, generator=rng),
        shape_names=ARKIT_NAMES,
        joint_names=("root", "head"),
        joint_parents=(-1, 0),
        joint_positions=torch.rand(2, 3, generator=rng),
        skinning_weights=torch.rand(4, 2, generator=rng),
        regions={"face": torch.tensor([True, False, True, True])},
    )
    motion = Motion(fps=29.97, expression=torch.rand(5, 52, generator=rng), rotations={"head": torch.zeros(5, 3)})
    footage = Footage(
        sources=("me.mov",),
        frames=5,
        cameras=(Camera.from_focal(900.0, 640, 360),),
        camera_of_frame=torch.zeros(5, dtype=torch.long),
        frame_of_motion=torch.arange(5),
        source_of_frame=torch.zeros(5, dtype=torch.long),
    )
    texture = TextureSet(albedo=torch.randint(0, 255, (8, 8, 3), generator=rng, dtype=torch.uint8))
    return Avatar(
        model="head", identity=torch.rand(7, generator=rng), rig=rig, appearance=texture, motion=motion,
        footage=footage, manifest={"model": {"licence": "CC0-1.0"}, "stages": ["a", 1, None]},
    )  # fmt: skip


def test_round_trip(rng, tmp_path):
    avatar = make_avatar(rng)
    storage.save(tmp_path / "a.avatar", avatar)
    back = storage.load(tmp_path / "a.avatar", Avatar)
    assert back.rig.shape_names == avatar.rig.shape_names and back.manifest == avatar.manifest
    assert isinstance(back.appearance, TextureSet) and torch.equal(back.appearance.albedo, avatar.appearance.albedo)
    assert torch.equal(back.rig.regions["face"], avatar.rig.regions["face"])
    assert torch.equal(back.motion.rotations["head"], avatar.motion.rotations["head"])
    assert torch.equal(back.footage.cameras[0].K, avatar.footage.cameras[0].K) and back.motion.fps == 29.97
    assert [p.name for p in tmp_path.iterdir()] == ["a.avatar"]


def test_wrong_files(rng, tmp_path):
    path = tmp_path / "a.avatar"
    with pytest.raises(FileError, match="does not exist"):
        storage.load(path, Avatar)
    storage.save(path, make_avatar(rng))
    with pytest.raises(FormatError, match="holds: avatar, and motion was expected"):
        storage.load(path, Motion)
    whole = path.read_bytes()
    for damaged in (b"", b"short", whole[:100], whole[: len(whole) // 2], b"\xff" * 1000, whole[:8] + b"x" * 500):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged"):
            storage.load(path, Avatar)


def test_failure_keeps_the_old_file(rng, tmp_path, monkeypatch):
    path = tmp_path / "a.avatar"
    storage.save(path, make_avatar(rng))
    before = path.read_bytes()

    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full_disk)
    with pytest.raises(FileError, match="No space left"):
        storage.save(path, make_avatar(rng))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.avatar"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"fps": 0.0}, "frames per second"),
        ({"expression": torch.zeros(5, 20)}, r"\[5, 20\]"),
        ({"expression": torch.full((5, 52), torch.nan)}, "not finite"),
        ({"rotations": {"head": torch.zeros(4, 3)}}, "rotation of head"),
        ({"translation": torch.full((5, 3), torch.inf)}, "translation"),
        ({"confidence": torch.zeros(4)}, "confidence"),
    ],
)
def test_motions_that_no_one_can_play_are_refused(tmp_path, changes, words):
    motion = Motion(**{"fps": 30.0, "expression": torch.zeros(5, 52), **changes})
    storage.save(tmp_path / "a.motion", motion)
    with pytest.raises(FormatError, match=words):
        storage.load(tmp_path / "a.motion", Motion)


def test_a_full_disk_is_told_in_words(rng, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise storage.safetensors.SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(FileError, match="Cannot write .*a.avatar: No space left on device. Check the folder"):
        storage.save(tmp_path / "a.avatar", make_avatar(rng))
    with pytest.raises(FileError, match="Cannot write .*0-0.safetensors: No space left on device. Check"):
        with storage.replacing(tmp_path / "0-0.safetensors"):
            full()
    assert not list(tmp_path.iterdir())


def test_output_places_are_checked_before_long_work(tmp_path):
    storage.check_writable(tmp_path / "new" / "folder" / "a.avatar")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="is a file, not a folder"):
        storage.check_writable(tmp_path / "file" / "a.avatar")
    with pytest.raises(FileError, match="it is a folder"):
        storage.check_writable(tmp_path)


def test_what_a_killed_process_left_goes_with_the_next(rng, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    left = [tmp_path / f".{dead.pid}-a.avatar", tmp_path / f".{dead.pid}-b.avatar", tmp_path / ".notes-a.avatar"]
    alive = tmp_path / f".{os.getppid()}-a.avatar"
    for path in (*left, alive):
        path.touch()
    storage.save(tmp_path / "a.avatar", make_avatar(rng))
    assert {p.name for p in tmp_path.iterdir()} == {"a.avatar", left[1].name, left[2].name, alive.name}
