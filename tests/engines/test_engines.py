"""A GLB in the engines that people use. Engines that are not installed are skipped: `tests/engines/install.sh`."""

import io

import engine_checks
import numpy as np
import pytest
import torch
from PIL import Image
from rig_factory import make_avatar, make_motion, make_rig

from avatar3d import drive
from avatar3d.appearance.layout import in_one_texture
from avatar3d.export import export
from avatar3d.models.glb_reader import GlbReader
from avatar3d.models.head import load_head
from avatar3d.models.rig import build_rig, pose_rig
from avatar3d.types import ARKIT_NAMES, Avatar, TextureSet

FRAME = 7


@pytest.fixture(scope="module", params=["egg", "head"])
def exported(request, tmp_path_factory):
    """An avatar, its motion, and the GLB of both."""
    if request.param == "egg":
        avatar = make_avatar(make_motion(frames=15, fps=25.0))
    else:
        model = load_head()
        texture = torch.randint(90, 200, (512, 512, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        rig = build_rig(model, torch.zeros(model.identity_basis.shape[0]))
        motion = make_motion(frames=15, fps=29.97)
        motion = drive.retarget(motion, torch.full((52,), 0.5))  # about half of the shapes at once are enough
        avatar = Avatar(
            model="head", identity=torch.zeros(1), rig=rig, appearance=TextureSet(albedo=texture), motion=motion
        )
    path = export(avatar, tmp_path_factory.mktemp("engines") / "avatar.glb")
    return avatar, path


def engine(check, *arguments):
    try:
        return check(*arguments)
    except engine_checks.Missing as missing:
        pytest.skip(str(missing))


def posed_corners(avatar: Avatar, frame: int) -> np.ndarray:
    """Where the triangles' corners are in a frame of the avatar's motion, by our own posing."""
    motion, one = avatar.motion, slice(frame, frame + 1)
    rotations = {name: value[one] for name, value in motion.rotations.items()}
    return pose_rig(avatar.rig, motion.expression[one], rotations, motion.translation[one])[0][avatar.rig.faces].numpy()


def corners_of(path) -> np.ndarray:
    reader = GlbReader(path)
    return reader.accessor(reader.document.meshes[0].primitives[0].indices).reshape(-1, 3)


def test_khronos_validator_finds_nothing(exported):
    _, path = exported
    report = engine(engine_checks.validate, path)
    assert report["issues"]["numErrors"] == 0 and report["issues"]["numWarnings"] == 0, report["issues"]["messages"]
    assert report["info"]["animationCount"] == 1 and report["info"]["hasMorphTargets"] and report["info"]["hasSkins"]


@pytest.fixture(scope="module")
def bumpy(tmp_path_factory):
    """A head with a normal map, and its GLB."""
    model = load_head()
    rig = build_rig(model, torch.zeros(model.identity_basis.shape[0]))
    normals = torch.randint(100, 156, (256, 256, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    looks = TextureSet(albedo=torch.full((256, 256, 3), 150, dtype=torch.uint8), normals=normals)
    avatar = Avatar(model="head", identity=torch.zeros(1), rig=in_one_texture(rig), appearance=looks)
    return avatar, export(avatar, tmp_path_factory.mktemp("bumpy") / "avatar.glb")


def test_khronos_validator_finds_nothing_with_a_normal_map(bumpy):
    report = engine(engine_checks.validate, bumpy[1])
    assert report["issues"]["numErrors"] == 0 and report["issues"]["numWarnings"] == 0, report["issues"]["messages"]


def test_tangents_are_mikktspaces(bumpy):
    """Corner by corner, by the code of its author."""
    reader = GlbReader(bumpy[1])
    primitive = reader.document.meshes[0].primitives[0]
    corners = reader.accessor(primitive.indices)
    p, n, uv, ours = (
        reader.accessor(getattr(primitive.attributes, name))[corners]
        for name in ("POSITION", "NORMAL", "TEXCOORD_0", "TANGENT")
    )
    theirs = engine(engine_checks.mikktspace, p, n, uv * [1, -1] + [0, 1])
    assert np.array_equal(ours[:, 3], theirs[:, 3])
    cosine = (ours[:, :3].astype(float) * theirs[:, :3]).sum(1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 0.1


def test_the_validator_would_complain(tmp_path):
    path = export(make_avatar(), tmp_path / "me.glb")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"JOINTS_0"', b'"JOINTS_9"'))
    assert engine(engine_checks.validate, path)["issues"]["numErrors"] > 0


def test_blender(exported):
    avatar, path = exported
    found = engine(engine_checks.blender, path, avatar.motion.fps, [FRAME / avatar.motion.fps])
    assert found["names"] == list(ARKIT_NAMES)
    assert found["actions"] and found["shape_action"], "an action on the shape keys"
    assert set(found["bones"]) == set(avatar.rig.joint_names) and found["texture"].tolist() == [512, 512]
    gaps = engine_checks.compare(found, path)
    assert gaps["neutral"] < 1e-6 and gaps["morphs"] < engine_checks.TOLERANCE
    posed = found["posed"][0][corners_of(path)]
    assert engine_checks.gap(posed, posed_corners(avatar, FRAME)) < 5 * engine_checks.TOLERANCE


def test_godot(exported):
    avatar, path = exported
    found = engine(engine_checks.godot, path)
    assert found["names"] == list(ARKIT_NAMES) and found["texture"] == [512, 512]
    assert found["bones"] == list(avatar.rig.joint_names) and found["actions"] == ["motion"]
    gaps = engine_checks.compare(found, path)
    assert gaps["neutral"] < 1e-6 and gaps["morphs"] < engine_checks.TOLERANCE


def test_three_js(exported):
    avatar, path = exported
    found = engine(engine_checks.three, path, [FRAME / avatar.motion.fps])
    assert found["names"] == list(ARKIT_NAMES) and found["texture"] == [512, 512]
    assert found["bones"] == list(avatar.rig.joint_names)
    assert {keys for _, keys in found["tracks"]} == {avatar.motion.frames}
    assert len(found["tracks"]) == 2 + len(avatar.rig.joint_names)
    gaps = engine_checks.compare(found, path)
    assert gaps["neutral"] < 1e-6 and gaps["morphs"] < engine_checks.TOLERANCE
    posed = found["posed"][0][corners_of(path)]
    assert engine_checks.gap(posed, posed_corners(avatar, FRAME)) < 5 * engine_checks.TOLERANCE
    still, moved = (
        np.asarray(Image.open(io.BytesIO(found[n])).convert("RGB")).astype(int) for n in ("still.png", "frame0.png")
    )
    assert still.shape == (600, 1200, 3)
    background = still[2, 2]
    for half in (still[:, :600], still[:, 600:]):
        drawn = np.abs(half - background).max(2) > 12
        assert 0.15 < drawn.mean() < 0.8, "a head fills a good part of the picture"
        assert drawn[250:350, 250:350].mean() > 0.97 and not drawn[:10].any()
    assert np.abs(moved - still).max(2).mean() > 2, "the animation moves it"


def test_a_wrong_shape_would_be_seen(tmp_path):
    path = export(make_avatar(), tmp_path / "me.glb")
    position, morphs = engine_checks.shapes_of(path)
    found = {"position": position, "morphs": morphs + np.float32(2e-4)}
    assert engine_checks.compare(found, path)["morphs"] > engine_checks.TOLERANCE
    assert engine_checks.gap(position[:-1], position) == float("inf")
    assert len(position) > len(make_rig().neutral)
