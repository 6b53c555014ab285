"""What moves an avatar: Live Link Face and ARKit recordings, motion files, other people's motions,
speech and text, a built-in one."""

from typing import TYPE_CHECKING

from avatar3d.lazy import look_up_later

if TYPE_CHECKING:
    from avatar3d.drive.arkit_json import from_arkit_json
    from avatar3d.drive.demo import DemoStep, demo_motion, demo_steps
    from avatar3d.drive.flame import from_flame_npz
    from avatar3d.drive.livelink import from_livelink_csv
    from avatar3d.drive.mesh_fit import MeshFitSettings
    from avatar3d.drive.meshes import MeshMotion, from_meshes
    from avatar3d.drive.retarget import resting_face, retarget
    from avatar3d.drive.source import from_motion_file, from_source, is_motion_source
    from avatar3d.drive.speech.from_speech import from_speech
    from avatar3d.drive.speech.from_text import from_text
    from avatar3d.drive.speech.settings import SpeechSettings
    from avatar3d.drive.speech.stream import SpeechStream
    from avatar3d.models.motion import resample, track_to_motion

__all__ = [
    "DemoStep",
    "MeshFitSettings",
    "MeshMotion",
    "SpeechSettings",
    "SpeechStream",
    "demo_motion",
    "demo_steps",
    "from_arkit_json",
    "from_flame_npz",
    "from_livelink_csv",
    "from_meshes",
    "from_motion_file",
    "from_source",
    "from_speech",
    "from_text",
    "is_motion_source",
    "resample",
    "resting_face",
    "retarget",
    "track_to_motion",
]

_WHERE = {
    "drive.arkit_json": ("from_arkit_json",),
    "drive.demo": ("DemoStep", "demo_motion", "demo_steps"),
    "drive.flame": ("from_flame_npz",),
    "drive.livelink": ("from_livelink_csv",),
    "drive.mesh_fit": ("MeshFitSettings",),
    "drive.meshes": ("MeshMotion", "from_meshes"),
    "drive.retarget": ("resting_face", "retarget"),
    "drive.source": ("from_motion_file", "from_source", "is_motion_source"),
    "drive.speech.from_speech": ("from_speech",),
    "drive.speech.from_text": ("from_text",),
    "drive.speech.settings": ("SpeechSettings",),
    "drive.speech.stream": ("SpeechStream",),
    "models.motion": ("resample", "track_to_motion"),
}

look_up_later(__name__, {name: f"avatar3d.{module}:{name}" for module, names in _WHERE.items() for name in names})
