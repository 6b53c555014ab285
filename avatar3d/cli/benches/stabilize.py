"""Stabilising: one pair of meshes of the head model, beside robust Procrustes over all their vertices."""

import time
from collections.abc import Iterator

import torch

from avatar3d import models, stabilize
from avatar3d.cli.bench import Result, interleaved_ms
from avatar3d.geometry.transform import procrustes


def measure(device: torch.device) -> Iterator[Result]:
    """Processor time of one core, whatever the number of threads: networks and fits are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rng = torch.Generator().manual_seed(0)
        model = models.load("head")
        identity = 0.5 * torch.randn(1, model.identity_basis.shape[0], generator=rng).expand(2, -1)
        expression = torch.zeros(2, len(model.expression_names))
        expression[1, model.expression_names.index("jawOpen")] = 0.6
        expression[1, model.expression_names.index("mouthSmileLeft")] = 0.8
        a, b = model.rest_vertices(identity, expression).double()
        face = model.template[:, 2] > 0.02
        for name, seen in (("head", torch.ones_like(face)), ("face", face)):
            faces = model.faces[seen[model.faces].all(1)]
            view = stabilize.view(a, faces)
            ms = interleaved_ms(
                {
                    "compare": lambda view=view: stabilize.compare(view, b),
                    "with locating": lambda faces=faces: stabilize.compare(stabilize.view(a, faces), b),
                    "robust": lambda seen=seen: stabilize.robust_procrustes(a[seen], b[seen]),
                    "procrustes": lambda seen=seen: procrustes(a[seen], b[seen]),
                },
                clock=time.process_time,
            )
            peers = {k: ms[k] for k in ("robust", "procrustes")}
            yield Result(bench="stabilize", pass_="forward", case=f"one pair, {name} {int(seen.sum())} vertices",
                         threads=1, ours_ms=ms["compare"], peers_ms=peers)  # fmt: skip
            yield Result(bench="stabilize", pass_="forward", case=f"one pair, {name}, located first",
                         threads=1, ours_ms=ms["with locating"], peers_ms=peers)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
