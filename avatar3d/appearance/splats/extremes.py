"""What only a pose beyond the footage brings to light: closed lids and a tongue that is out.

An open eye shows its upper lid folded and its lashes, and whatever the mesh misses of the eye is painted on the lid.
When the lid closes further than the footage ever had it, all that would spread over the eye. So components are added
to the basis that do nothing within the footage's range, and beyond it turn a lid into skin; and one for the tongue,
which comes out of the mouth's shade.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.appearance.splats.evidence import Evidence
from avatar3d.appearance.splats.initial import SH_C0, of_faces
from avatar3d.appearance.splats.unseen import (
    FEWEST,
    GONE,
    colours_towards,
    lying_log_scales,
    taken_after,
)
from avatar3d.render.gaussians import pose_gaussians
from avatar3d.types import Rig
from avatar3d.types.gaussians import BASIS_ROWS, GROUP_NAMES, Gaussians

KNOWN = 0.98
"""Quantile of the footage's closures up to which they are known."""
RAMP = 0.5
"""Of closure, beyond what is known, in which the lid becomes skin."""
ALREADY = 0.4
"""Known closure from which nothing is added: tracks smooth blinks, and footage that has so much has the eye closed."""
AROUND = 0.03
"""Metres around an eye in which lids find their skin."""
DARK = 0.3
"""Share of that skin, the darkest, that is taken for brows and lashes."""
ODD = 2.0
"""Skin that differs from the median by more than so many times the median difference is not taken for skin."""
LASHES = 0.55
"""At most this much of the skin's colour has the margin of a closed lid."""
STILL, DOWN = 0.05, 0.3
"""A blink's path, in terms of the lid margin's, below which the lid stays what it is and above which it is all skin."""
SUNK = 1e-3
"""Metres by which an eyeball's splats go back behind a closed lid: they are drawn in the order of their centres."""
CLOSED_OPACITY = 3.0
"""Least logit of the opacity of a closed lid's splats."""
OUT = 0.3
"""A tongue that the footage has out so far is known."""
SHOWN = 0.15
"""`Evidence.shown` from which skin and lips say what they are."""
FRONT = torch.tensor([0.0, 0.0, -1.0])


def with_extremes(gaussians: Gaussians, rig: Rig, expression: Float[Tensor, "t s"], evidence: Evidence) -> Gaussians:
    """The splats with components for what the footage never showed.

    Args:
        gaussians: With a basis.
        rig: With its anchors.
        expression: Of the frames that were looked at.
        evidence: What they say about every splat.
    """
    if gaussians.basis is None or gaussians.mixing is None or gaussians.limits is None:
        return gaussians
    added = [x for side in ("left", "right") if (x := _lid(gaussians, rig, expression, evidence, side)) is not None]
    out = _tongue(gaussians, rig, expression, evidence)
    added += [] if out is None else [out]
    if not added:
        return gaussians
    columns = gaussians.mixing.shape[1]
    mixing, limits, basis = zip(*added, strict=True)
    mixing = [torch.cat([m, m.new_zeros(columns - len(m))]) for m in mixing]
    # posing adds value x basis: what the least value adds is taken off beforehand
    base = sum(float(limit[0]) * change for limit, change in zip(limits, basis, strict=True))
    assert isinstance(base, Tensor)
    parts = {name: base[:, rows] for name, rows in BASIS_ROWS.items()}
    sh = gaussians.sh.clone()
    sh[:, 0] -= parts["colour"]
    return replace(
        gaussians, sh=sh, offsets=gaussians.offsets - parts["offsets"], quats=gaussians.quats - parts["quats"],
        log_scales=gaussians.log_scales - parts["log_scales"],
        logit_opacities=gaussians.logit_opacities - parts["logit_opacities"][:, 0],
        mixing=torch.cat([gaussians.mixing, torch.stack(mixing)]),
        limits=torch.cat([gaussians.limits, torch.stack(limits)]),
        basis=torch.cat([gaussians.basis, torch.stack(basis)]),
    )  # fmt: skip


def _lid(
    gaussians: Gaussians, rig: Rig, expression: Tensor, evidence: Evidence, side: str
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Row of the mixing matrix, limits, and change of the attributes of one eye's closing."""
    lid_name, ball_name = f"eyelid_upper_{side}", f"eyeball_{side}"
    names = [lid_name, f"lid_margin_upper_{side}", f"lid_margin_lower_{side}", ball_name]
    blink, down = f"eyeBlink{side.title()}", f"eyeLookDown{side.title()}"
    if any(n not in rig.regions for n in names) or blink not in rig.shape_names or down not in rig.shape_names:
        return None
    _, upper, lower, ball = (rig.regions[n] for n in names)
    b, d = rig.shape_names.index(blink), rig.shape_names.index(down)
    moved, lowered = rig.shapes[b][upper], rig.shapes[d][upper]
    mixing = torch.zeros(len(rig.shape_names))
    mixing[b], mixing[d] = 1, float((moved * lowered).sum() / moved.square().sum().clamp_min(1e-12))
    known = max(0.0, float(torch.quantile(expression[:, : len(mixing)] @ mixing, KNOWN)))
    if known >= ALREADY:
        return None
    limits = torch.tensor([known, min(1.0, known + RAMP)])

    face, corners = gaussians.face.long(), rig.faces.long()
    plain = replace(gaussians, mixing=None, basis=None, limits=None)
    closed = (rig.neutral + rig.shapes[b]).float()
    open_places = pose_gaussians(plain, rig, rig.neutral[None].float()).means[0]
    places = pose_gaussians(replace(plain, offsets=torch.zeros_like(plain.offsets)), rig, closed[None]).means[0]
    eye = rig.neutral[ball].float()
    centre, radius = eye.mean(0), (eye - eye.mean(0)).norm(dim=1).mean()
    skin = gaussians.group == GROUP_NAMES.index("skin")
    # the part of the lid that comes down; its rim lies within the eye, and stays as it is
    path = rig.shapes[b].norm(dim=1)
    share = path[corners[face]].mean(1) / path[upper].mean().clamp_min(1e-9)
    lid = skin & of_faces(rig, (lid_name,))[face] & ((places - centre).norm(dim=1) > radius)
    part_of = torch.where(lid, ((share - STILL) / (DOWN - STILL)).clamp(0, 1), 0.0)
    # whatever else of the skin was drawn over the open eye goes
    drawn = skin & ~lid & _between(open_places, rig.neutral[upper], rig.neutral[lower], centre, radius)
    over = (part_of > 0).nonzero()[:, 0]
    if len(over) < 2:
        return None
    around = _skin_around(gaussians, rig, evidence, places, places[over].mean(0), (part_of > 0) | drawn)
    if around is None:
        return None
    own = colours_towards(gaussians.sh[over], FRONT)
    wanted = taken_after(places[over], *around)
    margin = upper[corners].any(1)[face[over]]
    wanted[margin] = torch.minimum(own[margin].clamp_min(0), LASHES * wanted[margin])
    triangles = closed[corners[face]]
    sizes = torch.linalg.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    sizes = sizes.norm(dim=1).sqrt().clamp_min(1e-6)

    target = torch.zeros(len(over), 14)
    part = {name: target[:, rows] for name, rows in BASIS_ROWS.items()}
    part["colour"][:] = (wanted - own) / SH_C0
    part["offsets"][:] = -gaussians.offsets[over]
    part["logit_opacities"][:, 0] = (CLOSED_OPACITY - gaussians.logit_opacities[over]).clamp_min(0)
    lying = torch.tensor([1.0, 0, 0, 0]) * gaussians.quats[over].norm(dim=1, keepdim=True)
    part["quats"][:] = lying - gaussians.quats[over]
    wide = lying_log_scales(places[over], sizes[over])
    wide[margin] = torch.minimum(wide[margin], gaussians.log_scales[over][margin])
    part["log_scales"][:] = wide - gaussians.log_scales[over]
    change = torch.zeros(gaussians.count, 14)
    change[over] = part_of[over, None] * target
    change[drawn, BASIS_ROWS["logit_opacities"]] = (GONE - gaussians.logit_opacities[drawn])[:, None]
    behind = of_faces(rig, (ball_name,))[face]
    change[behind, 2] = -SUNK / sizes[behind]
    return mixing, limits, change / (limits[1] - limits[0])


def _between(places: Tensor, upper: Tensor, lower: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Which places lie before an open eye, between its lids, as seen from the front."""
    n = 32
    x = torch.linspace(float(torch.maximum(upper[:, 0].min(), lower[:, 0].min())),
                       float(torch.minimum(upper[:, 0].max(), lower[:, 0].max())), n)  # fmt: skip
    high, low = (line[(line[:, :1] - x).abs().argmin(0), 1] for line in (upper, lower))
    at = ((places[:, 0] - x[0]) / (x[-1] - x[0]).clamp_min(1e-6) * (n - 1)).round().long()
    inside = (at >= 0) & (at < n)
    at = at.clamp(0, n - 1)
    near = (places - centre).norm(dim=1) < 1.4 * radius
    return inside & near & (places[:, 1] < high[at]) & (places[:, 1] > low[at]) & (places[:, 2] > centre[2])


def _skin_around(
    gaussians: Gaussians, rig: Rig, evidence: Evidence, places: Tensor, centre: Tensor, lid: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Places, colours and weights of well-seen skin about an eye, without what is dark there."""
    skin = gaussians.group == GROUP_NAMES.index("skin")
    face = gaussians.face.long()
    near = skin & ~lid & of_faces(rig, ("face",))[face] & ~of_faces(rig, ("brows",))[face]
    near &= ((places - centre).norm(dim=1) < AROUND) & (evidence.shown > SHOWN)
    index = near.nonzero()[:, 0]
    if len(index) < FEWEST:
        return None
    colours = colours_towards(gaussians.sh[index], FRONT).clamp(0, 1)
    bright = colours.mean(1)
    kept = bright >= torch.quantile(bright, DARK)
    apart = (colours - colours[kept].median(0).values).norm(dim=1)
    kept &= apart <= ODD * apart[kept].median()
    return places[index[kept]], colours[kept], torch.ones(int(kept.sum()))


def _tongue(
    gaussians: Gaussians, rig: Rig, expression: Tensor, evidence: Evidence
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The same for a tongue that comes out, if the footage never had it out: it has the colour of the lips then."""
    if "tongueOut" not in rig.shape_names or not {"tongue", "lips_outer"} <= rig.regions.keys():
        return None
    shape, face = rig.shape_names.index("tongueOut"), gaussians.face.long()
    tongue = of_faces(rig, ("tongue",))[face]
    lips = of_faces(rig, ("lips_outer",))[face] & (evidence.shown > SHOWN)
    known = max(0.0, float(torch.quantile(expression[:, shape], KNOWN)))
    if not tongue.any() or int(lips.sum()) < FEWEST or known > OUT:
        return None
    mixing = torch.zeros(len(rig.shape_names))
    mixing[shape] = 1
    wanted = colours_towards(gaussians.sh[lips], FRONT).clamp(0, 1).median(0).values
    change = torch.zeros(gaussians.count, 14)
    change[tongue, BASIS_ROWS["colour"]] = (wanted - colours_towards(gaussians.sh[tongue], FRONT)) / SH_C0
    return mixing, torch.tensor([known, 1.0]), change / (1 - known)
