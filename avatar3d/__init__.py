"""avatar3d: from ordinary footage of a person to an animatable 3D avatar.

capture = avatar3d.open_capture("me.mov")
track = avatar3d.track(capture)
avatar = avatar3d.reconstruct(capture, track)
avatar3d.export(avatar, "me.glb")
"""

import os
from typing import TYPE_CHECKING

from avatar3d.lazy import look_up_later

# Before torch: its OpenMP threads otherwise spin while they wait, which on a busy machine makes small operations
# ten times slower. Whoever sets the variable keeps their choice.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from avatar3d import drive, models, ops, stabilize, types
    from avatar3d.capture import open_capture
    from avatar3d.pipeline import (
        contact_sheet,
        demo_clip,
        export,
        fit,
        load_avatar,
        reconstruct,
        render,
        track,
        view,
    )
    from avatar3d.storage import load, save

__all__ = [
    "contact_sheet",
    "demo_clip",
    "drive",
    "export",
    "fit",
    "load",
    "load_avatar",
    "models",
    "open_capture",
    "ops",
    "reconstruct",
    "render",
    "save",
    "stabilize",
    "track",
    "types",
    "view",
]

_PIPELINE = ("contact_sheet", "demo_clip", "export", "fit", "load_avatar", "reconstruct", "render", "track", "view")

look_up_later(
    __name__,
    {
        **{name: f"avatar3d.{name}" for name in ("drive", "models", "ops", "stabilize", "types")},
        **{name: f"avatar3d.pipeline:{name}" for name in _PIPELINE},
        "open_capture": "avatar3d.capture:open_capture",
        "load": "avatar3d.storage:load",
        "save": "avatar3d.storage:save",
    },
)
