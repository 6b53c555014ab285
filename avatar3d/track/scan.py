"""Where the face is on a scan of unknown units and axes: pictures of it from all sides, landmarks found in them, lifted
back to the surface, and combined."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import DetectionError
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.linear import LinearModel
from avatar3d.nets.crop import Square
from avatar3d.nets.face_detector import Detection, FaceDetector
from avatar3d.nets.face_landmarks import LandmarkNet, window_of_detection, window_of_points
from avatar3d.track.scan_pictures import RADIUS, Drawable, ScanPicture, camera_axes, draw, make_drawable
from avatar3d.types.landmarks import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from avatar3d.types.mesh import Mesh
from avatar3d.typing import typed

SCHEME = "mediapipe478"
COARSE, FINE = 256, 512
"""Sides of pictures, pixels: to find the face, and its landmarks."""
ROLLS = 8
SMOOTHINGS = (0, 8, 30)
"""Rounds of smoothing with which a face is looked for: noise hides it."""
CANDIDATES = 10
LEAST_SCORE = 0.45
LEAST_PRESENCE = 0.6
GOOD, WORST = 0.075, 0.17
"""Median distance of lifted landmarks from the model's mean face, as shares of the inter-ocular distance: from which a
view is believed at once, and up to which a face is a face. Mugs that look like one are flat or hollow."""
FEW, MANY = 3, 6
DOUBTFUL, SEVERE = 0.09, 0.14
"""What networks see on a ball they see from few sides, and elsewhere from each. Views that must agree at least, and the
residual of their mean with fewer than `MANY` and with more; scans have 0.05 to 0.06, a ball 0.12."""
EYES = 0.09
"""Usual distance of the outer eye corners, metres."""
VIEWS = ((0, 0), (-18, 0), (18, 0), (-38, 0), (38, 0), (0, 16), (0, -16), (-20, 12), (20, 12))
"""Yaw and pitch of the pictures in which landmarks are found, degrees."""
NO_FACE = (
    "No face was found on {name}, from whatever side. A scan of a head with its face is expected; "
    "if it is one, give its landmarks (--landmarks)."
)


@dataclass(frozen=True, kw_only=True)
class ScanLandmarks:
    """Landmarks on a scan, in its own units and axes."""

    points: Float[Tensor, "n 3"]
    """float64; NaN where unknown."""
    sigma: Float[Tensor, "n"]
    """How far views disagree, as a share of the inter-ocular distance; infinite where unknown."""
    scheme: str
    """"mediapipe478", "ibug68"."""
    views: int
    """Pictures in which the face was found; 0 for landmarks that were given."""


@dataclass(frozen=True)
class _Finding:
    points: Tensor
    """[478, 3] drawing units, NaN where unseen"""
    T_drawn_model: Tensor
    residual: float


@typed
def find_landmarks(
    mesh: Mesh,
    model: LinearModel,
    *,
    given: ScanLandmarks | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ScanLandmarks:
    """Finds 478 landmarks on a scan, however it is turned, scaled or sampled.

    Args:
        mesh: A mesh or point cloud.
        model: A model with landmarks, to tell a face from what merely looks like one.
        given: Landmarks that are known already, which say where the face is.
        progress: Called with stage, done, total.

    Raises:
        DetectionError: no face.
    """
    failed = DetectionError(NO_FACE.format(name=mesh.name or "the mesh"))
    net = LandmarkNet()
    for smoothing in SMOOTHINGS:
        try:
            return _landmarks_of(make_drawable(mesh, smoothing), model, net, given, failed, progress)
        except DetectionError:
            if smoothing == SMOOTHINGS[-1]:
                raise
    raise failed


def _landmarks_of(
    scan: Drawable,
    model: LinearModel,
    net: LandmarkNet,
    given: ScanLandmarks | None,
    failed: DetectionError,
    progress: Callable[[str, int, int], None] | None,
) -> ScanLandmarks:
    if len(scan.faces) < 50:
        raise failed
    mean = _mean_face(model)
    first = _front(scan, net, mean, failed) if given is None else _from_given(scan, model, given, failed)
    looks: list[Tensor] = []
    weights: list[Tensor] = []
    T = first.T_drawn_model
    for i, (yaw, pitch) in enumerate(VIEWS):
        found = _look(scan, net, T, mean, math.radians(yaw), math.radians(pitch))
        if found is not None:
            looks.append(found[0])
            weights.append(found[1])
        if i == 0 and looks:  # the first view from the front turns the others
            better = _match(looks[0], mean)
            T = better.T_drawn_model if better is not None and better.residual < WORST else T
        if progress:
            progress("landmarks", i + 1, len(VIEWS))
    if len(looks) < FEW:
        raise failed
    points, sigma = _combined(torch.stack(looks), torch.stack(weights))
    match = _match(points, mean)
    if match is None or match.residual > (DOUBTFUL if len(looks) < MANY else SEVERE):
        raise failed
    ear = float((points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]).norm())
    if not math.isfinite(ear):
        raise failed
    return ScanLandmarks(points=scan.to_scan(points), sigma=sigma / ear, scheme=SCHEME, views=len(looks))


def _from_given(scan: Drawable, model: LinearModel, given: ScanLandmarks, failed: DetectionError) -> _Finding:
    e = model.landmarks[given.scheme]
    points = points_on_faces(model.template, model.faces, e.faces, e.weights)
    drawn = ((given.points - scan.centre) / scan.unit).float()
    weight = 1 / (e.residual.clamp_min(0.015).square() + given.sigma.square())
    found = _match(drawn, (points, weight), least=12)
    if found is None:
        raise failed
    return found


def _mean_face(model: LinearModel) -> tuple[Tensor, Tensor]:
    """Landmarks of the mean face and their weights."""
    e = model.landmarks[SCHEME]
    points = points_on_faces(model.template, model.faces, e.faces, e.weights)
    residual = e.residual.clone()
    residual[468:] = torch.inf
    return points, 1 / residual.clamp_min(0.015).square()


def _match(points: Tensor, mean: tuple[Tensor, Tensor], least: int = 60) -> _Finding | None:
    """The similarity that brings the mean face to lifted landmarks, robustly."""
    known = torch.isfinite(points[:, 0]) & (mean[1] > 0)
    if known.sum() < least:
        return None
    source, target, w = mean[0][known].double(), points[known].double(), mean[1][known].double()
    usual = torch.ones(len(w), dtype=torch.float64)
    T = procrustes(source, target, w, with_scale=True)
    for _ in range(6):
        T = procrustes(source, target, w * usual, with_scale=True)
        off = (apply(T, source) - target).norm(dim=1)
        usual = 1 / (1 + (off / off.median().clamp_min(1e-9) / 2).square())
    scale = torch.linalg.det(T[:3, :3]).clamp_min(1e-18) ** (1 / 3)
    ear = scale * EYES
    return _Finding(points, T.float(), float((w.sqrt() * off).sum() / w.sqrt().sum() / ear))


def _front(scan: Drawable, net: LandmarkNet, mean: tuple[Tensor, Tensor], failed: DetectionError) -> _Finding:
    """The best of the views that show a face."""
    detector = FaceDetector(min_score=LEAST_SCORE)
    candidates: list[tuple[Detection, ScanPicture]] = []
    origin = torch.zeros(3)
    for towards in _directions():
        up = torch.tensor([0.0, 1, 0]) if abs(towards[1]) < 0.9 else torch.tensor([0.0, 0, 1])
        picture = draw(scan, camera_axes(towards, up), origin, 3.2 * RADIUS, COARSE)
        whole = [Square(COARSE / 2, COARSE / 2, COARSE, 2 * math.pi * k / ROLLS) for k in range(ROLLS)]
        candidates += [(d, picture) for d in detector.detect_in(picture.image, whole)]
    if not candidates:  # a face may be a small part of what was scanned
        for towards in _directions()[:6]:
            up = torch.tensor([0.0, 1, 0]) if abs(towards[1]) < 0.9 else torch.tensor([0.0, 0, 1])
            picture = draw(scan, camera_axes(towards, up), origin, 4.5 * RADIUS, FINE)
            for found in detector.search(picture.image):
                candidates += [(d, picture) for d in found]
                if found:
                    break
    candidates.sort(key=lambda c: -c[0].score)
    best: _Finding | None = None
    for detection, picture in candidates[:CANDIDATES]:
        found = _closer(scan, net, detection, picture, mean)
        if found is not None and (best is None or found.residual < best.residual):
            best = found
        if best is not None and best.residual < GOOD:
            break
    if best is None or best.residual > WORST:
        raise failed
    return best


def _directions() -> list[Tensor]:
    """Six faces, twelve edges and eight corners of a cube, unit vectors."""
    grid = [torch.tensor([x, y, z], dtype=torch.float32) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    ordered = sorted((g for g in grid if g.abs().sum()), key=lambda g: float(g.abs().sum()))
    return [g / g.norm() for g in ordered]


def _closer(
    scan: Drawable, net: LandmarkNet, detection: Detection, picture: ScanPicture, mean: tuple[Tensor, Tensor]
) -> _Finding | None:
    """Draws a detected face upright and large, and finds its landmarks."""
    middle = (detection.box[:2] + detection.box[2:])[None] / 2
    point, _ = picture.lift(middle)
    if not torch.isfinite(point).all():
        return None
    depth = float((point[0] - picture.target) @ picture.R[2]) + picture.distance
    width = 2.4 * detection.size * depth / picture.focal
    c, s = math.cos(detection.roll), math.sin(detection.roll)
    turn = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    large = draw(scan, turn @ picture.R, point[0], width, FINE, headlight=0.6)
    half = FINE / 2.4 / 2
    start = Detection(
        box=torch.tensor([FINE / 2 - half, FINE / 2 - half, FINE / 2 + half, FINE / 2 + half]),
        keypoints=torch.tensor([[0.0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 0]]), score=detection.score,
    )  # fmt: skip
    pixels = _settled(net, large.image, window_of_detection(start))
    if pixels is None:
        return None
    points, facing = large.lift(pixels)
    return _match(torch.where((facing > 0.25)[:, None], points, torch.nan), mean)


def _settled(net: LandmarkNet, image: np.ndarray, window: Square) -> Tensor | None:
    """Landmarks [478, 2], pixels: each look from where the last one saw the face, the last ones averaged."""
    looks = []
    for i in range(6):
        reading = net(image, window)
        if reading.presence < (LEAST_PRESENCE if i > 1 else 0.05):
            return None
        window = window_of_points(reading.points)
        if not 8 < window.size < 4 * max(image.shape):
            return None
        # windows a little larger and smaller: their mean is steadier than one look
        window = Square(window.x, window.y, window.size * (1.0, 0.94, 1.06, 0.97, 1.03, 1.0)[i], window.angle)
        if i >= 2:
            looks.append(torch.from_numpy(reading.points[:, :2].copy()))
    return torch.stack(looks).mean(0).float()


def _look(
    scan: Drawable, net: LandmarkNet, T: Tensor, mean: tuple[Tensor, Tensor], yaw: float, pitch: float
) -> tuple[Tensor, Tensor] | None:
    """Landmarks [478, 3] seen from a side, and how far they are to be trusted."""
    scale = float(torch.linalg.det(T[:3, :3]) ** (1 / 3))
    axes = T[:3, :3] / scale
    towards = torch.tensor([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    face = mean[0][:468]
    target = apply(T, 0.5 * (face.amin(0) + face.amax(0))[None])[0]
    width = 2.0 * scale * float((face.amax(0) - face.amin(0)).max())
    picture = draw(scan, camera_axes(axes @ towards, axes[:, 1]), target, width, FINE, headlight=0.6)
    start = picture.pixels_of(apply(T, mean[0]))
    pixels = _settled(net, picture.image, window_of_points(start.double().numpy()))
    if pixels is None:
        return None
    points, facing = picture.lift(pixels)
    found = _match(torch.where((facing > 0.3)[:, None], points, torch.nan), mean)
    if found is None or found.residual > WORST:
        return None
    # what turns away slides along the outline
    weight = ((facing - 0.25) / 0.5).clamp(0, 1) ** 2 * math.cos(yaw) ** 2
    return points, torch.where(torch.isfinite(points[:, 0]), weight, 0.0)


def _combined(looks: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Robust means over views [l, 478, 3], and how far views lie from them."""
    values = looks.nan_to_num(0.0)
    total = weights.sum(0)
    # start from the view that is trusted most, so that views of another layer (an ear behind a cheek) fall out
    centre = values.gather(0, weights.argmax(0)[None, :, None].expand(1, -1, 3))[0]
    w = weights
    for _ in range(10):
        off = (values - centre).norm(dim=2)
        scale = 0.004 * RADIUS / 0.13
        w = weights / (1 + (off / scale).square())
        centre = (values * w[..., None]).sum(0) / w.sum(0).clamp_min(1e-9)[:, None]
    off = (values - centre).norm(dim=2)
    sigma = ((off.square() * w).sum(0) / w.sum(0).clamp_min(1e-9)).sqrt()
    good = total > 0.05
    return torch.where(good[:, None], centre, torch.nan), torch.where(good, sigma, torch.inf)
