"""GLB: what an engine reads is what the avatar is; the exporter notices when it is not."""

import io
import json
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from PIL import Image
from rig_factory import make_avatar, make_motion, make_rig

from avatar3d.errors import ExportError
from avatar3d.export import export, glb
from avatar3d.export.glb_buffer import GlbBuffer
from avatar3d.export.glb_check import check_glb
from avatar3d.models.glb_reader import GlbReader
from avatar3d.types import ARKIT_NAMES, TextureSet


@pytest.fixture
def written(tmp_path):
    avatar = make_avatar(make_motion(frames=20, fps=25.0))
    return avatar, GlbReader(export(avatar, tmp_path / "me.glb"))


def test_what_engines_look_for(written):
    avatar, reader = written
    document = reader.document
    mesh, skin = document.meshes[0], document.skins[0]
    assert mesh.extras["targetNames"] == list(ARKIT_NAMES) and len(mesh.primitives[0].targets) == 52
    names = [document.nodes[j].name for j in skin.joints]
    assert names == list(avatar.rig.joint_names)
    assert document.extensionsUsed == [] and document.asset.extras["manifest"] == avatar.manifest
    image = document.images[document.textures[document.materials[0].pbrMetallicRoughness.baseColorTexture.index].source]
    picture = Image.open(io.BytesIO(reader.bytes_of_view(image.bufferView)))
    assert picture.size == (512, 512)  # enlarged from 64
    small = np.asarray(picture.resize((64, 64), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - avatar.appearance.albedo.numpy()).mean() < 2


def test_one_key_per_frame(written):
    avatar, reader = written
    animation = reader.document.animations[0]
    assert {(c.target.node, c.target.path) for c in animation.channels} == {
        (0, "weights"), (1, "translation"), *((1 + j, "rotation") for j in range(6))
    }  # fmt: skip
    times = reader.accessor(animation.samplers[0].input)
    np.testing.assert_allclose(times, np.arange(20) / 25)
    for sampler in animation.samplers:
        if reader.document.accessors[sampler.output].type == "VEC4":
            quats = reader.accessor(sampler.output)
            assert (np.sum(quats[1:] * quats[:-1], axis=1) >= 0).all(), "the shorter way"


def test_seams_are_split_and_nothing_else(written):
    avatar, reader = written
    primitive = reader.document.meshes[0].primitives[0]
    pairs = set(zip(avatar.rig.faces.flatten().tolist(), avatar.rig.uv_faces.flatten().tolist(), strict=True))
    assert len(reader.accessor(primitive.attributes.POSITION)) == len(pairs) > len(avatar.rig.neutral)
    position, normal = (reader.accessor(a) for a in (primitive.attributes.POSITION, primitive.attributes.NORMAL))
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
    _, where = np.unique(position.round(6), axis=0, return_inverse=True)
    for vertex in np.flatnonzero(np.bincount(where) > 1):  # no crease along the seam
        assert np.ptp(normal[where == vertex], axis=0).max() < 1e-6


def test_trimesh_reads_it(tmp_path):
    avatar = make_avatar()
    scene = trimesh.load(export(avatar, tmp_path / "me.glb"))
    (mesh,) = scene.geometry.values()
    expected = avatar.rig.neutral[avatar.rig.faces].double().numpy()
    assert np.abs(mesh.triangles - expected).max() < 1e-6
    corners = mesh.visual.uv[mesh.faces]
    assert np.abs(corners - avatar.rig.uvs[avatar.rig.uv_faces].numpy()).max() < 1e-5
    assert mesh.visual.material.baseColorTexture.size == (512, 512)


def test_still(tmp_path):
    avatar = make_avatar(make_motion())
    assert GlbReader(export(avatar, tmp_path / "me.glb", motion="none")).document.animations == []


@pytest.mark.parametrize("frames", [1, 2])
def test_short_motions(tmp_path, frames):
    motion = make_motion(frames=frames)
    reader = GlbReader(export(make_avatar(), tmp_path / "me.glb", motion=motion))
    assert len(reader.document.animations[0].channels) == 8


def test_the_manifest_is_strict_json(tmp_path):
    avatar = replace(make_avatar(), manifest={"nme": float("nan"), "path": tmp_path, "list": [float("inf"), 1]})
    content = export(avatar, tmp_path / "me.glb").read_bytes()
    length = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + length], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    manifest = document["asset"]["extras"]["manifest"]
    assert manifest == {"path": str(tmp_path), "list": [None, 1]}


def test_without_texture_and_with_empty_shapes(tmp_path):
    avatar = replace(make_avatar(), appearance=None, rig=replace(make_rig(), shapes=torch.zeros(52, 192, 3)))
    reader = GlbReader(export(avatar, tmp_path / "me.glb"))
    assert reader.document.images == [] and len(reader.document.meshes[0].primitives[0].targets) == 52


def test_more_than_four_joints_per_vertex(tmp_path):
    weights = torch.full((192, 6), 1e-3)
    weights[:, 2] = 1 - 5e-3
    avatar = replace(make_avatar(make_motion()), rig=replace(make_rig(), skinning_weights=weights))
    export(avatar, tmp_path / "me.glb")
    weights = torch.full((192, 6), 1 / 6)
    avatar = replace(avatar, rig=replace(avatar.rig, skinning_weights=weights))
    with pytest.raises(ExportError, match="frame 0 by"):
        export(avatar, tmp_path / "other.glb")
    assert [p.name for p in tmp_path.iterdir()] == ["me.glb"]


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda a: replace(a.rig, neutral=a.rig.neutral + 2e-4), "the neutral mesh by 0.346 mm"),
        (lambda a: replace(a.rig, shapes=a.rig.shapes * 1.2), "morph target eyeBlinkLeft by"),
        (lambda a: replace(a.rig, joint_positions=a.rig.joint_positions + 1e-3), "the place of joint root"),
        (lambda a: replace(a.rig, uvs=a.rig.uvs.flip(0)), "texture coordinates"),
        (lambda a: replace(a.rig, shape_names=ARKIT_NAMES[::-1]), "names or number of morph targets"),
        (lambda a: replace(a.rig, skinning_weights=a.rig.skinning_weights.flip(1)), "frame 0 by"),
    ],
)
def test_the_check_notices(tmp_path, change, what):
    avatar = make_avatar(make_motion())
    path = export(avatar, tmp_path / "me.glb")
    with pytest.raises(ExportError, match=what):
        check_glb(path, replace(avatar, rig=change(avatar)), avatar.motion, name="me.glb")


def test_the_check_notices_a_wrong_animation(tmp_path):
    motion = make_motion()
    avatar = make_avatar(motion)
    path = export(avatar, tmp_path / "me.glb")
    for other, what in [
        (replace(motion, expression=motion.expression + 1e-3), "morph weights"),
        (replace(motion, fps=24.0), "key times"),
        (replace(motion, rotations=motion.rotations | {"jaw": motion.rotations["jaw"] + 0.01}), "rotation of jaw"),
        (replace(motion, translation=motion.translation + 0.01), "frame 0 by"),
        (make_motion(frames=21), "20 keys instead of 21"),
        (None, "number of animations"),
    ]:
        with pytest.raises(ExportError, match=what):
            check_glb(path, avatar, other, name="me.glb")


def test_nothing_is_kept_of_a_bad_export(tmp_path, monkeypatch):
    monkeypatch.setattr(glb, "SMALLEST_SHIFT", 3e-3)  # loses displacements of up to 3 mm
    with pytest.raises(ExportError, match="morph target .* by .* mm"):
        export(make_avatar(), tmp_path / "me.glb")
    assert list(tmp_path.iterdir()) == []


def test_large_meshes_use_wide_indices():
    rig = make_rig(rings=200, segments=330)
    rig = replace(rig, shapes=rig.shapes[:1], shape_names=ARKIT_NAMES[:1])
    document = pygltflib.GLTF2()
    primitive = glb._mesh(rig, GlbBuffer(document)).primitives[0]
    sparse = document.accessors[primitive.targets[0].POSITION].sparse
    assert document.accessors[primitive.indices].componentType == pygltflib.UNSIGNED_INT
    assert sparse.indices.componentType == pygltflib.UNSIGNED_INT and document.accessors[0].count == 200 * 331


def test_sparse_targets_state_their_zeros(written):
    """Godot 3 reads the first buffer view for an accessor that names none."""
    _, reader = written
    targets = reader.document.meshes[0].primitives[0].targets
    for accessor in (
        reader.document.accessors[i] for target in targets for i in (target["POSITION"], target["NORMAL"])
    ):
        assert accessor.sparse is not None and not any(reader.bytes_of_view(accessor.bufferView))


def test_the_texture_keeps_its_size(tmp_path):
    avatar = make_avatar(texture=700)
    assert isinstance(avatar.appearance, TextureSet)
    reader = GlbReader(export(avatar, tmp_path / "me.glb"))
    assert Image.open(io.BytesIO(reader.bytes_of_view(reader.document.images[0].bufferView))).size == (700, 700)
