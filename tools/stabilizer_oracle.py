"""How well ARKit's face could be stabilised by who knows how its skin moves: bounds for docs/stabilize.md.

python tools/stabilizer_oracle.py [--pairs 60]

"Weights" knows how much each vertex usually moves on its own (over other pairs of frames; nothing counts as stiller
than 0.1 mm) and weighs by the inverse square: about what the best choice of a region could do. "Shapes" knows how
vertices move together, too (generalised least squares, 0.3 mm of noise): it knows the generator.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from stabilize_table import errors
from stabilizer import sets
from torch import Tensor

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.transform import apply, invert_rigid, make_transform

FLOOR, NOISE = 1e-4, 3e-4
OTHERS = 240
"""Pairs that the oracle learns from."""


def own_motion(pairs: list[sets.Pair]) -> Tensor:
    """[p, v, 3] how the skin moves against the skull."""
    return torch.stack([apply(invert_rigid(p.T_b_a), p.b) - p.a for p in pairs])


def jacobian(x: Tensor) -> Tensor:
    """[3 v, 6] displacement of points by small rotations and translations."""
    turn = torch.linalg.cross(torch.eye(3).double().expand(len(x), 3, 3), x[:, None].expand(-1, 3, -1))
    return torch.cat([turn.mT, torch.eye(3).double().expand(len(x), 3, 3)], 2).reshape(-1, 6)


def main() -> None:
    """Prints rotation error in degrees / 95th percentile in mm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ.get("AVATAR3D_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder:
        source = sets.arkit(data, Path(folder))
    print("| set | weights | shapes |\n|---|---|---|")
    for title, sliding in (("ARKit", False), ("ARKit, skin slides", True)):
        pairs = sets.pairs(source, data, part="all", count=arguments.pairs, sliding=sliding)
        others = own_motion(sets.pairs(source, data, part="all", count=OTHERS, sliding=sliding, seed=1))
        weight = (1 / (others.square().sum(-1).mean(0) + FLOOR**2)).repeat_interleave(3)
        F = others.flatten(1).mT / OTHERS**0.5

        def inverse(b: Tensor, F: Tensor = F) -> Tensor:
            """(F F' + noise² I)⁻¹ b (Woodbury)."""
            inner = NOISE**2 * torch.eye(F.shape[1]).double() + F.mT @ F
            return (b - F @ torch.linalg.solve(inner, F.mT @ b)) / NOISE**2

        rows = []
        for pair, own in zip(pairs, own_motion(pairs), strict=True):
            J = jacobian(pair.a)
            row = []
            for WJ in (weight[:, None] * J, inverse(J)):
                step = torch.linalg.solve(J.mT @ WJ, WJ.mT @ own.flatten())
                T = pair.T_b_a @ make_transform(rotvec_to_matrix(step[:3]), step[3:])
                row.append(errors(T, pair))
            rows.append(row)
        mean = torch.tensor(rows).mean(0).tolist()
        print(f"| {title} | " + " | ".join(f"{d:.3f} / {mm:.3f}" for d, mm in mean) + " |", flush=True)


if __name__ == "__main__":
    main()
