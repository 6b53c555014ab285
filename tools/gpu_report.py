"""For gpu_check.sh: what it measured, as the first part of docs/gpu.md.

python tools/gpu_report.py build/gpu docs/gpu.md
"""

import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch

START, END = "<!-- measured by tools/gpu_check.sh -->", "<!-- end of what was measured -->"


def driver() -> str:
    """The driver's version as nvidia-smi says, or "unknown"."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def commit() -> str:
    """The commit that was measured, or "unknown" outside of git."""
    run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


def report(folder: Path) -> str:
    """The text between the marks."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu_report: no GPU here; there is nothing to report.")
    bench = json.loads((folder / "bench.json").read_text())
    tests = re.findall(r"^\d+ passed.*$", (folder / "tests.log").read_text(), re.MULTILINE)[-1]
    sanitizer = [f"{tool}: {(folder / f'{tool}.result').read_text().strip()}" for tool in ("memcheck", "racecheck")]
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    lines = [
        f"Measured on {torch.cuda.get_device_name()} ({memory:.0f} GiB, driver {driver()}, CUDA {torch.version.cuda}, "
        f"torch {torch.__version__}) on {datetime.now(timezone.utc):%Y-%m-%d}, commit {commit()}, "
        "by `tools/gpu_check.sh`.",
        "",
        f"- Tests marked `gpu`: {tests}.",
        f"- compute-sanitizer on `tools/gpu_small.py`: {'; '.join(sanitizer)}.",
        "",
        "| bench | case | pass | ours, ms | peers, ms (times ours) | roofline |",
        "|---|---|---|---:|---|---:|",
    ]
    for r in bench["results"]:
        peers = ", ".join(f"{name} {ms:.3g} ({ms / r['ours_ms']:.2g}x)" for name, ms in r["peers_ms"].items()) or "none"
        roofline = f"{100 * r['roofline']:.0f}%" if r["roofline"] else ""
        lines.append(f"| {r['bench']} | {r['case']} | {r['pass']} | {r['ours_ms']:.3g} | {peers} | {roofline} |")
    return "\n".join(lines)


def main(folder: str, target: str) -> None:
    path = Path(target)
    before, rest = path.read_text().split(START)
    after = rest.split(END)[1]
    path.write_text(f"{before}{START}\n{report(Path(folder))}\n{END}{after}")


main(*sys.argv[1:])
