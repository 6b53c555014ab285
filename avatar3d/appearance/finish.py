"""From what was baked to a whole texture: unseen skin, hair on the scalp, eyes, mouth, gutters."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from avatar3d.appearance.chart import Chart, mirrored_uv
from avatar3d.appearance.complete import best_patch, fill_gutters, random_phase, spread_over_mesh, vertex_means
from avatar3d.appearance.eyes import paint_eyes, with_lashes
from avatar3d.appearance.inside import Tints, paint_mouth
from avatar3d.appearance.light import FLOOR
from avatar3d.appearance.observe import bilinear
from avatar3d.appearance.regions import faces_in, hairy, region, skin_faces
from avatar3d.appearance.texture import Bake, blur, coarse_uv, smooth_fill
from avatar3d.geometry.colour import linear_to_srgb
from avatar3d.types import Rig

STRANDS = 0.3  # of log brightness, standard deviation about
OF_HAIR = 0.6  # of what is seen of a scalp, the darker ones, tells the colour of the rest
RED_GREEN = (0.5, 0.88)
GREEN_BLUE = (0.15, 0.6)
SCLERA = 0.30  # linear brightness of the whites between the lids in good light
LARGEST_LIFT = 2.2
BRIGHTEST_SKIN = 0.45
PATCH = 80  # texels at 1024
GRAIN = 0.6  # synthetic detail is a little fainter than seen detail
LARGEST_DETAIL = 1.2  # of log albedo


def skin_tone(bake: Bake, rig: Rig, coarse: Chart) -> tuple[Tensor, Tensor]:
    """Median log colour of the seen face and its spread per direction (brightness, red-green, blue-green)."""
    face = faces_in(rig, region(rig, "face") & ~region(rig, "lip", "scalp", "eyelid"))[coarse.face.long()]
    good = (bake.confidence > 0.3) & face
    if good.sum() < 20:
        good = bake.confidence > 0
    colours = bake.coarse[good]
    tone = colours.median(0).values
    opponent = _opponent(colours - tone)
    return tone, opponent.abs().median(0).values * 1.4826 + torch.tensor([0.12, 0.05, 0.06])


def balanced(bake: Bake, rig: Rig, coarse: Chart) -> Bake:
    """Moves a colour cast from the albedo to the light: as much as brings the skin's hue to that of human skin.

    What a picture cannot tell apart, orange skin and orange lamps, skin decides: in linear sRGB its log ratios of red
    to green and green to blue lie within `RED_GREEN` and `GREEN_BLUE`, for pale as for dark people.
    """
    tone, _ = skin_tone(bake, rig, coarse)
    red_green, green_blue = float(tone[0] - tone[1]), float(tone[1] - tone[2])
    a = min(max(red_green, RED_GREEN[0]), RED_GREEN[1]) - red_green
    b = min(max(green_blue, GREEN_BLUE[0]), GREEN_BLUE[1]) - green_blue
    change = torch.tensor([a, 0.0, -b])
    change = change - change @ torch.tensor([0.2126, 0.7152, 0.0722])
    lighting = replace(bake.lighting, light=bake.lighting.light * torch.exp(-change))
    return replace(bake, coarse=bake.coarse + change, fine=bake.fine + change, lighting=lighting)


def lift(bake: Bake, rig: Rig, coarse: Chart, sclera: float | None) -> float:
    """Factor on albedos for footage in the dark: the whites of the eyes are a grey card, in the shadow of the lids.

    Half in doubt (a power of 0.6), at most `LARGEST_LIFT`, and never to skin brighter than `BRIGHTEST_SKIN`.
    """
    if sclera is None:
        return 1.0
    skin = float(skin_tone(bake, rig, coarse)[0].exp() @ torch.tensor([0.2126, 0.7152, 0.0722]))
    wanted = (SCLERA / max(sclera, 1e-3)) ** 0.6
    return max(1.0, min(wanted, LARGEST_LIFT, BRIGHTEST_SKIN / max(skin, 1e-3)))


def brightened(bake: Bake, factor: float) -> Bake:
    """The same pictures from a brighter albedo and a fainter light."""
    by = float(np.log(factor))
    lighting = replace(bake.lighting, light=bake.lighting.light / factor)
    return replace(bake, coarse=bake.coarse + by, fine=bake.fine + by, lighting=lighting)


def _opponent(log_colour: Tensor) -> Tensor:
    r, g, b = log_colour.unbind(-1)
    return torch.stack([(r + g + b) / 3, r - g, g - b], -1)


def gate(bake: Bake, rig: Rig, coarse: Chart) -> Float[Tensor, "n"]:
    """Confidence without clothes, background, lashes and eyes.

    Neck, ears and eyelids count only where they look like the face's skin, with a margin about what does not. The
    inner lips, which teeth and shadow cover, do not count.
    """
    tone, spread = skin_tone(bake, rig, coarse)
    off = (_opponent(bake.coarse - tone) / spread).nan_to_num(99.0)
    hue = off[:, 1:].square().sum(1) / 9
    dark, bright = off[:, 0].clamp_max(0) / 5, off[:, 0].clamp_min(0) / 3
    likely = torch.exp(-(hue + dark.square() + bright.square()).square())
    # an upper lid that is only seen folded shows its crease and lashes, which must not stay on it when it closes
    lower = torch.exp(-(0.36 * hue + (0.5 * dark).square() + bright.square()).square())
    upper = torch.exp(-(0.6 * hue + dark.square() + bright.square()).square())
    # highlights, teeth and bright backgrounds; hair and beards may be any darker colour, white hair is on the scalp
    skin = torch.exp(-(0.75 * bright).pow(4))

    def texels(vertices: Tensor) -> Tensor:
        return faces_in(rig, vertices)[coarse.face.long()]

    hair = hairy(rig)
    factor = torch.where(texels(hair), _like_the_rest(bake, texels(hair), tone), skin)
    factor = torch.where(texels(region(rig, "neck", "ear") & ~hair), likely, factor)
    factor = torch.where(texels(region(rig, "eyelid", "lacrimal")), lower, factor)
    factor = torch.where(texels(region(rig, "eyelid_upper")), upper, factor)
    worst = -max_pool2d(-coarse.image(factor, fill=1.0)[None], 3, 1, 1)[0]
    factor = torch.minimum(factor, worst.reshape(-1)[coarse.texel])
    return bake.confidence * torch.where(texels(region(rig, "lips_inner")), 0.0, factor)


def _like_the_rest(bake: Bake, scalp: Tensor, tone: Tensor) -> Tensor:
    """1 where a texel of the scalp is no brighter than most of it or the skin by much, else 0: walls and ceilings."""
    seen = scalp & (bake.confidence > 0.2)
    if not seen.any():
        return torch.ones_like(bake.confidence)
    usual = torch.maximum(bake.coarse[seen].mean(1).median(), tone.mean())
    return torch.exp(-((bake.coarse.mean(1) - usual).clamp_min(0) / 0.6).nan_to_num(0.0).pow(4))


def _scalp_tone(bake: Bake, confidence: Tensor, scalp: Tensor, tone: Tensor) -> Tensor:
    """Log colour of the seen scalp, hair or skin; the skin's where too little was seen.

    Its brighter texels do not count: skin along the hairline, and tips before a wall.
    """
    seen = scalp & (confidence > 0.2)
    if seen.sum() < 12:
        return tone
    brightness = bake.coarse.mean(1)
    return bake.coarse[seen & (brightness <= brightness[seen].quantile(OF_HAIR))].median(0).values


def finish(
    bake: Bake, rig: Rig, chart: Chart, coarse: Chart, *, mirror: Int[Tensor, "v"] | None, tints: Tints
) -> tuple[Float[Tensor, "h w 3"], Bool[Tensor, "h w"]]:
    """Completes a bake.

    Returns:
        The albedo, sRGB 0..1, and which texels the footage showed.
    """
    faces = rig.faces.long()
    skin = skin_faces(rig)
    confidence = gate(bake, rig, coarse) * skin[coarse.face.long()]
    tone, _ = skin_tone(bake, rig, coarse)
    scalp_vertices = hairy(rig)
    scalp_faces = faces_in(rig, scalp_vertices)
    hair = _scalp_tone(bake, confidence, scalp_faces[coarse.face.long()], tone)

    colour, certain = vertex_means(faces, coarse.face.long(), coarse.weights, bake.coarse, confidence, len(rig.neutral))
    group = torch.zeros(len(rig.neutral), dtype=torch.long)
    group[scalp_vertices] = 1
    group[region(rig, "eyeball", "teeth", "tongue", "mouth_cavity", "gum")] = 2
    anchor = torch.where(scalp_vertices[:, None], hair, tone)
    lips = region(rig, "lip")
    group[lips] = 3
    # closed lids that no frame shows are a little darker than the face, whatever brows and lashes around them are
    lids = region(rig, "eyelid")
    anchor = torch.where(lids[:, None], tone - 0.15, anchor)
    hold = torch.where(lids, 0.3, 2e-3)
    shown = lips & (certain > 0.2)
    if shown.any():
        anchor = torch.where(lips[:, None], colour[shown].median(0).values, anchor)
    filled = spread_over_mesh(faces, colour, certain, group, mirror=mirror, anchor=anchor, hold=hold)

    # coarse level: what was seen, else the mirrored departure from the smooth fill, else the fill
    base = coarse.interpolate(filled, faces)
    sure = smooth_fill(coarse.image(confidence)[..., None], coarse.image(torch.ones(coarse.count)), 1.2)
    sure = (sure.view(-1)[coarse.texel] * confidence).clamp(0, 1)
    departure = torch.where(sure[:, None] > 0, (bake.coarse - base).nan_to_num(0.0), 0.0)
    uv, known = mirrored_uv(coarse, rig, mirror)
    other = _mirrored(torch.cat([departure * sure[:, None], sure[:, None]], 1), coarse, uv, known)
    mirrored_share = (1 - sure[:, None]) * other[:, 3:]
    low = base + departure * sure[:, None] + mirrored_share * other[:, :3] / other[:, 3:].clamp_min(1e-3)

    # fine level: the detail that frames showed over the coarse consensus, else its mirror image, else synthetic
    at = coarse_uv(chart, coarse)
    consensus = torch.where((confidence > 0)[:, None], bake.coarse, low).nan_to_num(float(tone.mean()))
    covered = coarse.image(torch.ones(coarse.count))
    up = bilinear(torch.cat([smooth_fill(coarse.image(consensus), covered, 0.35),
                             smooth_fill(coarse.image(low), covered, 0.35),
                             coarse.image(sure)[..., None]], -1), at)  # fmt: skip
    sure_fine = torch.where(bake.fine.isnan().any(1), 0.0, up[:, 6]).clamp(0, 1)
    detail = (bake.fine - up[:, :3]).nan_to_num(0.0).clamp(-LARGEST_DETAIL, LARGEST_DETAIL)
    uv, known = mirrored_uv(chart, rig, mirror)
    other = _mirrored(torch.cat([detail * sure_fine[:, None], sure_fine[:, None]], 1), chart, uv, known)
    grain = _grain(detail, sure_fine, rig, chart, scalp_faces, skin)
    grain = grain + _strands(rig, chart, scalp_faces, float(tone.mean() - hair.mean()))[:, None]
    unseen = other[:, 3:] * other[:, :3] / other[:, 3:].clamp_min(1e-3) + (1 - other[:, 3:]) * grain
    detail = sure_fine[:, None] * detail + (1 - sure_fine[:, None]) * unseen
    linear = (up[:, 3:6] + detail).exp()

    linear = with_lashes(linear, rig, chart, tints.lashes)
    seen = sure_fine > 0.5
    for pick, colours in _inside(rig, chart, tints):
        linear[pick], seen[pick] = colours, False
    image = chart.image(linear_to_srgb(linear.clamp(FLOOR, 1)))
    covered = chart.image(torch.ones(chart.count)) > 0
    return fill_gutters(image, covered), chart.image(seen.float()) > 0


def _inside(rig: Rig, chart: Chart, tints: Tints) -> list[tuple[Tensor, Tensor]]:
    masks = {
        name: faces_in(rig, region(rig, name)) for name in ("mouth_cavity", "eye_socket", "tongue", "teeth", "gum")
    }
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    eyes = faces_in(rig, region(rig, "eyeball"))
    painted = paint_mouth(rig, chart, masks, tints, rig.regions.get("teeth_gaps"))
    return painted + (
        [paint_eyes(rig, chart, eyes, tints.iris, tints.sclera, tints.iris_size, tints.lashes)] if eyes.any() else []
    )


def _mirrored(values: Tensor, chart: Chart, uv: Tensor, known: Tensor) -> Tensor:
    """Values `[n, c]` at the mirror images of the texels; 0 where there is none."""
    pixels = torch.stack([uv[:, 0] * chart.size, (1 - uv[:, 1]) * chart.size], 1)
    return bilinear(chart.image(values), pixels) * known[:, None]


def _strands(rig: Rig, chart: Chart, scalp: Tensor, darker: float) -> Tensor:
    """Log brightness of strands that fall from the crown, where hair tells itself from skin by so much."""
    out = torch.zeros(chart.count)
    share = STRANDS * min(1.0, max(0.0, darker - 0.5))
    pick = chart.of_faces(scalp)
    if share == 0 or not len(pick):
        return out
    points = rig.neutral.float()
    place = chart.interpolate(points, rig.faces.long(), pick) - points[hairy(rig)].mean(0)
    around = torch.atan2(place[:, 0], -place[:, 2])
    down = torch.atan2(place[:, [0, 2]].norm(dim=1), place[:, 1])
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(24, 180, (48,), generator=generator).float()
    drift, phase = 8 * torch.randn(48, generator=generator), 6.283 * torch.rand(48, generator=generator)
    waves = torch.zeros(len(pick))
    for wave in zip(counts.tolist(), drift.tolist(), phase.tolist(), strict=True):
        waves += torch.cos(around * wave[0] + down * wave[1] + wave[2])
    fade = (down / 0.4).clamp_max(1)  # the waves meet at the crown
    out[pick] = share * fade * waves / 48**0.5
    return out


def _grain(detail: Tensor, sure: Tensor, rig: Rig, chart: Chart, scalp: Tensor, skin: Tensor) -> Tensor:
    """Synthetic detail: noise like a seen patch of skin, and of the scalp where there is one."""
    out = torch.zeros_like(detail)
    smooth = faces_in(rig, region(rig, "cheek", "forehead"))
    for mask, model in ((skin & ~scalp, smooth), (scalp, scalp)):
        texels, from_texels = mask[chart.face.long()], model[chart.face.long()]
        seen = chart.image((from_texels & (sure > 0.8)).float()) > 0
        sizes = (max(16, int(share * PATCH * chart.size / 1024)) for share in (1, 0.75, 0.5, 0.3))
        found = next(((corner, size) for size in sizes if (corner := best_patch(seen, size)) is not None), None)
        if found is None:
            continue
        (y, x), size = found
        patch = chart.image(detail)[y : y + size, x : x + size]
        patch = patch - blur(patch, size / 16)
        # robust against a mole or an edge of hair in the patch
        limit = 2.5 * patch.abs().median() + 1e-4
        noise = GRAIN * random_phase(patch.clamp(-limit, limit), chart.size)
        out[texels] = noise.view(-1, 3)[chart.texel[texels]]
    return out
