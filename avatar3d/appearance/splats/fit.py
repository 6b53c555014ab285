"""Optimises splats against the footage: colours, shapes and places of the splats, and the poses of the frames."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from avatar3d import ops
from avatar3d.appearance.splats.cloud import Cloud
from avatar3d.appearance.splats.config import SplatConfig
from avatar3d.appearance.splats.hidden import Hidden
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot, halved
from avatar3d.geometry.rotation import matrix_to_rotvec
from avatar3d.render.gaussians import pose_gaussians
from avatar3d.types import Rig
from avatar3d.types.gaussians import GROUP_NAMES, Gaussians

Progress = Callable[[str, int, int], None]
POSE_RATES = {"head": 1.2e-3, "place": 4e-4, "expression": 0.012}
TORSO_RATE = 5e-3
TORSO_REACH = 3.0
"""Frames over which a torso's correction is shared: torsos move slowly, and each frame is looked at a few times."""
DECAY, POSE_DECAY = 0.05, 0.05
"""What the steps of splats and poses have come down to at the end."""
RESHAPE_EVERY = 200
RESTRAIN_EVERY = 10
COARSE = 0.35
"""Share of the schedule in which pictures are looked at in half their size."""
SETTLE_RATE = 3.0
"""Of the corrections of held-out frames, relative to those of the others: they are looked at a few times only."""
COARSE_ROUNDS = 0.7
"""Share of a held-out frame's corrections that are made in half the size."""
ESTIMATE_FROM, ESTIMATE_AFTER, DEARER = 10, 40, 1.3
"""Steps by which the time is estimated (the first ones load things), and how much dearer the average step is."""
GROWTH = (0.05, 0.6)
"""Share of the schedule in which splats are added."""


class Fitting:
    """State of an optimisation: splats, poses, and how far it is."""

    def __init__(self, cloud: Cloud, poses: Poses, shots: list[Shot], config: SplatConfig, seed: int) -> None:
        self.cloud, self.poses, self.shots, self.config = cloud, poses, shots, config
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self.order: list[int] = []
        self._half: dict[int, Shot] = {}
        self.seconds = 0.0
        self.stopped = False
        for value in poses.corrections.values():
            value.requires_grad_(config.refine_pose)
        self.sizes = face_sizes(poses.rig)
        self.hidden = Hidden(poses)
        self.often = rarity(poses, torch.tensor([shot.frame for shot in shots]))
        self.pose_moments = {n: (torch.zeros_like(x), torch.zeros_like(x)) for n, x in poses.corrections.items()}

    def run(
        self, progress: Progress | None = None, keep: Callable[[], None] | None = None,
        estimate: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        """Steps to the end of the schedule, or until Ctrl-C: then `stopped` is set.

        Args:
            progress: Called with stage, done, total.
            keep: Called every `checkpoint_seconds`.
            estimate: Called once with the seconds that the rest will take.
        """
        config = self.config
        for index, shot in enumerate(self.shots):  # before the clock starts: whatever is looked at once
            self.hidden(shot)
            if self.step < COARSE * config.steps:
                self._half[index] = halved(shot)
        start = kept = time.monotonic()
        before, first, warm = self.seconds, self.step, start
        while self.step < config.steps:
            now = time.monotonic()
            self.seconds = before + now - start
            share = self.step / config.steps
            if config.minutes is not None:
                share = max(share, self.seconds / (60 * config.minutes))
                if share >= 1:
                    break
            try:
                self.advance(share)
            except KeyboardInterrupt:
                self.stopped = True
                break
            if progress:
                progress("splats", self.step, config.steps)
            if self.step == first + ESTIMATE_FROM:
                warm = time.monotonic()
            if estimate and self.step == first + ESTIMATE_AFTER:
                each = (time.monotonic() - warm) / (ESTIMATE_AFTER - ESTIMATE_FROM)
                rest = DEARER * each * (config.steps - self.step)
                estimate(rest if config.minutes is None else min(rest, 60 * config.minutes - self.seconds))
            if keep and now - kept > config.checkpoint_seconds:
                keep()
                kept = now

    def advance(self, share: float) -> None:
        """One step, at a share of the schedule."""
        cloud, poses = self.cloud, self.poses
        index = self._next()
        shot = self.shots[index]
        if share < COARSE:
            shot = self._half.get(index) or halved(shot)
        rows = torch.tensor([shot.frame])
        vertices, coefficients, R_head = poses.vertices(rows)
        background = torch.rand(3, generator=self.generator)
        target = on_background(shot, background)
        splats = cloud.gaussians()
        drawn, record = draw(splats, poses, vertices, coefficients, R_head, shot, background, credit=share < GROWTH[1])
        loss = photometric(drawn, target, self.config.ssim) * shot.weight
        if self.config.refine_pose:
            loss = loss + 1e-4 * poses.penalty(rows)
        loss.backward()
        if record is not None and record.grad is not None:
            cloud.credit(record.grad[0].norm(dim=1))
        cloud.step(DECAY**share, self.hidden(shot)[cloud.fixed.face.long()])
        if self.config.refine_pose:
            step_poses(poses, self.pose_moments, rows, POSE_DECAY**share if share > 0.02 else 0.0)
        self.step += 1
        if self.step % RESTRAIN_EVERY == 0:
            restrain(cloud, self.sizes)
        if self.step % RESHAPE_EVERY == 0:
            cloud.reshape_to(self.config.count, grow=GROWTH[0] <= share < GROWTH[1])

    def _next(self) -> int:
        if not self.order:
            times = (self.often + torch.rand(len(self.shots), generator=self.generator)).floor().long()
            order = torch.arange(len(self.shots)).repeat_interleave(times)
            self.order = order[torch.randperm(len(order), generator=self.generator)].tolist()
        return self.order.pop()


def rarity(poses: Poses, frames: Tensor) -> Tensor:
    """How often each of some frames is looked at, 1 on average: rare views and expressions up to `RAREST` times more
    often than usual ones, by the density of frames about them."""
    turn = matrix_to_rotvec(poses.head_rotation(frames)) / NEAR["turn"]
    expression = poses.motion.expression[frames].float() / NEAR["expression"]
    features = torch.cat([turn, expression], 1)
    apart = torch.cdist(features, features)
    weight = torch.exp(-0.5 * apart.square()).mean(1).rsqrt()
    weight = weight.clamp_max(RAREST * float(weight.min()))
    return weight / weight.mean()


NEAR = {"turn": 0.12, "expression": 0.25}
"""What counts as the same view and the same expression: radians, and norm of the difference of coefficients."""
RAREST = 3.0


def draw(
    splats: Gaussians, poses: Poses, vertices: Tensor, coefficients: Tensor, R_head: Tensor, shot: Shot,
    background: Tensor, *, credit: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Picture `[h, w, 3]` of posed splats, and what their absolute screen-space gradients go to.

    Everything is turned into the head's frame first, in which the spherical harmonics are.
    """
    R = R_head[0].detach()
    posed = pose_gaussians(splats, poses.rig, vertices @ R, coefficients, R[None])
    T = shot.camera.T_camera_world.float().clone()
    T[:3, :3] = T[:3, :3] @ R
    absolute = torch.zeros(1, posed.means.shape[1], 2, requires_grad=True) if credit else None
    image = ops.render_splats(
        posed.means[0], posed.quats[0], posed.scales[0], posed.opacities[0], posed.sh[0], shot.camera.K.float(), T,
        shot.camera.width, shot.camera.height, background, antialiased=True, absolute_gradients=absolute,
    )  # fmt: skip
    return image.color[0], absolute


def photometric(drawn: Tensor, target: Tensor, share: float) -> Tensor:
    """L1 and D-SSIM."""
    return ops.photometric_loss(drawn[None], target[None], ssim_weight=share)[0]


@torch.no_grad()
def step_poses(
    poses: Poses, moments: dict[str, tuple[Tensor, Tensor]], rows: Tensor, rate: float, *, shared: bool = True
) -> None:
    """Adam with short memory on the corrections of some frames alone: the others' moments stay as they are.

    `shared`: what a torso is corrected by goes to the frames around too.
    """
    for name, x in poses.corrections.items():
        if x.grad is None:
            continue
        g = x.grad[rows]
        m, v = moments[name]
        m[rows] = 0.7 * m[rows] + 0.3 * g
        v[rows] = 0.9 * v[rows] + 0.1 * g.square()
        change = rate * POSE_RATES.get(name, TORSO_RATE) * m[rows] / (v[rows].sqrt() + 1e-12)
        if name in POSE_RATES or not shared:
            x[rows] -= change
        else:
            apart = torch.arange(len(x)) - rows[:, None]
            x -= torch.exp(-0.5 * (apart / TORSO_REACH).square()).T @ change
        x.grad = None
    poses.admit()


def settle(
    gaussians: Gaussians, poses: Poses, shots: list[Shot], config: SplatConfig, progress: Progress | None = None,
    *, rounds: int = 16,
) -> None:  # fmt: skip
    """Corrects poses and expressions of frames that the splats have not seen; the splats stay as they are.

    Frames are taken in their order, and each begins where the one before ended: a torso that has moved since is found
    again from there.
    """
    by_frame: dict[int, list[Shot]] = {}
    for shot in shots:
        by_frame.setdefault(shot.frame, []).append(shot)
    background = torch.ones(3)
    moments = {n: (torch.zeros_like(x), torch.zeros_like(x)) for n, x in poses.corrections.items()}
    for value in poses.corrections.values():
        value.requires_grad_(True)
    before: int | None = None
    for done, (frame, pictures) in enumerate(sorted(by_frame.items())):
        rows = torch.tensor([frame])
        if before is None and frame > 0:
            before = frame - 1
        if before is not None:
            with torch.no_grad():
                for value in poses.corrections.values():
                    value[frame] = value[before]
        small = [halved(picture) for picture in pictures]
        for i in range(rounds):
            shot = (small if i < COARSE_ROUNDS * rounds else pictures)[i % len(pictures)]
            vertices, coefficients, R_head = poses.vertices(rows)
            drawn, _ = draw(gaussians, poses, vertices, coefficients, R_head, shot, background)
            loss = photometric(drawn, on_background(shot, background), config.ssim) + 1e-4 * poses.penalty(rows)
            loss.backward()
            step_poses(poses, moments, rows, SETTLE_RATE * 0.1 ** (i / rounds), shared=False)
        before = frame
        if progress:
            progress("poses", done + 1, len(by_frame))
    for value in poses.corrections.values():
        value.requires_grad_(False)


def on_background(shot: Shot, background: Tensor) -> Tensor:
    """The person `[h, w, 3]`, 0..1, over a colour."""
    mask = shot.mask.float()[..., None] / 255
    return shot.image.float() / 255 * mask + background * (1 - mask)


def face_sizes(rig: Rig) -> Tensor:
    """Size `[f]` of every triangle of the neutral mesh as `ops.rig_splats` has it, metres."""
    a, b, c = rig.neutral[rig.faces.long()].unbind(1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sqrt().clamp_min(1e-6)


@torch.no_grad()
def restrain(cloud: Cloud, sizes: Tensor) -> None:
    """Keeps splats near what they are bound to, small, and no needles: whoever went too far is set back."""
    x, group = cloud.leaves, cloud.fixed.group.long()
    size = sizes[cloud.fixed.face.long()]
    reach = REACH[group] / size
    x["offsets"] *= (reach / x["offsets"].norm(dim=1).clamp_min(1e-12)).clamp_max(1)[:, None]
    scales = x["log_scales"]
    largest = (LARGEST[group] / size).log()
    largest = torch.minimum(largest, scales.median(1).values + NEEDLE)
    scales.copy_(torch.minimum(scales, largest[:, None]).clamp_min(-6))
    skin = (group == SKIN)[:, None] & (scales > scales.amin(1, keepdim=True))
    scales.copy_(torch.where(skin, scales.clamp_min(CLOSED), scales))
    inside = (group == MOUTH) | (group == EYES)
    x["logit_opacities"][inside] = x["logit_opacities"][inside].clamp_min(SOLID)


REACH = torch.tensor([4e-3, 0.2, 2e-3, 1e-3, 1.0])
"""How far splats may lie from their triangle, by group, metres."""
LARGEST = torch.tensor([6e-3, 0.012, 3e-3, 3e-3, 0.03])
"""Largest standard deviation, by group, metres."""
SKIN, MOUTH, EYES = (GROUP_NAMES.index(name) for name in ("skin", "mouth", "eyes"))
CLOSED = math.log(0.4)
"""Least logarithm of the two wider scales on the skin, in sizes of a triangle: cheeks that pictures show from the front
alone would otherwise have gaps when they are seen from the side."""
SOLID = 1.5
"""Least logit of the opacity of mouth and eyes: lips and lids hide them too often for pictures to keep them whole."""
NEEDLE = 1.4
"""Logarithm of how much longer than wide a splat may be."""
