"""Avatar and motion to files that engines and tools read; every file is read back before it counts as written."""

from typing import TYPE_CHECKING

from avatar3d.lazy import look_up_later

if TYPE_CHECKING:
    from avatar3d.export.arkit_json import write_arkit_json
    from avatar3d.export.dispatch import SUFFIXES, export
    from avatar3d.export.glb import write_glb
    from avatar3d.export.html import write_html
    from avatar3d.export.livelink import write_livelink_csv
    from avatar3d.export.mesh import write_obj, write_ply
    from avatar3d.export.sound import SOUND_RATE

__all__ = [
    "SOUND_RATE",
    "SUFFIXES",
    "export",
    "write_arkit_json",
    "write_glb",
    "write_html",
    "write_livelink_csv",
    "write_obj",
    "write_ply",
]

_WHERE = {
    "export.arkit_json": ("write_arkit_json",),
    "export.dispatch": ("SUFFIXES", "export"),
    "export.glb": ("write_glb",),
    "export.html": ("write_html",),
    "export.livelink": ("write_livelink_csv",),
    "export.mesh": ("write_obj", "write_ply"),
    "export.sound": ("SOUND_RATE",),
}

look_up_later(__name__, {name: f"avatar3d.{module}:{name}" for module, names in _WHERE.items() for name in names})
