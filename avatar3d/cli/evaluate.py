"""An avatar against a clip: how near it comes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatar3d import pipeline
from avatar3d.cli.common import print_json, progress_bar, say
from avatar3d.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Avatar against a clip."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """The .avatar file."""
    against: Path
    """The clip: the avatar's own footage, more footage of the person, or, with --cross, of someone else."""
    cross: bool = False
    """The clip shows someone else: motion is compared, pictures are not."""
    frames: int = 150
    """At most this many frames, the last ones of the clip: an avatar's own are held out there."""
    size: int = 512
    """Longer side of the compared pictures, pixels."""
    report: Path | None = None
    """Write the figures as JSON."""
    worst: Path | None = None
    """A PNG of the five worst frames: footage, avatar, three times the difference."""
    json: bool = False
    """Print the figures on stdout as JSON."""


def run(arguments: Arguments) -> int:
    """Judges and prints."""
    from avatar3d import storage
    from avatar3d.pipeline.common import write_report

    for path in (arguments.report, arguments.worst):
        storage.check_writable(path, arguments.avatar, arguments.against)
    if arguments.frames < 1 or arguments.size < 64:
        raise UsageError(
            f"evaluate: {arguments.frames} frames at {arguments.size} pixels; expected 1, and 64, or more."
        )
    if arguments.worst is not None and arguments.worst.suffix.lower() != ".png":
        raise UsageError(f"evaluate: --worst {arguments.worst.name}: expected a .png.")
    avatar = pipeline.load_avatar(arguments.avatar)
    with progress_bar() as progress:
        result = pipeline.evaluate(avatar, arguments.against, cross=arguments.cross, frames=arguments.frames,
                                   size=arguments.size, worst=arguments.worst, progress=progress, say=say)  # fmt: skip
    if arguments.report is not None:
        write_report(arguments.report, result)
    if arguments.json:
        print_json(result)
        return 0
    akd = result["akd"]
    print(f"{result['frames']['judged']} frames at {akd['size'][0]} x {akd['size'][1]} pixels")
    if "psnr" in result:
        print(f"PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}")
        print("  " + ", ".join(f"{name} {value:.1f} dB" for name, value in result["by_region"].items()))
    print(f"AKD {akd['pixels']:.2f} pixels ({100 * akd['nme']:.1f} % of the distance of the outer eye corners)")
    print(f"expression {result['expression']['mean_absolute']:.4f} mean absolute, "
          f"head rotation {result['pose']['rotation_deg']:.2f} deg median")  # fmt: skip
    return 0
