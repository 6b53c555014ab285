"""Light, exposure and albedo from what many frames show of the same coarse texels.

The model is colour = gain of the frame x albedo of the texel x irradiance in the direction of its normal, the
irradiance a second-order spherical-harmonics function that stays put in the world while the head turns.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.geometry.harmonics import sh_basis
from avatar3d.typing import typed

FLOOR = 2e-3  # linear; darker is noise
MAX_TEXELS = 800  # of the coarse level, for light and gains
SHADE_RANGE = (0.45, 1.7)  # how far shading may be divided out
_LUMA = torch.tensor([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """Light and albedo that explain the frames."""

    light: Float[Tensor, "9 3"]
    """Irradiance over pi in world space, so that colour = albedo x light; about 1 on the face."""
    gain: Float[Tensor, "f 3"]
    """Gain of every frame; geometric mean 1."""
    albedo: Float[Tensor, "n 3"]
    """Linear; NaN where no frame showed the texel."""
    trust: Float[Tensor, "f n"]
    """How well each sample agrees with the others, 0..1; 0 where there is none."""


@dataclass(frozen=True, kw_only=True)
class LightPrior:
    """What light is drawn to where colours leave it open: the same from everywhere."""

    share: float = 0.03
    """Of all evidence."""
    level: float = 0.8
    """Relative to the light that the face has."""
    sideways: float = 1.0
    """Factor on what differs between left and right."""


@typed
def shade(normals: Float[Tensor, "*b 3"], light: Float[Tensor, "9 3"]) -> Float[Tensor, "*b 3"]:
    """Shading that is divided out of samples: `light` at the normals, softly limited to `SHADE_RANGE`."""
    low, high = SHADE_RANGE
    value = sh_basis(normals) @ light
    value = torch.where(value < 2 * low, low + low * torch.exp((value - 2 * low) / low).clamp_max(1), value)
    room = high - 1
    return torch.where(value > 1, 1 + room * torch.tanh((value - 1) / room), value)


@typed
def weighted_quantile(
    values: Float[Tensor, "f n c"], weights: Float[Tensor, "f n"], q: float = 0.5
) -> Float[Tensor, "n c"]:
    """Quantile over the first axis for every texel and channel; NaN where all weights are 0."""
    order = values.argsort(0)
    w = weights[..., None].expand_as(values).gather(0, order).cumsum(0)
    total = w[-1]
    at = (w < q * total).sum(0).clamp_max(len(values) - 1)
    picked = values.gather(0, order).gather(0, at[None])[0]
    return torch.where(total > 0, picked, torch.nan)


@typed
def estimate_light(
    colour: Float[Tensor, "f n 3"],
    weight: Float[Tensor, "f n"],
    normal: Float[Tensor, "f n 3"],
    skin: Bool[Tensor, "n"],
    *,
    iterations: int = 10,
    prior: LightPrior | None = None,
) -> Lighting:
    """Solves for light, gains and albedo, alternating robust least squares.

    What a still head cannot tell apart (a darker left cheek or a darker left light) goes to the light as far as nine
    smooth functions can carry it, because skin is mostly of one colour.

    Args:
        colour: Linear RGB of every sample.
        weight: 0..1; 0 where a frame does not show a texel.
        normal: World normals.
        skin: Texels whose albedo should be about the same.
        iterations: Rounds.
        prior: For few views, a stronger one.
    """
    clipped = (colour > 0.96).any(-1)
    weight = torch.where(clipped, 0.15 * weight, weight)
    weight = torch.where(colour.mean(-1) < FLOOR, 0.1 * weight, weight)
    log_colour = colour.clamp_min(FLOOR).log()
    seen = weight.sum(0) > 0
    if not seen.any():
        raise ValueError("estimate_light: every weight is 0; no frame shows the head.")
    used = (skin & seen if (skin & seen).any() else seen).nonzero()[:, 0]
    used = used[:: max(1, len(used) // MAX_TEXELS)]
    shown = log_colour[:, used], weight[:, used], normal[:, used]
    light, log_gain = _light_and_gain(*shown, iterations, prior or LightPrior())
    log_shade = shade(normal, light).log()
    final = log_colour - log_shade - log_gain[:, None]
    # a little below the median: highlights lie above the diffuse colour, never below
    log_albedo = weighted_quantile(final, weight, 0.45)
    for _ in range(3):
        off = (final - log_albedo).abs().amax(-1)
        trust = torch.where(weight > 0, 1 / (1 + (off / 0.2) ** 2) ** 2, 0.0)
        total = (weight * trust).sum(0)[:, None]
        mean = (final * (weight * trust)[..., None]).sum(0) / total
        log_albedo = torch.where(total > 0, mean, log_albedo)
    return Lighting(light=light, gain=log_gain.exp(), albedo=log_albedo.exp(), trust=trust)


def _light_and_gain(
    log_colour: Tensor, weight: Tensor, normal: Tensor, iterations: int, prior: LightPrior
) -> tuple[Tensor, Tensor]:
    """Brightness first; then every channel, held to the brightness, because light is mostly of one colour."""
    basis = sh_basis(normal).double()
    weight, log_colour = weight.double(), log_colour.double()
    luma = (log_colour.exp() @ _LUMA.double()).clamp_min(FLOOR).log()
    start = torch.zeros(9, dtype=torch.float64)
    start[0] = 1 / 0.282095
    around = _directions(64)
    flat = sh_basis(around).double()
    ambient = torch.full((len(flat),), prior.level, dtype=torch.float64)
    held = flat
    if prior.sideways != 1:  # over a symmetric set what is odd in x is orthogonal to the rest
        held = sh_basis(torch.cat([around, around * torch.tensor([-1.0, 1.0, 1.0])])).double()
        held[:, [3, 4, 7]] *= prior.sideways
        ambient = ambient.repeat(2)
    light, gain = _gauss_newton(luma, weight, basis, start, (held, ambient, prior.share), iterations)
    channels = [
        _gauss_newton(log_colour[..., c], weight, basis, light, (flat, flat @ light, 0.5), iterations // 2, gain)
        for c in range(3)
    ]
    return tuple(torch.stack(list(pair), 1).float() for pair in zip(*channels, strict=True))  # type: ignore[return-value]


def _gauss_newton(
    y: Tensor, weight: Tensor, basis: Tensor, light: Tensor, prior: tuple, iterations: int, gain: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Light and log gains of one channel; every texel's albedo is eliminated (Schur complement).

    Args:
        y: Log colour `[f, n]`.
        weight: `[f, n]`.
        basis: Harmonics at the normals `[f, n, 9]`.
        light: Start `[9]`.
        prior: Harmonics in some directions `[d, 9]`, shading expected there `[d]`, and its share of all weight.
        iterations: Steps.
        gain: Start `[f]`, and what gains are drawn to; 0 where left out.
    """
    expected = torch.zeros(len(y), dtype=y.dtype) if gain is None else gain
    gain, flat, wanted = expected, prior[0], prior[1]
    lean = 1.5 * torch.ones(y.shape[1], dtype=y.dtype)  # how much a texel's albedo leans on the common tone, in views
    tone = None
    for _ in range(iterations):
        shading = (basis @ light).clamp_min(0.15)
        left = y - shading.log() - gain[:, None]
        total = weight.sum(0)
        if tone is None:
            tone = ((left * weight).sum(0) / total).median()
        albedo = ((left * weight).sum(0) + lean * tone) / (total + lean)
        w = weight / (1 + ((left - albedo) / 0.25) ** 2)
        mean = (left * w).sum(0) / w.sum(0).clamp_min(1e-9)
        tone = mean.median()
        # moles, brows and beards are no evidence about light
        odd = 1 / (1 + ((mean - tone) / 0.35) ** 2)
        w = w * odd
        total = w.sum(0) + lean * odd + 1e-9
        J = basis / shading[..., None]
        wJ = J * w[..., None]
        M = torch.cat([wJ.sum(0), w.T], 1)
        H = torch.zeros(9 + len(y), 9 + len(y), dtype=y.dtype)
        cross = wJ.sum(1)
        H[:9, :9] = torch.einsum("fni,fnj->ij", wJ, J)
        H[:9, 9:], H[9:, :9] = cross.T, cross
        seen = w.sum(1)
        H[9:, 9:] = torch.diag(seen)
        H -= M.T @ (M / total[:, None])
        fixed = (w * left).sum(0) + lean * odd * tone
        b = torch.cat([torch.einsum("fni,fn->i", wJ, left), (w * left).sum(1)]) - M.T @ (fixed / total)
        share = prior[2] * w.sum() / len(flat)
        H[:9, :9] += share * flat.T @ flat
        b[:9] += share * flat.T @ (wanted - flat @ light)
        hold = 0.01 * seen + 1e-3 * seen.max()
        H[9:, 9:] += torch.diag(hold)
        b[9:] += hold * (expected - gain)
        step = torch.linalg.solve(H + 1e-9 * torch.eye(len(H), dtype=y.dtype) * H.diagonal().max(), b)
        step = step * (1.0 / max(1.0, float(step[9:].abs().max()) / 0.5, float(step[:9].norm()) / 1.5))
        light, gain = light + step[:9], gain + step[9:]
        level = ((basis @ light) * w).sum() / w.sum()
        light = light / level
        shift = (gain * seen).sum() / seen.sum()
        gain = gain - shift
        tone = tone + level.log() + shift
    return light, gain


def _directions(count: int) -> Tensor:
    """Unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    i = torch.arange(count) + 0.5
    phi = i * 2.399963
    z = 1 - 2 * i / count
    r = (1 - z * z).sqrt()
    return torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
