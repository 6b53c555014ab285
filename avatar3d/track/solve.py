"""Detections to a `Track`: keyframes, joint fit, every frame, outliers, smoothing, bridging, and the world's axes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.errors import DetectionError
from avatar3d.models.linear import LinearModel
from avatar3d.track import observe
from avatar3d.track.config import TrackConfig
from avatar3d.track.detections import Detections, focal_prior, observations
from avatar3d.track.frames import Chain, fit_sequence, interpolate, scatter, smooth_all
from avatar3d.track.joint import JointFit, fit_jointly
from avatar3d.track.keyframes import choose_keyframes
from avatar3d.track.observe import Observations, State
from avatar3d.track.people import KEYFRAMES, Face, one_person
from avatar3d.track.personal import corrected
from avatar3d.track.photometric import refine
from avatar3d.track.pose import initial_pose
from avatar3d.track.problem import Problem, make_problem
from avatar3d.track.residual import Residual, displaced, is_supported, make_process, solve_residual
from avatar3d.track.result import Solution, make_track, mean_rotation
from avatar3d.track.size import is_size_unknown, volume, with_likely_size
from avatar3d.track.skin_chart import is_charted
from avatar3d.track.skin_pictures import NOTHING, Patch, Pictures, cut_patch
from avatar3d.track.threads import one_thread
from avatar3d.types.track import DroppedFrame, Track
from avatar3d.typing import typed

MIN_PRESENCE = 0.5
SAME_VIEWS = 4
VIEW_ANGLE = 0.05
"""Radians."""
YAW_KNOWN = 0.14
"""Standard deviation of yaw over keyframes, radians, from which a focal length can be told at all."""
FOCAL_KNOWN = 0.08
"""Posterior standard deviation of its logarithm up to which it counts as determined."""
JUMP, JUMP_REACH = 0.5, 7
"""Face sizes (and logarithm of its size) by which a frame may differ from the median of so many on both sides."""

Progress = Callable[[float], None]


@typed
def track_landmarks(
    detections: Detections,
    model: LinearModel,
    config: TrackConfig | None = None,
    *,
    identity: Float[Tensor, "k"] | None = None,
    pictures: Pictures | None = None,
    progress: Progress | None = None,
) -> Track:
    """Fits a head model to the landmarks of one face.

    Args:
        detections: What was seen.
        model: A linear model with an embedding of the 478 landmarks.
        config: Settings; the defaults if None.
        identity: Coefficients, where they are known; else they are found, with the focal length, from keyframes.
        pictures: Reads the pictures that were looked at, for the photometric refinement; without it there is none.
        progress: Called with the share that is done, 0..1.

    Raises:
        DetectionError: no picture shows a face.
        ValueError: the model has no landmarks.
    """
    with one_thread():
        return _track(detections, model, config or TrackConfig(), identity, pictures, progress)


def _track(
    detections: Detections,
    model: LinearModel,
    config: TrackConfig,
    identity: Tensor | None,
    pictures: Pictures | None,
    progress: Progress | None,
) -> Track:
    problem = make_problem(model, config)
    person = lambda shot: _face(problem, shot, config)  # noqa: E731
    detections, another = one_person(problem, detections, person, minimum=MIN_PRESENCE)
    obs = observations(detections, minimum=MIN_PRESENCE)
    seen = _seen(obs)
    if not bool(seen.any()):
        raise DetectionError(f"No face in any of {obs.frames} frames.")
    prior = focal_prior(detections.lenses, given=config.focal, sigma=config.focal_sigma, hint_sigma=config.hint_sigma)
    report = progress or (lambda share: None)
    read = None if not config.photometric or _is_bent(detections) else pictures
    person = _person(problem, obs, seen, prior, config, identity, read)
    state, joint, exact, marks = person.state, person.joint, person.exact, person.obs
    report(0.1)
    links = _links(detections, obs)
    index = torch.nonzero(seen)[:, 0]
    found = []
    for start in range(0, len(index), config.window):
        part = index[start : start + config.window]
        gap = torch.cat([torch.tensor([False]), part[1:] - part[:-1] == 1]) & links[part]
        found.append(fit_sequence(exact, marks.at(part), state.at(part), config, gap))
        report(0.1 + 0.5 * (start + len(part)) / len(index))
    alone = replace(
        state,
        expression=torch.cat([s.expression for s in found]),
        R=torch.cat([s.R for s in found]),
        t=torch.cat([s.t for s in found]),
    )
    usable, dropped = _judge(exact, marks, seen, scatter(state, index, alone), detections, links, config)
    dropped = tuple(replace(d, reason="another person") if another[d.index] else d for d in dropped)
    kept = torch.nonzero(usable)[:, 0]
    filled = interpolate(alone.at(torch.searchsorted(index, kept)), kept, torch.arange(obs.frames))
    fps = detections.fps or 30.0
    hangs = links & _near(usable, round(config.bridge * fps))
    chain = Chain(usable=usable, linked=hangs, sigma=_sigma(problem, config, fps))
    smooth = smooth_all(exact, marks, filled, chain, config, lambda done: report(0.6 + 0.4 * done / obs.frames))
    smooth = _bridge(smooth, usable, chain.linked)
    if person.residual is not None:
        problem = displaced(problem, person.residual.surface)
    solution = Solution(
        residual=person.residual,
        problem=problem, obs=obs, marks=marks, state=smooth, alone=filled, usable=usable, linked=chain.linked,
        dropped=dropped,
        joint=joint, determined=_determined(joint, smooth, kept, prior),
    )  # fmt: skip
    track = make_track(solution, detections, config)
    return track if person.pixels is None else replace(track, report={**track.report, "photometric": person.pixels})


def _is_bent(detections: Detections) -> bool:
    """Whether a lens distorts: landmarks have been straightened, pictures have not."""
    cameras = [lens.camera for lens in detections.lenses if lens.camera is not None]
    return any(c.distortion is not None and bool(c.distortion.any()) for c in cameras)


def _seen(obs: Observations) -> Bool[Tensor, "t"]:
    out = torch.zeros(obs.frames, dtype=torch.bool)
    out[obs.frame[obs.confidence.amax(1) > 0]] = True
    return out


def _links(detections: Detections, obs: Observations) -> Bool[Tensor, "t"]:
    """Whether each instant follows from the one before: same camera, no cut."""
    linked = torch.ones(obs.frames, dtype=torch.bool)
    linked[0] = False
    for cut in detections.cuts:
        linked[int(detections.instants[cut])] = False
    if detections.instant is None:
        linked[1:] &= detections.camera[1:] == detections.camera[:-1]
    return linked


def _first_state(problem: Problem, obs: Observations, seen: Tensor, prior: Tensor, identity: Tensor) -> State:
    focal = prior[:, 0].exp()
    frames = obs.frames
    state = State(
        identity=identity, focal=focal,
        expression=torch.zeros(frames, problem.expressions, dtype=torch.float64),
        R=torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1), t=torch.zeros(frames, 3, dtype=torch.float64),
    )  # fmt: skip
    points = problem.rows.points + problem.rows.identity_basis @ identity
    pictures = torch.nonzero(obs.confidence.amax(1) > 0)[:, 0]
    T = initial_pose(points, obs.detections[pictures], problem.rigid, observe.intrinsics(obs, state)[pictures])
    T = torch.linalg.inv(obs.T_camera_world[obs.camera[pictures]]) @ T
    state.R[obs.frame[pictures]], state.t[obs.frame[pictures]] = T[:, :3, :3], T[:, :3, 3]
    return state


@dataclass(frozen=True, kw_only=True)
class _Person:
    """Who is seen, and first poses of all frames."""

    state: State
    joint: JointFit
    exact: Problem
    """The model with this person's landmarks where the detector puts them: what frames are fitted with."""
    residual: Residual | None
    obs: Observations
    """All pictures, with the landmarks where this person's are."""
    pixels: dict | None
    """What the photometric refinement reports."""


def _person(
    problem: Problem,
    obs: Observations,
    seen: Tensor,
    prior: Tensor,
    config: TrackConfig,
    identity: Tensor | None,
    read: Pictures | None = None,
) -> _Person:
    """Identity, focal length and free-form residual from keyframes."""
    k = problem.rows.identity_basis.shape[2]
    start = torch.zeros(k, dtype=torch.float64) if identity is None else identity.double()
    state = _first_state(problem, obs, seen, prior, start)
    keys = choose_keyframes(problem, obs, state, torch.nonzero(seen)[:, 0], config.keyframes)
    pictures = obs.at(keys)
    config = replace(config, discount=config.discount * _new_views(state.R[keys]))
    joint = fit_jointly(problem, pictures, state.at(keys), prior, config)
    known = torch.stack([joint.state.focal.log(), 0 * joint.state.focal], 1)
    if is_size_unknown(obs):
        sized = with_likely_size(problem, pictures, joint.state)
        sized = fit_jointly(problem, pictures, sized, known, config, volume=volume(joint)).state
        sized = with_likely_size(problem, pictures, sized)
        sized = fit_jointly(problem, pictures, sized, known, config, hold_size=True)
        joint = replace(sized, focal_sigma=joint.focal_sigma)
    residual, exact = None, problem
    # what the residual explains must not drain from the identity, which its prior would like
    first = joint.state.identity
    rounds = config.surface_rounds if is_supported(problem.model) else 0
    process = make_process(problem, config) if rounds else None
    for _ in range(rounds):
        before = torch.zeros_like(problem.rows.points) if residual is None else residual.surface + residual.bias
        residual = solve_residual(exact, process, pictures, joint.state, before, config)
        exact = displaced(problem, residual.surface + residual.bias)
        again = fit_jointly(exact, pictures, joint.state, known, config, around=first, hold_size=is_size_unknown(obs))
        joint = replace(joint, state=again.state)
    pixels = None
    if read is not None and residual is not None and is_charted(problem.model):
        patches = _patches(problem, obs, pictures, keys, joint.state, read)
        held = is_size_unknown(obs)
        refined = refine(exact, pictures, patches, joint, residual.offsets.float(), known, config, hold_size=held)
        if refined is not None:
            joint = replace(refined.joint, focal_sigma=joint.focal_sigma)
            exact = displaced(problem, residual.surface)
            obs = corrected(exact, pictures, joint.state, obs)
            pixels = {"before": refined.before, "after": refined.after, "points": refined.points}
    state = _first_state(exact, obs, seen, known, joint.state.identity)
    return _Person(state=state, joint=joint, exact=exact, residual=residual, obs=obs, pixels=pixels)


def _patches(
    problem: Problem, obs: Observations, keyframes: Observations, keys: Tensor, state: State, read: Pictures
) -> list[Patch]:
    """The faces of keyframes, one for every picture of them."""
    chosen = torch.nonzero(torch.isin(obs.frame, keys))[:, 0]  # frames ascend, so these are in the keyframes' order
    unit = observe.unit_pixels(problem, keyframes, state)
    per_metre = unit / (problem.interocular * observe.size(problem, state.identity))
    out = [NOTHING] * len(chosen)
    for place, image in read(chosen):
        if bool(keyframes.confidence[place].amax() > 0):
            out[place] = cut_patch(image, keyframes.detections[place].float(), float(per_metre[place]))
    return out


def _face(problem: Problem, shot: Detections, config: TrackConfig) -> Face:
    """The face of one shot by itself; roughly, and without the free-form residual."""
    obs = observations(shot, minimum=MIN_PRESENCE)
    prior = focal_prior(shot.lenses, given=config.focal, sigma=config.focal_sigma, hint_sigma=config.hint_sigma)
    rows, seen = problem.rows, _seen(obs)
    state = _first_state(problem, obs, seen, prior, rows.points.new_zeros(rows.identity_basis.shape[2]))
    keys = choose_keyframes(problem, obs, state, torch.nonzero(seen)[:, 0], KEYFRAMES)
    config = replace(config, discount=config.discount * _new_views(state.R[keys]))
    joint = fit_jointly(problem, obs.at(keys), state.at(keys), prior, config)
    return rows.points + rows.identity_basis @ joint.state.identity


def _new_views(R: Float[Tensor, "t 3 3"]) -> float:
    """Share of the keyframes that tell something new of the shape.

    The detector errs alike wherever the head looks alike: forty frontal frames know hardly more of depth than a few.
    Counted are `SAME_VIEWS`, and as many again for every `VIEW_ANGLE` by which the rotations spread.
    """
    away = mean_rotation(R).mT @ R
    cosine = (away.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    spread = float(cosine.clamp(-1, 1).acos().square().mean().sqrt())
    return min(1.0, SAME_VIEWS * (1 + spread / VIEW_ANGLE) / len(R))


def _jumps(obs: Observations, seen: Tensor, links: Tensor) -> Bool[Tensor, "t"]:
    """Frames whose face is away from the median place or size of those around them, in the same shot.

    A head that moves steadily is at its own median, however fast it is.
    """
    pictures = torch.nonzero(obs.confidence.amax(1) > 0)[:, 0]
    low, high = obs.detections[pictures].amin(1), obs.detections[pictures].amax(1)
    middle, size = (low + high) / 2, (high - low).amax(1)
    shot = torch.cumsum((~links).long(), 0)[obs.frame[pictures]]
    out = torch.zeros(obs.frames, dtype=torch.bool)
    for camera in obs.camera.unique():
        for s in shot.unique():
            own = torch.nonzero((shot == s) & (obs.camera[pictures] == camera))[:, 0]
            reach = min(JUMP_REACH, (len(own) - 1) // 2)
            if reach < 2:
                continue
            values = torch.cat([middle[own], size[own, None].log()], 1)
            padded = torch.cat([values[:1].expand(reach, 3), values, values[-1:].expand(reach, 3)])
            away = (values - padded.unfold(0, 2 * reach + 1, 1).median(2).values).abs()
            wrong = (away[:, :2].amax(1) > JUMP * size[own].median()) | (away[:, 2] > JUMP)
            out[obs.frame[pictures[own[wrong]]]] = True
    return out & seen


def _judge(
    problem: Problem,
    obs: Observations,
    seen: Tensor,
    state: State,
    detections: Detections,
    links: Tensor,
    config: TrackConfig,
) -> tuple[Tensor, tuple[DroppedFrame, ...]]:
    """Which frames count, and why the others do not."""
    error = observe.residuals(problem, obs, state).nanmedian(1).values / observe.unit_pixels(problem, obs, state)
    worst = torch.zeros(obs.frames, dtype=torch.float64)
    worst = worst.scatter_reduce(0, obs.frame, error.nan_to_num(0), "amax")
    usual = float(worst[seen].median())
    limit = max(config.outlier, 3 * usual)
    jumps = _jumps(obs, seen, links)
    usable = seen & (worst <= limit) & ~jumps
    presence = torch.zeros(obs.frames, dtype=torch.float64)
    presence = presence.scatter_reduce(
        0, obs.frame, torch.where(detections.seen, detections.presence.double(), 0), "amax"
    )
    dropped = []
    for i in torch.nonzero(~usable)[:, 0].tolist():
        if bool(jumps[i]):
            reason = "found in another place than before and after"
        elif bool(seen[i]):
            reason = f"landmarks do not fit a face: {worst[i]:.1%} of the inter-ocular distance, usually {usual:.1%}"
        elif presence[i] > 0:
            reason = f"face hidden or unclear: presence {float(presence[i]):.2f}"
        else:
            reason = "no face found"
        dropped.append(DroppedFrame(index=i, reason=reason))
    if not bool(usable.any()):
        raise DetectionError(f"No face could be followed in any of {obs.frames} frames.")
    return usable, tuple(dropped)


def _near(usable: Tensor, reach: int) -> Bool[Tensor, "t"]:
    """False within gaps of more than `reach` unusable frames."""
    out = usable.clone()
    known = torch.nonzero(usable)[:, 0]
    for a, b in zip(known[:-1].tolist(), known[1:].tolist(), strict=True):
        if b - a - 1 <= reach:
            out[a:b] = True
    return out


def _bridge(state: State, usable: Tensor, linked: Tensor) -> State:
    """Frames that neither were seen nor hang on seen ones lie on the line between those that do."""
    good = usable | linked
    known = torch.nonzero(good)[:, 0]
    missing = torch.nonzero(~good)[:, 0]
    if len(missing) == 0:
        return state
    return scatter(state, missing, interpolate(state.at(known), known, missing))


def _sigma(problem: Problem, config: TrackConfig, fps: float) -> Tensor:
    slower = (30 / fps) ** 2
    e = problem.expressions
    sigma = torch.full((e + 6,), config.smooth_expression * slower).double()
    sigma[e : e + 3] = torch.deg2rad(torch.tensor(config.smooth_rotation)) * slower
    sigma[e + 3 :] = config.smooth_translation * 1e-3 * slower
    return sigma


def _determined(joint: JointFit, state: State, kept: Tensor, prior: Tensor) -> bool:
    """Whether the focal length was given, or the footage tells it."""
    if bool((prior[:, 1] < 0.1).all()):
        return True
    if len(prior) > 1:
        return False
    yaw = torch.atan2(state.R[kept, 0, 2], state.R[kept, 2, 2].abs().clamp_min(1e-6))
    wide = len(kept) > 2 and float(yaw.std()) > YAW_KNOWN
    return wide and float(joint.focal_sigma.max()) < FOCAL_KNOWN
