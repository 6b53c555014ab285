"""Reads a GLB back and compares it with its avatar; shares nothing with the writer but the format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar3d.errors import ExportError
from avatar3d.geometry.rotation import quat_to_matrix, rotvec_to_matrix
from avatar3d.models.glb_reader import GlbReader
from avatar3d.models.rig import pose_rig
from avatar3d.types import Avatar, Motion, Rig, TextureSet

TOLERANCE = 1e-4
"""Metres: what a morph target, or a neutral vertex, may differ by."""
POSE_TOLERANCE = 5e-4
"""Metres: what a posed vertex may differ by; the format keeps four joints a vertex."""
Demand = Callable[[bool, str], None]


def check_glb(path: Path, avatar: Avatar, motion: Motion | None, *, name: str) -> None:
    """Compares geometry, all morph targets, UVs, skeleton, texture and animation with their source.

    Raises:
        ExportError: something differs; the text says what and by how much.
    """

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise ExportError(f"{name} read back differs from the avatar: {what}. It was not kept; please report this.")

    reader, rig = GlbReader(path), avatar.rig
    document = reader.document
    demand(len(document.meshes) == 1 and len(document.meshes[0].primitives) == 1, "not one mesh")
    primitive = document.meshes[0].primitives[0]
    corners = reader.accessor(primitive.indices).astype(np.int64)
    faces, uv_faces = rig.faces.flatten().numpy(), rig.uv_faces.flatten().numpy()
    demand(len(corners) == len(faces), f"{len(corners)} corners instead of {len(faces)}")

    def gap(index: int, expected: torch.Tensor) -> float:
        difference = reader.accessor(index)[corners].astype(np.float64) - expected.double().numpy()[faces]
        return float(np.sqrt((difference**2).sum(1)).max())

    distance = gap(primitive.attributes.POSITION, rig.neutral)
    demand(distance <= TOLERANCE, f"the neutral mesh by {1000 * distance:.3f} mm")
    uv = reader.accessor(primitive.attributes.TEXCOORD_0)[corners]
    demand(np.allclose(uv * [1, -1] + [0, 1], rig.uvs.numpy()[uv_faces], rtol=0, atol=1e-5), "texture coordinates")
    names = (document.meshes[0].extras or {}).get("targetNames", [])
    demand(names == list(rig.shape_names) and len(primitive.targets) == len(names), "names or number of morph targets")
    for shape, target, label in zip(rig.shapes, primitive.targets, names, strict=True):
        distance = gap(target["POSITION"], shape)
        demand(distance <= TOLERANCE, f"morph target {label} by {1000 * distance:.3f} mm")
    _check_skeleton(reader, rig, demand)
    images = document.images
    demand(not isinstance(avatar.appearance, TextureSet) or len(images) > 0, "no texture")
    demand(all(len(reader.bytes_of_view(image.bufferView)) for image in images), "an empty picture")
    demand(len(document.animations) == (motion is not None), "number of animations")
    if motion is not None:
        _check_motion(reader, rig, motion, demand, corners, faces)


def _check_skeleton(reader: GlbReader, rig: Rig, demand: Demand) -> None:
    document = reader.document
    skin = document.skins[0]
    demand([document.nodes[j].name for j in skin.joints] == list(rig.joint_names), "names of joints")
    places, _ = _rest_places(document)
    for joint, node in enumerate(skin.joints):
        expected = rig.joint_positions[joint].double().numpy()
        demand(np.abs(places[node] - expected).max() <= TOLERANCE, f"the place of joint {rig.joint_names[joint]}")


def _rest_places(document: Any) -> tuple[dict[int, np.ndarray], dict[int, int]]:
    """World position of every node in the rest pose, and its parent."""
    parents = {child: index for index, node in enumerate(document.nodes) for child in node.children or []}

    def place(index: int) -> np.ndarray:
        own = np.array(document.nodes[index].translation or [0, 0, 0], dtype=np.float64)
        return own + place(parents[index]) if index in parents else own

    return {index: place(index) for index in range(len(document.nodes))}, parents


def _check_motion(
    reader: GlbReader, rig: Rig, motion: Motion, demand: Demand, corners: np.ndarray, faces: np.ndarray
) -> None:
    document = reader.document
    animation, skin = document.animations[0], document.skins[0]
    keys: dict[tuple[int, str], np.ndarray] = {}
    for channel in animation.channels:
        sampler = animation.samplers[channel.sampler]
        times = reader.accessor(sampler.input)
        demand(len(times) == motion.frames, f"{len(times)} keys instead of {motion.frames}")
        demand(np.allclose(times, np.arange(motion.frames) / motion.fps, rtol=1e-6, atol=1e-6), "key times")
        keys[channel.target.node, channel.target.path] = reader.accessor(sampler.output)
    mesh_node = next(i for i, node in enumerate(document.nodes) if node.mesh is not None)
    weights = torch.from_numpy(keys[mesh_node, "weights"].reshape(motion.frames, -1))
    demand(weights.shape == motion.expression.shape, "number of morph weights")
    demand(bool((weights - motion.expression).abs().max() <= 1e-6), "morph weights")
    for joint, node in enumerate(skin.joints):
        expected = motion.rotations.get(rig.joint_names[joint])
        demand((expected is not None) == ((node, "rotation") in keys), f"rotation of {rig.joint_names[joint]}")
        if expected is not None:
            quats = torch.from_numpy(keys[node, "rotation"][:, [3, 0, 1, 2]]).double()
            difference = quat_to_matrix(quats) - rotvec_to_matrix(expected.double())
            demand(bool(difference.abs().max() <= 1e-5), f"rotation of {rig.joint_names[joint]}")
    for frame in sorted({0, motion.frames // 2, motion.frames - 1}):
        one = slice(frame, frame + 1)
        posed = pose_rig(
            rig,
            motion.expression[one].double(),
            {name: value[one].double() for name, value in motion.rotations.items()},
            None if motion.translation is None else motion.translation[one].double(),
            backend="reference",
        )[0].numpy()
        distance = float(np.abs(_posed(reader, keys, frame)[corners] - posed[faces]).max())
        demand(distance <= POSE_TOLERANCE, f"frame {frame} by {1000 * distance:.3f} mm")


def _posed(reader: GlbReader, keys: dict[tuple[int, str], np.ndarray], frame: int) -> np.ndarray:
    """The mesh at one key as the glTF specification poses it."""
    document = reader.document
    mesh_node = next(i for i, node in enumerate(document.nodes) if node.mesh is not None)
    primitive, skin = document.meshes[document.nodes[mesh_node].mesh].primitives[0], document.skins[0]
    points = reader.accessor(primitive.attributes.POSITION).astype(np.float64)
    weights = keys[mesh_node, "weights"].reshape(-1, len(primitive.targets))[frame]
    for weight, target in zip(weights, primitive.targets, strict=True):
        if weight:
            points += float(weight) * reader.accessor(target["POSITION"])
    _, parents = _rest_places(document)

    def world(index: int) -> np.ndarray:
        node, local = document.nodes[index], np.eye(4)
        local[:3, 3] = keys[index, "translation"][frame] if (index, "translation") in keys else node.translation or 0
        if (index, "rotation") in keys:
            quat = torch.from_numpy(keys[index, "rotation"][frame].astype(np.float64))
            local[:3, :3] = quat_to_matrix(quat[[3, 0, 1, 2]]).numpy()
        return world(parents[index]) @ local if index in parents else local

    inverse_bind = reader.accessor(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)
    maps = np.stack([world(node) for node in skin.joints]) @ inverse_bind
    joints = reader.accessor(primitive.attributes.JOINTS_0)
    shares = reader.accessor(primitive.attributes.WEIGHTS_0).astype(np.float64)
    blended = np.einsum("vk,vkij->vij", shares, maps[joints])
    return np.einsum("vij,vj->vi", blended[:, :3, :3], points) + blended[:, :3, 3]
