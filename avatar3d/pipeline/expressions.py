"""Several scans of one person to one avatar: the first at rest, the others say how the face departs from its shapes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from avatar3d.appearance.detail import Detail, scan_detail
from avatar3d.appearance.wrinkles import find_wrinkles
from avatar3d.errors import TrackingError
from avatar3d.models.linear import LinearModel
from avatar3d.models.personal import corrective_shapes, personal_model
from avatar3d.models.registration import Registration, register
from avatar3d.models.registration_measure import measure_surface, visible_scan
from avatar3d.models.registration_parts import model_parts
from avatar3d.pipeline.common import Progress, Say
from avatar3d.track.scan import find_landmarks
from avatar3d.types import Rig, TextureSet
from avatar3d.types.mesh import Mesh

DOUBTFUL, SOMEONE_ELSE = 1.2, 2.0
"""Median distance of the nose, which expressions move little, that other faces have (1.4 to 3.5 among made-up people;
0.1 for the same), and from which a scan is refused, millimetres."""
LEAST = 0.1
"""Coefficients from which on an expression is told in words."""


def learn_expressions(
    scans: Sequence[Mesh],
    model: LinearModel,
    rig: Rig,
    looks: TextureSet,
    still: Detail | None,
    *,
    size: int = 1024,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> tuple[Rig, TextureSet, list[dict]]:
    """The rig with shapes that make the scanned faces, and the texture with the wrinkles that come with them.

    Each scan is registered with the person's own shapes; what they leave is shared out among the coefficients that the
    scan shows, by regularised least squares: coarse as displacements of the shapes, fine as maps of slopes. A scan that
    is named after a shape (`jawOpen.obj`, `mouthSmile.obj` for both sides) shows just that, fully.

    Args:
        scans: Further scans of the person, in any units and axes.
        model: The model of the avatar.
        rig: The avatar's, from the scan at rest.
        looks: Its texture.
        still: Detail of the scan at rest.
        size: Side of the texture.
        seed: Of the scans' sampling.
        progress: Called with stage, done, total.
        say: Called with what a person must know.

    Returns:
        The two, and for every scan a report.

    Raises:
        DetectionError: no face on a scan.
        TrackingError: a scan that shows somebody else.
    """
    own, parts = personal_model(model, rig), model_parts(model)
    fits: list[Registration] = []
    details: list[Detail | None] = []
    for scan in scans:
        marks = find_landmarks(scan, model, progress=progress)
        fit = register(
            own, scan, marks.points, marks.sigma, own.landmarks[marks.scheme], seed=seed, progress=progress,
            resting=False,
        )  # fmt: skip
        before = measure_surface(model, parts, fit.coefficients_only, visible_scan(scan, fit.T_model_scan))
        off = before["nose" if "nose" in before else "face"].median - 1e3 * fit.samples.noise
        if off > SOMEONE_ELSE:
            raise TrackingError(
                f"{scan.name} has another nose than the first scan ({off:.1f} mm apart): several scans are of one "
                "person in several expressions. Fit other people on their own."
            )
        if off > DOUBTFUL:
            say(f"{scan.name} may show somebody else: its nose is {off:.1f} mm from the first scan's")
        named = named_expression(scan.name, rig)
        if named is not None:
            shown = rig.neutral + torch.einsum("s,svc->vc", named, rig.shapes)
            fit = replace(fit, expression=named, coefficients_only=shown)
        fits.append(fit)
        details.append(scan_detail(scan, fit.T_model_scan.float(), fit.vertices, rig, size=size))
        say(f"{scan.name} shows {_in_words(rig, fit.expression)}")
    coefficients = torch.stack([f.expression for f in fits])
    departures = torch.stack([f.vertices - f.coefficients_only for f in fits])
    better = replace(rig, shapes=rig.shapes + corrective_shapes(rig, coefficients, departures))
    fine = [(d, c) for d, c in zip(details, coefficients, strict=True) if d is not None]
    if still is not None and fine:
        wrinkles = find_wrinkles(still, [d for d, _ in fine], torch.stack([c for _, c in fine]))
        looks = replace(looks, wrinkles=wrinkles)
    return better, looks, [_report(model, scan, f, rig, better) for scan, f in zip(scans, fits, strict=True)]


def named_expression(name: str, rig: Rig) -> Tensor | None:
    """Coefficients of the shape that a file is named after, or of both sides' ("mouthSmile"); None for other names."""
    stem = name.rsplit("/", 1)[-1].split(".")[0].lower()
    wanted = {stem, f"{stem}left", f"{stem}right"}
    shown = torch.tensor([float(n.lower() in wanted) for n in rig.shape_names])
    # "mouth" is a stem of mouthLeft and mouthRight, which are two directions
    return None if not shown.any() or stem in ("mouth", "jaw") else shown


def _in_words(rig: Rig, expression: Tensor) -> str:
    shown = [(float(x), n) for n, x in zip(rig.shape_names, expression, strict=True) if x >= LEAST]
    if not shown:
        return "no expression that the shapes know: it adds nothing"
    return ", ".join(f"{n} {x:.1f}" for x, n in sorted(shown, reverse=True)[:4])


def _report(model: LinearModel, scan: Mesh, fit: Registration, rig: Rig, better: Rig) -> dict:
    """How far the avatar's own face with the scan's coefficients is from the scan, before and after."""
    points = visible_scan(scan, fit.T_model_scan)
    parts, c = model_parts(model), fit.expression
    faces = {"before": rig, "after": better}
    found = {
        when: measure_surface(model, parts, r.neutral + torch.einsum("s,svc->vc", c, r.shapes), points)["face"]
        for when, r in faces.items()
    }
    return {
        "name": scan.name,
        "expression": {n: round(float(x), 3) for n, x in zip(rig.shape_names, c, strict=True) if x > 0.02},
        "surface": {w: {"median_mm": round(d.median, 4), "p95_mm": round(d.p95, 4)} for w, d in found.items()},
    }  # fmt: skip
