"""The splats while they are optimised: leaf tensors, Adam's moments, and what each has earned."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from avatar3d.geometry.rotation import quat_to_matrix
from avatar3d.types import ARKIT_NAMES
from avatar3d.types.gaussians import BASIS_ROWS, GROUP_NAMES, Gaussians

RATES = {"offsets": 0.016, "quats": 0.016, "log_scales": 0.032, "logit_opacities": 0.16, "sh_first": 0.016,
         "sh_rest": 2.4e-3, "basis": 8e-3}  # fmt: skip
"""Adam's step for every attribute at the start."""
DECAY = {"basis": 0.5, "sh_rest": 0.5}
"""Pull towards 0, in terms of the step (decoupled, Loshchilov and Hutter 2019)."""
AXIS = {"basis": 1}
"""Axis that counts the splats, where it is not the first."""
UNTURNED = torch.tensor([GROUP_NAMES.index("hair"), GROUP_NAMES.index("other")], dtype=torch.uint8)
"""Groups that do not change with the head's turn: they would learn when it turned, not how."""
RIGID = torch.tensor([GROUP_NAMES.index("mouth"), GROUP_NAMES.index("eyes")], dtype=torch.uint8)
"""Groups whose shape no expression changes: teeth and eyeballs move as the rig moves them."""
EPSILON = 1e-7
"""Of Adam. The loss is a mean over pixels, and a splat that pictures show plainly has gradients of 1e-6 and more; one
that they graze has less, and would otherwise wander as fast."""
FAINT = 0.03
"""Opacity below which a splat goes."""


class Cloud:
    """Splats with their optimiser."""

    def __init__(self, gaussians: Gaussians) -> None:
        self.fixed = gaussians
        self.leaves: dict[str, Tensor] = {
            "offsets": gaussians.offsets,
            "quats": gaussians.quats,
            "log_scales": gaussians.log_scales,
            "logit_opacities": gaussians.logit_opacities,
            "sh_first": gaussians.sh[:, :1],
            "sh_rest": gaussians.sh[:, 1:],
        }
        if gaussians.basis is not None:
            self.leaves["basis"] = gaussians.basis
        self.leaves = {name: x.detach().clone().requires_grad_() for name, x in self.leaves.items() if x.numel()}
        self.moments = {name: (torch.zeros_like(x), torch.zeros_like(x)) for name, x in self.leaves.items()}
        self.steps = 0
        self.earned = torch.zeros(gaussians.count)
        self.seen = torch.zeros(gaussians.count)

    @property
    def count(self) -> int:
        return self.fixed.count

    def gaussians(self) -> Gaussians:
        """The splats as they are; differentiable in the leaves."""
        x = self.leaves
        sh = torch.cat([x["sh_first"], x["sh_rest"]], 1) if "sh_rest" in x else x["sh_first"]
        return replace(
            self.fixed, offsets=x["offsets"], quats=x["quats"], log_scales=x["log_scales"],
            logit_opacities=x["logit_opacities"], sh=sh, basis=x.get("basis"),
        )  # fmt: skip

    def detached(self) -> Gaussians:
        """The splats as they are, for keeping."""
        g = self.gaussians()
        names = ("offsets", "quats", "log_scales", "logit_opacities", "sh", "basis")
        values = {name: getattr(g, name) for name in names}
        return replace(g, **{name: x if x is None else x.detach().clone() for name, x in values.items()})

    @torch.no_grad()
    def step(self, rate: float, hidden: Tensor | None = None) -> None:
        """One step of Adam at `rate` times `RATES`, and clears the gradients.

        Args:
            rate: How large.
            hidden: Mask `[n]` of the splats that stay as they are.
        """
        self.steps += 1
        self._stiffen()
        still = None if hidden is None else hidden.nonzero()[:, 0]
        for name, x in self.leaves.items():
            if x.grad is None:
                continue
            m, v = self.moments[name]
            axis = AXIS.get(name, 0)
            before = None
            if still is not None:
                before = x.index_select(axis, still)
                x.grad.index_fill_(axis, still, 0.0)
            torch.ops.aten._fused_adam_(  # the kernel of torch.optim.Adam(fused=True), without its bookkeeping
                [x], [x.grad], [m], [v], [], [torch.tensor(float(self.steps))], lr=RATES[name] * rate, beta1=0.9,
                beta2=0.999, weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip
            x.grad = None
            if name in DECAY:
                x *= 1 - DECAY[name] * RATES[name] * rate
            if still is not None and before is not None:
                x.index_copy_(axis, still, before)

    def _stiffen(self) -> None:
        """Clears gradients of what the basis must not change."""
        grad = None if "basis" not in self.leaves else self.leaves["basis"].grad
        if grad is None or self.fixed.mixing is None:
            return
        turned = (self.fixed.mixing[:, len(ARKIT_NAMES) :] != 0).any(1)
        grad[turned.nonzero(), torch.isin(self.fixed.group, UNTURNED).nonzero()[:, 0]] = 0
        rigid = torch.isin(self.fixed.group, RIGID).nonzero()[:, 0]
        shape = torch.ones(grad.shape[2])
        shape[BASIS_ROWS["colour"]] = 0
        grad[:, rigid] *= 1 - shape

    def credit(self, gradient: Tensor) -> None:
        """Adds what a picture says about where splats are too few: norms of absolute screen-space gradients `[n]`."""
        self.earned += gradient
        self.seen += gradient > 0

    @torch.no_grad()
    def reshape_to(self, count: int, *, grow: bool) -> None:
        """Drops faint splats, then halves those with most error along their longest axis until there are `count`."""
        keep = (self.leaves["logit_opacities"] > math.log(FAINT / (1 - FAINT))).nonzero()[:, 0]
        earned = (self.earned / self.seen.clamp_min(1))[keep]
        room = count - len(keep)
        parents = torch.empty(0, dtype=torch.long)
        if grow and room > 0 and len(keep):
            wanted = min(room, max(1, len(keep) // 8))
            parents = keep[earned.topk(min(wanted, len(keep))).indices.sort().values]
        index = torch.cat([keep, parents])
        first = torch.isin(keep, parents).nonzero()[:, 0]
        second = torch.arange(len(keep), len(index))
        self._take(index)
        if len(parents):
            log_scales, quats = self.leaves["log_scales"], self.leaves["quats"]
            scales = log_scales[first].exp()
            longest = scales.argmax(1)
            R = quat_to_matrix(torch.nn.functional.normalize(quats[first], dim=1))
            axis = R.gather(2, longest[:, None, None].expand(-1, 3, 1))[..., 0]
            shift = axis * scales.gather(1, longest[:, None]) * 0.7
            for rows, sign in ((first, 1), (second, -1)):
                self.leaves["offsets"][rows] += sign * shift
                log_scales[rows, longest] -= math.log(1.7)
        self.earned, self.seen = torch.zeros(self.count), torch.zeros(self.count)

    def _take(self, index: Tensor) -> None:
        self.fixed = self.fixed.select(index)
        for name, x in self.leaves.items():
            axis = AXIS.get(name, 0)
            self.leaves[name] = x.detach().index_select(axis, index).requires_grad_()
            self.moments[name] = tuple(m.index_select(axis, index) for m in self.moments[name])  # type: ignore[assignment]
