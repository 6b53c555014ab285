"""Motions from mesh sequences: read, registered where the topology is not known, and driven from."""

from collections.abc import Sequence
from pathlib import Path

from avatar3d import models, ops
from avatar3d.capture.stills import SUFFIXES as PICTURES
from avatar3d.drive.meshes import MeshMotion, from_meshes
from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.transform import apply
from avatar3d.models.flame_params import is_flame_parameters
from avatar3d.models.mesh_file import READERS
from avatar3d.models.mesh_sequence import read_mesh_sequence
from avatar3d.models.registration import register
from avatar3d.models.registration_parts import model_parts
from avatar3d.models.topology import Topology, find_topology, of_correspondence
from avatar3d.pipeline.common import Progress, Say
from avatar3d.track.scan import find_landmarks
from avatar3d.types import Rig
from avatar3d.types.mesh import Mesh, MeshSequence

FPS = 30.0
"""Where neither the files nor the user tell the rate."""
NEAR = 0.004
"""Vertices of an unknown mesh that lie farther from the registered head are not followed, metres."""
ARRAYS = (".npz", ".npy")


def is_mesh_source(path: Path) -> bool:
    """Whether a path holds frames of meshes: arrays, or a folder with meshes and not more pictures than those.

    Raises:
        FileError: a folder with neither meshes nor pictures.
    """
    if not path.is_dir():
        return path.suffix.lower() in ARRAYS and not is_flame_parameters(path)
    kinds = [p.suffix.lower() for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    meshes = sum(kind in READERS for kind in kinds)
    pictures = sum(kind in PICTURES for kind in kinds)
    if not meshes and not pictures:
        raise FileError(f"{path} has neither meshes nor pictures in it; frames as .obj, .ply, ... were expected.")
    return meshes > 0 and meshes >= pictures


def drive_from_meshes(
    source: Path | str | Sequence[Path | str],
    *,
    rig: Rig | None = None,
    fps: float | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> MeshMotion:
    """The motion of a folder of meshes, a list of files, or an .npz with `vertices` [t, v, 3].

    Args:
        source: Frames in the natural order of their names, one topology.
        rig: Whose joints the head's rotation is shared among.
        fps: Rate of the frames; the file's own, or 30, when left out.
        progress: Called with stage, done, total.
        say: Called with what a person should know.

    Raises:
        FileError, FormatError: nothing there, no mesh, frames of different topologies.
        ValueError: fewer than two frames, or vertices that are not finite.
        DetectionError, TrackingError: a mesh of unknown topology on which no face is found.
    """
    sequence = read_mesh_sequence(source)
    known = _topology(sequence, progress, say)
    name = Path(source).name if isinstance(source, (str, Path)) else "meshes"
    found = from_meshes(sequence.vertices, known, fps=fps or sequence.fps or FPS, rig=rig, source=name)
    if fps is None and sequence.fps is None:
        say(f"The meshes do not tell their rate: taken for {FPS:g} frames per second (--fps says otherwise).")
    regions = ", ".join(f"{n} {v:.2f}" for n, v in found.by_region_mm.items() if n in ("lips_outer", "eyelids"))
    say(
        f"{len(sequence.vertices)} meshes of {known.name}'s topology in {found.units}: within "
        f"{float(found.residual_mm.median()):.2f} mm in the median frame, {float(found.residual_mm.max()):.2f} in the "
        f"worst{f' ({regions})' if regions else ''}."
    )
    return found


def _topology(sequence: MeshSequence, progress: Progress | None, say: Say) -> Topology:
    count = sequence.vertices.shape[1]
    try:
        return find_topology(count)
    except FormatError:
        if sequence.faces is None or len(sequence.vertices) < 2:
            raise
    say(f"A mesh of {count} vertices is of no known topology: the head model is registered to its first frame.")
    return registered_topology(sequence.names[0], sequence, progress)


def registered_topology(name: str, sequence: MeshSequence, progress: Progress | None = None) -> Topology:
    """What is known of any mesh after the `head` model was registered to the first frame.

    Raises:
        DetectionError, TrackingError: no face is found on it.
    """
    model = models.load("head")
    scan = Mesh(vertices=sequence.vertices[0].double(), faces=sequence.faces, name=name)
    marks = find_landmarks(scan, model, progress=progress)
    fit = register(model, scan, marks.points, marks.sigma, model.landmarks[marks.scheme], progress=progress)
    at = apply(fit.T_model_scan, scan.vertices)
    parts = model_parts(model)
    usable = (parts.weight > 0)[model.faces].all(1).nonzero()[:, 0]
    found = ops.nearest_on_mesh(at, fit.vertices.double(), model.faces[usable])
    return of_correspondence(
        "an unknown mesh", usable[found.face.long()], found.barycentrics.float(), found.distance < NEAR
    )
