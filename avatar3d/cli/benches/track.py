"""The tracker's solvers on landmarks that are given, and the peer eos-py with the Surrey model on the same frames.

All on one core, in processor time, which other work on the machine disturbs least. `ours_ms` is per frame, except for
the keyframes, where it is the whole joint fit.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d import capture, models
from avatar3d.cli.bench import Result, interleaved_ms
from avatar3d.cli.benches.footage import test_data
from avatar3d.cli.benches.surrey import Surrey, load_surrey
from avatar3d.cli.common import say
from avatar3d.evaluate.synthetic import ClipConfig, make_clip, with_noise
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import points_on_faces
from avatar3d.geometry.transform import apply, make_transform
from avatar3d.models.linear import LinearModel
from avatar3d.pipeline import demo_clip
from avatar3d.track import Detections, Lens, TrackConfig, track_landmarks
from avatar3d.track.detections import focal_prior, observations
from avatar3d.track.footage import find_face
from avatar3d.track.frames import Chain, fit_independently, smooth_window
from avatar3d.track.joint import fit_jointly
from avatar3d.track.keyframes import choose_keyframes
from avatar3d.track.observe import Observations, State, intrinsics, project
from avatar3d.track.pose import initial_pose
from avatar3d.track.problem import Problem, make_problem
from avatar3d.types.landmarks import IBUG68_FROM_MEDIAPIPE, LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from avatar3d.types.track import Track

FRAMES, KEYFRAMES, NOISE = 240, 40, 0.003
CLIPS = ("videos/head_rotation_wojtek.mp4",)


def measure(device: torch.device) -> Iterator[Result]:
    """Throughput on a synthetic clip with known truth and on the detections of a real one."""
    if device.type != "cpu":
        say("bench track: the solvers run on the CPU")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = models.load("head")
        surrey, why = load_surrey()
        if surrey is None:
            say(f"bench track: no peer: {why}")
        yield from _clip("synthetic", synthetic_detections(model), model, surrey)
        path = next((p for p in map(test_data, CLIPS) if p is not None), None) or demo_clip()
        found = find_face(capture.open_capture(path))
        yield from _clip(path.stem, _first(found.detections, FRAMES), model, surrey)
    finally:
        torch.set_num_threads(threads)


def synthetic_detections(model: LinearModel) -> Detections:
    """Landmarks of one of the model's own heads, turning to 40 degrees, with errors of 0.3% of the inter-ocular
    distance."""
    clip = make_clip(model, ClipConfig(frames=FRAMES, yaw=40), seed=1)
    return Detections(
        landmarks=with_noise(clip.landmarks, NOISE, 1),
        presence=torch.ones(FRAMES),
        lenses=(Lens(width=clip.camera.width, height=clip.camera.height),),
        camera=torch.zeros(FRAMES, dtype=torch.long),
        time=torch.arange(FRAMES) / clip.fps,
        fps=clip.fps,
    )


def _first(detections: Detections, frames: int) -> Detections:
    """The first frames with a face, at most so many."""
    index = torch.nonzero(detections.seen)[:frames, 0]
    part = {name: getattr(detections, name)[index] for name in ("landmarks", "presence", "scores", "camera", "time")}
    return replace(detections, **part, cuts=())


def _start(problem: Problem, obs: Observations, identity: Tensor, focal: Tensor) -> State:
    """Poses from landmarks alone, neutral faces."""
    n = obs.frames
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(n, 3, dtype=torch.float64)
    empty = torch.zeros(n, problem.expressions, dtype=torch.float64)
    state = State(identity=identity, focal=focal, expression=empty, R=eye.repeat(n, 1, 1), t=zero)
    points = problem.rows.points + problem.rows.identity_basis @ identity
    T = initial_pose(points, obs.detections, problem.rigid, intrinsics(obs, state))
    return replace(state, R=T[:, :3, :3], t=T[:, :3, 3])


def _clip(name: str, detections: Detections, model: LinearModel, surrey: Surrey | None) -> Iterator[Result]:
    """Keyframes jointly; every frame by itself, from nothing and from the frame before; smoothing; and the whole."""
    config = TrackConfig(keyframes=KEYFRAMES)
    problem = make_problem(model, config)
    obs = observations(detections, minimum=0.5)
    peer = Peer(detections, surrey)
    prior = focal_prior(detections.lenses, given=None, sigma=config.focal_sigma, hint_sigma=config.hint_sigma)
    identity = torch.zeros(len(model.identity_basis), dtype=torch.float64)
    start = _start(problem, obs, identity, prior[:, 0].exp())
    keys = choose_keyframes(problem, obs, start, torch.arange(obs.frames), KEYFRAMES)
    few, first = obs.at(keys), start.at(keys)
    joint = fit_jointly(problem, few, first, prior, config).state
    ms = _median({"ours": lambda: fit_jointly(problem, few, first, prior, config)})["ours"]
    case = f"joint identity and focal length, {len(keys)} keyframes of {name}"
    yield Result(bench="track", pass_="forward", case=case, threads=1, ours_ms=ms)

    cold = _start(problem, obs, joint.identity, joint.focal)
    done = fit_independently(problem, obs, cold, config, 3 * config.iterations)
    before = done.at((torch.arange(obs.frames) - 1).clamp_min(0))
    for way, begin, steps in (("independent", cold, 3 * config.iterations), ("warm", before, config.iterations)):

        def solve(begin: State = begin, steps: int = steps) -> State:
            return fit_independently(problem, obs, begin, config, steps)

        yield peer.result(way, name, solve, project(problem, obs, solve()))

    nothing = torch.zeros(obs.frames, dtype=torch.bool)
    chain = Chain(usable=~nothing, linked=torch.arange(obs.frames) > 0, sigma=_usual_bend(problem, config))
    ms = _median({"ours": lambda: smooth_window(problem, obs, done, chain, nothing, config)})["ours"] / obs.frames
    yield Result(bench="track", pass_="forward", case=f"smoothing, {obs.frames} frames of {name}", threads=1,
                 ours_ms=ms, extra={"frames_per_s_per_core": 1e3 / ms})  # fmt: skip
    track = track_landmarks(detections, model, config)
    yield peer.result(
        "whole", name, lambda: track_landmarks(detections, model, config), project_landmarks(track, model)
    )


class Peer:
    """eos-py on the frames of a clip, each by itself as it works; ours is measured on the points that it maps."""

    def __init__(self, detections: Detections, surrey: Surrey | None) -> None:
        """Prepares the peer's input and measures its error, once."""
        self._surrey, self._lens = surrey, detections.lenses[0]
        self._index = np.array(IBUG68_FROM_MEDIAPIPE)
        points = detections.landmarks.double()
        self._unit = (points[:, RIGHT_EYE_OUTER] - points[:, LEFT_EYE_OUTER]).norm(dim=1).numpy()
        self._truth = points.numpy()[:, self._index]
        self._nme: float | None = None
        if surrey is not None:
            self._faces = [surrey.landmarks(p) for p in self._truth]
            size = self._lens.width, self._lens.height
            theirs = np.stack([surrey.project(fitted, *size) for fitted in self._fit()])
            self._nme = _nme(theirs, self._truth[:, surrey.points], self._unit)

    def _fit(self) -> list[object]:
        assert self._surrey is not None
        return [self._surrey.fit(face, self._lens.width, self._lens.height) for face in self._faces]

    def result(self, way: str, name: str, solve: Callable[[], object], found: Tensor) -> Result:
        """Ours beside the peer: time per frame in turn, and both errors."""
        frames = len(self._truth)
        functions: dict[str, Callable[[], object]] = {"ours": solve}
        if self._surrey is not None:
            functions["eos"] = self._fit
        ms = {key: value / frames for key, value in _median(functions).items()}
        ours = found.numpy()[:, self._index]
        points = slice(None) if self._surrey is None else self._surrey.points
        extra: dict[str, object] = {"frames_per_s_per_core": 1e3 / ms["ours"]}
        extra["nme"] = _nme(ours[:, points], self._truth[:, points], self._unit)
        if self._nme is not None:
            extra["nme_eos"] = self._nme
        peers = {key: value for key, value in ms.items() if key != "ours"}
        return Result(bench="track", pass_="forward", case=f"{way}, {frames} frames of {name}", threads=1,
                      ours_ms=ms["ours"], peers_ms=peers, extra=extra)  # fmt: skip


def _usual_bend(problem: Problem, config: TrackConfig) -> Float[Tensor, "n"]:
    """Usual second difference of every unknown at 30 frames a second."""
    sigma = torch.full((problem.expressions + 6,), config.smooth_expression, dtype=torch.float64)
    sigma[-6:-3] = np.deg2rad(config.smooth_rotation)
    sigma[-3:] = 1e-3 * config.smooth_translation
    return sigma


def project_landmarks(track: Track, model: LinearModel) -> Float[Tensor, "t 478 2"]:
    """Where a track puts the model's landmarks in its frames, pixels."""
    rest = model.rest_vertices(track.identity.expand(len(track.expression), -1), track.expression)
    rest = rest if track.offsets is None else rest + track.offsets
    embedding = model.landmarks["mediapipe478"]
    points = points_on_faces(rest, model.faces, embedding.faces, embedding.weights).double()
    cameras = [track.cameras[c] for c in track.camera_of_frame.tolist()]
    T_world_head = make_transform(rotvec_to_matrix(track.rotation.double()), track.translation.double())
    X = apply(torch.stack([c.T_camera_world for c in cameras]) @ T_world_head, points)
    K = torch.stack([c.K for c in cameras])
    x = X @ K.mT
    return x[..., :2] / x[..., 2:]


def _nme(points: np.ndarray, truth: np.ndarray, unit: np.ndarray) -> float:
    """Median over frames of the mean distance, as a share of the inter-ocular distance."""
    return float(np.median(np.linalg.norm(points - truth, axis=2).mean(1) / unit))


def _median(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians of the processor time of runs in turn, milliseconds."""
    return interleaved_ms(functions, seconds=2.0, clock=time.process_time)
