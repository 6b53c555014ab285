"""What a scan does not show of a head and must still fit it: eyeballs behind lids, teeth and tongue behind lips."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.surface import edges
from avatar3d.models.linear import LinearModel
from avatar3d.models.registration_eyes import EyeOpenings, eye_shift, lids_of
from avatar3d.models.registration_parts import Parts, regions_named
from avatar3d.models.scan_samples import ScanSamples
from avatar3d.typing import typed

CLEARANCE = 0.0003
"""Of lids above the eyeball, metres."""
INNER_LIPS, LIPS = ("lips_inner",), ("lips_outer", "lips_inner")


@typed
def settle_inside(
    model: LinearModel,
    parts: Parts,
    start: Float[Tensor, "v 3"],
    moved: Float[Tensor, "v 3"],
    samples: ScanSamples,
    openings: EyeOpenings,
) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "j 3"]]:
    """Displacements of eyeballs, teeth, tongue and whatever else hangs loose, as wholes; lids stay on the eyeballs.

    Args:
        model: The model.
        parts: Its parts.
        start: Vertices as the coefficients have them, metres.
        moved: The skin's free-form displacement.
        samples: The scan in model space.
        openings: Its lids' edges.

    Returns:
        The displacement of all vertices, and of the joints.
    """
    out = moved.clone()
    joints = torch.zeros(len(model.joint_names), 3)
    balls = torch.zeros(len(start), dtype=torch.bool)
    for side, ball in parts.eyeballs.items():
        shift = eye_shift(model, parts, start, moved, side, samples, openings)
        out = _cleared(model, parts, start, out, ball, shift)
        balls |= ball
        if f"eye_{side}" in model.joint_names:
            joints[model.joint_index(f"eye_{side}")] = shift
    lips = regions_named(model, *LIPS) & parts.shell
    mouth = out[lips].mean(0) if lips.any() else torch.zeros(3)
    in_mouth = regions_named(model, "teeth", "gums", "tongue")
    loose = ~parts.shell & ~balls
    out[loose & in_mouth] = mouth
    skin = (parts.shell & ~parts.interior).nonzero()[:, 0]
    for number in parts.component[loose & ~in_mouth].unique().tolist():
        mine = (parts.component == number).nonzero()[:, 0]
        far = torch.cdist(start[mine], start[skin])
        near = far.amin(0).topk(min(12, len(skin)), largest=False).indices
        out[mine] = out[skin[near]].mean(0)
    return _lined(model, parts, out, mouth), joints


def _cleared(model: LinearModel, parts: Parts, start: Tensor, moved: Tensor, ball: Tensor, shift: Tensor) -> Tensor:
    """The displacement with the eyeball's, and with lids that stay outside it."""
    points = start[ball]
    centre = 0.5 * (points.amax(0) + points.amin(0))
    radius = float((points - centre).norm(dim=1).median())
    lids = lids_of(model, parts, start, centre, radius)
    out = moved.clone()
    out[ball] = shift
    gap = (start - centre).norm(dim=1) - radius
    # the outer side only: the inner rims rest in the eyeball by design
    outside = lids & (gap > 0.5 * CLEARANCE)
    for _ in range(3):
        d = start + out - centre - shift
        away = d.norm(dim=1)
        short = torch.where(outside, (radius + gap.clamp_max(CLEARANCE) - away).clamp_min(0), 0.0)
        out = out + short[:, None] * d / away.clamp_min(1e-9)[:, None]
    inner = lids & ~outside
    out[inner] = torch.lerp(out[inner], shift.expand(int(inner.sum()), 3), 0.5)
    return out


def _lined(model: LinearModel, parts: Parts, moved: Tensor, mouth: Tensor) -> Tensor:
    """Sockets and the mouth's lining between skin, eyeballs and teeth: harmonic, drawn to what they hold."""
    lining = parts.interior & parts.shell & ~regions_named(model, "lips_inner", "lid_margin")
    if not lining.any():
        return moved
    target = moved.clone()
    hold = torch.zeros(len(moved))
    for side in parts.eyeballs:
        socket = model.regions.get(f"eye_socket_{side}")
        if socket is not None:
            target[socket & lining] = moved[parts.eyeballs[side]].mean(0)
            hold[socket & lining] = 0.15
    cavity = regions_named(model, "mouth") & lining
    target[cavity] = mouth
    hold[cavity] = 0.05
    e = edges(model.faces.long())
    both = torch.cat([e, e.flip(1)])
    times = torch.zeros(len(moved)).index_add_(0, both[:, 0], torch.ones(len(both))).clamp_min(1)
    out = moved.clone()
    for _ in range(150):
        mean = torch.zeros_like(out).index_add_(0, both[:, 0], out[both[:, 1]]) / times[:, None]
        mixed = (1 - hold[:, None]) * mean + hold[:, None] * target
        out = torch.where(lining[:, None], mixed, out)
    return out
