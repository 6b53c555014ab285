"""Landmarks that come with a scan: iBUG's 68 points, or the 51 without the jaw, in the files that tools write."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.errors import FileError, FormatError
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.linear import LinearModel
from avatar3d.track.scan import ScanLandmarks
from avatar3d.typing import typed

SIGMA, JAW_SIGMA = 0.05, 0.15
"""Of points that people set, as shares of the inter-ocular distance: schemes and hands differ, on the jaw above all."""
WORST = 0.2
"""Median distance from a face's landmarks, likewise, from which they are none."""
_GROUPS = {
    "jaw": (17, ("jaw", "chin", "contour")), "brow": (5, ("eyebrow", "brow")), "nose": (9, ("nose",)),
    "eye": (6, ("eye",)), "mouth": (20, ("mouth", "lip")),
}  # fmt: skip
SUFFIXES = (".npy", ".npz", ".ljson", ".json", ".pp", ".txt", ".csv", ".xyz")


@typed
def read_landmarks(path: Path | str, model: LinearModel) -> ScanLandmarks:
    """Landmarks of a scan from a file, in the scan's units and axes.

    Numpy arrays, text and picked points (.pp) hold 68 or 51 points in iBUG's order; menpo's .ljson may have them in
    labelled groups of any order.

    Args:
        path: The file.
        model: A model with the scheme, by which left and right are told apart where labels do not say.

    Raises:
        FileError: the file cannot be read.
        FormatError: not 68 or 51 points, or not the places of a face.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError(f"{path} holds no landmarks; expected one of {', '.join(SUFFIXES)}.")
    best: tuple[float, Tensor] | None = None
    for candidate in _candidates(path):
        off = _misfit(candidate, model)
        if best is None or off < best[0]:
            best = off, candidate
    if best is None or best[0] > WORST:
        raise FormatError(
            f"{path}: its points do not lie as the landmarks of a face do; 68 or 51 points in iBUG's order were "
            "expected, in the scan's units and axes."
        )
    points = best[1]
    sigma = torch.full((68,), SIGMA)
    sigma[:17] = JAW_SIGMA
    sigma[~torch.isfinite(points).all(1)] = torch.inf
    return ScanLandmarks(points=points, sigma=sigma, scheme="ibug68", views=0)


def _candidates(path: Path) -> Iterator[Tensor]:
    """Orders in which a file's points may be meant, [68, 3]."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".ljson", ".json"):
            yield from _json(path, json.loads(path.read_text("utf-8")))
        elif suffix == ".pp":
            text = path.read_text("utf-8", "replace")
            rows = [[_attribute(tag, axis) for axis in "xyz"] for tag in re.findall(r"<point\b[^>]*>", text)]
            yield _sixty_eight(path, rows)
        elif suffix in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=False)
            array = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
            yield _sixty_eight(path, array)
        else:
            lines = path.read_text("utf-8", "replace").replace(",", " ").splitlines()
            yield _sixty_eight(path, [line.split()[-3:] for line in lines if line.strip() and line[0] not in "#/"])
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise FormatError(f"{path} cannot be read as landmarks: {error}.") from error


def _attribute(tag: str, name: str) -> float:
    found = re.search(rf'\b{name}="([^"]*)"', tag)
    if found is None:
        raise ValueError(f"a point without {name}")
    return float(found[1])


def _sixty_eight(path: Path, rows: object) -> Tensor:
    points = np.array(rows, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) not in (51, 68):
        raise FormatError(f"{path} holds an array {points.shape}; 68 or 51 landmarks of three numbers were expected.")
    out = torch.full((68, 3), torch.nan, dtype=torch.float64)
    out[68 - len(points) :] = torch.from_numpy(points)
    return out


def _json(path: Path, content: dict | list) -> Iterator[Tensor]:
    if isinstance(content, list):
        yield _sixty_eight(path, content)
        return
    group = content
    if isinstance(content.get("groups"), dict):
        group = next(iter(content["groups"].values()))
    elif isinstance(content.get("groups"), list):
        group = content["groups"][0]
    marks = group.get("landmarks", group)
    points = marks["points"] if isinstance(marks, dict) else marks
    points = [p["point"] if isinstance(p, dict) else p for p in points]
    array = np.array([[np.nan if x is None else x for x in p] for p in points], dtype=np.float64)
    labels = group.get("labels", [])
    if len(array) in (51, 68):
        yield _sixty_eight(path, array)
    yield from _by_labels(array, labels)


def _by_labels(points: np.ndarray, labels: list) -> Iterator[Tensor]:
    """Groups in iBUG's order; which eye and brow comes first is tried both ways."""
    found: dict[str, list[np.ndarray]] = {}
    for label in labels:
        name, mask = str(label["label"]).lower(), np.asarray(label["mask"], dtype=int)
        for kind in ("brow", "eye", "jaw", "nose", "mouth"):
            count, words = _GROUPS[kind]
            if any(word in name for word in words):
                if len(mask) == count:
                    found.setdefault(kind, []).append(points[mask])
                break
    if len(found.get("eye", [])) != 2 or len(found.get("mouth", [])) != 1 or len(found.get("nose", [])) != 1:
        return
    for first in (0, 1):
        out = np.full((68, 3), np.nan)
        if len(found.get("jaw", [])) == 1:
            out[:17] = found["jaw"][0]
        if len(found.get("brow", [])) == 2:
            out[17:22], out[22:27] = found["brow"][first], found["brow"][1 - first]
        out[27:36] = found["nose"][0]
        out[36:42], out[42:48] = found["eye"][first], found["eye"][1 - first]
        out[48:68] = found["mouth"][0]
        yield torch.from_numpy(out)


def _misfit(points: Tensor, model: LinearModel) -> float:
    """Median distance from the mean face's landmarks after alignment, as a share of the inter-ocular distance."""
    e = model.landmarks["ibug68"]
    mean = points_on_faces(model.template, model.faces, e.faces, e.weights).double()
    known = torch.isfinite(points).all(1)
    known[:17] = False
    if known.sum() < 12:
        return float("inf")
    w = torch.ones(int(known.sum()), dtype=torch.float64)
    source, target = points[known], mean[known]
    off = w
    for _ in range(8):
        off = (apply(procrustes(source, target, w, with_scale=True), source) - target).norm(dim=1)
        w = 1 / (1 + (off / off.median().clamp_min(1e-6) / 2).square())
    return float(off.median() / (mean[45] - mean[36]).norm())
