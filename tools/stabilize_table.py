"""The table of docs/stabilize.md: every method on every set, rotation error in degrees / 95th percentile in mm.

python tools/stabilize_table.py [--pairs 60] [--only ict] [--weights FILE] [--markdown OUT]

Needs the project's test data (`AVATAR3D_TEST_DATA`, default ../shared/data). The error in mm is over points attached
to the skull (cranium, forehead, bridge of the nose), the mean of each pair's 95th percentile; the networks never saw
ICT-FaceKit or ARKit. "Learned" is one comparison, "command" several views of both meshes and vertices that are welded
to the skull, "averaged" the same without these.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from stabilizer import sets
from stabilizer.sets import Pair, Source

from avatar3d import stabilize
from avatar3d.geometry.transform import apply, invert_rigid, procrustes
from avatar3d.stabilize import packaged

CASES: tuple[tuple[str, str, dict], ...] = (
    ("ICT, head and neck", "ict", {"part": "head"}),
    ("ICT, everything (eyes, teeth, tongue)", "ict", {"part": "all"}),
    ("ICT, face", "ict", {"part": "face"}),
    ("ICT, face, 0.3 mm noise", "ict", {"part": "face", "noise_mm": 0.3}),
    ("ICT, narrow face, 1 mm noise", "ict", {"part": "narrow", "noise_mm": 1.0}),
    ("ICT, face, 30% missing", "ict", {"part": "face", "missing": 0.3}),
    ("ICT, head, skin slides", "ict", {"part": "head", "sliding": True}),
    ("ICT, face, skin slides", "ict", {"part": "face", "sliding": True}),
    ("ICT, face, jaw opens", "ict", {"part": "face", "only": "jawOpen"}),
    ("ICT, face, lips pucker", "ict", {"part": "face", "only": "mouthPucker"}),
    ("ICT, face, blink", "ict", {"part": "face", "only": "eyeBlink"}),
    ("ICT, face, still head (leakage)", "ict", {"part": "face", "still": True}),
    ("ARKit", "arkit", {"part": "all"}),
    ("ARKit, 0.3 mm noise", "arkit", {"part": "all", "noise_mm": 0.3}),
    ("ARKit, narrow, 1 mm noise", "arkit", {"part": "narrow", "noise_mm": 1.0}),
    ("ARKit, 30% missing", "arkit", {"part": "all", "missing": 0.3}),
    ("ARKit, skin slides", "arkit", {"part": "all", "sliding": True}),
    ("ARKit, jaw opens", "arkit", {"part": "all", "only": "jawOpen"}),
    ("ARKit, lips", "arkit", {"part": "all", "only": "mouthLower"}),
    ("ARKit, blink", "arkit", {"part": "all", "only": "eyeBlink"}),
    ("ARKit, still head (leakage)", "arkit", {"part": "all", "still": True}),
    ("head model, everything", "head", {"part": "all"}),
    ("head model, face, expressions x 1.5", "head", {"part": "face", "gain": 1.5}),
    ("head model, face, 30% missing", "head", {"part": "face", "missing": 0.3}),
    ("head model, face, 1 mm noise", "head", {"part": "face", "noise_mm": 1.0}),
    ("head model, face, skin slides", "head", {"part": "face", "sliding": True}),
)
METHODS = ("full", "upper face", "skull region", "robust", "model", "learned", "command", "averaged")


def solvers(source: Source) -> dict[str, Callable[[Pair], Tensor]]:
    """What estimates T_b_a of a pair."""

    def model(pair: Pair) -> Tensor:
        assert source.model is not None
        part = replace(source.model, template=source.model.template[pair.used],
                       identity_basis=source.model.identity_basis[:, pair.used],
                       expression_basis=source.model.expression_basis[:, pair.used])  # fmt: skip
        T = stabilize.fit_model(part, torch.stack([pair.a, pair.b]))
        return T[1] @ invert_rigid(T[0])

    done: dict[int, stabilize.Stabilized] = {}

    def command(pair: Pair) -> Tensor:
        done[id(pair)] = stabilize.stabilize_meshes(torch.stack([pair.a, pair.b]), pair.faces)
        return done[id(pair)].T_frame_anchor[1]

    def averaged(pair: Pair) -> Tensor:
        found = done.get(id(pair))  # without welds the two are one
        if found is None or found.welded.any():
            found = stabilize.stabilize_meshes(torch.stack([pair.a, pair.b]), pair.faces, welds=False)
        return found.T_frame_anchor[1]

    found: dict[str, Callable[[Pair], Tensor]] = {
        "full": lambda p: procrustes(p.a, p.b),
        "upper face": lambda p: procrustes(p.a, p.b, p.upper.double()),
        "skull region": lambda p: procrustes(p.a, p.b, p.region.double()),
        "robust": lambda p: stabilize.robust_procrustes(p.a, p.b),
        "command": command,
        "averaged": averaged,
        "learned": lambda p: stabilize.compare(stabilize.view(p.a, p.faces), p.b).T_other_view,
    }
    return found | ({"model": model} if source.model is not None else {})


def errors(T: Tensor, pair: Pair) -> tuple[float, float]:
    """Rotation error in degrees, 95th percentile over skull-attached points in mm."""
    cosine = ((T[:3, :3].mT @ pair.T_b_a[:3, :3]).trace() - 1) / 2
    distance = (apply(T, pair.skull) - apply(pair.T_b_a, pair.skull)).norm(dim=1) * 1e3
    return float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))), float(distance.quantile(0.95))


def sequences(data: Path, folder: Path, frames: int) -> None:
    """Prints errors over the recording's first frames, stabilised together, without welds."""
    print("| sequence | mean | worst frame |\n|---|---|---|")
    for title, source, part in (("ICT, face", sets.ict(data), "face"), ("ARKit", sets.arkit(data, folder), "all")):
        pairs = sets.pairs(source, data, part=part, count=frames - 1, in_order=True)
        meshes = torch.stack([pairs[0].a, *(p.b for p in pairs)])
        found = stabilize.stabilize_meshes(meshes, pairs[0].faces, welds=False)
        table = torch.tensor([errors(T, p) for T, p in zip(found.T_frame_anchor[1:], pairs, strict=True)])
        cells = ["{:.3f} / {:.3f}".format(*row.tolist()) for row in (table.mean(0), table.amax(0))]
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--only", default="")
    parser.add_argument("--weights", help="networks in place of the packaged ones")
    parser.add_argument("--without", nargs="*", default=[], help="methods to leave out")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--sequence", type=int, metavar="FRAMES", help="instead: so many frames together")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.weights:
        networks = packaged.read_networks(arguments.weights)
        packaged.networks = lambda: networks
    data = Path(os.environ.get("AVATAR3D_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    if arguments.sequence:
        with tempfile.TemporaryDirectory() as folder:
            sequences(data, Path(folder), arguments.sequence)
        return
    methods = [m for m in METHODS if m not in arguments.without]
    lines = ["| set | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for title, kind, keywords in CASES:
            if arguments.only and arguments.only not in title:
                continue
            source = {"ict": lambda: sets.ict(data), "arkit": lambda: sets.arkit(data, Path(folder)),
                      "head": sets.head}[kind]()  # fmt: skip
            pairs = sets.pairs(source, data, count=arguments.pairs, **keywords)
            solve = solvers(source)
            cells = []
            for method in methods:
                if method not in solve:
                    cells.append("")
                    continue
                start = time.process_time()
                table = torch.tensor([errors(solve[method](p), p) for p in pairs])
                seconds = (time.process_time() - start) / len(pairs)
                cells.append("{:.3f} / {:.3f}".format(*table.mean(0).tolist()))
                if method == "learned":
                    note = "worst {:.2f} / {:.2f}, {:.0f} ms".format(*table.amax(0).tolist(), 1e3 * seconds)
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
            print(lines[-1], f" <!-- {note} -->" if "learned" in methods else "", flush=True)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
