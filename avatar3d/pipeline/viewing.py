"""An avatar on show: the viewer, with pictures as `render` draws them."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from avatar3d.export.film import Director, FilmSettings
from avatar3d.export.picture import FRONT_FIELD_OF_VIEW, front_view
from avatar3d.pipeline.using import resolve_motion
from avatar3d.types import Avatar, Camera, Motion
from avatar3d.view import View, ViewSettings


def view(
    avatar: Avatar,
    *,
    motion: Motion | Path | str | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    background: tuple[int, int, int] = (255, 255, 255),
) -> View:
    """Serves a viewer: 52 sliders, head, gaze, motion, any camera, screenshots. The last line of a notebook cell shows
    it there; `View.stop` ends it.

    Args:
        avatar: Who is on show.
        motion: As for `resolve_motion`.
        host: Interface that is listened on; 0.0.0.0 lets other machines in.
        port: Where this is taken, the next free one.
        background: sRGB.

    Raises:
        DependencyError: viser is not installed (extra `view`).
    """
    resolved = resolve_motion(avatar, motion)
    target, distance = front_view(avatar.rig)
    if resolved is not None and resolved.translation is not None:
        target = target + resolved.translation.median(0).values.double()
    settings = ViewSettings(
        host=host, port=port, background=background, target=tuple(target.tolist()), distance=distance,
        field_of_view=FRONT_FIELD_OF_VIEW,
    )  # fmt: skip

    def draw(
        pose: Motion, camera: Camera, behind: UInt8[np.ndarray, "h w 3"], clay: bool
    ) -> UInt8[np.ndarray, "h w 3"]:
        return Director(avatar, pose, FilmSettings(untextured=clay), None).draw(0, camera, behind)

    return View(avatar, resolved, draw, settings)
