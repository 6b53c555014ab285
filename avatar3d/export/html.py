"""Avatar -> one HTML file that plays it in any browser, without a network: see docs/page.md."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from avatar3d import __version__
from avatar3d.errors import ExportError
from avatar3d.export.glb_texture import base_color_jpeg, normal_png
from avatar3d.export.page_data import Block, read_block
from avatar3d.export.page_script import assemble, data_of
from avatar3d.export.page_splats import add_splats
from avatar3d.export.picture import FRONT_FIELD_OF_VIEW, front_view, picture_light
from avatar3d.export.seams import split_at_seams
from avatar3d.export.sound import encode_sound
from avatar3d.geometry.colour import srgb_to_linear
from avatar3d.geometry.rotation import rotvec_to_quat
from avatar3d.models.anchors import with_anchors
from avatar3d.models.motion import continuous
from avatar3d.render.shading import CLAY
from avatar3d.storage import replacing
from avatar3d.types import Avatar, Motion, Rig, TextureSet
from avatar3d.typing import typed

SHAPE_STEP = 1e-6
"""Metres: spacing of the stored displacements, unless they reach further than 32 mm."""
WRINKLE_SIZE = 512
"""Texels a side of what expressions add to a normal map."""
TOLERANCE = 2e-5
"""Metres: a page whose neutral mesh or shapes read back differ by more is not kept."""


@typed
def write_html(
    avatar: Avatar, path: str | Path, motion: Motion | None = None, sound: Float[Tensor, "n"] | None = None
) -> None:
    """Writes a page with the rig, its splats or else its texture, the motion and its sound, and reads it back.

    Args:
        avatar: Whom the page shows.
        path: Where to; its stem is the page's title.
        motion: What it plays.
        sound: Of the motion, mono from its first frame on, `sound.SOUND_RATE` samples per second.

    Raises:
        ExportError: what was read back differs. No file is kept.
        FileError: the file cannot be written.
    """
    path = Path(path)
    block = _pack(avatar, motion, sound)
    page = assemble(block.text(), title=path.stem, generator=f"avatar3d {__version__}")
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
        _check(temporary, avatar, motion, path.name)


def _pack(avatar: Avatar, motion: Motion | None, sound: Tensor | None) -> Block:
    rig, block = avatar.rig, Block()
    target, distance = front_view(rig)
    block.facts |= {
        "generator": f"avatar3d {__version__}", "model": avatar.model, "about": _about(avatar),
        "shapes": list(rig.shape_names), "joints": list(rig.joint_names), "parents": list(rig.joint_parents),
        "front": {"target": target.tolist(), "distance": distance, "fieldOfView": FRONT_FIELD_OF_VIEW},
    }  # fmt: skip
    if avatar.gaussians is None:
        _add_rig(block, rig)
        _add_surface(block, avatar)
    else:
        anchored = with_anchors(rig)
        _add_rig(block, anchored)
        add_splats(block, avatar.gaussians, anchored)
    if motion is not None and motion.frames:
        _add_motion(block, rig, motion)
        if sound is not None:
            block.facts["sound"] = "audio/mp4"
            block.add("sound", np.frombuffer(encode_sound(sound, motion.duration), np.uint8))
    return block


def _about(avatar: Avatar) -> str:
    licence = avatar.manifest.get("model", {}).get("licence", "")
    return f"{avatar.model}: {licence}" if licence else avatar.model


def _add_rig(block: Block, rig: Rig) -> None:
    block.add("neutral", rig.neutral.float().numpy())  # exact: splats take rotations from the smallest of triangles
    block.add("joints", rig.joint_positions.float().numpy())
    reach = float(rig.shapes.abs().max()) if rig.shapes.numel() else 0.0
    block.add_steps("shapes", rig.shapes, step=max(SHAPE_STEP, reach / 32767))
    block.add_steps("weights", rig.skinning_weights, step=1 / 32767)


def _add_surface(block: Block, avatar: Avatar) -> None:
    rig, looks = avatar.rig, avatar.appearance
    vertex, uv, triangles = split_at_seams(rig)
    from_top = rig.uvs[uv] * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    block.add("corner_vertex", _index(vertex.numpy()))
    block.add_steps("corner_uv", from_top, columns=1)
    block.add("triangles", _index(triangles))
    block.facts["light"] = picture_light().tolist()
    block.facts["albedo"] = [1.0, 1.0, 1.0]
    if isinstance(looks, TextureSet):
        block.facts["texture"] = "image/jpeg"
        block.add("texture", np.frombuffer(base_color_jpeg(looks.albedo.numpy()), np.uint8))
        if looks.normals is not None:
            block.facts["bumps"] = "image/png"
            block.add("bumps", np.frombuffer(normal_png(looks.normals.numpy()), np.uint8))
        if looks.normals is not None and looks.wrinkles is not None:
            own = looks.wrinkles
            block.facts["wrinkles"] = {"scales": own.scales.tolist(), "mixing": own.mixing.tolist()}
            block.add("wrinkles", _smaller(own.slopes).numpy())
    else:
        block.facts["albedo"] = srgb_to_linear(torch.tensor(CLAY)).tolist()


def _smaller(slopes: Int8[Tensor, "e h w 2"]) -> Int8[Tensor, "e n m 2"]:
    """Means of blocks, of at most `WRINKLE_SIZE` a side."""
    e, h, w, _ = slopes.shape
    k = max(1, min(h, w) // WRINKLE_SIZE)
    if k == 1 or h % k or w % k:
        return slopes
    return slopes.view(e, h // k, k, w // k, k, 2).float().mean((2, 4)).round().to(torch.int8)


def _add_motion(block: Block, rig: Rig, motion: Motion) -> None:
    joints = [name for name in rig.joint_names if name in motion.rotations]
    centre = [0.0, 0.0, 0.0] if motion.translation is None else motion.translation.median(0).values.tolist()
    block.facts["motion"] = {"fps": motion.fps, "frames": motion.frames, "source": motion.source, "joints": joints,
                             "centre": centre}  # fmt: skip
    block.add_steps("motion_expression", motion.expression, columns=0)
    if joints:
        quats = torch.stack([continuous(rotvec_to_quat(motion.rotations[name].double())) for name in joints], 1)
        block.add_steps("motion_quats", quats, step=1 / 32767)
    if motion.translation is not None:
        block.add_steps("motion_translation", motion.translation, columns=1)


def _index(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint16 if values.size == 0 or values.max() < 65536 else np.uint32)


def _check(written: Path, avatar: Avatar, motion: Motion | None, name: str) -> None:
    facts, arrays = read_block(data_of(written.read_text(encoding="utf-8")))
    rig = avatar.rig if avatar.gaussians is None else with_anchors(avatar.rig)
    gaps = {
        "the neutral mesh": np.abs(arrays["neutral"] - rig.neutral.numpy()).max(),
        "the shapes": np.abs(arrays["shapes"] - rig.shapes.numpy()).max() if rig.shapes.numel() else 0.0,
    }
    for what, gap in gaps.items():
        if not gap <= TOLERANCE:
            raise ExportError(f"{name} read back differs: {what} by {1000 * gap:.4f} mm; not kept. Export again.")
    frames = facts.get("motion", {}).get("frames", 0)
    if frames != (motion.frames if motion is not None else 0):
        raise ExportError(f"{name} read back has {frames} frames of motion; not kept. Export again.")
