"""Stabilisation by a parametric model of the meshes' own topology: fit it, and undo its pose."""

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.geometry.transform import apply, invert_rigid, procrustes
from avatar3d.models.linear import LinearModel
from avatar3d.typing import typed

PRIOR = 1e-4
"""Weight of the coefficients' priors beside squared metres summed over vertices; expressions have a spread of 0.3."""


@typed
def fit_model(model: LinearModel, meshes: Float[Tensor, "t v 3"], *, iterations: int = 12) -> Float[Tensor, "t 4 4"]:
    """T_mesh_model of every mesh: one identity, and an expression and a rigid pose for each.

    Alternates between pose (Procrustes) and coefficients (linear least squares with their priors; expressions in
    0..1 by projection).

    Args:
        model: Its vertices are the meshes', in number and order.
        meshes: Metres.
        iterations: Alternations.

    Raises:
        ValueError: another number of vertices.
    """
    t, v, _ = meshes.shape
    if v != len(model.template):
        raise ValueError(f"fit_model: {v} vertices, and {model.name} has {len(model.template)}.")
    target = meshes.double()
    mean = model.template.double()
    k, e = len(model.identity_basis), len(model.expression_basis)
    B_id = model.identity_basis.double().reshape(k, -1)
    B_ex = model.expression_basis.double().reshape(e, -1)
    identity, expression = mean.new_zeros(k), mean.new_zeros(t, e)
    G_id, G_ex, G_x = B_id @ B_id.mT, B_ex @ B_ex.mT, B_id @ B_ex.mT
    eye_id, eye_ex = torch.eye(k).to(mean) * PRIOR, torch.eye(e).to(mean) * (PRIOR / 0.3**2)
    T = torch.eye(4).to(mean).expand(t, 4, 4)
    for _ in range(iterations):
        shape = (mean.reshape(-1) + identity @ B_id + expression @ B_ex).view(t, v, 3)
        T = torch.stack([procrustes(s, m) for s, m in zip(shape, target, strict=True)])
        off = (apply(invert_rigid(T), target) - mean).reshape(t, -1)
        # identity and all expressions at once; expressions are eliminated
        inner = torch.linalg.inv(G_ex + eye_ex)
        r_id, r_ex = (off @ B_id.mT).sum(0), off @ B_ex.mT
        H = t * G_id + eye_id - t * (G_x @ inner @ G_x.mT)
        identity = torch.linalg.solve(H, r_id - (r_ex @ inner @ G_x.mT).sum(0)) if k else identity
        expression = ((r_ex - identity @ G_x) @ inner).clamp(0, 1)
    return T
