"""Which skin stayed with the skull: the two small networks behind `avatar3d.stabilize`.

`Locator` finds a face in a cloud of oriented patches of any orientation: it tells where on the mean head each patch
lies. `Weigher` sees how the patches of one mesh moved to another mesh of the same person, and tells for each how much
of that motion is the skin's own and how sure it is; a weighted rigid fit of the rest is the skull's motion. Neither
knows a topology.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avatar3d.geometry.rotation import skew
from avatar3d.typing import typed

MM = 1e-3
NEIGHBOURS = 8
FEW = 128
"""So few patches are always looked at whole, and no fewer at a first look."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Small pieces of a surface that moved, in the mean head's frame, metres. Padded rows have `mask` False."""

    x: Float[Tensor, "b n 3"]
    """Centre before."""
    y: Float[Tensor, "b n 3"]
    """Centre after, roughly aligned with x."""
    normal: Float[Tensor, "b n 3"]
    spread: Float[Tensor, "b n"]
    """RMS deviation of the motion within the patch."""
    count: Float[Tensor, "b n"]
    """Vertices in the patch."""
    mask: Bool[Tensor, "b n"]


@dataclass(frozen=True, kw_only=True)
class Still:
    """What of the patches' features no motion changes."""

    place: Float[Tensor, "b n 6"]
    far: Float[Tensor, "b n k"]
    """Distances of the neighbours, metres."""
    sampling: Float[Tensor, "b n 2"]


class Attention(nn.Module):
    """Points are read by a few latent vectors, and read them back: context at a cost linear in the points."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, into: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = into.shape
        q = self.query(into).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(source).view(b, source.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if mask is None:  # few to be read: the softmax runs over the outer axis, which is several times faster
            mixed = ((k @ q.mT) / sqrt(c / self.heads)).softmax(-2).mT @ v
        else:
            score = (q @ k.mT) / sqrt(c / self.heads)
            mixed = score.masked_fill(~mask[:, None, None], -1e4).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    """Neighbours, latents, and a two-layer perceptron; residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Linear(width, width)
        self.read, self.write = Attention(width), Attention(width)
        self.latent = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(),
                                    nn.Linear(2 * width, width))  # fmt: skip
        self.norm, self.norm_z = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, z: Tensor, mask: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        g = self.norm(h)
        z = z + self.read(self.norm_z(z), g, mask)
        z = z + self.latent(z)
        local = _around(torch.relu(self.near(g)), near)
        return h + self.mix(torch.cat([g, local, self.write(g, z)], -1)), z


class Trunk(nn.Module):
    """Features of patches to outputs per patch."""

    def __init__(self, inputs: int, outputs: int, width: int = 64, blocks: int = 3, latents: int = 12) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.latents = nn.Parameter(0.5 * torch.randn(latents, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(blocks)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, features: Tensor, mask: Tensor, near: Tensor) -> Tensor:
        h = self.embed(features)
        z = self.latents.expand(len(h), -1, -1)
        for block in self.blocks:
            h, z = block(h, z, mask, near)
        return self.head(h)


class Locator(nn.Module):
    """Where on the mean head each patch lies."""

    def __init__(self, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.trunk = Trunk(6, 4, width, blocks)

    @typed
    def forward(
        self,
        points: Float[Tensor, "b n 3"],
        normals: Float[Tensor, "b n 3"],
        mask: Bool[Tensor, "b n"],
        near: Int[Tensor, "b n k"],
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"]]:
        """Points with zero mean and unit RMS radius to positions on the mean head (metres) and log error (metres)."""
        out = self.trunk(torch.cat([points, normals], -1), mask, near)
        return 0.1 * out[..., :3], out[..., 3].clamp(-3, 3) - 5


class Weigher(nn.Module):
    """How much of each patch's motion is the skin's own, and how sure that is."""

    def __init__(self, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.trunk = Trunk(29, 6, width, blocks)

    def forward(
        self,
        patches: Patches,
        near: Int[Tensor, "b n k"],
        residual: Float[Tensor, "b n 3"],
        still: Still | None = None,
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """One look.

        Args:
            patches: What is seen.
            near: Neighbours of every patch.
            residual: y - x under the current estimate of the skull's motion.
            still: `at_rest` of the patches, where it is known.

        Returns:
            The skin's own motion, metres; the log of its error, metres; the log weight in the rigid fit.
        """
        features, scale = self._features(patches, near, residual, still or at_rest(patches, near))
        out = self.trunk(features, patches.mask, near)
        own = residual * torch.sigmoid(out[..., :1]) + scale * out[..., 1:4]
        log_error = out[..., 4] - 8
        log_weight = (out[..., 5] - 2 * out[..., 4]).clamp(-20, 20).masked_fill(~patches.mask, -60.0)
        return own, log_error.clamp(-14, 0), log_weight

    def _features(self, p: Patches, near: Tensor, r: Tensor, still: Still) -> tuple[Tensor, Tensor]:
        m = p.mask[..., None].to(r)
        size = r.norm(dim=-1, keepdim=True)
        scale = ((size.square() * m).sum(1, keepdim=True) / m.sum(1, keepdim=True)).sqrt() + 0.01 * MM
        around = _gather(r, near)
        smooth = (around.sum(2) + r) / (near.shape[2] + 1)
        apart = around - r[:, :, None]
        length = apart.norm(dim=-1)
        strain = torch.log((length / still.far).mean(2, keepdim=True) + 1e-4)
        rough = length.square().mean(2, keepdim=True).sqrt()
        along = (r * p.normal).sum(-1, keepdim=True)
        lengths = torch.cat([size, smooth.norm(dim=-1, keepdim=True), rough, p.spread[..., None],
                             scale.expand_as(size)], -1)  # fmt: skip
        log_size, log_smooth, log_rough, log_spread, log_scale = _log(lengths).split(1, -1)
        return torch.cat(
            [
                still.place,
                torch.asinh(r / (0.05 * MM)), torch.asinh(r / MM), r / scale, torch.asinh(smooth / (0.3 * MM)),
                log_size, log_smooth, torch.asinh(along / (0.3 * MM)), log_rough, log_spread, strain, log_scale,
                log_size - log_scale, still.sampling, m,
            ],
            -1,
        ), scale  # fmt: skip


def _log(length: Tensor) -> Tensor:
    return torch.log(length + 0.005 * MM) + 8


def _around(values: Tensor, near: Tensor) -> Tensor:
    """Mean over the neighbours, [b, n, c]."""
    b, n, k = near.shape
    mean = nn.functional.embedding_bag(_flat(near).reshape(-1, k), values.reshape(b * n, -1), mode="mean")
    return mean.view(b, n, -1)


def _gather(values: Tensor, near: Tensor) -> Tensor:
    """[b, n, c] and [b, n, k] to [b, n, k, c]."""
    b, n, k = near.shape
    return values.reshape(b * n, -1).index_select(0, _flat(near).reshape(-1)).view(b, n, k, -1)


def _flat(near: Tensor) -> Tensor:
    """Rows of all patches of the batch."""
    b, n, _ = near.shape
    return near if b == 1 else near + torch.arange(b, device=near.device)[:, None, None] * n


@typed
def at_rest(p: Patches, near: Int[Tensor, "b n k"]) -> Still:
    """Features of patches that do not depend on their motion."""
    far = (_gather(p.x, near) - p.x[:, :, None]).norm(dim=-1).clamp_min(1 * MM)
    sampling = torch.cat([p.count[..., None].clamp_min(1).log(), torch.log(far.mean(2, keepdim=True))], -1)
    return Still(place=torch.cat([10 * p.x, p.normal], -1), far=far, sampling=sampling)


@typed
def neighbours(x: Float[Tensor, "b n 3"], mask: Bool[Tensor, "b n"], k: int = NEIGHBOURS) -> Int[Tensor, "b n _"]:
    """The k nearest other patches of each; padded patches are nobody's neighbours where there are others."""
    far = torch.cdist(x, x) + (~mask[:, None]) * 1e3 + torch.eye(x.shape[1]) * 1e3
    return far.topk(min(k, x.shape[1]), largest=False).indices


@typed
def rigid_step(
    x: Float[Tensor, "b n 3"], residual: Float[Tensor, "b n 3"], weight: Float[Tensor, "b n"]
) -> Float[Tensor, "b 4 4"]:
    """The rigid motion nearest to displacements `residual` of points `x`, weighted; linearised about the identity.

    About the weighted centre the turn w solves (tr(S) I - S) w = sum of weight x times residual, S the points' second
    moment, and the shift is the mean residual.
    """
    return _step(x, residual, weight)


def _step(x: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
    w = (weight / weight.sum(1, keepdim=True).clamp_min(1e-30))[:, None]
    both = torch.cat([x, residual], -1)
    mean = w @ both
    centre, shift = mean[..., :3], mean[..., 3:]
    apart = x - centre
    moments = (apart * w.mT).mT @ torch.cat([apart, residual], -1)
    S, M = moments[..., :3], moments[..., 3:]
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    inertia = (S.diagonal(dim1=-2, dim2=-1).sum(-1) + 1e-9)[:, None, None] * eye - S
    odd = M - M.mT
    torque = torch.stack([odd[:, 1, 2], odd[:, 2, 0], odd[:, 0, 1]], -1)
    # Cayley's map: a turn by 2 atan(|w| / 2)
    k = torch.linalg.solve(inertia, torque) / 2
    K = skew(k)
    R = eye + (2 / (1 + k.square().sum(1)))[:, None, None] * (K + K @ K)
    move = (centre + shift).mT - R @ centre.mT
    bottom = torch.tensor([0, 0, 0, 1], dtype=x.dtype, device=x.device).expand(len(x), 1, 4)
    return torch.cat([torch.cat([R, move], -1), bottom], -2)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a pair, and the fit that followed."""

    T_y_x: Float[Tensor, "b 4 4"]
    """The skull's motion."""
    own: Float[Tensor, "b n 3"]
    """The skin's own motion, metres."""
    log_error: Float[Tensor, "b n"]
    """Of `own`, metres."""
    weight: Float[Tensor, "b n"]
    """Share of each patch in the fit; at most 1."""


@typed
def first(patches: Patches, count: int) -> Patches:
    """So many of the patches."""
    return Patches(**{name: value[:, :count] for name, value in vars(patches).items()})


@typed
def glance(n: int) -> int:
    """Patches, the first of n, that the first looks go over."""
    return min(n, max(n // 4, FEW))


@typed
def look(
    network: Weigher, patches: Patches, near: tuple[Int[Tensor, "b m j"], Int[Tensor, "b n k"]] | None = None,
    still: tuple[Still, Still] | None = None, *, steps: int = 2,
) -> list[Look]:  # fmt: skip
    """Alternates between looking and fitting; every look starts from the estimate before it.

    All looks but the last go over the first quarter of the patches, whose order should be arbitrary.

    Args:
        network: What looks.
        patches: What is looked at.
        near: `neighbours` of the first quarter of the patches among themselves and of all, where they are known.
        still: `at_rest` of both, likewise.
        steps: Looks.
    """
    n, few = patches.x.shape[1], glance(patches.x.shape[1])
    part = first(patches, few)
    if near is None:
        near = neighbours(part.x, part.mask), neighbours(patches.x, patches.mask)
    if still is None:
        still = at_rest(part, near[0]), at_rest(patches, near[1])
    T = torch.eye(4).to(patches.x).expand(len(patches.x), 4, 4)
    out = []
    for i in range(steps):
        whole = i == steps - 1 or few == n
        seen = patches if whole else part
        T = T.detach()
        back = (seen.y - T[:, None, :3, 3]) @ T[:, :3, :3]  # y under the inverse of the estimate
        residual = (back - seen.x) * seen.mask[..., None]
        own, log_error, log_weight = network(seen, near[whole], residual, still[whole])
        weight = (log_weight - log_weight.amax(1, keepdim=True)).exp()
        T = T @ _step(seen.x, residual - own, weight)
        out.append(Look(T_y_x=T, own=own, log_error=log_error, weight=weight))
    return out
