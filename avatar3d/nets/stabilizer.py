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

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import make_transform
from avatar3d.typing import typed

MM = 1e-3
NEIGHBOURS = 8


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

    @typed
    def forward(
        self, patches: Patches, near: Int[Tensor, "b n k"], residual: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """One look.

        Args:
            patches: What is seen.
            near: Neighbours of every patch.
            residual: y - x under the current estimate of the skull's motion.

        Returns:
            The skin's own motion, metres; the log of its error, metres; the log weight in the rigid fit.
        """
        features, scale = self._features(patches, near, residual)
        out = self.trunk(features, patches.mask, near)
        own = residual * torch.sigmoid(out[..., :1]) + scale * out[..., 1:4]
        log_error = out[..., 4] - 8
        log_weight = (out[..., 5] - 2 * out[..., 4]).clamp(-20, 20).masked_fill(~patches.mask, -60.0)
        return own, log_error.clamp(-14, 0), log_weight

    def _features(self, p: Patches, near: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        m = p.mask[..., None].to(r)
        size = r.norm(dim=-1, keepdim=True)
        scale = ((size.square() * m).sum(1, keepdim=True) / m.sum(1, keepdim=True)).sqrt() + 0.01 * MM
        around = _gather(r, near)
        smooth = (around.sum(2) + r) / (near.shape[2] + 1)
        apart = around - r[:, :, None]
        far = (_gather(p.x, near) - p.x[:, :, None]).norm(dim=-1).clamp_min(1 * MM)
        strain = (apart.norm(dim=-1) / far).mean(2, keepdim=True)
        rough = apart.square().sum(-1).mean(2, keepdim=True).sqrt()
        along = (r * p.normal).sum(-1, keepdim=True)
        return torch.cat(
            [
                10 * p.x, p.normal,
                torch.asinh(r / (0.05 * MM)), torch.asinh(r / MM), r / scale, torch.asinh(smooth / (0.3 * MM)),
                _log(size), _log(smooth.norm(dim=-1, keepdim=True)), torch.asinh(along / (0.3 * MM)),
                _log(rough), _log(p.spread[..., None]), torch.log(strain + 1e-4), _log(scale).expand_as(size),
                _log(size) - _log(scale), p.count[..., None].clamp_min(1).log(), torch.log(far.mean(2, keepdim=True)),
                m,
            ],
            -1,
        ), scale  # fmt: skip


def _log(length: Tensor) -> Tensor:
    return torch.log(length + 0.005 * MM) + 8


def _around(values: Tensor, near: Tensor) -> Tensor:
    """Mean over the neighbours, [b, n, c]."""
    b, n, k = near.shape
    flat = near + torch.arange(b, device=near.device)[:, None, None] * n
    mean = nn.functional.embedding_bag(flat.reshape(-1, k), values.reshape(b * n, -1), mode="mean")
    return mean.view(b, n, -1)


def _gather(values: Tensor, near: Tensor) -> Tensor:
    """[b, n, c] and [b, n, k] to [b, n, k, c]."""
    b, n, k = near.shape
    flat = near + torch.arange(b, device=near.device)[:, None, None] * n
    return values.reshape(b * n, -1)[flat.reshape(-1)].view(b, n, k, -1)


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
    w = (weight / weight.sum(1, keepdim=True).clamp_min(1e-30))[:, None]
    centre, shift = w @ x, w @ residual
    apart = x - centre
    S = (apart * w.mT).mT @ apart
    inertia = S.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] * torch.eye(3).to(x) - S + 1e-9 * torch.eye(3).to(x)
    M = (apart * w.mT).mT @ residual
    torque = torch.stack([M[:, 1, 2] - M[:, 2, 1], M[:, 2, 0] - M[:, 0, 2], M[:, 0, 1] - M[:, 1, 0]], -1)
    R = rotvec_to_matrix(torch.linalg.solve(inertia, torque))
    move = centre[:, 0] + shift[:, 0] - (R @ centre.mT)[..., 0]
    return make_transform(R, move)


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
def look(network: Weigher, patches: Patches, near: Int[Tensor, "b n k"] | None = None, *, steps: int = 2) -> list[Look]:
    """Alternates between looking and fitting; every look starts from the estimate before it.

    Args:
        network: What looks.
        patches: What is looked at.
        near: `neighbours` of the patches, where they are known.
        steps: Looks.
    """
    near = neighbours(patches.x, patches.mask) if near is None else near
    T = torch.eye(4).to(patches.x).expand(len(patches.x), 4, 4)
    out = []
    for _ in range(steps):
        T = T.detach()
        back = (patches.y - T[:, None, :3, 3]) @ T[:, :3, :3]  # y under the inverse of the estimate
        residual = (back - patches.x) * patches.mask[..., None]
        own, log_error, log_weight = network(patches, near, residual)
        weight = (log_weight - log_weight.amax(1, keepdim=True)).exp()
        T = T @ rigid_step(patches.x, residual - own, weight)
        out.append(Look(T_y_x=T, own=own, log_error=log_error, weight=weight))
    return out
