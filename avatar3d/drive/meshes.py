"""A sequence of meshes in a known topology as a motion: ARKit coefficients and the head's rotation and translation.

The person's neutral is given, taken from the first frame, or estimated from all; the shapes of the topology are brought
to its size and its eyes, and every frame is explained by pose and coefficients together (`drive.mesh_fit`).
"""

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.drive.mesh_fit import MeshFit, MeshFitSettings, distances, fit_frames, stillness
from avatar3d.errors import FormatError
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.arkit import gaze_rotations
from avatar3d.models.motion import track_to_motion
from avatar3d.models.registry import load
from avatar3d.models.rig import build_rig
from avatar3d.models.topology import Topology, find_topology
from avatar3d.types import ARKIT_INDEX, ARKIT_NAMES, Motion, Rig, Track
from avatar3d.typing import typed

UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001, "decimetres": 0.1, "inches": 0.0254}
USUAL = (0.75, 1.33)
"""Sizes of heads relative to the mean; what lies outside in every unit is scaled to the mean."""
STRANGE = 0.012
"""Median distance of a mesh's vertices from the mean face, from which it is not that topology, metres."""
RESTING = 0.2
"""Share of frames in which a face is at rest, in each coefficient, when the neutral is estimated."""
SURE = 0.2
"""A first frame whose expression is less than that counts as neutral in it."""
SPARSER = 10.0
"""How much sparser expressions are to be by which that is judged."""
REWEIGHT = 1
BY_REGION = ("face", "lips_outer", "eyelids", "cheeks", "nose", "brows", "forehead", "chin", "jaw", "skull_attached")


@dataclass(frozen=True, kw_only=True)
class MeshMotion:
    """A motion and how well it explains the meshes that it came from."""

    motion: Motion
    residual_mm: Float[Tensor, "t"]
    """Root-mean-square distance of every frame's skin from neutral, shapes and pose, millimetres."""
    by_region_mm: dict[str, float]
    """The same over all frames."""
    neutral: Float[Tensor, "v 3"]
    """The person's neutral face in the space of the `head` model, metres."""
    T_world_head: Float[Tensor, "t 4 4"]
    """The head's pose in the meshes' world, metres, the axes turned to +y up and +z ahead."""
    metres_per_unit: float
    units: str
    """What the files' units were taken for."""
    topology: Topology
    shapes: Float[Tensor, "52 v 3"]
    """ARKit's displacements of this person, metres."""


@typed
def from_meshes(
    vertices: Float[Tensor, "t v 3"],
    topology: str | Topology | None = None,
    *,
    neutral: Float[Tensor, "v 3"] | Literal["first", "estimate"] = "estimate",
    fps: float = 30.0,
    rig: Rig | None = None,
    source: str = "meshes",
    settings: MeshFitSettings | None = None,
) -> MeshMotion:
    """Motion of a mesh sequence whose topology is known.

    Args:
        vertices: Frames, in any unit and with any axis up; the same for all.
        topology: Name of the mesh ("head", "flame", "ict", "arkit") or what is known of it; found by the number of
            vertices when left out.
        neutral: The person at rest, in the same unit and axes; or the first frame; or estimated from all frames.
        fps: Frames per second.
        rig: Whose joints the head's rotation is shared among; the mean head's by default.
        source: What the motion says that it came from.
        settings: What is weighed against what.

    Raises:
        ValueError: fewer than two frames and no neutral, vertices that are not finite, no positive rate.
        FormatError: no known topology, or not a face in it.
    """
    _check(vertices, neutral, fps)
    settings = (settings or MeshFitSettings()).at_rate(fps)
    known = topology if isinstance(topology, Topology) else find_topology(vertices.shape[1], topology)
    if known.reference.shape[0] != vertices.shape[1]:
        raise FormatError(
            f"The meshes have {vertices.shape[1]} vertices, and {known.name} has {known.reference.shape[0]}."
        )
    rest = neutral if isinstance(neutral, Tensor) else vertices[0]
    placed = _place(rest, known)
    world = (vertices.double() @ (placed.unit * placed.axes).T).float()
    rest = apply(placed.T, (rest.double() @ (placed.unit * placed.axes).T)).float()
    shapes = _with_eyes(known, known.shapes * placed.size, rest)

    index = known.weights.nonzero()[:, 0]
    x, S, w = world[:, index], shapes[:, index], known.weights[index]
    if isinstance(neutral, str) and neutral == "estimate":
        rest, fit = _estimated(world, rest, shapes, index, w, settings)
        rest, start = _facing(rest, known, placed.size, fit)
    else:
        rest, start = _facing(rest, known, placed.size, None)
    fit = fit_frames(x, rest[index], S, w, ARKIT_NAMES, settings, start=start)
    for _ in range(REWEIGHT):
        off = distances(fit, x, rest[index], S)
        # vertices that shapes cannot follow say less about pose and coefficients
        usual = off.square().mean(0)
        trusted = w / (1 + usual / max(float((w / w.sum()) @ usual), settings.noise**2))
        fit = fit_frames(x, rest[index], S, trusted, ARKIT_NAMES, settings, start=fit)
    off = distances(fit, x, rest[index], S)
    return MeshMotion(
        motion=_motion(fit, fps, rig, source),
        residual_mm=1e3 * (off.square() @ (w / w.sum())).sqrt(),
        by_region_mm=_by_region(known, index, off),
        neutral=rest,
        T_world_head=_poses(fit),
        metres_per_unit=placed.unit,
        units=placed.name,
        topology=known,
        shapes=shapes,
    )


def _check(vertices: Tensor, neutral: Tensor | str, fps: float) -> None:
    if not fps > 0:
        raise ValueError(f"from_meshes: {fps:g} frames per second; expected a positive rate.")
    if isinstance(neutral, Tensor) and neutral.shape != vertices.shape[1:]:
        raise ValueError(
            f"from_meshes: the neutral has {len(neutral)} vertices, and the meshes have {vertices.shape[1]}."
        )
    if len(vertices) < (1 if isinstance(neutral, Tensor) else 2):
        raise ValueError(
            f"from_meshes: {len(vertices)} mesh is no sequence; expected two or more, or one and a neutral of the "
            "same person."
        )
    bad = ~torch.isfinite(vertices).flatten(1).all(1)
    if bool(bad.any()):
        frame = int(bad.nonzero()[0])
        raise ValueError(
            f"from_meshes: frame {frame} has vertices that are not finite ({int(bad.sum())} of {len(vertices)} frames "
            "have); leave those frames out."
        )
    if isinstance(neutral, Tensor) and not bool(torch.isfinite(neutral).all()):
        raise ValueError("from_meshes: the neutral has vertices that are not finite.")


@dataclass(frozen=True)
class _Placed:
    """How a file's coordinates become the head's: unit * axes, then T."""

    unit: float
    name: str
    axes: Tensor
    T: Tensor
    size: float


def _place(rest: Tensor, known: Topology) -> _Placed:
    """Unit, axes and pose of a neutral face, by what is known to move least.

    Raises:
        FormatError: it does not look like that face at all.
    """
    index = known.weights.nonzero()[:, 0]
    at, goal = rest[index].double(), known.reference[index].double()
    still = stillness(known.shapes[:, index], known.weights[index] * known.known[index]).double()
    if float((at - at.mean(0)).norm(dim=1).max()) == 0:
        raise FormatError(f"The meshes' vertices all lie in one point; a face of {known.name} was expected.")
    w, T, off = still, torch.eye(4, dtype=torch.float64), torch.zeros(len(at), dtype=torch.float64)
    for _ in range(8):
        T = procrustes(at, goal, w, with_scale=True)
        off = (apply(T, at) - goal).norm(dim=1)
        w = still / (1 + (off / 0.005).square())
    if not float(off.median()) < STRANGE:
        raise FormatError(
            f"The meshes have as many vertices as {known.name}, but are not a face in its order: they lie "
            f"{1e3 * float(off.median()):.0f} mm off a mean face in the median."
        )
    scale = float(torch.linalg.det(T[:3, :3])) ** (1 / 3)
    fits = {n: u for n, u in UNITS.items() if USUAL[0] < u / scale < USUAL[1]}
    unit, name = scale, "unknown, scaled to the size of a mean head"
    if fits:
        name = min(fits, key=lambda n: abs(torch.tensor(fits[n] / scale).log().item()))
        unit = fits[name]
    R = T[:3, :3] / scale
    axes = _nearest_axes(R)
    own = at @ (unit * axes).T
    final = procrustes(own, goal * (unit / scale), w)
    # the person's size about the reference's origin, so that the head stays where the model's is
    return _Placed(unit, name, axes, final, unit / scale)


def _nearest_axes(R: Tensor) -> Tensor:
    """The rotation by right angles that is nearest to R: which way a file's axes point."""
    best, most = torch.eye(3, dtype=R.dtype), -4.0
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            A = torch.zeros(3, 3, dtype=R.dtype)
            A[torch.arange(3), list(order)] = torch.tensor(signs, dtype=R.dtype)
            if float(torch.linalg.det(A)) > 0 and float((A * R).sum()) > most + 1e-9:
                best, most = A, float((A * R).sum())
    return best


def _with_eyes(known: Topology, shapes: Tensor, rest: Tensor) -> Tensor:
    """Shapes whose eyeballs turn about their own centres."""
    shapes = shapes.clone()
    for name, side, R in gaze_rotations():
        ball = known.regions.get(f"eyeball_{side}")
        if ball is not None and bool(ball.any()):
            p = rest[ball]
            p = p - 0.5 * (p.amax(0) + p.amin(0))
            shapes[ARKIT_INDEX[name], ball] = p @ (R.T - torch.eye(3))
    for name in ARKIT_NAMES:
        if not name.startswith("eyeLook"):
            for side in ("left", "right"):
                ball = known.regions.get(f"eyeball_{side}")
                if ball is not None:
                    shapes[ARKIT_INDEX[name], ball] = 0
    return shapes


def _estimated(
    world: Tensor, rest: Tensor, shapes: Tensor, index: Tensor, w: Tensor, settings: MeshFitSettings
) -> tuple[Tensor, MeshFit]:
    """The neutral from all frames: below what every coefficient rests at, free of the frames' noise."""
    x, S = world[:, index], shapes[:, index]
    loose = replace(settings, bend=torch.inf, sparsity=SPARSER * settings.sparsity)
    fit = fit_frames(x, rest[index], S, w, ARKIT_NAMES, loose, lower=-1.0)
    level = torch.quantile(fit.coefficients, RESTING, dim=0)
    level = torch.where(level > -SURE, 0.0, level).float()
    gaze = torch.tensor(["Look" in n for n in ARKIT_NAMES])
    level[gaze] = 0  # eyes have no rest
    c = fit.coefficients.float() - level
    # frames near rest tell it best: there the shapes' errors are small
    share = torch.exp(-c.abs().sum(1))
    share = share / share.sum()
    own = torch.einsum("t,tvc->vc", share, (world - fit.p[:, None].float()) @ fit.R.float())
    rest = own - torch.einsum("k,kvc->vc", share @ c, shapes)
    return rest, fit_frames(x, rest[index], S, w, ARKIT_NAMES, settings)


def _facing(rest: Tensor, known: Topology, size: float, fit: MeshFit | None) -> tuple[Tensor, MeshFit | None]:
    """A neutral turned as the head model's people are, by the face: faces nod against what moves least, and a jaw that
    opens would seem to go forward. With it, the fit to the neutral before.

    FLAME's people stay as they are: its mean face itself nods against the head model's.
    """
    face = known.regions.get("face")
    if known.name == "flame" or face is None or not bool(face.any()):
        return rest, fit
    T = procrustes(rest.double(), known.reference.double() * size, face.double())
    turned = apply(T, rest.double()).float()
    if fit is None:
        return turned, None
    R = fit.R @ T[:3, :3].mT
    return turned, MeshFit(R=R, p=fit.p - R @ T[:3, 3], coefficients=fit.coefficients)


def _poses(fit: MeshFit) -> Tensor:
    T = torch.eye(4).repeat(len(fit.R), 1, 1)
    T[:, :3, :3], T[:, :3, 3] = fit.R.float(), fit.p.float()
    return T


def _motion(fit: MeshFit, fps: float, rig: Rig | None, source: str) -> Motion:
    t = len(fit.R)
    if rig is None:
        rig = build_rig(load("head"), torch.zeros(1))
    track = Track(
        model="head",
        identity=torch.zeros(1),
        expression=fit.coefficients.float(),
        rotation=matrix_to_rotvec(fit.R).float(),
        translation=(fit.p - fit.p[:1]).float(),
        cameras=(),
        camera_of_frame=torch.zeros(t, dtype=torch.int64),
        fps=fps,
        time=torch.arange(t) / fps,
        residual=torch.zeros(t),
        confidence=torch.ones(t),
        tracked=torch.ones(t, dtype=torch.bool),
    )
    return replace(track_to_motion(track, rig), source=source)


def _by_region(known: Topology, index: Tensor, off: Tensor) -> dict[str, float]:
    out = {}
    for name in BY_REGION:
        mask = known.regions.get(name)
        if mask is not None and bool(mask[index].any()):
            out[name] = float(1e3 * off[:, mask[index]].square().mean().sqrt())
    return out
