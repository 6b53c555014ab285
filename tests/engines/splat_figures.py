"""What other programs make of a real splat avatar: counts and bounds of PLY and SPZ, the page against `render`, rates.

    python tests/engines/splat_figures.py me.avatar [--size 512] [--seconds 5]

gaussforge and PlayCanvas' splat-transform read the frame's PLY and SPZ; Chromium, drawing in software, the page.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import engine_checks
import gaussforge
import numpy as np
import page_browser
from PIL import Image

from avatar3d import storage
from avatar3d.export import export
from avatar3d.export.film import FilmSettings, film
from avatar3d.export.splat_frame import cloud_of_frame
from avatar3d.models.splat_ply import read_splat_ply
from avatar3d.types import Avatar


def readers(avatar: Avatar, folder: Path, frame: int) -> list[str]:
    """One line for each format and reader: number of splats, and how far the bounds are off, millimetres."""
    cloud = cloud_of_frame(avatar, avatar.motion, frame)
    low, high = cloud.bounds
    lines = [f"avatar3d: {len(cloud.means)} splats, {np.round(low, 3)} to {np.round(high, 3)} m"]
    for suffix in ("ply", "spz"):
        path = export(avatar, folder / f"frame.{suffix}", frame=frame)
        through = folder / f"{suffix}.theirs.ply"
        engine_checks.splat_transform(path, through)
        theirs = read_splat_ply(through).means
        facts = gaussforge.GaussForge().get_model_info(path.read_bytes(), suffix)["data"]
        found = {
            "splat-transform": (len(theirs), theirs.min(0), theirs.max(0)),
            "gaussforge": (facts["basic"]["numPoints"], *np.array([facts["bounds"][axis] for axis in "xyz"]).T),
        }
        for reader, (count, lower, upper) in found.items():
            off = max(np.abs(lower - low).max(), np.abs(upper - high).max())
            size = path.stat().st_size / 2**20
            lines.append(f"{suffix} ({size:.1f} MiB), {reader}: {count} splats, bounds within {1e3 * off:.4f} mm")
    return lines


def page(avatar: Avatar, folder: Path, size: int, seconds: float) -> list[str]:
    """The page's first picture against ours, inside what either draws, and how many it draws a second."""
    html = export(avatar, folder / "me.html")
    script = f"""await a.ready; await send("picture", await a.image()); return await a.fps({seconds});"""
    query = "camera=front&frame=0&ui=0"
    fps, sent, _ = page_browser.run_page(html, script, query=query, size=(size, size), timeout=300)
    film(avatar, folder / "ours.png", avatar.motion, FilmSettings(size=size))
    theirs = np.asarray(Image.open(io.BytesIO(sent["picture"])).convert("RGB"), float)
    ours = np.asarray(Image.open(folder / "ours.png").convert("RGB"), float)
    drawn = (ours < 255).any(2) | (theirs < 255).any(2)
    psnr = 10 * np.log10(255**2 / ((ours - theirs)[drawn] ** 2).mean())
    return [f"page ({html.stat().st_size / 2**20:.1f} MiB): {psnr:.1f} dB against render, {fps:.1f} pictures a second"]


def rate(avatar: Avatar, folder: Path, size: int) -> list[str]:
    """Pictures a second of `render` to a film, with encoding."""
    begin = time.process_time()
    done = film(avatar, folder / "me.mp4", avatar.motion, FilmSettings(size=size))
    spent = (time.process_time() - begin) / done["frames"]
    return [f"render: {done['frames']} frames, {done['fps']:.1f} a second, {1e3 * spent:.1f} ms of processor time each"]


def main() -> None:
    """Prints them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    avatar = storage.load(arguments.avatar, Avatar)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (
            readers(avatar, folder, 0), page(avatar, folder, arguments.size, arguments.seconds),
            rate(avatar, folder, arguments.size),
        ):  # fmt: skip
            print("\n".join(part), flush=True)


if __name__ == "__main__":
    main()
