"""Meshes that move, without their head motion: read, stabilised, and written beside each other."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from avatar3d import storage
from avatar3d.errors import ExportError, FileError, FormatError, UsageError
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.geometry.transform import invert_rigid
from avatar3d.models.mesh_file import READERS, natural_key
from avatar3d.models.mesh_sequence import read_mesh_sequence
from avatar3d.pipeline.common import Progress, Say, check_fps
from avatar3d.stabilize import Method, Stabilized, head_motion, mesh_units, motion_picture, stabilize_meshes
from avatar3d.stabilize.files import MOVERS, copy_materials, move_arrays, move_file
from avatar3d.stabilize.sequence import surface_faults
from avatar3d.types import Motion

ARRAYS = (".npz", ".npy")
MOTION, PICTURE, REPORT = "motion.motion", "motion.png", "stabilize.json"


@dataclass(frozen=True, kw_only=True)
class StabilizeSettings:
    """How meshes are stabilised; see `avatar3d stabilize --help`."""

    method: Method = "learned"
    anchor: int = 0
    fps: float | None = None
    smooth: bool = True


def stabilize(
    meshes: Sequence[Path | str],
    output: Path | str,
    *,
    settings: StabilizeSettings | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> Stabilized:
    """Writes a folder with the same meshes, every skull where the anchor's is, and the head's motion.

    Beside the meshes lie `motion.motion`, `motion.png` (where the surface still moves) and `stabilize.json` (per mesh:
    the skull's motion in the file's units, angle, confidence).

    Args:
        meshes: Files of one topology (OBJ, PLY, GLB), a folder of them, or an .npz with `vertices` [t, v, 3].
        output: The folder.
        settings: Method, anchor, rate.
        progress: Called with stage, done, total.
        say: Called with what a person should know.

    Raises:
        FileError: nothing there, two files of one name, or a folder that cannot be written.
        FormatError: no mesh, meshes of different topology, without faces, or of a kind that cannot be written.
        ValueError: fewer than two meshes, or vertices that are not finite.
        TrackingError: the surface is not that of a face.
    """
    settings, output = settings or StabilizeSettings(), Path(output)
    check_fps(settings.fps)
    paths = _listed([Path(m) for m in meshes])
    arrays = len(paths) == 1 and paths[0].suffix.lower() in ARRAYS
    if not arrays and len(paths) < 2:
        raise UsageError(f"stabilize: one mesh was given ({paths[0].name}); two or more of one person were expected.")
    _check_names(paths, output, arrays)
    sequence = read_mesh_sequence(paths[0] if arrays else paths)
    faces = sequence.faces
    if faces is None:
        raise FormatError(f"{paths[0]} has no faces; stabilising needs a surface.")
    for line in surface_faults(sequence.vertices, faces, sequence.names):
        say(line)
    found = stabilize_meshes(sequence.vertices, faces, method=settings.method, anchor=settings.anchor,
                             smooth=settings.smooth, progress=progress or (lambda *_: None))  # fmt: skip
    fps = settings.fps or sequence.fps or 30.0
    motion = head_motion(found, fps=fps, source=f"{sequence.names[0]} to {sequence.names[-1]}")
    temporary = storage.beside(output)
    try:
        temporary.mkdir(parents=True)
        back = invert_rigid(found.T_frame_anchor)
        if arrays:
            move_arrays(paths[0], temporary / paths[0].name, back)
        else:
            for path, T in zip(paths, back, strict=True):
                move_file(path, temporary / path.name, T)
                copy_materials(path, temporary)
        storage.save(temporary / MOTION, motion)
        picture, moved = motion_picture(found.apply(sequence.vertices.double()), faces, found.T_head_mesh,
                                        anchor=settings.anchor)  # fmt: skip
        Image.fromarray(picture).save(temporary / PICTURE)
        report = _report(found, sequence.names, settings, float(moved.quantile(0.5)))
        (temporary / REPORT).write_text(json.dumps(report, indent=1))
        _read_back(temporary, paths, arrays, found, sequence.vertices)
        _publish(temporary, output)
    except OSError as error:
        raise FileError(f"Cannot write {output}: {error.strerror or error}. Check folder and free space.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def _listed(given: list[Path]) -> list[Path]:
    if not given:
        raise UsageError("stabilize: no meshes were given; two or more of one person in one topology were expected.")
    if len(given) > 1 or not given[0].is_dir():
        return given
    found = [p for p in given[0].iterdir() if p.suffix.lower() in MOVERS and not p.name.startswith(".")]
    if not found:
        raise FileError(f"{given[0]} has no meshes that can be stabilised ({', '.join(sorted(MOVERS))}).")
    return sorted(found, key=lambda p: natural_key(p.name))


def _check_names(paths: list[Path], output: Path, arrays: bool) -> None:
    for path in paths:
        if not path.is_file():
            raise FileError(f"{path} does not exist." if not path.exists() else f"{path} is a folder, not a mesh.")
        if not arrays and path.suffix.lower() not in MOVERS:
            kind = "cannot be written back" if path.suffix.lower() in READERS else "is no mesh that can be read"
            raise FormatError(f"{path} {kind}; expected {', '.join(sorted(MOVERS))}, or one .npz with `vertices`.")
        if path.resolve().parent == output.resolve():
            raise FileError(f"{output} holds {path.name} itself; give another folder for the stabilised meshes.")
    names = [p.name for p in paths]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise FileError(f"Two meshes are called {twice}, and both would be written to one folder; rename one.")
    if output.exists() and not output.is_dir():
        raise FileError(f"{output} is a file; a folder for the stabilised meshes was expected.")


def _report(found: Stabilized, names: tuple[str, ...], settings: StabilizeSettings, moved_mm: float) -> dict:
    unit, metres = mesh_units(found)
    angle = torch.rad2deg(matrix_to_rotvec(found.T_frame_anchor[:, :3, :3]).norm(dim=1))
    frames = [
        {"name": name, "T_frame_anchor": T.tolist(), "rotation_deg": float(a), "confidence": float(c), "welded": int(w)}
        for name, T, a, c, w in zip(names, found.T_frame_anchor, angle, found.confidence, found.welded, strict=True)
    ]
    return {"method": settings.method, "anchor": names[settings.anchor], "units": {"name": unit, "metres": metres},
            "pairs": found.pairs, "moved_mm": {"median": moved_mm}, "frames": frames}  # fmt: skip


def _read_back(folder: Path, paths: list[Path], arrays: bool, found: Stabilized, before: torch.Tensor) -> None:
    storage.load(folder / MOTION, Motion)
    written = read_mesh_sequence(folder / paths[0].name if arrays else [folder / p.name for p in paths])
    wanted = found.apply(before.double())
    size = float((before[0].amax(0) - before[0].amin(0)).max()) + float(before.abs().max())
    off = float((written.vertices - wanted).abs().max())
    if off > 1e-5 * size:
        raise ExportError(f"The stabilised meshes did not survive being read back: off by {off:.3g}.")


def _publish(temporary: Path, output: Path) -> None:
    if not output.exists():
        os.replace(temporary, output)
        return
    for path in sorted(temporary.iterdir()):
        os.replace(path, output / path.name)
