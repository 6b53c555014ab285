"""What passes between stages: frozen dataclasses of torch CPU tensors."""

from avatar3d.types.arkit import ARKIT_INDEX, ARKIT_NAMES
from avatar3d.types.avatar import Avatar, Footage, TextureSet, Wrinkles
from avatar3d.types.camera import Camera
from avatar3d.types.capture import Capture, Frame, View
from avatar3d.types.gaussians import Gaussians
from avatar3d.types.mesh import Mesh, MeshSequence
from avatar3d.types.motion import Motion
from avatar3d.types.rig import Rig
from avatar3d.types.track import DroppedFrame, Track

__all__ = [
    "ARKIT_INDEX",
    "ARKIT_NAMES",
    "Avatar",
    "Camera",
    "Capture",
    "DroppedFrame",
    "Footage",
    "Frame",
    "Gaussians",
    "Mesh",
    "MeshSequence",
    "Motion",
    "Rig",
    "TextureSet",
    "Track",
    "View",
    "Wrinkles",
]
