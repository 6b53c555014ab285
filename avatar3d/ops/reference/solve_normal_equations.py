"""Bounded least squares by block principal pivoting, in plain torch."""

import torch
from torch import Tensor

FREE, LOWER, UPPER = 0, 1, 2
PATIENCE, MAX_ROUNDS = 3, 200


def solve_normal_equations(H: Tensor, g: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """See `ops.solve_normal_equations`."""
    tolerance = 16 * torch.finfo(g.dtype).eps * g.abs().amax(1, keepdim=True)
    held = torch.where((lower >= 0) & (g > 0), LOWER, torch.where((upper <= 0) & (g < 0), UPPER, FREE))
    best = torch.full_like(g[:, 0], g.shape[1] + 1)
    patience = torch.full_like(best, PATIENCE)
    rounds = torch.zeros(len(g), dtype=torch.int64, device=g.device)
    running = torch.ones_like(rounds, dtype=torch.bool)
    x = torch.zeros_like(g)
    index = torch.arange(g.shape[1], device=g.device)
    while running.any() and int(rounds.max()) < MAX_ROUNDS:
        free = held == FREE
        fixed = torch.where(held == LOWER, lower, torch.where(held == UPPER, upper, 0))
        both = free[:, :, None] & free[:, None, :]
        A = torch.where(both, H, 0) + torch.diag_embed((~free).to(H))
        rhs = torch.where(free, -g - (H @ fixed[..., None])[..., 0], fixed)
        factor, info = torch.linalg.cholesky_ex(A)
        found = torch.cholesky_solve(rhs[..., None], factor)[..., 0]
        x = torch.where(running[:, None], found, x)
        rounds += running
        bad = running & (info > 0)
        rounds[bad], x[bad] = -1, 0
        running = running & ~bad
        slope = (H @ x[..., None])[..., 0] + g
        wanted = torch.where(x < lower, LOWER, torch.where(x > upper, UPPER, FREE))
        wanted = torch.where(held == LOWER, torch.where(slope < -tolerance, FREE, LOWER), wanted)
        wanted = torch.where(held == UPPER, torch.where(slope > tolerance, FREE, UPPER), wanted)
        differs = wanted != held
        wrong = differs.sum(1)
        last = torch.where(differs, index, -1).amax(1, keepdim=True)
        running = running & (wrong > 0)
        better = wrong < best
        everything = better | (patience > 0)
        best = torch.where(better, wrong.to(best), best)
        patience = torch.where(better, PATIENCE, patience - 1)
        change = running[:, None] & (everything[:, None] | (index == last))
        held = torch.where(change, wanted, held)
    return torch.minimum(torch.maximum(x, lower), upper), rounds
