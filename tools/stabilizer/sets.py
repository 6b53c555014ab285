"""Pairs to judge stabilisation by, from generators that the networks never saw: ICT-FaceKit's and ARKit's shapes.

Both are animated by a recorded face (`motion/llv_dao_DERIVED.npz`), whose head rotation is the known motion. Needs the
project's test data.
"""

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.models.ict import load_ict
from avatar3d.models.linear import LinearModel
from avatar3d.models.obj import read_obj, triangulate
from avatar3d.models.registry import load
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES

MM = 1e-3
# Live Link Face's order of the 52 coefficients
LIVE_LINK = (
    "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft eyeBlinkRight "
    "eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight jawForward jawRight "
    "jawLeft jawOpen mouthClose mouthFunnel mouthPucker mouthRight mouthLeft mouthSmileLeft mouthSmileRight "
    "mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower "
    "mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight mouthLowerDownLeft "
    "mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft browDownRight browInnerUp browOuterUpLeft "
    "browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut"
).split()


@dataclass(frozen=True)
class Pair:
    """Two meshes of one person; `b` is `a` with another expression, moved by `T_b_a`. Metres, float64."""

    a: Tensor
    b: Tensor
    faces: Tensor
    T_b_a: Tensor
    skull: Tensor
    """[s, 3] points that are fixed to the skull, in a's frame."""
    region: Tensor
    """Vertices that a person would choose as attached to the skull."""
    upper: Tensor
    """Vertices of the upper face: above the tip of the nose."""
    used: Tensor
    """The source's vertices that a and b have."""


@dataclass(frozen=True)
class Source:
    """A generator of heads: blendshapes with ARKit's names."""

    neutral: Tensor
    identities: Tensor
    shapes: Tensor
    names: tuple[str, ...]
    faces: Tensor
    skull: Tensor
    upper: Tensor
    parts: dict[str, Tensor]
    brow: float
    """Height of the brows, metres."""
    model: LinearModel | None = None
    """Of which the meshes are."""


@lru_cache(maxsize=1)
def ict(data: Path) -> Source:
    """ICT-FaceKit: seven shapes, three identities."""
    model = load_ict(data / "3dmm/ict/FaceXModel")
    x = model.template.double()
    count = len(x)
    head = model.regions["face"] | model.regions["head_neck"]
    bridge = (x[:, 0].abs() < 0.012) & (x[:, 1] > 0.012) & (x[:, 1] < 0.045) & (x[:, 2] > 0.09)
    forehead = (x[:, 1] > 0.065) & (x[:, 1] < 0.12) & (x[:, 2] > 0.03)
    cranium = (x[:, 1] > 0.06) & (x[:, 2] <= 0.03)
    parts = {"all": torch.ones(count, dtype=torch.bool), "head": torch.arange(count) < 11248,
             "face": torch.arange(count) < 9409, "narrow": torch.arange(count) < 6706}  # fmt: skip
    return Source(
        neutral=x, identities=model.identity_basis.double(), shapes=model.expression_basis.double(),
        names=model.expression_names, faces=model.faces, skull=head & (bridge | forehead | cranium),
        upper=head & (x[:, 1] > 0.0), parts=parts, brow=0.052, model=model,
    )  # fmt: skip


@lru_cache(maxsize=1)
def arkit(data: Path, folder: Path) -> Source:
    """Apple's reference shapes, 1220 vertices; `folder` is where they are unpacked."""
    with zipfile.ZipFile(data / "3dmm/arkit/ARKit_reference_blendshapes.zip") as file:
        file.extractall(folder)
    paths = {p.stem: p for p in sorted(folder.rglob("*.obj"))}
    mesh = read_obj(paths["Neutral"])
    neutral = torch.from_numpy(mesh.vertices)
    names = tuple(n for n in ARKIT_NAMES if n in paths)
    shapes = torch.stack([torch.from_numpy(read_obj(paths[n]).vertices) for n in names]) - neutral
    corners, _ = triangulate(mesh.quads)
    x = neutral
    bridge = (x[:, 0].abs() < 0.012) & (x[:, 1] > 0.0) & (x[:, 1] < 0.03) & (x[:, 2] > 0.03)
    forehead = x[:, 1] > 0.06
    return Source(
        neutral=neutral, identities=torch.zeros(0, *neutral.shape).double(), shapes=shapes, names=names,
        faces=torch.from_numpy(mesh.quads.ravel()[corners].astype(np.int64)), skull=bridge | forehead,
        upper=x[:, 1] > -0.01, parts={"all": torch.ones(len(x), dtype=torch.bool),
        "narrow": (x[:, 0].abs() < 0.05) & (x[:, 1] < 0.07) & (x[:, 1] > -0.07)}, brow=0.04,
    )  # fmt: skip


@lru_cache(maxsize=1)
def head() -> Source:
    """The packaged head model: what the networks were trained on, in its own topology and with its whole identity."""
    model = load("head")
    x = model.template.double()
    inside = torch.stack([model.regions[n] for n in ("teeth_upper", "teeth_lower", "gums_upper", "gums_lower", "tongue",
                                                     "mouth_cavity")]).any(0)  # fmt: skip
    face = (x[:, 2] > 0.02) & (x[:, 1] > -0.09) & (x[:, 1] < 0.115) & ~inside
    return Source(
        neutral=x, identities=model.identity_basis.double(), shapes=model.expression_basis.double(),
        names=model.expression_names, faces=model.faces, skull=model.regions["skull_attached"], upper=x[:, 1] > 0.005,
        parts={"all": torch.ones(len(x), dtype=torch.bool), "face": face}, brow=0.062, model=model,
    )  # fmt: skip


@lru_cache(maxsize=1)
def recording(data: Path) -> tuple[np.ndarray, Tensor]:
    """Coefficients [t, 52] in ARKit's order, and the head's rotations [t, 3, 3]."""
    values = np.load(data / "motion/llv_dao_DERIVED.npz")["values61"].astype(np.float64)
    order = [LIVE_LINK.index(name) for name in ARKIT_NAMES]
    yaw, pitch, roll = torch.from_numpy(values[:, 52:55]).unbind(1)
    o = torch.zeros_like(yaw)
    R = [rotvec_to_matrix(torch.stack(v, 1)) for v in ((o, yaw, o), (pitch, o, o), (o, o, roll))]
    return values[:, order], R[0] @ R[1] @ R[2]


def slid(source: Source, change: np.ndarray, rng: np.random.Generator) -> Tensor:
    """[v, 3] skin that slides over the skull: the forehead with the brows by up to 5 mm, cheeks with mouth and jaw."""
    x, n = source.neutral, vertex_normals(source.neutral, source.faces)
    up = np.mean([change[ARKIT_INDEX[k]] for k in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")])
    up -= np.mean([change[ARKIT_INDEX[k]] for k in ("browDownLeft", "browDownRight")])
    rise = rng.uniform(2, 5) * MM * (np.sign(up) if abs(up) > 0.05 else rng.choice([-1, 1])) * rng.uniform(0.5, 1)
    above = x[:, 1] - source.brow

    def ramp(t: Tensor, low: float, high: float) -> Tensor:
        t = ((t - low) / (high - low)).clamp(0, 1)
        return t * t * (3 - 2 * t)

    forehead = ramp(above, -0.008, 0.012) * (1 - ramp(above, 0.03, rng.uniform(0.06, 0.09)))
    forehead = forehead * ramp(x[:, 2], 0.0, 0.06) * (1 - ramp(x[:, 0].abs(), 0.05, 0.08))
    move = (rise * forehead)[:, None] * torch.tensor([0.0, 1, 0]).double()
    mouth = change[ARKIT_INDEX["mouthSmileLeft"]] + change[ARKIT_INDEX["mouthSmileRight"]]
    mouth -= 2 * change[ARKIT_INDEX["jawOpen"]]
    for side in (-1, 1):
        centre = torch.tensor([side * 0.055, source.brow - 0.05, 0.06]).double()
        cheek = 1 - ramp((x - centre).norm(dim=1), 0.0, 0.04)
        move = move + (1.5 * MM * mouth * cheek)[:, None] * torch.tensor([side * 0.4, 1, 0]).double()
    return move - (move * n).sum(1, keepdim=True) * n


def pairs(
    source: Source, data: Path, *, part: str, count: int = 60, noise_mm: float = 0.0, missing: float = 0.0,
    sliding: bool = False, only: str | None = None, still: bool = False, gain: float = 1.0, in_order: bool = False,
    seed: int = 0,
) -> list[Pair]:  # fmt: skip
    """Pairs of frames of the recording.

    Args:
        source: Whose shapes.
        data: The test data's folder.
        part: Of the surface.
        count: Pairs.
        noise_mm: Standard deviation per coordinate of both meshes.
        missing: Share of the vertices that lie in holes.
        sliding: Skin slides over the skull.
        only: A shape that goes from 0 to 1 between the two, all else at rest.
        still: No head motion at all.
        gain: Of the recorded coefficients.
        in_order: The recording's first frame, at rest where it is, with those that follow it; of one person.
        seed: Of everything random.
    """
    rng = np.random.default_rng(seed)
    values, R = recording(data)
    index = [ARKIT_INDEX[n] for n in source.names]
    out, someone = [], torch.from_numpy(rng.normal(size=len(source.identities))) if in_order else None
    for n in range(count):
        i, j = (0, n + 1) if in_order else rng.choice(len(values), 2, replace=False)
        before, after = gain * values[i], gain * values[j]
        if only:
            before[:], after[:] = 0, 0
            for name in ARKIT_NAMES:
                if name.startswith(only):
                    after[ARKIT_INDEX[name]] = rng.uniform(0.3, 1)
        person = source.neutral
        if len(source.identities):
            weights = torch.from_numpy(rng.normal(size=len(source.identities))) if someone is None else someone
            person = person + torch.einsum("k,kvc->vc", weights, source.identities)

        def shape(c: np.ndarray, person: Tensor = person) -> Tensor:
            return person + torch.einsum("k,kvc->vc", torch.from_numpy(c[index]), source.shapes)

        a, b = shape(before), shape(after)
        if sliding:
            b = b + slid(source, after - before, rng)
        T = make_transform(R[j] @ R[i].mT, torch.from_numpy(rng.normal(size=3) * 0.05))
        if still:
            T = torch.eye(4).double()
        seen = source.parts[part].clone()
        while missing and (1 - seen.sum() / source.parts[part].sum()) < missing:
            at = rng.choice(np.flatnonzero(seen.numpy()))
            seen &= (person - person[at]).norm(dim=1) > rng.uniform(0.01, 0.025)
        faces = source.faces[seen[source.faces].all(1)]
        used = torch.zeros_like(seen)
        used[faces.reshape(-1)] = True
        number = torch.cumsum(used.long(), 0) - 1
        noise = torch.from_numpy(rng.normal(size=(2, int(used.sum()), 3))) * noise_mm * MM
        out.append(Pair(a=a[used] + noise[0], b=apply(T, b[used]) + noise[1], faces=number[faces], T_b_a=T, used=used,
                        skull=person[source.skull], region=source.skull[used], upper=source.upper[used]))  # fmt: skip
    return out
