"""The solvers' state as a `Track`: poses of model space in a world with +y up, residuals, figures for the report."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.rotation import matrix_to_quat, matrix_to_rotvec, quat_to_matrix
from avatar3d.geometry.transform import invert_rigid, make_transform
from avatar3d.track import observe, scheme
from avatar3d.track.config import TrackConfig
from avatar3d.track.detections import Detections
from avatar3d.track.joint import JointFit
from avatar3d.track.observe import Observations, State
from avatar3d.track.problem import Problem
from avatar3d.track.residual import Residual
from avatar3d.track.smooth import second_differences
from avatar3d.types.camera import Camera
from avatar3d.types.track import DroppedFrame, Track


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What the solvers found."""

    problem: Problem
    obs: Observations
    marks: Observations
    """The same with this person's own error of the detector taken off, which the frames were fitted to."""
    state: State
    alone: State
    """Every frame by itself, before smoothing."""
    usable: Bool[Tensor, "t"]
    linked: Bool[Tensor, "t"]
    dropped: tuple[DroppedFrame, ...]
    joint: JointFit
    determined: bool
    residual: Residual | None


def mean_rotation(R: Float[Tensor, "t 3 3"]) -> Float[Tensor, "3 3"]:
    """The rotation next to the mean of rotation matrices."""
    U, _, Vt = torch.linalg.svd(R.mean(0))
    flip = torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(U @ Vt))], dtype=R.dtype))
    return quat_to_matrix(matrix_to_quat(U @ flip @ Vt))


def make_track(solution: Solution, detections: Detections, config: TrackConfig) -> Track:
    """Brings a solution into the world's axes and gathers what the report needs."""
    problem, obs, state = solution.problem, solution.marks, solution.state
    T_start_head = make_transform(state.R, state.t - (state.R @ problem.origin))  # of model space, not of `origin`
    cameras, T_world_head = _worlds(solution, detections, T_start_head)
    e = len(problem.model.expression_names)
    joints = {}
    for column, (joint, axis) in enumerate(problem.joints):
        turn = joints.setdefault(joint, torch.zeros(obs.frames, 3))
        turn[:, axis] = state.expression[:, e + column].float()
    residual = _per_instant(obs, observe.residuals(problem, obs, state).nanmedian(1).values)
    relative = _per_instant(
        obs, observe.residuals(problem, obs, state).nanmedian(1).values / observe.unit_pixels(problem, obs, state)
    )
    fit = (1.25 - relative.nan_to_num(1) / 0.04).clamp(0.05, 1)
    presence = _per_instant(obs, obs.confidence.amax(1)).nan_to_num(0)
    confidence = torch.where(solution.usable, fit * presence, 0)
    first = torch.searchsorted(obs.frame, torch.arange(obs.frames))
    return Track(
        model=problem.model.name,
        identity=state.identity.float(),
        offsets=None if solution.residual is None else solution.residual.offsets.float(),
        expression=state.expression[:, :e].float(),
        rotation=matrix_to_rotvec(T_world_head[:, :3, :3]).float(),
        translation=T_world_head[:, :3, 3].float(),
        joints=joints,
        cameras=cameras,
        camera_of_frame=detections.camera[first].long(),
        fps=detections.fps,
        time=detections.time[first].float(),
        landmarks=detections.landmarks[first].float(),
        residual=torch.where(solution.usable, residual, torch.nan).float(),
        confidence=confidence.float(),
        tracked=solution.usable,
        dropped=solution.dropped,
        cuts=detections.cuts,
        focal_determined=solution.determined,
        report=_report(solution, detections),
    )


def _worlds(solution: Solution, detections: Detections, T: Tensor) -> tuple[tuple[Camera, ...], Tensor]:
    """Cameras and head poses. Each camera's world is the mean pose of the head that it saw; a rig's is its own."""
    state = solution.state
    if detections.instant is not None:
        return tuple(lens.camera for lens in detections.lenses), T  # type: ignore[misc]
    cameras, out = [], T.clone()
    for c, lens in enumerate(detections.lenses):
        own = detections.camera == c
        good = own & solution.usable
        good = good if bool(good.any()) else own
        T_camera_world = make_transform(mean_rotation(T[good, :3, :3]), T[good, :3, 3].mean(0))
        out[own] = invert_rigid(T_camera_world) @ T[own]
        if lens.camera is not None:
            cameras.append(replace(lens.camera, T_camera_world=T_camera_world))
        else:
            cameras.append(Camera.from_focal(float(state.focal[c]), lens.width, lens.height, T_camera_world))
    return tuple(cameras), out


def _per_instant(obs: Observations, values: Tensor) -> Tensor:
    """Mean over the pictures of every instant, without those that saw nothing."""
    known = torch.isfinite(values)
    total = torch.zeros(obs.frames, dtype=values.dtype).index_add_(0, obs.frame, values.nan_to_num(0) * known)
    count = torch.zeros(obs.frames, dtype=values.dtype).index_add_(0, obs.frame, known.to(values))
    return total / torch.where(count > 0, count, torch.nan)


def _report(solution: Solution, detections: Detections) -> dict:
    obs, state = solution.marks, solution.state
    nme, nme_uncorrected = (_known(landmark_errors(solution.problem, o, state), solution) for o in (obs, solution.obs))
    rotation, translation = _jitter(state, solution)
    rotation_alone, translation_alone = _jitter(solution.alone, solution)
    ratios = [a / b for a, b in ((rotation, rotation_alone), (translation, translation_alone)) if b > 0]
    focal = [round(float(f), 1) for f in state.focal]
    return {
        "frames": {
            "total": obs.frames,
            "tracked": int(solution.usable.sum()),
            "dropped": [{"index": d.index, "reason": d.reason} for d in solution.dropped],
            "cuts": list(detections.cuts),
        },
        "nme": {
            "median": float(nme.median()),
            "p95": float(nme.quantile(0.95)),
            "uncorrected": float(nme_uncorrected.median()),
        },
        "jitter": {
            "ratio": max(ratios) if ratios else 1.0,
            "rotation_deg": rotation,
            "translation_mm": translation,
            "rotation_deg_independent": rotation_alone,
            "translation_mm_independent": translation_alone,
        },
        "focal": {
            "pixels": float(sorted(focal)[len(focal) // 2]),
            **({"by_camera": focal} if len(focal) > 1 else {}),
            "determined": solution.determined,
            "log_sigma": float(solution.joint.focal_sigma.max()),
        },
        "identity": {"sigma": float(solution.joint.identity_sigma.mean())},
    }


def _known(errors: Tensor, solution: Solution) -> Tensor:
    errors = errors[solution.usable[solution.obs.frame]]
    return errors[torch.isfinite(errors)]


def landmark_errors(problem: Problem, obs: Observations, state: State) -> Float[Tensor, "o"]:
    """Normalised mean error of every picture: mean distance of the 468 face landmarks over the distance of the outer
    eye corners, both in the picture; NaN where no face was seen."""
    distance = (observe.project(problem, obs, state) - obs.detections).norm(dim=-1)[:, : scheme.FACE]
    usable = torch.isfinite(problem.sigma[: scheme.FACE])
    eyes = (obs.detections[:, scheme.RIGHT_EYE] - obs.detections[:, scheme.LEFT_EYE]).norm(dim=-1)
    error = distance[:, usable].mean(1) / eyes.clamp_min(1e-6)
    return torch.where(obs.confidence.amax(1) > 0, error, torch.nan)


def _jitter(state: State, solution: Solution) -> tuple[float, float]:
    """Root mean square second difference of rotation (degrees) and translation (mm), over tracked frames in a row."""
    if solution.obs.frames < 3:
        return 0.0, 0.0
    ok = solution.usable & solution.linked
    inner = ok[2:] & ok[1:-1] & solution.usable[:-2]
    bend = second_differences(state)[inner]
    if len(bend) == 0:
        return 0.0, 0.0
    e = state.expression.shape[1]
    turn, shift = bend[:, e : e + 3], bend[:, e + 3 :]
    rms = lambda x: float(x.square().sum(1).mean().sqrt())  # noqa: E731
    return float(torch.rad2deg(torch.tensor(rms(turn)))), rms(shift) * 1e3
