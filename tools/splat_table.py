"""The table of splat avatars: python tools/splat_table.py OUT CLIP... [--quality standard]

Fits every clip with the last fifth of its frames held out, and writes OUT/table.md (one row a clip) and OUT/NAME.jpg:
three held-out frames, each as footage, splats, and three times their difference. What is already there is kept.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from avatar3d import appearance, capture, storage
from avatar3d.pipeline import judging
from avatar3d.types import Avatar

COLUMNS = "| clip | PSNR | SSIM | mesh | face | mouth | eyes | hair | splats | time |\n" + "|---|" + "---:|" * 9


def main() -> None:
    """Fits, draws, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--quality", default="standard", choices=("draft", "standard", "high"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in arguments.clips:
        avatar, report = arguments.out / f"{clip.stem}.avatar", arguments.out / f"{clip.stem}.json"
        if not (avatar.exists() and report.exists()):
            command = ["fit", str(clip), "-o", str(avatar), "--report", str(report), "--appearance", "splats"]
            command += ["--quality", arguments.quality]
            subprocess.run([sys.executable, "-m", "avatar3d.cli.main", *command], check=True)
        rows.append(row(clip.stem, json.loads(report.read_text())))
        picture(storage.load(avatar, Avatar), clip, arguments.out / f"{clip.stem}.jpg")
        print(rows[-1], flush=True)
    (arguments.out / "table.md").write_text("\n".join([COLUMNS, *rows]) + "\n")


def row(name: str, report: dict) -> str:
    """One line of the table."""
    held, region = report["holdout"], report["holdout"]["by_region"]
    parts = " | ".join(f"{region[k]:.1f}" if k in region else "" for k in ("face", "mouth", "eyes", "hair"))
    seconds = sum(report["timings"].values()) - report["timings"].get("holdout", 0)
    return (f"| {name} | {held['psnr']:.1f} | {held['ssim']:.3f} | {held['psnr_mesh']:.1f} | {parts} "
            f"| {report['splats']['count'] / 1000:.0f}k | {seconds / 60:.1f} min |")  # fmt: skip


def picture(avatar: Avatar, clip: Path, path: Path, height: int = 256) -> None:
    """Three held-out frames side by side."""
    total = avatar.motion.frames
    held = avatar.manifest["appearance"]["holdout"]
    frames = torch.linspace(total - held, total - 1, 3).long()
    draw = judging.painter(avatar)
    cells = []
    for shot in appearance.load_shots(avatar, capture.open_capture(clip), frames, 512):
        if shot.close:
            continue
        seen = judging.on_white(shot)
        drawn = (draw(shot.frame, shot.camera).clamp(0, 1) * 255).round().byte().numpy()
        error = (np.abs(seen.astype(int) - drawn.astype(int)) * 3).clip(0, 255).astype(np.uint8)
        for pixels in (seen, drawn, error):
            image = Image.fromarray(pixels)
            cells.append(np.asarray(image.resize((round(image.width * height / image.height), height))))
    Image.fromarray(np.concatenate(cells, 1)).save(path, quality=88)


if __name__ == "__main__":
    main()
