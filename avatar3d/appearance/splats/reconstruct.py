"""A textured avatar and its footage to the same avatar with splats."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from avatar3d.appearance.splats.checkpoint import load_fitting, save_fitting
from avatar3d.appearance.splats.cloud import Cloud
from avatar3d.appearance.splats.config import SplatConfig
from avatar3d.appearance.splats.evidence import gather
from avatar3d.appearance.splats.exposure import Balances
from avatar3d.appearance.splats.extremes import with_extremes
from avatar3d.appearance.splats.fit import Fitting, Progress, settle
from avatar3d.appearance.splats.hull import hair
from avatar3d.appearance.splats.initial import beyond_mesh, mesh_light, on_mesh
from avatar3d.appearance.splats.masks import FootageMasker
from avatar3d.appearance.splats.polish import STEPS as POLISHING
from avatar3d.appearance.splats.polish import polish
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.preview import save_preview
from avatar3d.appearance.splats.shots import Shot, halved, take_shots
from avatar3d.appearance.splats.unseen import GONE, NEVER, complete
from avatar3d.appearance.splats.weights import weighted
from avatar3d.errors import TrackingError
from avatar3d.geometry.colour import linear_to_srgb
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.models.anchors import with_anchors
from avatar3d.models.motion import head_rotation
from avatar3d.types import ARKIT_NAMES, Avatar, Motion, TextureSet
from avatar3d.types.capture import Capture, View
from avatar3d.types.gaussians import Gaussians

BEYOND, HAIR = 0.2, 0.3
"""Splats that clothes and hair may have at first, as shares of those on the mesh."""
START = 0.5
"""Share of all splats that there are at the start."""
TURN_RANGE, LEAST_TURN = 2.0, 0.05
"""Standard deviation of a component that is driven by the head's turn: what it changes moves as fast as this is large.
And the least standard deviation of the turn itself that counts, radians."""
HULL_SHOTS = 12
"""Pictures in which clothes are looked for."""
STUDIED = 16
"""Frames from all over a view that say what stands still in it."""
LOOKS = 40
"""Pictures that say which splats are seen."""
CARVE_SHOTS = 30
"""Pictures that say where hair can be."""


def add_splats(
    avatar: Avatar,
    capture: Capture,
    tracked: Tensor,
    config: SplatConfig,
    *,
    holdout: int = 0,
    seed: int = 0,
    state: Path | None = None,
    key: str = "",
    preview: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Avatar:
    """The avatar with splats that were optimised on its footage, and its motion as the splats corrected it.

    Args:
        avatar: A textured avatar with its own motion and footage.
        capture: That footage.
        tracked: Mask of the frames `[t]` that were tracked.
        config: How.
        holdout: The last frames of the footage: splats never see them. Their poses are corrected all the same, once
            the splats are final.
        seed: Of everything random.
        state: Where the unfinished optimisation is kept; it goes on from there if the key is the same.
        key: Changes with whatever the optimisation depends on.
        preview: A PNG that shows how far it is, written whenever the state is kept, and removed in the end.
        progress: Called with stage, done, total.
        say: Called with what a person should know: how long it will take.

    Returns:
        The avatar. After Ctrl-C it has the splats of that moment, `manifest["appearance"]["finished"]` is False, and
        the state is kept.

    Raises:
        TrackingError: no frame shows the person.
    """
    assert avatar.motion is not None and isinstance(avatar.appearance, TextureSet)
    rig = with_anchors(avatar.rig)
    poses = Poses.of(rig, avatar.motion)
    total = avatar.motion.frames
    seen = tracked & (torch.arange(total) < max(1, total - holdout))
    train = _evenly(seen.nonzero()[:, 0], config.frames)
    shots = list(load_shots(avatar, capture, train, config.size, progress))
    if not shots:
        raise TrackingError("None of the tracked frames shows the person, so there is nothing to optimise splats on.")
    assert avatar.footage is not None
    balances = Balances(shots, avatar.footage.source_of_frame)
    if balances.changes:
        say("the exposure of the footage changes; that is taken out, as the background tells it")
    shots = weighted(balances(shots), poses)
    poses.use(train)
    own = config if config.minutes is None else replace(config, minutes=config.minutes / (1 + POLISHING))
    fitting = Fitting(Cloud(_start(avatar, poses, shots, config, seed)), poses, shots, own, seed)
    if state is not None and load_fitting(state, key, fitting):
        say(f"going on from {state.name}: step {fitting.step} of {config.steps}")

    def keep() -> None:
        if state is not None:
            save_fitting(state, key, fitting)
        if preview is not None:
            save_preview(preview, fitting)

    def estimate(seconds: float) -> None:
        look = "" if preview is None else f"; {preview.name} shows how they look so far"
        say(f"splats: about {_in_words(seconds * (1 + POLISHING))} to go{look}")
        if preview is not None:
            save_preview(preview, fitting)

    fitting.run(progress, keep, estimate)
    gaussians = fitting.cloud.detached()
    keep()
    if not fitting.stopped:
        try:
            steps = round(POLISHING * fitting.step)
            gaussians = _finish(avatar, poses, shots, gaussians, config, steps, seed, progress)
        except KeyboardInterrupt:
            fitting.stopped = True
    poses.spread()
    if config.refine_pose and not fitting.stopped:
        held = _evenly((tracked & ~seen).nonzero()[:, 0], config.frames)
        later = balances(list(load_shots(avatar, capture, held, config.size)))
        settle(gaussians, poses, later, config, progress)
        poses.use(torch.cat([train, held]).sort().values)
        poses.spread()
    if preview is not None:
        preview.unlink(missing_ok=True)
    if gaussians.basis is not None:
        gaussians = replace(gaussians, basis=gaussians.basis.half())  # half the file, and rounded by 5e-4 of itself
    settings = {"kind": "splats", "finished": not fitting.stopped, "steps_done": fitting.step, "holdout": holdout,
                "seed": seed, **asdict(config)}  # fmt: skip
    manifest = {**avatar.manifest, "appearance": settings}
    return replace(avatar, gaussians=gaussians, motion=poses.corrected_motion(), manifest=manifest)


def load_shots(
    avatar: Avatar, capture: Capture, frames: Tensor, size: int, progress: Progress | None = None
) -> Iterator[Shot]:
    """Decodes frames of the avatar's footage and cuts the person out.

    Args:
        avatar: With its own motion and footage.
        capture: That footage, with or without masks.
        frames: Of the motion, ascending.
        size: Longer side of the pictures, pixels.
        progress: Called with stage, done, total.
    """
    own, motion = avatar.footage, avatar.motion
    assert own is not None and motion is not None
    poses = Poses.of(avatar.rig, motion)
    done = 0
    for v, view in enumerate(capture.views):
        mine = {int(own.frame_of_motion[t]): int(t) for t in frames if int(own.source_of_frame[t]) == v}
        masker = FootageMasker(avatar.rig)
        _study(masker, avatar, poses, view, v)
        for picture in view.frames_at(sorted(mine)):
            t = mine[picture.index]
            camera = own.cameras[int(own.camera_of_frame[t])]
            with torch.no_grad():
                vertices = poses.vertices(torch.tensor([t]))[0][0]
            mask = picture.alpha
            if mask is None:
                mask = masker(picture.index, picture.image, vertices, camera)
            yield from take_shots(t, picture.image, mask, camera, vertices, size)
            done += 1
            if progress:
                progress("frames", done, len(frames))


@torch.no_grad()
def _study(masker: FootageMasker, avatar: Avatar, poses: Poses, view: View, v: int) -> None:
    """Shows the masker frames from all over a view, the same ones whichever frames are asked for afterwards."""
    own, motion = avatar.footage, avatar.motion
    assert own is not None and motion is not None
    usable = own.source_of_frame == v
    if motion.confidence is not None:
        usable &= motion.confidence > 0
    chosen = {int(own.frame_of_motion[t]): int(t) for t in _evenly(usable.nonzero()[:, 0], STUDIED)}
    images, heads, cameras = [], [], []
    for picture in view.frames_at(sorted(chosen)):
        if picture.alpha is not None:
            return
        t = chosen[picture.index]
        images.append(picture.image)
        heads.append(poses.vertices(torch.tensor([t]))[0][0])
        cameras.append(own.cameras[int(own.camera_of_frame[t])])
    if len(images) >= STUDIED // 2:
        masker.study(images, heads, cameras)


def _evenly(frames: Tensor, count: int) -> Tensor:
    """At most `count` of some frames, evenly."""
    if len(frames) <= count:
        return frames
    return frames[torch.linspace(0, len(frames) - 1, count).round().long()]


def _spread_out(R: Tensor, count: int) -> list[int]:
    """At most `count` of some rotations `[n, 3, 3]`: always the one farthest from those that there are."""
    chosen = [0]
    distance = torch.full((len(R),), torch.inf)
    while len(chosen) < min(count, len(R)):
        distance = torch.minimum(distance, (R - R[chosen[-1]]).square().sum((1, 2)))
        chosen.append(int(distance.argmax()))
    return chosen


def _start(avatar: Avatar, poses: Poses, shots: list[Shot], config: SplatConfig, seed: int) -> Gaussians:
    """Splats on the mesh and beyond it, with a basis that changes nothing yet."""
    assert avatar.motion is not None and isinstance(avatar.appearance, TextureSet)
    generator = torch.Generator().manual_seed(seed)
    count = round(config.count * START)
    rows = torch.tensor(sorted({s.frame for s in shots}))
    R = head_rotation(avatar.motion)[rows]
    frontal = (R - R.mean(0)).square().sum((1, 2)).argsort()
    whole = {s.frame: s for s in shots if not s.close}
    chosen = [int(rows[frontal[0]]), *(int(f) for f in _evenly(rows, HULL_SHOTS - 1))]
    parts = [on_mesh(avatar.rig, avatar.appearance, R[frontal[0]], count, config.degree, generator)]
    with torch.no_grad():
        looked_at = [whole[f] for f in dict.fromkeys(chosen) if f in whole]
        around = [whole[int(rows[i])] for i in _spread_out(R, CARVE_SHOTS) if int(rows[i]) in whole]
        hull = hair(avatar.rig, poses, around, round(count * HAIR), config.degree)
        outside = beyond_mesh(avatar.rig, poses, looked_at, round(count * BEYOND), config.degree, hair=hull is None)
    parts += [part for part in (hull, outside) if part is not None]
    joined = joined_gaussians(parts)
    if not config.components:
        return joined
    mixing, limits = components(avatar.motion, rows, config.components)
    basis = torch.zeros(len(mixing), joined.count, 14)
    return replace(joined, mixing=mixing, limits=limits, basis=basis)


def _finish(
    avatar: Avatar, poses: Poses, shots: list[Shot], gaussians: Gaussians, config: SplatConfig, steps: int, seed: int,
    progress: Progress | None,
) -> Gaussians:  # fmt: skip
    """The splats with what no picture shows made up for: surface that is never seen, and what only extremes bare."""
    assert avatar.motion is not None and isinstance(avatar.appearance, TextureSet)
    for value in poses.corrections.values():
        value.requires_grad_(False)
    frames = torch.tensor([shot.frame for shot in shots])
    around = _spread_out(poses.head_rotation(frames), LOOKS // 2)
    over_time = torch.linspace(0, len(shots) - 1, min(LOOKS // 2, len(shots))).round().long().tolist()
    chosen = [halved(shots[i]) for i in sorted({*around, *over_time})]
    rows = frames.unique()
    R = head_rotation(avatar.motion)[rows]
    frontal = R[(R - R.mean(0)).square().sum((1, 2)).argmin()]
    evidence = gather(gaussians, poses, chosen)
    lit = mesh_light(poses.rig, avatar.appearance, frontal, gaussians.face.long(), gaussians.barycentrics)
    expected = linear_to_srgb(lit.clamp(0, 1))
    gaussians, unseen = complete(gaussians, poses.rig, expected, evidence)
    gaussians = polish(gaussians, unseen, poses, shots, steps, config.ssim, seed, progress)
    gaussians = with_extremes(gaussians, poses.rig, avatar.motion.expression[rows].float(), evidence)
    return gaussians.select(gaussians.logit_opacities > (NEVER + GONE) / 2)


def joined_gaussians(parts: list[Gaussians]) -> Gaussians:
    """Several sets of splats as one; without a basis."""
    return Gaussians(
        face=torch.cat([p.face for p in parts]),
        barycentrics=torch.cat([p.barycentrics for p in parts]),
        offsets=torch.cat([p.offsets for p in parts]),
        quats=torch.cat([p.quats for p in parts]),
        log_scales=torch.cat([p.log_scales for p in parts]),
        logit_opacities=torch.cat([p.logit_opacities for p in parts]),
        sh=torch.cat([p.sh for p in parts]),
        group=torch.cat([p.group for p in parts]),
    )


def components(motion: Motion, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mixing matrix `[e, 55]` and limits `[e, 2]`: the directions in which the footage's expression varies most, and
    the turn of the head about three axes.

    Gaze is left out: it turns the eyes, which are geometry. The turn changes how light falls and makes good a surface
    that lies a little wrong.
    """
    e = motion.expression[rows].clone()
    gaze = torch.tensor(["eyeLook" in name for name in ARKIT_NAMES])
    e[:, gaze] = 0
    _, _, V = torch.linalg.svd(e - e.mean(0), full_matrices=False)
    mixing = V[: min(count, len(V))]
    mixing = mixing * torch.sign((e @ mixing.T).mean(0))[:, None]
    turn = matrix_to_rotvec(head_rotation(motion)[rows].float())
    scale = TURN_RANGE / turn.std(0, correction=0).clamp_min(LEAST_TURN)
    mixing = torch.block_diag(mixing, torch.diag(scale))
    values = torch.cat([e, turn], 1) @ mixing.T
    return mixing, torch.stack([values.amin(0), values.amax(0)], 1)


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
