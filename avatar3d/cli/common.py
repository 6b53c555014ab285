"""What the commands share: progress on a terminal, words on stderr, JSON on stdout."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
Progress = Callable[[str, int, int], None]


def say(*lines: str) -> None:
    """Words for a person, on stderr."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """JSON for a machine, on stdout."""
    from avatar3d.pipeline.common import finite

    print(json.dumps(finite(value), indent=2, default=float, allow_nan=False))


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Gives `progress(stage, done, total)`; draws a bar with rate and estimate where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"),
               TimeRemainingColumn())  # fmt: skip
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total or None, rate="")
            task = next(t for t in bar.tasks if t.id == tasks[stage])
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            bar.update(tasks[stage], completed=done, total=total or None, rate=rate)

        yield update
