"""What is lost when people and expressions go from one model to another and back: a table for docs/convert.md.

    python tools/convert_table.py [--people 5] [--flame FILE] [--ict FaceXModel] [--arkit FOLDER_OR_ZIP] [--json FILE]

People of the `head` model are drawn, converted to each model that is there (the assets folders are searched for those
that are not named), and converted back; distances are those of the skin's vertices, over people and expressions.
"""

import argparse
import json
from pathlib import Path

import torch

from avatar3d import models
from avatar3d.errors import AvatarError
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.convert import REGIONS, convert
from avatar3d.models.linear import LinearModel
from avatar3d.types import ARKIT_INDEX

EXPRESSIONS = (
    {}, {"jawOpen": 0.7}, {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {"mouthPucker": 0.8}, {"browInnerUp": 0.8, "jawOpen": 0.3}, {"mouthFunnel": 0.6, "jawOpen": 0.4},
)  # fmt: skip


def expressions() -> torch.Tensor:
    """One row for each of `EXPRESSIONS`."""
    out = torch.zeros(len(EXPRESSIONS), 52)
    for row, values in zip(out, EXPRESSIONS, strict=True):
        for name, value in values.items():
            row[ARKIT_INDEX[name]] = value
    return out


def round_trip(head: LinearModel, other: LinearModel, people: int, seed: int = 0) -> dict:
    """Root-mean-square distances in millimetres by region of `head`."""
    rng = torch.Generator().manual_seed(seed)
    e = expressions()
    rows: dict[str, list[dict[str, float]]] = {}

    def note(name: str, values: dict[str, float]) -> None:
        rows.setdefault(name, []).append(values)

    for _ in range(people):
        identity = 0.7 * torch.randn(80, generator=rng)
        there = convert(head, other, identity, e)
        note("identity, there", there.identity_mm)
        note("expressions, there", there.expression_mm)
        for kind, offsets in (("coefficients alone", None), ("with offsets", there.offsets)):
            back = convert(other, head, there.identity, there.expression, there.joints, offsets=offsets)
            neutral = head.rest_vertices(back.identity[None])[0] + (back.offsets if offsets is not None else 0)
            true = head.rest_vertices(identity[None])[0]
            note(f"neutral, there and back, {kind}", _regions(head, neutral, true))
            if offsets is not None:
                posed = head.rest_vertices(back.identity.repeat(len(e), 1), back.expression)
                wanted = head.rest_vertices(identity.repeat(len(e), 1), e) - true
                gap = (posed - head.rest_vertices(back.identity[None]) - wanted).square().sum(2).mean(0)
                note("expressions, there and back", {n: _rms(gap[head.regions[n]]) for n in REGIONS})
    return {k: {n: (sum(r[n] ** 2 for r in v if n in r) / len(v)) ** 0.5 for n in v[0]} for k, v in rows.items()}


def _rms(square: torch.Tensor) -> float:
    return float(1e3 * square.mean().sqrt())


def _regions(head: LinearModel, found: torch.Tensor, true: torch.Tensor) -> dict[str, float]:
    face = head.regions["face"]
    gap = apply(procrustes(found[face], true[face]), found) - true
    return {n: _rms(gap[head.regions[n]].square().sum(1)) for n in REGIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--json", type=Path)
    for name in ("flame", "ict", "arkit"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    head, table = models.load("head"), {}
    for name in ("head", "ict", "arkit", "flame"):
        try:
            other = head if name == "head" else models.load(getattr(args, name) or name)
        except AvatarError as error:
            print(f"({name} is not there: {str(error).splitlines()[0]})")
            continue
        table[f"head -> {name} -> head"] = round_trip(head, other, args.people)
    for trip, rows in table.items():
        print(f"\n{trip}, mm\n\n| | {' | '.join(REGIONS)} |\n|---|{'---|' * len(REGIONS)}")
        for what, values in rows.items():
            print(f"| {what} | {' | '.join(f'{values[n]:.2f}' if n in values else '–' for n in REGIONS)} |")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
