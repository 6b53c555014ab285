"""Block Cholesky factorisation along time, in plain torch."""

import torch
from torch import Tensor


def solve_chain(blocks: Tensor, first: Tensor, second: Tensor, rhs: Tensor) -> Tensor:
    """See `ops.solve_chain`."""
    b, t, n = rhs.shape
    first, second = first.clone(), second.clone()
    first[:, -1:], second[:, -2:] = 0, 0
    factors, rows = [], []
    # what elimination has taken from the frame at hand and the next: their blocks, and in the last column right sides
    gone = rhs.new_zeros(b, 2 * n, 2 * n + 1)
    for f in range(t):
        couplings = torch.diag_embed(first[:, f]) - gone[:, :n, n : 2 * n], torch.diag_embed(second[:, f])
        row = torch.cat([*couplings, rhs[:, f, :, None] - gone[:, :n, 2 * n :]], 2)
        factor, info = torch.linalg.cholesky_ex(blocks[:, f] - gone[:, :n, :n])
        factors.append(torch.where(info[:, None, None] == 0, factor, torch.nan))
        rows.append(torch.linalg.solve_triangular(factors[-1], row, upper=False))
        later, gone = gone[:, n:], rows[-1][:, :, : 2 * n].mT @ rows[-1]
        gone[:, :n, :n] += later[:, :, n : 2 * n]
        gone[:, :n, 2 * n] += later[:, :, 2 * n]
    out = [rhs.new_zeros(b, n, 1)] * 2
    for factor, row in zip(reversed(factors), reversed(rows), strict=True):
        left = row[:, :, 2 * n :] - row[:, :, : 2 * n] @ torch.cat([out[-1], out[-2]], 1)
        out.append(torch.linalg.solve_triangular(factor.mT, left, upper=True))
    return torch.stack([x[:, :, 0] for x in reversed(out[2:])], 1) if t else torch.zeros_like(rhs)
