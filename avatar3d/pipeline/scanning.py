"""A scan to an avatar: find the face, register the model, bake the texture, report in millimetres."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from avatar3d import __version__, models, storage
from avatar3d.appearance.detail import scan_detail
from avatar3d.appearance.layout import in_one_texture
from avatar3d.appearance.scan_light import ScanLight
from avatar3d.appearance.scan_texture import dress_scan
from avatar3d.errors import DetectionError, FileError
from avatar3d.models.lids import close_lids
from avatar3d.models.linear import LandmarkEmbedding, LinearModel
from avatar3d.models.mesh_file import READERS, read_mesh
from avatar3d.models.registration import Registration, register
from avatar3d.models.registration_measure import SurfaceDistance, measure_surface, visible_scan
from avatar3d.models.registration_parts import model_parts
from avatar3d.models.rig import build_rig
from avatar3d.nets.registry import NETWORKS
from avatar3d.pipeline.common import Progress, Say, peak_memory, write_report
from avatar3d.pipeline.expressions import learn_expressions
from avatar3d.track.scan import SCHEME, ScanLandmarks, find_landmarks
from avatar3d.track.scan_landmarks import read_landmarks
from avatar3d.types import ARKIT_INDEX, Avatar, Rig
from avatar3d.types.mesh import Mesh

IRIS = slice(468, 478)


def is_scan(path: Path | str) -> bool:
    """Whether a file is a mesh or a point cloud, by its name."""
    return Path(path).suffix.lower() in READERS and not Path(path).is_dir()


@dataclass(frozen=True, kw_only=True)
class FittedScan:
    """What comes of a scan."""

    avatar: Avatar
    registration: Registration
    report: dict


def fit_scan(
    source: Path | str,
    output: Path | str,
    *,
    expressions: Sequence[Path | str] = (),
    model: str = "head",
    landmarks: Path | str | None = None,
    texture_size: int = 1024,
    light: ScanLight = "auto",
    seed: int = 0,
    report: Path | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> dict:
    """A scan, and others of the same person with expressions, to an `.avatar` file, checked by reading it back.

    Returns:
        The report: `surface`, `units` and the rest (DESIGN.md 7).

    Raises:
        FileError, FormatError: a scan, or landmarks, that cannot be read.
        DetectionError: no face on it.
        TrackingError: nothing to register to.
    """
    output = Path(output)
    timings: dict[str, float] = {}
    with _timed(timings, "open"):
        scan, others = read_mesh(source), [read_mesh(path) for path in expressions]
        loaded = models.load(model)
    fitted = reconstruct_scan(
        scan, loaded, expressions=others, landmarks=landmarks, texture_size=texture_size, light=light, seed=seed,
        timings=timings, progress=progress, say=say,
    )  # fmt: skip
    with _timed(timings, "save"):
        storage.save(output, fitted.avatar)
        back = storage.load(output, Avatar)
        if back.rig.neutral.shape != fitted.avatar.rig.neutral.shape:
            raise FileError(f"{output} was not read back as it was written; check the disk.")
    result = fitted.report | {
        "timings": {k: round(v, 3) for k, v in timings.items()}, "memory": {"peak_mb": peak_memory()},
    }  # fmt: skip
    if report is not None:
        write_report(report, result)
    return result


def reconstruct_scan(
    scan: Mesh,
    model: LinearModel,
    *,
    expressions: Sequence[Mesh] = (),
    landmarks: Path | str | None = None,
    texture_size: int = 1024,
    light: ScanLight = "auto",
    seed: int = 0,
    timings: dict[str, float] | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> FittedScan:
    """An animatable avatar from a scan.

    Args:
        scan: Mesh or cloud, in any units and axes.
        model: A model with landmarks.
        expressions: Further scans of the same person with expressions: see `learn_expressions`.
        landmarks: A file of 68 or 51 landmarks on the scan, where there is one.
        texture_size: Side of the texture, a multiple of 64.
        light: Whether the scan's light is divided out of its colours: "auto" where it comes from a side.
        seed: Of the scan's sampling.
        timings: Receives seconds by stage.
        progress: Called with stage, done, total.
        say: Called with what a person must know.

    Raises:
        DetectionError: no face on the scan.
        TrackingError: nothing to register to.
        ValueError: a model without landmarks.
    """
    timings = {} if timings is None else timings
    if SCHEME not in model.landmarks:
        raise ValueError(f"{model.name} has no landmarks; compute them first (models.embedding.compute_embedding).")
    with _timed(timings, "landmarks"):
        given = None if landmarks is None else read_landmarks(landmarks, model)
        found = _found(scan, model, given, progress, say)
        points, sigma, embedding = _joined(model, given, found)
    with _timed(timings, "register"):
        r = register(model, scan, points, sigma, embedding, seed=seed, progress=progress)
    _tell(scan, r, say)
    with _timed(timings, "rig"):
        rig = _rig(model, r)
    with _timed(timings, "texture"):
        iris = None if found is None or not scan.is_coloured else found.points[IRIS]
        texture = dress_scan(scan, r.T_model_scan, r.vertices, rig, model, size=texture_size, iris=iris, light=light)
        detail = scan_detail(scan, r.T_model_scan.float(), r.vertices, rig, size=texture_size)
        if detail is not None:
            texture = replace(texture, normals=detail.normals)
        if progress:
            progress("texture", 1, 1)
    told: list[dict] = []
    if expressions:
        with _timed(timings, "expressions"):
            rig, texture, told = learn_expressions(
                expressions, model, rig, texture, detail, size=texture_size, seed=seed, progress=progress, say=say
            )
    with _timed(timings, "measure"):
        report = _report(scan, model, r, given, found)
        if scan.is_coloured:
            report["scan"]["light"] = "kept" if texture.light is None else "divided out"
        if told:
            report["expressions"] = told
    avatar = Avatar(
        model=model.name, identity=r.identity, rig=rig, appearance=texture,
        manifest=_manifest(scan, model, report, texture_size),
    )  # fmt: skip
    return FittedScan(avatar=avatar, registration=r, report=report)


def _found(
    scan: Mesh, model: LinearModel, given: ScanLandmarks | None, progress: Progress | None, say: Say
) -> ScanLandmarks | None:
    """Landmarks that the networks find; given ones do without where there are none."""
    try:
        return find_landmarks(scan, model, given=given, progress=progress)
    except DetectionError:
        if given is None:
            raise
        say("the networks see no face on the scan; only the given landmarks are used")
        return None


def _joined(
    model: LinearModel, given: ScanLandmarks | None, found: ScanLandmarks | None
) -> tuple[Tensor, Tensor, LandmarkEmbedding]:
    """Given and found landmarks as one set."""
    sets = [s for s in (found, given) if s is not None]
    parts = [model.landmarks[s.scheme] for s in sets]
    embedding = LandmarkEmbedding(
        faces=torch.cat([p.faces for p in parts]), weights=torch.cat([p.weights for p in parts]),
        residual=torch.cat([p.residual for p in parts]),
    )  # fmt: skip
    sigma = torch.cat([s.sigma.float() for s in sets])
    if found is not None:
        sigma[IRIS] = torch.inf  # eyes may look anywhere
    return torch.cat([s.points for s in sets]), sigma, embedding


def _rig(model: LinearModel, r: Registration) -> Rig:
    rig = build_rig(model, r.identity, r.offsets)
    shapes = rig.shapes.clone()
    for side in ("Left", "Right"):  # lids that the scan has half closed close by less
        blink = ARKIT_INDEX[f"eyeBlink{side}"]
        shapes[blink] = close_lids(rig.neutral, shapes[blink], model.regions, side.lower(), shorten=True)
    rig = replace(rig, shapes=shapes, joint_positions=rig.joint_positions + r.joint_offsets)
    return in_one_texture(rig)


def _tell(scan: Mesh, r: Registration, say: Say) -> None:
    name = {"m": "metres", "cm": "centimetres", "mm": "millimetres", "in": "inches", "dm": "decimetres", "ft": "feet"}
    if r.units.name == "unknown":
        say(f"the scan is in no known unit: its head was made as large as a usual one ({r.units.metres:.4g} m a unit)")
    else:
        say(f"the scan is in {name[r.units.name]}, {_axis(r, 1)} up, the face along {_axis(r, 2)}")
    if bool(r.expression.abs().max() > 0.05):
        say("the scan shows an expression; the avatar's neutral face is without it")


def _axis(r: Registration, row: int) -> str:
    """The scan's axis along a model axis; "tilted" where none is within 30 degrees."""
    direction = r.T_model_scan[row, :3] / r.T_model_scan[row, :3].norm()
    k = int(direction.abs().argmax())
    if float(direction[k].abs()) < math.cos(math.radians(30)):
        return "tilted"
    return ("+" if direction[k] > 0 else "-") + "xyz"[k]


def _report(
    scan: Mesh, model: LinearModel, r: Registration, given: ScanLandmarks | None, found: ScanLandmarks | None
) -> dict:
    parts = model_parts(model)
    points = visible_scan(scan, r.T_model_scan)
    after, before = (measure_surface(model, parts, v, points) for v in (r.vertices, r.coefficients_only))
    shown = {n: round(float(x), 3) for n, x in zip(model.expression_names, r.expression, strict=True) if abs(x) > 0.02}
    return {
        "surface": {
            **_numbers(after["face"]),
            "by_region": {name: _numbers(d) for name, d in after.items()},
            "coefficients": {**_numbers(before["face"]), "by_region": {n: _numbers(d) for n, d in before.items()}},
            "flipped_triangles": r.flipped,
        },
        "units": r.units.name,
        "scan": {
            "name": scan.name, "kind": "point cloud" if scan.faces is None else "mesh", "vertices": len(scan.vertices),
            "faces": 0 if scan.faces is None else len(scan.faces), "coloured": scan.is_coloured,
            "metres_per_unit": r.units.metres, "head_size": round(r.units.size, 4), "up_axis": _axis(r, 1),
            "face_axis": _axis(r, 2), "noise_mm": round(1e3 * r.samples.noise, 3),
            "T_model_scan": r.T_model_scan.tolist(),
        },
        "landmarks": {
            "used": r.landmarks, "given": 0 if given is None else int(torch.isfinite(given.sigma).sum()),
            "found": 0 if found is None else int(torch.isfinite(found.sigma).sum()),
            "views": 0 if found is None else found.views,
        },
        "expression": shown,
    }  # fmt: skip


def _numbers(d: SurfaceDistance) -> dict:
    return {"median_mm": round(d.median, 4), "p95_mm": round(d.p95, 4), "points": d.points}


def _manifest(scan: Mesh, model: LinearModel, report: dict, texture_size: int) -> dict:
    return {
        "avatar3d": __version__,
        "model": {"name": model.name, "licence": model.licence, "provenance": dict(model.provenance)},
        "networks": [
            {"name": n.name, "sha256": n.sha256, "licence": n.licence, "source": n.source}
            for n in NETWORKS.values()
            if n.name in ("face_detector", "face_landmarks")
        ],
        "footage": [
            {"name": name, "kind": "scan", "frames": 1}
            for name in (scan.name, *(e["name"] for e in report.get("expressions", ())))
        ],
        "scan": report["scan"] | {"units": report["units"]},
        "appearance": {"kind": "mesh", "texture_size": texture_size},
    }


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start
