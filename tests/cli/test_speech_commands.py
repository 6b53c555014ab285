"""`drive`, `export`, `render` and `live` on sound and text, as a user runs them."""

import io
import json
import math
import shutil
import socket
import threading
import wave
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from rig_factory import make_avatar, make_motion
from scipy.io import wavfile

from avatar3d import storage
from avatar3d.cli.main import main
from avatar3d.drive.speech.style import Style, save_style
from avatar3d.export.livelink_udp import decode_packet
from avatar3d.export.page_data import read_block
from avatar3d.export.page_script import data_of
from avatar3d.export.sound import write_wav
from avatar3d.types import ARKIT_INDEX, Motion
from avatar3d.types.avatar import Avatar

needs_voice = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
LIPS = [i for n, i in ARKIT_INDEX.items() if n.startswith(("mouth", "jaw"))]


@pytest.fixture
def folder(tmp_path):
    avatar = make_avatar(make_motion(4))
    assert isinstance(avatar, Avatar)
    storage.save(tmp_path / "me.avatar", avatar)
    return tmp_path


def drive(folder, source, *more, name="x.motion"):
    return main(["drive", str(folder / "me.avatar"), "--from", source, "-o", str(folder / name), *more])


def seconds_of(path):
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


@needs_voice
def test_text_becomes_motion_and_its_sound(folder, capsys):
    text = "text:[happy 0.8] Bob may buy [nod] a map. [pause 0.4] [look left] Yes?"
    assert drive(folder, text, "--seed", "3", "--description", "wearily, with pizzazz") == 0
    told = capsys.readouterr().err
    assert "'pizzazz'" in told and "'wearily'" not in told
    motion = storage.load(folder / "x.motion", Motion)
    assert motion.source == "x.wav"
    assert motion.frames == math.ceil(seconds_of(folder / "x.wav") * 30 - 5e-3)
    assert motion.expression[:, LIPS].amax() > 0.2 and motion.expression[:, ARKIT_INDEX["mouthSmileLeft"]].amax() > 0.4
    assert drive(folder, text, "--seed", "3", "--description", "wearily", "--json", name="y.motion") == 0
    again = storage.load(folder / "y.motion", Motion)
    torch.testing.assert_close(again.expression, motion.expression)
    assert json.loads(capsys.readouterr().out)["fps"] == 30


@needs_voice
@pytest.mark.parametrize(
    "language, text", [("en", "Mum."), ("ru", "Мама мыла раму."), ("zh", "ni3 hao3"), ("de", "Bäume")]
)
def test_languages(folder, language, text):
    assert drive(folder, f"text:{text}", "--language", language, "--fps", "50") == 0
    motion = storage.load(folder / "x.motion", Motion)
    assert motion.fps == 50 and motion.frames == math.ceil(seconds_of(folder / "x.wav") * 50 - 5e-3)
    assert motion.expression[:, LIPS].amax() > 0.15


@needs_voice
def test_the_sound_goes_where_the_motion_goes(folder):
    assert drive(folder, "text:Papa.") == 0
    sound = seconds_of(folder / "x.wav")
    arguments = [str(folder / "me.avatar"), "--motion", str(folder / "x.motion")]
    for name in ("a.glb", "a.html"):
        assert main(["export", *arguments, "-o", str(folder / name)]) == 0
    assert "sound" in read_block(data_of((folder / "a.html").read_text()))[0]
    assert seconds_of(folder / "a.wav") == pytest.approx(sound, abs=0.05)
    assert main(["render", *arguments, "-o", str(folder / "a.mp4"), "--size", "64"]) == 0
    with av.open(str(folder / "a.mp4")) as film:
        assert len(film.streams.audio) == 1
        peak = max(np.abs(frame.to_ndarray()).max() for frame in film.decode(audio=0))
    assert peak > 0.05
    before = (folder / "x.wav").read_bytes()
    assert main(["export", *arguments, "-o", str(folder / "x.glb")]) == 0
    assert (folder / "x.wav").read_bytes() == before  # it lies there already
    (folder / "x.wav").unlink()
    assert main(["render", *arguments, "-o", str(folder / "b.mp4"), "--size", "64"]) == 0
    with av.open(str(folder / "b.mp4")) as film:
        assert not film.streams.audio
    write_wav(folder / "other.wav", torch.rand(16000) - 0.5, 16000)
    assert main(["render", *arguments, "-o", str(folder / "c.mp4"), "--size", "64", "--sound",
                 str(folder / "other.wav")]) == 0  # fmt: skip
    with av.open(str(folder / "c.mp4")) as film:
        assert film.streams.audio


@needs_voice
def test_recordings_that_lie_there_are_kept(folder):
    theirs = np.linspace(-0.5, 0.5, 8000, dtype=np.float32)
    for name in ("x.wav", "a.wav"):
        wavfile.write(folder / name, 8000, theirs)
    before = (folder / "x.wav").read_bytes()
    assert drive(folder, "text:Papa.") == 0
    assert storage.load(folder / "x.motion", Motion).source == "x.sound.wav"
    sound = (folder / "x.sound.wav").read_bytes()
    arguments = [str(folder / "me.avatar"), "--motion", str(folder / "x.motion")]
    for name in ("x.glb", "a.glb"):
        assert main(["export", *arguments, "-o", str(folder / name)]) == 0
    assert drive(folder, "text:Papa.") == 0  # what is ours is replaced
    assert (folder / "x.wav").read_bytes() == (folder / "a.wav").read_bytes() == before
    assert (folder / "x.sound.wav").read_bytes() == sound
    assert {p.name for p in folder.glob("*.wav")} == {"x.wav", "x.sound.wav", "a.wav", "a.sound.wav"}
    assert seconds_of(folder / "a.sound.wav") == pytest.approx(seconds_of(folder / "x.sound.wav"), abs=0.05)


@needs_voice
def test_styles_and_edits(folder):
    save_style(Style(mouth=0.4, jaw=0.3), folder / "quiet.style")
    edits = {"keyframes": [{"time": 0.4, "values": {"browDownLeft": 0.7}}]}
    (folder / "edits.json").write_text(json.dumps(edits))
    assert drive(folder, "text:Papa papa.") == 0
    wishes = ("--style", str(folder / "quiet.style"), "--edits", str(folder / "edits.json"))
    assert drive(folder, "text:Papa papa.", *wishes, name="y.motion") == 0
    plain, changed = (storage.load(folder / f"{n}.motion", Motion).expression for n in "xy")
    assert changed[:, ARKIT_INDEX["jawOpen"]].amax() < 0.5 * plain[:, ARKIT_INDEX["jawOpen"]].amax()
    assert float(changed[12, ARKIT_INDEX["browDownLeft"]]) == pytest.approx(0.7, abs=1e-5)


@pytest.mark.parametrize(
    "source, more, status, words",
    [
        ("text:[dance] hello", (), 2, "no direction"),
        ("text:", (), 2, "Nothing to say"),
        ("text:hello", ("--emotion", "glad"), 2, "glad"),
        ("text:hello", ("--head", "9"), 2, "head=9"),
        ("text:hello", ("--style", "{tmp}/none.style"), 1, "none.style"),
        ("text:hello", ("--edits", "{tmp}/none.json"), 1, "none.json"),
        ("{tmp}/none.wav", (), 1, "none.wav"),
        ("demo", ("--emotion", "sad"), 2, "--emotion"),
    ],
)
def test_failures_are_short_and_leave_nothing(folder, capsys, source, more, status, words):
    assert drive(folder, source.format(tmp=folder), *(m.format(tmp=folder) for m in more)) == status
    told = capsys.readouterr().err
    assert words in told and 1 <= len(told.strip().splitlines()) <= 3
    assert {p.name for p in folder.iterdir()} == {"me.avatar"}


def listen(count):
    """A socket, and what arrives at it."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(10)
    packets = []

    def take():
        while len(packets) < count:
            packets.append(decode_packet(receiver.recv(2048)))

    thread = threading.Thread(target=take)
    thread.start()
    return receiver, thread, packets


def test_live_sends_a_motion(folder):
    motion = make_motion(6, fps=60.0)
    storage.save(folder / "m.motion", motion)
    receiver, thread, packets = listen(6)
    with receiver:
        port = receiver.getsockname()[1]
        assert main(["live", str(folder / "m.motion"), "--to", f"127.0.0.1:{port}", "--subject", "Ada"]) == 0
        thread.join()
    values = torch.stack([p.values for p in packets])
    torch.testing.assert_close(values[:, :52], motion.expression, rtol=0, atol=1e-6)
    assert packets[0].subject == "Ada"


def test_live_takes_a_microphone(monkeypatch):
    sound = (np.sin(np.arange(8000) * 0.1) * 9000).astype("<i2").tobytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(sound)))
    receiver, thread, packets = listen(30)
    with receiver:
        assert main(["live", "-", "--to", f"127.0.0.1:{receiver.getsockname()[1]}"]) == 0
        thread.join()
    assert len(packets) == 30 and all(bool(p.values.isfinite().all()) for p in packets)


def test_live_refuses_what_is_no_address(capsys):
    assert main(["live", "demo", "--to", "host:port"]) == 2
    assert "address" in capsys.readouterr().err
