"""The page of one file: what is inside it, that it is all there, and that nothing is loaded from elsewhere."""

import io
import re
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from rig_factory import make_avatar, make_gaussians, make_motion

from avatar3d import pipeline, storage
from avatar3d.errors import CaptureError, ExportError, FormatError
from avatar3d.export import SOUND_RATE, export, html, page_script
from avatar3d.export.page_data import Block, read_block
from avatar3d.export.page_script import FOLDER, data_of, script
from avatar3d.export.picture import front_camera
from avatar3d.export.sound import encode_sound
from avatar3d.geometry.rotation import rotvec_to_quat
from avatar3d.geometry.surface import face_normals
from avatar3d.models.anchors import with_anchors


def contents(path):
    return read_block(data_of(path.read_text()))


def test_the_page_decodes_to_the_avatar(tmp_path):
    motion = make_motion(frames=9, fps=29.97)
    avatar = make_avatar(motion)
    facts, arrays = contents(export(avatar, tmp_path / "me.html"))
    rig = avatar.rig
    wanted = {
        "neutral": (rig.neutral, 0), "joints": (rig.joint_positions, 0), "shapes": (rig.shapes, 1e-6),
        "weights": (rig.skinning_weights, 1.6e-5), "motion_expression": (motion.expression, 1.6e-5),
        "motion_translation": (motion.translation, 1e-5),
    }  # fmt: skip
    for name, (expected, tolerance) in wanted.items():
        error = np.abs(arrays[name] - expected.numpy()).max()
        stated = facts["arrays"][name].get("error", 0)
        assert error <= tolerance and error <= stated + 1e-7, (name, error, stated)
    assert facts["shapes"] == list(rig.shape_names) and facts["joints"] == list(rig.joint_names)
    assert facts["parents"] == list(rig.joint_parents)
    assert facts["motion"]["fps"] == 29.97 and facts["motion"]["joints"] == list(rig.joint_names)
    for j, name in enumerate(rig.joint_names):
        quats = torch.from_numpy(arrays["motion_quats"][:, j])
        close = (quats * rotvec_to_quat(motion.rotations[name])).sum(1).abs()
        assert float((1 - close).abs().max()) < 1e-4
    faces = arrays["corner_vertex"][arrays["triangles"]].reshape(-1, 3)
    assert np.array_equal(faces, rig.faces.numpy())
    uvs = arrays["corner_uv"][arrays["triangles"]].reshape(-1, 3, 2) * [1, -1] + [0, 1]
    assert np.abs(uvs - rig.uvs[rig.uv_faces].numpy()).max() < 2e-5
    picture = np.asarray(Image.open(io.BytesIO(arrays["texture"].tobytes())))
    assert (
        picture.shape[0] >= 512 and np.abs(picture[::8, ::8].astype(int) - avatar.appearance.albedo.numpy()).max() < 8
    )
    camera = front_camera(rig, 100, centre=motion.translation.median(0).values)
    target = torch.tensor(facts["front"]["target"]) + torch.tensor(facts["motion"]["centre"])
    in_camera = camera.T_camera_world[:3, :3] @ target.double() + camera.T_camera_world[:3, 3]
    torch.testing.assert_close(in_camera, torch.tensor([0, 0, facts["front"]["distance"]]).double(), atol=1e-6, rtol=0)


def test_splats_decode_to_the_avatars(tmp_path):
    avatar = make_avatar()
    splats = make_gaussians(avatar.rig, 300)
    facts, arrays = contents(export(replace(avatar, gaussians=splats), tmp_path / "me.html"))
    rig = with_anchors(avatar.rig)
    assert np.array_equal(arrays["splat_corners"], rig.faces[splats.face.long()].numpy())
    assert np.array_equal(arrays["neutral"], rig.neutral.numpy()) and "texture" not in arrays
    size = face_normals(rig.neutral, rig.faces).norm(dim=-1).sqrt()[splats.face.long()]
    basis = splats.basis.transpose(0, 1)
    wanted = {
        "weights": (splats.barycentrics[:, 1:], 1e-5), "quats": (splats.quats, 1e-4),
        "offsets": (splats.offsets * size[:, None], 2.1e-6), "basis": (basis[..., 3:], 1.2e-3),
        "basis_offsets": (basis[..., :3] * size[:, None, None], 2.1e-6),
        "log_scales": (splats.log_scales, 3e-5), "logits": (splats.logit_opacities, 1e-4),
        "colours": (splats.sh[:, 0], 3e-5), "harmonics": (splats.sh[:, 1:], 6e-3), "mixing": (splats.mixing, 0),
        "limits": (splats.limits, 0),
    }  # fmt: skip
    for name, (expected, tolerance) in wanted.items():
        error = np.abs(arrays[f"splat_{name}"] - expected.numpy()).max()
        stated = facts["arrays"][f"splat_{name}"].get("error", 0)
        assert error <= tolerance and error <= stated + 1e-6, (name, error, stated)
    counts = torch.bincount(splats.group.long(), minlength=5).tolist()
    groups = dict(zip(splats.group_names, counts, strict=True))
    assert facts["splats"] == {"count": 300, "harmonics": 9, "components": 4, "groups": groups}


def test_splats_of_another_rig_are_refused(tmp_path):
    avatar = make_avatar()
    splats = make_gaussians(avatar.rig, 10)
    wrong = replace(splats, face=splats.face + 10_000)
    with pytest.raises(ValueError, match="for a rig of"):
        export(replace(avatar, gaussians=wrong), tmp_path / "me.html")
    assert not list(tmp_path.iterdir())


def test_nothing_comes_from_elsewhere(tmp_path):
    text = export(make_avatar(make_motion(frames=3)), tmp_path / "me.html").read_text()
    page = text.replace(data_of(text), "")
    assert not re.search(
        r"https?:|\bsrc=|@import|\burl\(|\bfetch\(|XMLHttpRequest|WebSocket|\bimport\(|sendBeacon", page
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy and "*" not in policy
    assert page.count("<script") == 2 and page.rstrip().endswith("</html>")
    assert set(re.findall(r"@\w+@", page)) == set(), "every placeholder is filled"
    for module in FOLDER.glob("*.js"):
        last = module.read_text().rstrip().splitlines()[-1].removeprefix("export ")
        assert last in page, f"{module.name} is in the page to its end"


def test_the_same_avatar_gives_the_same_page(tmp_path):
    avatar = make_avatar(make_motion(frames=3))
    pages = [export(avatar, tmp_path / folder / "me.html").read_bytes() for folder in ("a", "b")]
    assert pages[0] == pages[1] and len(pages[0]) < 400_000


def test_names_are_shown_as_text(tmp_path):
    path = export(make_avatar(), tmp_path / "a<b>&c.html")
    assert "<title>a&lt;b&gt;&amp;c</title>" in path.read_text()


def test_still_and_untextured(tmp_path):
    avatar = replace(make_avatar(make_motion(frames=3)), appearance=None)
    facts, arrays = contents(export(avatar, tmp_path / "me.html", "none"))
    assert "motion" not in facts and "texture" not in arrays and not any(n.startswith("motion") for n in arrays)
    assert all(0.3 < x < 0.6 for x in facts["albedo"]), "clay"


def test_steps_are_checked():
    block = Block()
    values = torch.tensor([[1e-3, -5.0], [2e-3, 5.0]])
    assert block.add_steps("a", values, columns=1) < 1e-4
    assert block.add_steps("b", values, bits=8) == pytest.approx(10 / 254 / 2, rel=0.9)
    block.add_steps("c", torch.zeros(0, 3), columns=1)
    _, arrays = read_block(block.text())
    assert np.abs(arrays["a"] - values.numpy()).max(0) == pytest.approx([0, 0], abs=1e-4)
    assert np.abs(arrays["a"] - values.numpy())[:, 0].max() < 1e-7 and arrays["c"].shape == (0, 3)
    with pytest.raises(ValueError, match="too large for steps"):
        block.add_steps("d", values, step=1e-6)
    with pytest.raises(ValueError, match="not every number is finite"):
        block.add_steps("e", torch.tensor([float("nan")]))


def test_what_is_no_page():
    text = Block(facts={"x": 1}).text()
    for broken in (text[:-8], text.replace(text[40:44], "AAAA"), "!!!", ""):
        with pytest.raises(FormatError, match="Not a page of avatar3d"):
            read_block(broken)


def test_modules_that_do_not_join_are_refused(tmp_path, monkeypatch):
    (tmp_path / "main.js").write_text('import { a } from "./other.js";\nconst b = a;\n')
    (tmp_path / "other.js").write_text("export const a = 1;\nconst b = 2;\n")
    monkeypatch.setattr(page_script, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"cannot be joined: \['b'\]"):
        script()
    (tmp_path / "other.js").write_text("export const a = 1;\n")
    assert script().index("const a = 1;") < script().index("const b = a;")
    (tmp_path / "other.js").write_text("const a = 1;\nexport default a;\n")
    with pytest.raises(ValueError, match="another form"):
        script()


def test_a_page_that_does_not_read_back_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="read back differs: the neutral mesh"):
        export(make_avatar(), tmp_path / "me.html")
    assert list(tmp_path.iterdir()) == []


def tone(seconds: float, hertz: float = 440.0) -> torch.Tensor:
    return 0.5 * torch.sin(torch.arange(int(seconds * SOUND_RATE)) * (2 * torch.pi * hertz / SOUND_RATE))


def decoded(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_sound_lasts_as_long_as_the_motion(seconds):
    sound = decoded(encode_sound(tone(1.0), seconds))
    assert len(sound) == pytest.approx(seconds * SOUND_RATE, abs=2048)
    assert np.abs(sound[2048:20000]).max() == pytest.approx(0.5, abs=0.05)
    assert np.abs(sound[int(1.1 * SOUND_RATE) :]).max(initial=0) < 0.01


def write_wav(path, samples):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SOUND_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples[None] * 32767).short().numpy(), format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_sound_is_found_by_the_motions_source(tmp_path, monkeypatch):
    write_wav(tmp_path / "hello.wav", tone(0.4))
    monkeypatch.chdir(tmp_path)
    avatar = make_avatar(replace(make_motion(frames=12, fps=30.0), source="hello.wav"))
    facts, arrays = contents(pipeline.export(avatar, tmp_path / "me.html"))
    assert facts["sound"] == "audio/mp4" and np.abs(decoded(arrays["sound"].tobytes())).max() > 0.4
    silent = make_avatar(make_motion(frames=12))
    assert "sound" not in contents(pipeline.export(silent, tmp_path / "no.html"))[0]
    assert "sound" in contents(pipeline.export(silent, tmp_path / "yes.html", sound=tmp_path / "hello.wav"))[0]
    storage.save(tmp_path / "a.motion", make_motion(frames=2))
    with pytest.raises(CaptureError, match="cannot be read as sound"):
        pipeline.export(silent, tmp_path / "bad.html", sound=tmp_path / "a.motion")
    assert not (tmp_path / "bad.html").exists()
