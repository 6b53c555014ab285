"""LAM avatars: one made here by hand, and a real one."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pygltflib as gl
import pytest
import torch
from rig_factory import make_rig

from avatar3d import pipeline
from avatar3d.errors import FileError, FormatError
from avatar3d.export.glb_buffer import GlbBuffer
from avatar3d.export.splat_frame import cloud_of_frame, posed_splats
from avatar3d.export.splat_ply import write_splat_ply
from avatar3d.geometry.rotation import quat_to_matrix, rotvec_to_matrix
from avatar3d.models.lam import JOINTS, load_lam
from avatar3d.models.splat_cloud import SH_C0, SplatCloud
from avatar3d.types import ARKIT_INDEX, Motion

ORIGIN = np.float32([0, 1.6, 0])


def write_lam(path, *, order: np.ndarray | None = None, spoil: dict[str, bytes | None] | None = None) -> SplatCloud:
    """The test rig's egg with a head and a neck as LAM would pack it; returns what it looks like at rest."""
    rig, r = make_rig(), np.random.default_rng(0)
    points, n = rig.neutral.numpy() + ORIGIN, len(rig.neutral)
    names = [*JOINTS, "lCollar"]
    places = np.float32([[0, 1.3, 0], [0, 1.5, 0], [0, 1.55, 0], ORIGIN, [0.1, 1.4, 0]])
    document = gl.GLTF2(scene=0, scenes=[gl.Scene(nodes=[0])])
    buffer = GlbBuffer(document)
    bind = np.tile(np.eye(4, dtype=np.float32), (len(names), 1, 1))
    bind[:, 3, :3] = -places  # column by column
    joints = np.tile(np.uint8([3, 1, 4, 0]), (n, 1))
    share = (rig.neutral[:, 1:2].numpy() - 0.0).clip(0, 0.1) * 10
    weights = np.concatenate([share, (1 - share) * 0.7, (1 - share) * 0.3, 0 * share], 1).astype(np.float32)
    shapes = {"jawOpen": 0, "mouthPucker": 1, "browInnerUp": 2}
    primitive = gl.Primitive(
        attributes=gl.Attributes(
            POSITION=buffer.array(points.astype(np.float32)), JOINTS_0=buffer.array(joints),
            WEIGHTS_0=buffer.array(weights),
        ),
        indices=buffer.array(rig.faces.flatten().numpy().astype(np.uint16)),
        targets=[{"POSITION": buffer.array(rig.shapes[i].numpy())} for i in shapes.values()],
    )  # fmt: skip
    document.meshes = [gl.Mesh(primitives=[primitive], extras={"targetNames": list(shapes)})]
    document.nodes = [gl.Node(mesh=0, skin=0), *(gl.Node(name=name) for name in names)]
    document.skins = [gl.Skin(joints=list(range(1, 6)), inverseBindMatrices=buffer.array(bind))]
    buffer.finish()
    quats = r.standard_normal((n, 4))
    height = (points[:, 1:2] - points[:, 1].min()) / np.ptp(points[:, 1])
    colour = np.concatenate([height, 1 - height, 0.5 + 0 * height], 1)
    offsets = SplatCloud(
        means=(0.003 * r.standard_normal((n, 3))).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=np.exp(r.uniform(-7, -5, (n, 3))).astype(np.float32),
        opacities=r.uniform(0.05, 0.95, n).astype(np.float32),
        sh=colour[:, None].astype(np.float32),
    )
    listed = np.arange(n) if order is None else order
    stored = SplatCloud(**{k: v[np.argsort(listed)] for k, v in vars(offsets).items()})
    ply = path.with_suffix(".ply")
    write_splat_ply(stored, ply)
    files: dict[str, bytes | None] = {
        "skin.glb": b"".join(document.save_to_bytes()),
        "offset.ply": ply.read_bytes(),
        "vertex_order.json": json.dumps(listed.tolist()).encode(),
        "bsData.json": json.dumps({"names": ["jawOpen"], "frames": [{"weights": [0.25]}, {"weights": [0.5]}],
                                   "metadata": {"fps": 24}}).encode(),
    }  # fmt: skip
    ply.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | (spoil or {})).items():
            if content is not None:
                archive.writestr(f"someone/{name}", content)
    return replace(offsets, means=offsets.means + points - ORIGIN, sh=(offsets.sh - 0.5) / SH_C0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_at_rest_every_splat_is_where_it_was(tmp_path, shuffled):
    order = np.random.default_rng(1).permutation(len(make_rig().neutral)) if shuffled else None
    expected = write_lam(tmp_path / "a.zip", order=order)
    avatar = load_lam(tmp_path / "a.zip")
    assert avatar.manifest["imported"]["order"] == ("vertex_order.json" if shuffled else "as they are")
    cloud = cloud_of_frame(avatar, None, 0)
    np.testing.assert_allclose(cloud.means, expected.means, atol=1e-6)
    np.testing.assert_allclose(cloud.scales, expected.scales, rtol=1e-4)
    np.testing.assert_allclose(cloud.opacities, expected.opacities, atol=1e-5)
    np.testing.assert_allclose(cloud.sh, expected.sh, atol=1e-5)
    a, b = (quat_to_matrix(torch.from_numpy(c.quats)) for c in (cloud, expected))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_expressions_move_splats_as_lam_does(tmp_path):
    write_lam(tmp_path / "a.zip")
    avatar = load_lam(tmp_path / "a.zip")
    rest = cloud_of_frame(avatar, None, 0)
    for name in ("jawOpen", "mouthPucker", "browInnerUp"):
        expression = torch.zeros(1, 52)
        expression[0, ARKIT_INDEX[name]] = 1
        there = cloud_of_frame(avatar, Motion(fps=1, expression=expression), 0)
        moved = rest.means + avatar.rig.shapes[ARKIT_INDEX[name]].numpy()
        np.testing.assert_allclose(there.means, moved, atol=1e-5)
        np.testing.assert_allclose(there.scales, rest.scales, rtol=1e-3)


def test_joints_and_motion(tmp_path):
    write_lam(tmp_path / "a.zip")
    avatar = load_lam(tmp_path / "a.zip")
    rig = avatar.rig
    assert rig.joint_names == ("root", "neck", "neck_upper", "head") and rig.joint_parents == (-1, 0, 1, 2)
    torch.testing.assert_close(rig.joint_positions[3], torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(rig.joint_positions[0], torch.tensor([0.0, -0.3, 0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(rig.skinning_weights.sum(1), torch.ones(len(rig.neutral)))
    assert rig.skinning_weights[:, 0].max() > 0.2  # the collar's share
    assert avatar.motion.fps == 24 and avatar.motion.expression[:, ARKIT_INDEX["jawOpen"]].tolist() == [0.25, 0.5]
    top = rig.skinning_weights[:, 3] == 1
    turn = {"head": torch.tensor([[0.0, 0.6, 0]])}
    still, turned = (
        posed_splats(avatar, Motion(fps=1, expression=torch.zeros(1, 52), rotations=r), 0).means[0] for r in ({}, turn)
    )
    bound = top[rig.faces[avatar.gaussians.face.long()]].all(1)
    expected = still[bound] @ rotvec_to_matrix(turn["head"])[0].T
    assert bound.sum() > 20
    torch.testing.assert_close(turned[bound], expected, rtol=0, atol=1e-5)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileError, match="nothing.zip does not exist"):
        load_lam(tmp_path / "nothing.zip")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(FormatError, match="a.zip is not a LAM avatar"):
        load_lam(tmp_path / "a.zip")
    for spoil, what in (
        ({"offset.ply": None}, "holds no offset.ply"),
        ({"skin.glb": None, "offset.ply": None}, "holds no skin.glb and no offset.ply"),
        ({"skin.glb": b"glTF"}, "is not a LAM avatar"),
        ({"bsData.json": b"{}"}, "is not a LAM avatar"),
    ):
        write_lam(tmp_path / "b.zip", spoil=spoil)
        with pytest.raises(FormatError, match=what):
            load_lam(tmp_path / "b.zip")
    write_lam(tmp_path / "c.zip", spoil={"vertex_order.json": b"[0, 1]"})
    assert load_lam(tmp_path / "c.zip").gaussians.count == len(make_rig().neutral)


def test_a_real_one(data, tmp_path, capsys):
    from avatar3d.cli.main import main

    path = data("gaussian/openavatarchat_vfhq_case1.zip")
    avatar = pipeline.load_avatar(path)
    assert avatar.gaussians.count == 20018 and avatar.motion.frames == 240 and avatar.motion.fps == 30
    assert sum(bool(shape.any()) for shape in avatar.rig.shapes) == 51
    left, right = (avatar.rig.shapes[ARKIT_INDEX[f"eyeBlink{side}"]].norm(dim=1) for side in ("Left", "Right"))
    assert avatar.rig.neutral[left.argmax(), 0] > 0.01 and avatar.rig.neutral[right.argmax(), 0] < -0.01
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "LAM avatar" and facts["counts"]["splats"] == 20018 and facts["frames"] == 240
    assert main(["export", str(path), "-o", str(tmp_path / "a.spz"), "--frame", "100"]) == 0
    assert main(["info", str(tmp_path / "a.spz"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "splats" and facts["counts"] == {"splats": 20018} and facts["sh_degree"] == 0
