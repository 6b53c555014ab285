"""The commands as a user runs them, on the packaged clip."""

import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from avatar3d import demo_clip, storage
from avatar3d.cli.main import main
from avatar3d.export.video import VideoWriter
from avatar3d.types import ARKIT_NAMES, Avatar, Motion


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    status = main(["fit", str(demo_clip()), "-o", str(folder / "me.avatar"), "--quality", "draft",
                   "--report", str(folder / "report.json")])  # fmt: skip
    assert status == 0
    return folder


def test_fit_writes_the_avatar_and_its_report_and_nothing_else(fitted):
    assert {p.name for p in fitted.iterdir() if p.name.startswith((".", "me", "report"))} >= {"me.avatar"}
    assert not [p for p in fitted.iterdir() if "checkpoint" in p.name]
    report = json.loads((fitted / "report.json").read_text())
    assert report["frames"]["total"] == 72 and report["frames"]["tracked"] >= 71 and report["frames"]["cuts"] == []
    assert 0 < report["nme"]["median"] <= 0.010
    assert 0 < report["jitter"]["ratio"] <= 0.25 and report["jitter"]["rotation_deg"] > 0
    assert report["focal"]["determined"] is False and report["focal"]["pixels"] > 300
    assert report["faces"] == {"seen": 1, "followed": 0}
    assert set(report) >= {"timings", "memory", "advice"} and report["memory"]["peak_mb"] > 50
    avatar = storage.load(fitted / "me.avatar", Avatar)
    assert avatar.motion.frames == 72 and avatar.rig.shape_names == ARKIT_NAMES
    smile = avatar.motion.expression[:, [ARKIT_NAMES.index("mouthSmileLeft"), ARKIT_NAMES.index("mouthSmileRight")]]
    assert smile[:8].mean() < 0.1 and smile.mean(1).max() > 0.3  # neutral to wide smile


def test_a_folder_called_demo_does_not_hide_the_built_in_motion(fitted, tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()  # as `avatar3d demo -o demo` makes it
    monkeypatch.chdir(tmp_path)
    assert main(["drive", str(fitted / "me.avatar"), "--from", "demo", "-o", "demo/all.motion"]) == 0
    assert float(storage.load(tmp_path / "demo" / "all.motion", Motion).expression.amax(0).min()) > 0.5


def test_info(fitted, capsys):
    assert main(["info", str(fitted / "me.avatar"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "avatar" and told["model"] == "head" and told["frames"] == 72
    assert told["counts"]["shapes"] == 52 and told["manifest"]


def test_render_track_is_one_frame_per_frame_at_the_footage_size(fitted):
    out = fitted / "track.mp4"
    assert (
        main(["render", str(fitted / "me.avatar"), "--camera", "track", "--background", "black", "-o", str(out)]) == 0
    )
    with av.open(str(out)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 72 and frames[0].shape == (360, 640, 3)
    assert frames[0][:8, :8].max() < 12  # background
    with av.open(str(demo_clip())) as container:
        original = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    # The avatar must lie on the person: over the face it looks like the footage, far more than white would.
    face = frames[0].max(2) > 60
    assert face.mean() > 0.05
    assert np.abs(frames[0][face] - original[face]).mean() < 45


def test_render_png_and_compare(fitted):
    assert main(["render", str(fitted / "me.avatar"), "-o", str(fitted / "a.png"), "--size", "200"]) == 0
    picture = np.asarray(Image.open(fitted / "a.png"))
    assert picture.shape == (200, 200, 3) and (picture[100] < 200).any() and (picture[0] == 255).all()
    assert main(["render", str(fitted / "me.avatar"), "--compare", str(demo_clip()), "-o", str(fitted / "c.png"),
                 "--frame", "40"]) == 0  # fmt: skip
    assert Image.open(fitted / "c.png").size == (3 * 640, 360)


def test_contact_sheet(fitted):
    out = fitted / "sheet.png"
    assert main(["render", str(fitted / "me.avatar"), "--sheet", "--footage", str(demo_clip()), "-o", str(out)]) == 0
    width, height = Image.open(out).size
    assert width == 6 * 320 and height == 5 * 320


def test_drive_and_export(fitted, capsys):
    assert main(["drive", str(fitted / "me.avatar"), "--from", "demo", "-o", str(fitted / "demo.motion")]) == 0
    assert storage.load(fitted / "demo.motion", Motion).expression.amax(0).min() > 0.9  # every shape is shown
    for name in ("me.glb", "me.obj", "me.csv"):
        assert main(["export", str(fitted / "me.avatar"), "-o", str(fitted / name), "--json"]) == 0
    assert (fitted / "me.csv").read_text().count("\n") >= 72


def test_a_photo_becomes_files_that_play(tmp_path, capsys):
    with av.open(str(demo_clip())) as container:
        next(container.decode(video=0)).to_image().save(tmp_path / "me.jpg")
    avatar = tmp_path / "me.avatar"
    assert main(["fit", str(tmp_path / "me.jpg"), "-o", str(avatar), "--quality", "draft", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert isinstance(report["focal"]["pixels"], float) and report["frames"]["total"] == 1
    for name in ("me.glb", "me.csv", "me.html", "me.obj"):
        assert main(["export", str(avatar), "-o", str(tmp_path / name)]) == 0
    assert main(["render", str(avatar), "--camera", "track", "-o", str(tmp_path / "me.mp4")]) == 0
    with av.open(str(tmp_path / "me.mp4")) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(640, 360)]


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["fit", "{tmp}/absent.mp4", "-o", "{tmp}/o.avatar"], 1, "absent.mp4"),
        (["fit", "{tmp}/empty.mp4", "-o", "{tmp}/o.avatar"], 1, "empty.mp4"),
        (["fit", "{tmp}/text.mp4", "-o", "{tmp}/o.avatar"], 1, "text.mp4"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar"], 1, "face"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.glb"], 2, ".avatar"),
        (["fit", "-o", "{tmp}/o.avatar"], 2, "no input"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--model", "nobody"], 1, "nobody"),
        (
            ["fit", "{tmp}/grey.png"],
            2,
            "fit: missing: -o FILE, --output FILE The .avatar file to write. See `avatar3d fit",
        ),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--quality", "best"], 2, "invalid choice 'best'"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--holdout", "x"], 2, "--holdout: x is no {None}|INT."),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--colour", "x"], 2, "Unrecognized options: --colour"),
        (["export", "{tmp}/text.mp4", "-o", "{tmp}/o.glb"], 1, "not an avatar3d file"),
        (["render", "{tmp}/absent.avatar", "-o", "{tmp}/o.png"], 1, "does not exist"),
        (["info", "{tmp}/empty.mp4"], 1, "not an avatar3d file"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--holdout", "-1"], 2, "--holdout"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/grey.png/o.avatar"], 1, "not a folder"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--report", "{tmp}"], 1, "it is a folder"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--seed", "9" * 20], 2, "--seed"),
        (["fit", "{tmp}/grey.png", "-o", "{tmp}/o.avatar", "--budget", "nan"], 2, "--budget"),
        (["bench", "nothing"], 2, "no benchmark"),
        (["bench", "skin", "--threads", "0"], 2, "--threads"),
        (["bench", "skin", "--json", "{tmp}"], 1, "it is a folder"),
        (["view", "{tmp}/absent.avatar", "--port", "99999"], 2, "--port"),
        (["paint"], 2, "no command"),
    ],
)
def test_failures_are_short_and_leave_nothing(tmp_path, capsys, arguments, status, words):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    Image.new("RGB", (320, 240), (128, 128, 128)).save(tmp_path / "grey.png")
    assert main([a.format(tmp=tmp_path) for a in arguments]) == status
    told = capsys.readouterr().err
    assert words in told
    if words:
        assert 1 <= len(told.strip().splitlines()) <= 3 and "Traceback" not in told
    assert {p.name for p in tmp_path.iterdir()} == {"empty.mp4", "text.mp4", "grey.png"}


def test_inputs_are_never_replaced(fitted, tmp_path, capsys):
    avatar, clip = tmp_path / "me.avatar", tmp_path / "clip.mp4"
    shutil.copy(fitted / "me.avatar", avatar)
    shutil.copy(demo_clip(), clip)
    before = avatar.read_bytes(), clip.read_bytes()
    for arguments in (
        ["drive", avatar, "--from", "demo", "-o", avatar],
        ["drive", avatar, "--from", clip, "-o", clip],
        ["fit", clip, "-o", tmp_path / "x.avatar", "--report", clip],
        ["fit", clip, "-o", tmp_path / "x.avatar", "--report", tmp_path / "x.avatar"],
        ["render", avatar, "--compare", clip, "-o", clip],
        ["render", avatar, "--sheet", "--footage", clip, "-o", clip],
        ["evaluate", avatar, "--against", clip, "--report", clip],
    ):
        assert main([str(a) for a in arguments]) == 2, arguments
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and ("replaced" in told or "a .png" in told or "Name another" in told)
    assert (avatar.read_bytes(), clip.read_bytes()) == before
    assert {p.name for p in tmp_path.iterdir()} == {"me.avatar", "clip.mp4"}


@pytest.mark.parametrize(
    ("frames", "size", "words"), [(3, (640, 360), "has no frame 50"), (60, (320, 180), "320 x 180")]
)
def test_other_footage_is_not_compared_with(fitted, tmp_path, capsys, frames, size, words):
    with VideoWriter(tmp_path / "other.mp4", 30, *size) as writer:
        for _ in range(frames):
            writer.write(np.zeros((*size[::-1], 3), np.uint8))
    out = tmp_path / "x.png"
    status = main(["render", str(fitted / "me.avatar"), "--compare", str(tmp_path / "other.mp4"), "--frame", "50",
                   "-o", str(out)])  # fmt: skip
    assert status == 1 and words in capsys.readouterr().err and not out.exists()


def test_a_killed_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    from avatar3d import appearance, pipeline

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    short = tmp_path / "short.mp4"
    _shorten(demo_clip(), short, 12)
    command = ["fit", str(short), "-o", str(tmp_path / "me.avatar"), "--quality", "draft"]
    with monkeypatch.context() as patch:
        patch.setattr(appearance, "reconstruct", killed)
        assert main(command) == 130
    assert not list(tmp_path.glob("me*"))
    monkeypatch.setattr(pipeline.fitting, "track_capture", None)  # would fail if it tracked again
    assert main(command) == 0
    assert "going on" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if "checkpoint" in p.name] == []


def test_a_fit_killed_while_it_looks_for_faces_goes_on(tmp_path, monkeypatch, capsys):
    from avatar3d.nets import FaceLandmarker
    from avatar3d.track import slices

    short = tmp_path / "short.mp4"
    _shorten(demo_clip(), short, 12)
    command = ["fit", str(short), "-o", str(tmp_path / "me.avatar"), "--quality", "draft"]
    monkeypatch.setattr(slices.ViewSlices, "due", lambda self: True)
    look, looks = FaceLandmarker.track, []

    def track(self, image):
        looks.append(1)
        if len(looks) == 8:
            raise KeyboardInterrupt
        return look(self, image)

    monkeypatch.setattr(FaceLandmarker, "track", track)
    assert main(command) == 130
    assert not list(tmp_path.glob("me*"))
    assert main(command) == 0
    assert "7 frames of short need not" in capsys.readouterr().err and len(looks) == 8 + 12 - 7
    assert {p.name for p in tmp_path.iterdir()} == {"short.mp4", "me.avatar"}


def _shorten(source, target, frames):
    from avatar3d.export.video import VideoWriter

    with av.open(str(source)) as container, VideoWriter(target, 30, 640, 360) as writer:
        for _, frame in zip(range(frames), container.decode(video=0), strict=False):
            writer.write(frame.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("clip", ["no_face_cartoon.mp4", "no_face_hand_only.mp4"])
def test_footage_without_a_face(data, tmp_path, capsys, clip):
    assert main(["fit", str(data(f"videos/{clip}")), "-o", str(tmp_path / "o.avatar")]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) <= 3 and "face" in told[-1] and list(tmp_path.iterdir()) == []


def test_doctor(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert isinstance(told["voices"], list) and "DracoPy" in told["packages"]
    assert told["kernels"]["compiled"] and told["models"]["head"].startswith("found") and told["broken"] == []
