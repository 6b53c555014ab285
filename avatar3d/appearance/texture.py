"""Bakes the skin's albedo: a robust coarse consensus of many frames, and fine detail from the best few per texel.

The coarse level settles light, exposure, outliers and the low frequencies of the
albedo. Every frame is then brought to that consensus by a smooth gain map, so that fine detail can be taken from
whichever frames show it best without seams.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from avatar3d.appearance.chart import Chart
from avatar3d.appearance.light import FLOOR, Lighting, estimate_light
from avatar3d.appearance.observe import Observation, bilinear, sample
from avatar3d.appearance.regions import faces_in, hairy, region, skin_faces
from avatar3d.types import Rig

COARSE = 128  # side of the coarse level, texels
SHARPEN = 5.0  # exponent on weights when detail is blended: the best views win, near ties are averaged


@dataclass(frozen=True, kw_only=True)
class Bake:
    """What the frames showed, in texture space."""

    coarse: Float[Tensor, "n 3"]
    """Logarithm of linear albedo at the coarse texels; NaN where unseen."""
    confidence: Float[Tensor, "n"]
    """0..1 at the coarse texels."""
    fine: Float[Tensor, "m 3"]
    """Logarithm of linear albedo at the fine texels; NaN where unseen."""
    lighting: Lighting


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `[h, w, c]`, zero outside."""
    radius = max(1, int(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    planes = image.permute(2, 0, 1)[:, None]
    planes = conv2d(pad(planes, (radius, radius, 0, 0)), kernel.view(1, 1, 1, -1))
    return conv2d(pad(planes, (0, 0, radius, radius)), kernel.view(1, 1, -1, 1))[:, 0].permute(1, 2, 0).contiguous()


def smooth_fill(values: Tensor, weight: Tensor, sigma: float, levels: int = 3) -> Tensor:
    """Weighted blur of `[h, w, c]`; where the blur reaches nothing, wider ones."""
    total = torch.cat([values * weight[..., None], weight[..., None]], -1)
    out = torch.zeros_like(total)
    for level in range(levels):
        out = out + blur(total, sigma * 2.5**level) * 1e-3**level
    return out[..., :-1] / out[..., -1:].clamp_min(1e-12)


def coarse_uv(chart: Chart, coarse: Chart) -> Tensor:
    """Pixel coordinates of fine texels in the coarse image."""
    x, y = chart.texel % chart.size, torch.div(chart.texel, chart.size, rounding_mode="floor")
    return (torch.stack([x, y], 1).float() + 0.5) * (coarse.size / chart.size)


def texel_pixels(seen: Observation, chart: Chart, rig: Rig) -> int:
    """How many pixels a texel spans on the face, at least 1."""
    uv = rig.uvs.float()[rig.uv_faces.long()]
    e1, e2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    texels = (e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]).abs() * chart.size**2
    p = seen.vertices[rig.faces.long()]
    metres = torch.linalg.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]).norm(dim=1)
    use = seen.front & (texels > 0)
    side = (metres[use].sum() / texels[use].sum().clamp_min(1e-9)).sqrt()
    distance = (seen.towards - seen.vertices.mean(0)).norm()
    return max(1, round(float(side * seen.camera.focal / distance)))


def bake(
    observations: list[Observation],
    rig: Rig,
    chart: Chart,
    coarse: Chart,
    *,
    sharp: list[float],
) -> Bake:
    """Combines frames.

    Args:
        observations: The chosen frames.
        rig: The rig.
        chart: Fine texels.
        coarse: Coarse texels of the same layout.
        sharp: For each frame, its merit for fine detail (0: none is taken from it).
    """
    faces, wanted, hair = rig.faces.long(), skin_faces(rig), faces_in(rig, hairy(rig))
    n, f = coarse.count, len(observations)
    colour, normal, weight = torch.zeros(f, n, 3), torch.zeros(f, n, 3), torch.zeros(f, n)
    for i, seen in enumerate(observations):
        prefilter = texel_pixels(seen, coarse, rig)
        s = sample(seen, coarse, faces, wanted, power=2.0, prefilter=prefilter, normals=True, doubtful=hair)
        colour[i, s.texel], normal[i, s.texel], weight[i, s.texel] = s.colour, s.normal, s.weight
    skin = faces_in(rig, region(rig, "face", "ear") & ~region(rig, "lip", "scalp", "eyelid"))
    if not skin.any():
        skin = wanted
    lighting = estimate_light(colour, weight, normal, skin[coarse.face.long()])
    coarse_log = lighting.albedo.clamp_min(FLOOR).log()
    evidence = (weight * lighting.trust).sum(0)
    confidence = (1 - torch.exp(-evidence / 0.15)) * (evidence > 0.01)

    at = coarse_uv(chart, coarse)
    consensus = smooth_fill(coarse.image(coarse_log.nan_to_num(0.0)), coarse.image(confidence.clamp_min(1e-6)), 0.6)
    total, mass = torch.zeros(chart.count, 3), torch.zeros(chart.count)
    for i, seen in enumerate(observations):
        if sharp[i] <= 0:
            continue
        w = weight[i] * lighting.trust[i]
        ratio = (coarse_log - colour[i].clamp_min(FLOOR).log()).clamp(-2, 2).nan_to_num(0.0)
        maps = smooth_fill(coarse.image(ratio), coarse.image(w), 1.5)
        trusted = smooth_fill(coarse.image(lighting.trust[i])[..., None], coarse.image(weight[i]), 0.8)
        local = torch.cat([maps, trusted, consensus], -1)
        s = sample(seen, chart, faces, wanted, power=1.5, doubtful=hair)
        local = bilinear(local, at[s.texel])
        value = s.colour.clamp_min(FLOOR).log() + local[:, :3]
        # hues differ less over a texel than between skin and what covers it
        off = value - local[:, 4:]
        hue = (off[:, 0] - off[:, 1]).square() + (off[:, 1] - off[:, 2]).square()
        w = s.weight * local[:, 3].clamp(0, 1) * sharp[i] / (1 + hue / 0.04)
        w = w**SHARPEN + 1e-12
        total[s.texel] += value * w[:, None]
        mass[s.texel] += w
    fine = torch.where(mass[:, None] > 0, total / mass[:, None], torch.nan)
    return Bake(coarse=coarse_log, confidence=confidence, fine=fine, lighting=lighting)
