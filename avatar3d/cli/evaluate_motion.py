"""Motion made from speech against motion tracked while the same was said."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import print_json, progress_bar, say


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Motion made from speech against motion tracked while the same was said."""

    motions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Each a .motion, or a sound or clip with sound, which is turned to motion first."""
    against: tuple[Path, ...]
    """For each, what was tracked: a clip (tracked now), a .motion, an .avatar, or an .npz with landmarks and fps."""
    baselines: bool = False
    """Also judge loudness alone, and recognised phones with a plain viseme table."""
    report: Path | None = None
    """Write the figures as JSON."""
    json: bool = False
    """Print the figures on stdout as JSON."""


def run(arguments: Arguments) -> int:
    """Judges and prints."""
    from avatar3d import storage
    from avatar3d.pipeline.common import write_report

    storage.check_writable(arguments.report, *arguments.motions, *arguments.against)
    with progress_bar() as progress:
        result = pipeline.evaluate_motion(list(arguments.motions), list(arguments.against),
                                          baselines=arguments.baselines, progress=progress, say=say)  # fmt: skip
    if arguments.report is not None:
        write_report(arguments.report, result)
    if arguments.json:
        print_json(result)
        return 0
    others = list(result.get("baselines", {}))
    heads = ["against", "correlation", "lag ms", "at best lag", *(f"{name} (at best)" for name in others), "LVE mm"]
    rows = [heads]
    for pair in result["pairs"]:
        rows.append([pair["against"], *_lips(pair["lips"])])
        for name in others:
            lips = pair["baselines"][name]["lips"]
            rows[-1].append(f"{lips['correlation']:.2f} ({lips['best_correlation']:.2f})")
        rows[-1].append(f"{pair['lve']['mm']:.1f}" if "lve" in pair else "")
    mean = result["mean"]
    lag = mean["lag_ms"]["mean"]
    rows.append(["mean", f"{mean['correlation']:.2f}", f"{lag:.0f}", f"{mean['best_correlation']:.2f}"])
    for name in others:
        scores = result["baselines"][name]
        rows[-1].append(f"{scores['correlation']:.2f} ({scores['best_correlation']:.2f})")
    rows[-1].append("")
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return 0


def _lips(lips: dict) -> list[str]:
    return [f"{lips['correlation']:.2f}", f"{lips['lag_ms']}", f"{lips['best_correlation']:.2f}"]
