"""Avatar -> GLB 2.0: one skinned mesh with 52 ARKit morph targets, its texture, and its animation.

Our model space is glTF's (+y up, face along +z, metres), so nothing is turned. Displacements are sparse float32
accessors: lossless beyond a micrometre, and read by every engine without an extension.
"""

import json
from pathlib import Path

import numpy as np
import pygltflib as gl
import torch

from avatar3d import __version__
from avatar3d.export.glb_buffer import GlbBuffer
from avatar3d.export.glb_check import check_glb
from avatar3d.export.glb_texture import base_color_jpeg, normal_png, roughness_png
from avatar3d.export.seams import split_at_seams
from avatar3d.geometry.rotation import rotvec_to_quat
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.tangents import vertex_tangents
from avatar3d.models.motion import continuous
from avatar3d.storage import replacing
from avatar3d.types import Avatar, Motion, Rig, TextureSet
from avatar3d.typing import typed

SMALLEST_SHIFT = 1e-6
"""Metres; displacements up to this are left out."""
SMALLEST_TURN = 0.01
"""Changes of unit normals up to this are left out."""


@typed
def write_glb(avatar: Avatar, path: str | Path, motion: Motion | None = None) -> None:
    """Writes a skinned, morphable, textured mesh, with one key per frame of `motion`, and reads it back.

    Joints keep their names; vertices are split where the UVs have seams; `extras.targetNames` of the mesh names the
    morph targets in Apple's order; `asset.extras` carries the avatar's manifest.

    Raises:
        ExportError: a morph target read back differs by more than 0.1 mm, or anything else was lost. No file is kept.
        FileError: the file cannot be written.
    """
    path, rig = Path(path), avatar.rig
    document = gl.GLTF2(
        asset=gl.Asset(generator=f"avatar3d {__version__}", version="2.0", extras=_manifest(avatar, motion))
    )
    buffer = GlbBuffer(document)
    first_joint = 1
    document.nodes = [gl.Node(name="avatar", mesh=0, skin=0), *_joint_nodes(rig, first_joint)]
    roots = [first_joint + j for j, parent in enumerate(rig.joint_parents) if parent < 0]
    document.scenes, document.scene = [gl.Scene(name="avatar", nodes=[0, *roots])], 0
    bumpy = avatar.appearance is not None and avatar.appearance.normals is not None
    document.meshes = [_mesh(rig, buffer, bumpy=bumpy)]
    document.skins = [_skin(rig, buffer, first_joint, roots[0])]
    document.materials = [_material(avatar, buffer)]
    if motion is not None:
        document.animations = [_animation(rig, motion, buffer, first_joint)]
    buffer.finish()
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(document.save_to_bytes()))
        check_glb(temporary, avatar, motion, name=path.name)


def _manifest(avatar: Avatar, motion: Motion | None) -> dict:
    """What the file says of its origin. JSON knows no NaN and no infinity; they become null."""
    text = json.dumps(avatar.manifest, default=str)
    manifest = json.loads(text, parse_constant=lambda name: None)
    return {"model": avatar.model, "motion": motion.source if motion else None, "manifest": manifest}


def _joint_nodes(rig: Rig, first: int) -> list[gl.Node]:
    rest = rig.joint_positions.double()
    nodes = []
    for joint, (name, parent) in enumerate(zip(rig.joint_names, rig.joint_parents, strict=True)):
        offset = rest[joint] - (rest[parent] if parent >= 0 else 0)
        children = [first + child for child, p in enumerate(rig.joint_parents) if p == joint]
        nodes.append(gl.Node(name=name, translation=offset.tolist(), children=children))
    return nodes


def _mesh(rig: Rig, buffer: GlbBuffer, *, bumpy: bool = False) -> gl.Mesh:
    source, uv, indices = split_at_seams(rig)
    neutral, shapes = rig.neutral.double(), rig.shapes.double()
    normals = vertex_normals(neutral, rig.faces).nan_to_num(0.0)
    normals[normals.norm(dim=1) < 0.5] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    flip = torch.tensor([1.0, -1.0])  # glTF counts v from the top
    attributes = gl.Attributes(
        POSITION=buffer.array(_f32(neutral[source]), gl.ARRAY_BUFFER, bounds=True),
        NORMAL=buffer.array(_f32(normals[source]), gl.ARRAY_BUFFER),
        TEXCOORD_0=buffer.array(_f32(rig.uvs[uv] * flip + (1 - flip) / 2), gl.ARRAY_BUFFER),
    )
    if bumpy:  # as the normal map was made; without it engines make their own, each another
        corners = torch.from_numpy(indices).view(-1, 3)
        tangents = vertex_tangents(neutral[source], normals[source], rig.uvs[uv].double(), corners)
        attributes.TANGENT = buffer.array(_f32(tangents), gl.ARRAY_BUFFER)
    joints, weights = _four_influences(rig)
    attributes.JOINTS_0 = buffer.array(joints[source], gl.ARRAY_BUFFER)
    attributes.WEIGHTS_0 = buffer.array(weights[source], gl.ARRAY_BUFFER)
    targets = []
    for name, shift in zip(rig.shape_names, shapes, strict=True):
        turned = vertex_normals(neutral + shift, rig.faces) - normals if shift.any() else torch.zeros_like(shift)
        turned[(shift.norm(dim=1) <= SMALLEST_SHIFT) & (turned.norm(dim=1) > 1.5)] = 0  # degenerate triangles
        targets.append(gl.Attributes(
            POSITION=buffer.sparse(_f32(shift[source]), SMALLEST_SHIFT, bounds=True, name=name),
            NORMAL=buffer.sparse(_f32(turned[source]), SMALLEST_TURN),
        ))  # fmt: skip
    index_type = np.uint16 if len(source) < 65535 else np.uint32
    triangles = buffer.array(indices.astype(index_type), gl.ELEMENT_ARRAY_BUFFER)
    primitive = gl.Primitive(attributes=attributes, indices=triangles, material=0, mode=gl.TRIANGLES, targets=targets)
    weights_at_rest = [0.0] * len(targets)
    names = {"targetNames": list(rig.shape_names)}
    return gl.Mesh(name="avatar", primitives=[primitive], weights=weights_at_rest, extras=names)


def _four_influences(rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """The four largest skinning weights of every vertex, renormalised; joint 0 where there are fewer."""
    count = min(4, len(rig.joint_names))
    weights, joints = rig.skinning_weights.double().topk(count, dim=1)
    weights = weights / weights.sum(1, keepdim=True)
    joints = torch.where(weights > 0, joints, torch.zeros_like(joints))
    padding = (0, 4 - count)
    index_type = np.uint8 if len(rig.joint_names) <= 256 else np.uint16
    return (
        torch.nn.functional.pad(joints, padding).numpy().astype(index_type),
        _f32(torch.nn.functional.pad(weights, padding)),
    )


def _skin(rig: Rig, buffer: GlbBuffer, first: int, root: int) -> gl.Skin:
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(rig.joint_names), 1, 1))
    inverse_bind[:, 3, :3] = -rig.joint_positions.numpy()  # column-major
    joints = list(range(first, first + len(rig.joint_names)))
    return gl.Skin(name="avatar", joints=joints, skeleton=root, inverseBindMatrices=buffer.array(inverse_bind))


def _material(avatar: Avatar, buffer: GlbBuffer) -> gl.Material:
    document = buffer.document
    pbr = gl.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=0.6)

    def texture(name: str, mime: str, content: bytes) -> gl.TextureInfo:
        document.images.append(gl.Image(name=name, mimeType=mime, bufferView=buffer.view(content)))
        document.textures.append(gl.Texture(source=len(document.images) - 1, sampler=0))
        return gl.TextureInfo(index=len(document.textures) - 1)

    if isinstance(avatar.appearance, TextureSet):
        document.samplers = [gl.Sampler(magFilter=gl.LINEAR, minFilter=gl.LINEAR_MIPMAP_LINEAR,
                                        wrapS=gl.CLAMP_TO_EDGE, wrapT=gl.CLAMP_TO_EDGE)]  # fmt: skip
        pbr.baseColorTexture = texture("albedo", gl.IMAGEJPEG, base_color_jpeg(avatar.appearance.albedo.numpy()))
        roughness = roughness_png(avatar.rig)
        if roughness is not None:
            pbr.metallicRoughnessTexture = texture("roughness", gl.IMAGEPNG, roughness)
            pbr.roughnessFactor = 1.0
    material = gl.Material(name="avatar", pbrMetallicRoughness=pbr, doubleSided=True)
    if isinstance(avatar.appearance, TextureSet) and avatar.appearance.normals is not None:
        bumps = texture("normals", gl.IMAGEPNG, normal_png(avatar.appearance.normals.numpy()))
        material.normalTexture = gl.NormalMaterialTexture(index=bumps.index)
    return material


def _animation(rig: Rig, motion: Motion, buffer: GlbBuffer, first: int) -> gl.Animation:
    """One key per frame on one time line: morph weights, joint rotations, root translation."""
    animation = gl.Animation(name="motion")
    times = buffer.array((np.arange(motion.frames) / motion.fps).astype(np.float32), bounds=True)

    def channel(node: int, what: str, values: np.ndarray) -> None:
        animation.samplers.append(
            gl.AnimationSampler(input=times, output=buffer.array(values), interpolation=gl.ANIM_LINEAR)
        )
        target = gl.AnimationChannelTarget(node=node, path=what)
        animation.channels.append(gl.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))

    channel(0, gl.WEIGHTS, _f32(motion.expression.flatten()))
    for joint, name in enumerate(rig.joint_names):
        if name in motion.rotations:
            quats = continuous(rotvec_to_quat(motion.rotations[name].double()))
            channel(first + joint, gl.ROTATION, _f32(quats[:, [1, 2, 3, 0]]))  # glTF: xyzw
        if joint == 0 and motion.translation is not None:
            channel(first, gl.TRANSLATION, _f32(motion.translation.double() + rig.joint_positions[0].double()))
    return animation


def _f32(values: torch.Tensor) -> np.ndarray:
    return values.detach().numpy().astype(np.float32)
