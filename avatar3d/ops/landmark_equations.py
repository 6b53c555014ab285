"""Gauss-Newton equations of a linear face model that is seen as landmarks: the inner loop of the tracker."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.ops import native, reference
from avatar3d.typing import Backend, typed


@dataclass(frozen=True, kw_only=True)
class LandmarkRows:
    """A linear model's rows at its landmarks."""

    points: Float[Tensor, "l 3"]
    """Landmarks of the mean face relative to the head's origin, metres."""
    identity_basis: Float[Tensor, "l 3 k"]
    expression_basis: Float[Tensor, "l 3 e"]
    expression_scale: Float[Tensor, "k"]
    """Expression displacements are multiplied by 1 + expression_scale . identity."""
    pairs: Int[Tensor, "p 2"]
    """Pairs of landmarks whose difference in the picture is a measurement of its own: lids, lips."""

    def to(self, dtype: torch.dtype) -> "LandmarkRows":
        """The same rows in another precision."""
        floats = {n: getattr(self, n).to(dtype).contiguous() for n in self.__dataclass_fields__ if n != "pairs"}
        return LandmarkRows(pairs=self.pairs, **floats)


class NormalEquations(NamedTuple):
    """Second-order model of the cost of every observation, cost + g' x + x' H x / 2."""

    H: Float[Tensor, "o n n"]
    g: Float[Tensor, "o n"]
    cost: Float[Tensor, "o"]


@typed
def landmark_equations(
    rows: LandmarkRows,
    identity: Float[Tensor, "k"],
    expression: Float[Tensor, "o e"],
    T_camera_head: Float[Tensor, "o 4 4"],
    intrinsics: Float[Tensor, "o 4"],
    detections: Float[Tensor, "o l 2"],
    weights: Float[Tensor, "o l"],
    pair_weights: Float[Tensor, "o p"],
    *,
    cauchy: float,
    discount: float,
    shared: bool,
    summed: bool = False,
    backend: Backend = "auto",
) -> NormalEquations:
    """Linearises the reprojection error of landmarks about the current estimate.

    The unknowns are changes of, in this order: the expression (e), the rotation and translation in camera axes
    (R <- exp(w) R, t <- t + dt), and with `shared` also the logarithm of the focal length and the identity (k).
    Not differentiable: these are derivatives already.

    Args:
        rows: The model at its landmarks.
        identity: Current coefficients of all observations.
        expression: Current coefficients.
        T_camera_head: Current pose; the last row is taken as 0 0 0 1.
        intrinsics: fx, fy, cx, cy in pixels.
        detections: Pixels; anything finite where the weight is 0.
        weights: 1 / sigma^2 of every landmark, 1 / px^2.
        pair_weights: The same for `rows.pairs`.
        cauchy: Residuals beyond this many sigmas lose their weight (Cauchy's loss).
        discount: Factor on all measurements, because their errors are not independent.
        shared: Whether focal length and identity are unknowns.
        summed: With `shared`, the identity's block of H stands for all observations together in the first one's H, and
            is 0 in the others: that is what a joint fit needs, and it takes half the time.
        backend: "auto" runs the compiled kernel where there is one, else the torch reference.

    Returns:
        H, g and the robust cost of every observation.
    """
    inputs = (
        rows.points, rows.identity_basis, rows.expression_basis, rows.expression_scale, rows.pairs, identity,
        expression, T_camera_head, intrinsics, detections, weights, pair_weights,
    )  # fmt: skip
    if not native.use_native(backend, "landmark_equations", detections):
        out = NormalEquations(*reference.landmark_equations(*inputs, cauchy, discount, shared))
        return _with_sum(out, len(identity)) if shared and summed else out
    o, l, n = *weights.shape, expression.shape[1] + 6 + (1 + len(identity) if shared else 0)
    out = NormalEquations(detections.new_empty(o, n, n), detections.new_empty(o, n), detections.new_empty(o))
    scratch = detections.new_empty(l * 3 + 1)
    arguments = [tensor.detach().contiguous() for tensor in inputs]
    native.call("landmark_equations_forward", detections, *arguments, cauchy, discount, shared, summed, scratch, *out)
    return _with_sum(out, len(identity)) if shared and summed and detections.is_cuda else out


def _with_sum(out: NormalEquations, k: int) -> NormalEquations:
    begin = out.H.shape[1] - k
    block = out.H[:, begin:, begin:]
    total = block.sum(0)
    block.zero_()
    block[:1] = total
    return out
