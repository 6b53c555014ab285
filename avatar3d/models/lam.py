"""Avatars of LAM ("LAM: Large Avatar Model for One-shot Animatable Gaussian Head", He et al. 2025) as ours.

Its zip holds a skinned mesh with ARKit morph targets (skin.glb) and one splat for every vertex of it (offset.ply:
place relative to the vertex, orientation, scale, colour, opacity). Bound to a triangle at its vertex, a splat is in
the neutral face exactly where it was. Body animations (animation.glb) are left out.
"""

import io
import json
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.rotation import matrix_to_quat, quat_product
from avatar3d.models.glb_reader import GlbReader
from avatar3d.models.splat_cloud import SH_C0, SplatCloud
from avatar3d.models.splat_ply import read_splat_ply
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Avatar, Motion, Rig
from avatar3d.types.gaussians import Gaussians
from avatar3d.typing import typed

JOINTS = {"chestUpper": "root", "neckLower": "neck", "neckUpper": "neck_upper", "head": "head"}
"""Its joints that carry the head, and what they are called here; the weights of others go to the root."""
NEEDED = ("skin.glb", "offset.ply")
CORRECTED = 12
"""Shapes whose turning and stretching of triangles is taken back."""
LARGEST = 500_000_000
"""Bytes that a file in the archive may have."""


@typed
def load_lam(path: str | Path) -> Avatar:
    """Reads a LAM avatar: rig with 51 ARKit shapes, splats, and its ARKit sequence, where one is in the archive.

    Its head joint goes to the origin, as in our model; units and axes are ours already. The order of the splats is
    the vertices', or the one in vertex_order.json, whichever leaves neighbours alike in colour.

    Raises:
        FileError: there is no such file.
        FormatError: not a zip, not a LAM avatar, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path} does not exist, or is not a file.")
    try:
        files = _unpacked(path)
        rig = _rig(files["skin.glb"])
        splats, order = _in_vertex_order(_splats(files["offset.ply"]), rig, files)
        gaussians = _bound(splats, rig, _steadiest_triangles(rig))
        motion = _motion(json.loads(files["bsData.json"])) if "bsData.json" in files else None
    except (zipfile.BadZipFile, struct.error, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is not a LAM avatar, or is damaged: {error}.") from error
    gaussians.check(len(rig.faces), len(rig.shape_names))
    manifest = {
        "model": {"name": "lam", "licence": "not stated in the file"},
        "imported": {"file": path.name, "format": "LAM zip", "order": order},
    }
    return Avatar(
        model="lam", identity=torch.zeros(0), rig=rig, appearance=None, gaussians=gaussians, motion=motion,
        manifest=manifest,
    )  # fmt: skip


def _unpacked(path: Path) -> dict[str, bytes]:
    """Files by name without their folder."""
    wanted = (*NEEDED, "vertex_order.json", "bsData.json")
    with zipfile.ZipFile(path) as archive:
        infos = {Path(i.filename).name: i for i in archive.infolist() if Path(i.filename).name in wanted}
        missing = [name for name in NEEDED if name not in infos]
        if missing:
            raise ValueError(f"it holds no {' and no '.join(missing)}")
        if max(i.file_size for i in infos.values()) > LARGEST:
            raise ValueError("a file in it has more than 500 MB")
        return {name: archive.read(info) for name, info in infos.items()}


def _splats(data: bytes) -> SplatCloud:
    with tempfile.NamedTemporaryFile(suffix=".ply") as file:
        file.write(data)
        file.flush()
        return read_splat_ply(file.name)


def _rig(data: bytes) -> Rig:
    """The mesh with its joints and shapes, the head joint at the origin."""
    with tempfile.NamedTemporaryFile(suffix=".glb") as file:
        file.write(data)
        file.flush()
        reader = GlbReader(file.name)
    mesh, skin = reader.document.meshes[0], reader.document.skins[0]
    primitive = mesh.primitives[0]
    points = torch.from_numpy(reader.accessor(primitive.attributes.POSITION).astype(np.float32))
    faces = torch.from_numpy(reader.accessor(primitive.indices).astype(np.int64).reshape(-1, 3))
    joints = [reader.document.nodes[i].name for i in skin.joints]
    bind = reader.accessor(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)
    places = torch.from_numpy(np.linalg.inv(bind)[:, :3, 3].astype(np.float32))
    weights = torch.zeros(len(points), len(JOINTS))
    own = [list(JOINTS).index(name) if name in JOINTS else 0 for name in joints]
    target = torch.tensor(own)[torch.from_numpy(reader.accessor(primitive.attributes.JOINTS_0).astype(np.int64))]
    weights.scatter_add_(
        1, target, torch.from_numpy(reader.accessor(primitive.attributes.WEIGHTS_0).astype(np.float32))
    )
    positions = torch.stack([places[joints.index(name)] for name in JOINTS])
    shapes, names = torch.zeros(len(ARKIT_NAMES), len(points), 3), mesh.extras["targetNames"]
    for name, morph in zip(names, primitive.targets, strict=True):
        if name in ARKIT_INDEX:
            shapes[ARKIT_INDEX[name]] = torch.from_numpy(reader.accessor(morph["POSITION"]).astype(np.float32))
    origin = positions[-1].clone()
    uv_faces = torch.zeros_like(faces)
    return Rig(
        neutral=points - origin, faces=faces, uvs=torch.zeros(1, 2), uv_faces=uv_faces, shapes=shapes,
        shape_names=ARKIT_NAMES, joint_names=tuple(JOINTS.values()), joint_parents=(-1, 0, 1, 2),
        joint_positions=positions - origin, skinning_weights=weights / weights.sum(1, keepdim=True).clamp_min(1e-9),
    )  # fmt: skip


def _steadiest_triangles(rig: Rig) -> Int[Tensor, "v"]:
    """At every vertex the triangle that no shape turns or stretches much: LAM's own splats only move with theirs."""

    def normals(points: Tensor) -> Tensor:
        a, b, c = points[rig.faces].unbind(1)
        return torch.linalg.cross(b - a, c - a)

    rest = normals(rig.neutral.double())
    change = torch.zeros(len(rig.faces), dtype=torch.float64)
    area = rest.norm(dim=1).clamp_min(1e-12)
    for shape in rig.shapes:
        if bool(shape.any()):
            change = torch.maximum(change, (normals((rig.neutral + shape).double()) - rest).norm(dim=1) / area)
    steadiest, least = torch.full((len(rig.neutral),), -1), torch.full((len(rig.neutral),), torch.inf).double()
    order = change.argsort(descending=True)  # so that the steadiest is written last
    for corner in range(3):
        candidate = torch.full_like(steadiest, -1)
        candidate[rig.faces[order, corner]] = order
        value = torch.where(candidate >= 0, change[candidate.clamp_min(0)], torch.inf)
        steadiest, least = torch.where(value < least, candidate, steadiest), torch.minimum(value, least)
    if bool((steadiest < 0).any()) or float(area[steadiest].min()) <= 1e-12:
        raise ValueError("a vertex of its mesh has no triangle, or one without area")
    return steadiest


def _in_vertex_order(splats: SplatCloud, rig: Rig, files: dict[str, bytes]) -> tuple[SplatCloud, str]:
    """Splats in the order of the vertices, and what told it."""
    n = len(rig.neutral)
    if len(splats.means) != n:
        raise ValueError(f"{len(splats.means)} splats for {n} vertices")
    candidates = {"as they are": np.arange(n)}
    if "vertex_order.json" in files:
        listed = np.array(json.load(io.BytesIO(files["vertex_order.json"])))
        if np.array_equal(np.sort(listed), np.arange(n)):
            candidates |= {"vertex_order.json": listed, "vertex_order.json, inverted": np.argsort(listed)}
    faces = rig.faces.numpy()

    def roughness(index: np.ndarray) -> float:
        colour = splats.sh[index, 0]
        return float(np.abs(colour[faces[:, 0]] - colour[faces[:, 1]]).mean())

    best = min(candidates, key=lambda name: roughness(candidates[name]))
    index = candidates[best]
    parts = {name: getattr(splats, name)[index] for name in ("means", "quats", "scales", "opacities", "sh")}
    return SplatCloud(**parts), best


def _bound(splats: SplatCloud, rig: Rig, face: Int[Tensor, "v"]) -> Gaussians:
    """Splats at vertices -> in the frames of triangles at these.

    LAM's splats move with their vertices and neither turn nor stretch with an expression. The basis takes back what
    the triangles do beyond that, for the shapes where it matters most.
    """
    corners, n = rig.faces[face], len(face)
    offsets, quats, scales, colours, opacities = (
        torch.from_numpy(x).double()
        for x in (splats.means, splats.quats, splats.scales, splats.sh[:, :1], splats.opacities)
    )
    rest = rig.neutral.double()
    local = _local(rest[corners], offsets, quats, scales)
    corrections = {}
    for i, shape in enumerate(rig.shapes):
        if bool(shape.any()):
            there = _local((rest + shape)[corners], offsets, quats, scales)
            there[:, 3:7] *= torch.where((there[:, 3:7] * local[:, 3:7]).sum(1, keepdim=True) < 0, -1.0, 1.0)
            corrections[i] = (there - local).float()
    size = local[:, :3].square().sum(1)
    strongest = sorted(corrections, key=lambda i: -float((corrections[i][:, :3].square().sum(1) / (1 + size)).sum()))
    chosen = strongest[:CORRECTED]
    basis = torch.zeros(len(chosen), n, 14)
    for row, i in zip(basis, chosen, strict=True):
        row[:, :10] = corrections[i]
    mixing = torch.zeros(len(chosen), len(rig.shape_names))
    mixing[range(len(chosen)), chosen] = 1
    return Gaussians(
        face=face.to(torch.int32),
        barycentrics=(corners == torch.arange(n)[:, None]).float(),
        offsets=local[:, :3].float(),
        quats=local[:, 3:7].float(),
        log_scales=local[:, 7:].float(),
        logit_opacities=torch.logit(opacities, 1e-6).float(),
        sh=((colours - 0.5) / SH_C0).float(),  # its colours are plain RGB
        mixing=mixing if chosen else None,
        basis=basis if chosen else None,
        limits=torch.tensor([[0.0, 1.0]]).repeat(len(chosen), 1) if chosen else None,
        group=torch.zeros(n, dtype=torch.uint8),
    )


def _local(
    corners: Float[Tensor, "n 3 3"],
    offsets: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
) -> Float[Tensor, "n 10"]:
    """Offset, quaternion and logarithm of the scale in the frames of triangles; the inverse of `ops.rig_splats`."""
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    size = normal.norm(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
    x, z = torch.nn.functional.normalize(b - a, dim=-1), torch.nn.functional.normalize(normal, dim=-1)
    R = torch.stack([x, torch.linalg.cross(z, x), z], -1)
    turned = quat_product(matrix_to_quat(R.mT), quats)
    return torch.cat([(R.mT @ offsets[..., None])[..., 0] / size, turned, (scales.clamp_min(1e-7) / size).log()], 1)


def _motion(content: dict[str, Any]) -> Motion:
    """Its sequence of ARKit coefficients."""
    names = content["names"]
    weights: Float[Tensor, "t k"] = torch.tensor([frame["weights"] for frame in content["frames"]])
    expression = torch.zeros(len(weights), len(ARKIT_NAMES))
    for i, name in enumerate(names):
        if name in ARKIT_INDEX:
            expression[:, ARKIT_INDEX[name]] = weights[:, i]
    rate = float(content.get("metadata", {}).get("fps", 30.0))
    return Motion(fps=rate, expression=expression, source="bsData.json of the LAM avatar")
