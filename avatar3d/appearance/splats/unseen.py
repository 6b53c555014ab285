"""What no picture shows: splats there take after those that are seen.

An optimiser that makes steps of one size lets a splat that pictures only graze wander: it helps the few pixels in
which it shines through and is a blotch from any other side. So such splats are set to what may be expected of them:
the colour of their neighbours and of the other half of the face, lying flat on the skin, the same from everywhere.
What is seen is left alone, but for view dependence along directions that no picture had.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.appearance.splats.evidence import Evidence
from avatar3d.appearance.splats.initial import SH_C0, THIN, of_faces
from avatar3d.appearance.splats.unseen_hair import hair_end, standing_off, strands
from avatar3d.render.gaussians import pose_gaussians
from avatar3d.types import Rig
from avatar3d.types.gaussians import GROUP_NAMES, Gaussians

UNSEEN, SEEN = 0.005, 0.025
"""`Evidence.shown` up to which a splat is what may be expected, and from which it is what the pictures made it."""
USUAL = 2.0
"""Hair that differs from the median by so many times the median difference does not count to others, clothes half."""
SOURCE = 0.25
"""`Evidence.shown` from which others may take after it."""
INNER = 0.7
"""`Evidence.inner`, in terms of `shown`, from which a colour is its own."""
SOURCES, FEWEST = 3000, 20
"""At most and at least this many are taken after."""
NEAREST = 4e-3
"""Metres within which distance to them does not count."""
MIRRORED = 0.3
"""What the other half of the body counts beside the same one."""
VARIATION = 0.01
"""Variance of the directions that a splat is seen from, at which half of its view dependence is believed."""
IN_SHADOW = 0.5
"""Light that reaches teeth and tongue that the footage never showed, in terms of what the mesh has there."""
GONE, NEVER = -5.0, -9.0
"""Logit of the opacity of what is there no more, and of what never was."""
OPAQUE = 2.2
"""Least logit of the opacity of unseen skin and hair."""
C1 = 0.4886025119029199
SKIN, HAIR, EYES, OTHER, MOUTH = (GROUP_NAMES.index(name) for name in ("skin", "hair", "eyes", "other", "mouth"))


def complete(
    gaussians: Gaussians, rig: Rig, expected: Float[Tensor, "n 3"], evidence: Evidence
) -> tuple[Gaussians, Float[Tensor, "n"]]:
    """Splats that are as expected where they are not seen, and how unseen each is, 0..1.

    Args:
        gaussians: As the pictures made them, bound to `rig`.
        rig: With its anchors.
        expected: sRGB of the textured mesh at every splat that is bound to it.
        evidence: What the pictures say.
    """
    sh = least_dependent(gaussians.sh, evidence)
    places, sizes = _at_rest(gaussians, rig)
    told = evidence.shown > SOURCE
    end = hair_end(rig, places[(gaussians.group == HAIR) & told])
    # skin that only outlines show has colours of what is behind it
    clean = torch.where(gaussians.group == SKIN, evidence.inner, evidence.shown)
    colours = _colours(gaussians, rig, sh, places, expected, evidence, end, clean < SEEN)
    unseen, unclean = (((SEEN - x) / (SEEN - UNSEEN)).clamp(0, 1) for x in (evidence.shown, clean))
    inside = gaussians.group == MOUTH
    sh[inside, 0] += unseen[inside, None] * ((IN_SHADOW * colours[inside] - 0.5) / SH_C0 - sh[inside, 0])
    unseen[inside] = unclean[inside] = 0  # nobody's neighbour, and seldom seen
    u, c = unseen[:, None], unclean[:, None]
    sh[:, 0] += c * ((colours - 0.5) / SH_C0 - sh[:, 0])
    sh[:, 1:] *= 1 - c[..., None]
    lying = torch.where(gaussians.group[:, None] == SKIN, u, 0.0)
    quats = normalize(gaussians.quats, dim=1)
    quats = quats * torch.where(quats[:, :1] < 0, -1.0, 1.0)
    flat = quats * (1 - lying) + lying * torch.tensor([1.0, 0, 0, 0])
    log_scales = gaussians.log_scales
    skin = (gaussians.group == SKIN).nonzero()[:, 0]
    if len(skin) > 1:
        log_scales = log_scales.clone()
        wanted = lying_log_scales(places[skin], sizes[skin])
        log_scales[skin] += lying[skin] * (wanted - log_scales[skin])
    solid = (gaussians.group == SKIN) | (gaussians.group == HAIR)
    logits = gaussians.logit_opacities
    logits = torch.where(solid, logits + unseen * (logits.clamp_min(OPAQUE) - logits), logits)
    off = standing_off(gaussians, rig, places, unseen, told, end, FEWEST)
    logits = torch.where(off, NEVER, logits)
    done = replace(
        gaussians, sh=sh, offsets=gaussians.offsets * (1 - lying), log_scales=log_scales, logit_opacities=logits,
        quats=torch.where(lying > 0, flat, gaussians.quats),
        basis=None if gaussians.basis is None else gaussians.basis * (1 - c),
    )  # fmt: skip
    return done, unclean


def least_dependent(sh: Float[Tensor, "n k 3"], evidence: Evidence) -> Float[Tensor, "n k 3"]:
    """Harmonics whose linear part is what the seen directions determine, with the same colours in those.

    The linear part `L` becomes the least one that tells the same: (C + v)^-1 C L with the directions' covariance C
    (ridge regression), and the constant part takes up the difference at their mean.
    """
    sh = sh.clone()
    if sh.shape[1] < 4:
        return sh
    linear = C1 * torch.stack([-sh[:, 3], -sh[:, 1], sh[:, 2]], 1)
    believed = torch.linalg.solve(evidence.spread + VARIATION * torch.eye(3), evidence.spread @ linear)
    sh[:, 0] += torch.einsum("nd,ndc->nc", evidence.direction, linear - believed) / SH_C0
    sh[:, 3], sh[:, 1], sh[:, 2] = -believed[:, 0] / C1, -believed[:, 1] / C1, believed[:, 2] / C1
    return sh


def colours_towards(sh: Float[Tensor, "n k 3"], direction: Tensor) -> Float[Tensor, "n 3"]:
    """sRGB that linear harmonics have in a direction, or in one each."""
    colours = 0.5 + SH_C0 * sh[:, 0]
    if sh.shape[1] >= 4:
        x, y, z = direction.expand(len(sh), 3).split(1, 1)
        colours = colours + C1 * (-y * sh[:, 1] + z * sh[:, 2] - x * sh[:, 3])
    return colours


def lying_log_scales(places: Float[Tensor, "n 3"], sizes: Float[Tensor, "n"]) -> Float[Tensor, "n 3"]:
    """Of flat splats that close the surface between them, relative to the sizes of their triangles."""
    k = min(7, len(places))
    reach = torch.cat([torch.cdist(part, places).topk(k, largest=False).values[:, -1] for part in places.split(1024)])
    radius = 0.75 * reach * math.sqrt(math.pi / max(k - 1, 1))
    return (radius / sizes).clamp(0.02, 20).log()[:, None] + torch.tensor([0.0, 0.0, math.log(THIN)])


def taken_after(
    places: Float[Tensor, "m 3"], sources: Float[Tensor, "s 3"], values: Float[Tensor, "s c"],
    weights: Float[Tensor, "s"],
) -> Float[Tensor, "m c"]:  # fmt: skip
    """Values at some places from those of others near by (Shepard 1968, with the fourth power of the distance)."""
    out = []
    for part in places.split(1024):
        near = weights / (torch.cdist(part, sources).square() + NEAREST**2).square()
        out.append(near @ values / near.sum(1, keepdim=True))
    return torch.cat(out) if out else values[:0]


def _at_rest(gaussians: Gaussians, rig: Rig) -> tuple[Tensor, Tensor]:
    """Places of the splats on the neutral head, metres, and the sizes of their triangles."""
    plain = replace(gaussians, mixing=None, basis=None, limits=None)
    places = pose_gaussians(plain, rig, rig.neutral[None].float()).means[0]
    a, b, c = rig.neutral[rig.faces[gaussians.face.long()].long()].float().unbind(1)
    return places, torch.linalg.cross(b - a, c - a).norm(dim=1).sqrt().clamp_min(1e-6)


def _colours(
    gaussians: Gaussians,
    rig: Rig,
    sh: Tensor,
    places: Tensor,
    expected: Tensor,
    evidence: Evidence,
    end: float | None,
    wanting: Tensor,
) -> Tensor:
    """Colours that unseen splats should have: hair as hair above its end; skin and eyes as the mesh, as much brighter
    or darker as what is seen of them; clothes as clothes."""
    group = gaussians.group
    scalp = of_faces(rig, ("scalp",))[gaussians.face.long()]
    plain = torch.zeros_like(expected)
    hairy = (group == HAIR) | ((group == SKIN) & scalp)
    kinds = (
        ((group == SKIN) & ~scalp, expected),
        (hairy, plain),
        (group == EYES, expected),
        (group == OTHER, plain),
    )
    seen_colours = colours_towards(sh, evidence.direction)
    told = evidence.shown > SOURCE
    if end is not None:
        told &= (group != HAIR) | (places[:, 1] > end)
    out = 0.5 + SH_C0 * sh[:, 0]
    for kind, base in kinds:
        wanted = (kind & wanting).nonzero()[:, 0]
        known = (kind & told & (evidence.inner > INNER * evidence.shown)).nonzero()[:, 0]
        if len(known) < FEWEST:
            known = (kind & told).nonzero()[:, 0]
        if not len(wanted) or len(known) < FEWEST:
            continue
        known = known[torch.linspace(0, len(known) - 1, min(SOURCES, len(known))).round().long()]
        values = seen_colours[known] - base[known]
        mirrored = places[known] * torch.tensor([-1.0, 1, 1])
        there, twice = torch.cat([places[known], mirrored]), torch.cat([values, values])
        apart = (values - values.median(0).values).norm(dim=1)
        apart = apart / (USUAL * apart.median()).clamp_min(1e-3)
        if kind is hairy:
            usual = torch.cat([apart, apart]) < 1
            out[wanted] = strands(places[wanted], there[usual], twice[usual].clamp(0, 1))
            continue
        counts = 1 / (1 + apart**4) if base is plain else torch.ones(len(known))
        counts = torch.cat([counts, MIRRORED * counts])
        out[wanted] = base[wanted] + taken_after(places[wanted], there, twice, counts)
    return out.clamp(0, 1)
