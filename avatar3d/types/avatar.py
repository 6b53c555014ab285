"""The avatar: a rig, what it looks like, the motion that its footage showed, and where all of it came from."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int, Int8, UInt8
from torch import Tensor

from avatar3d.types.camera import Camera
from avatar3d.types.gaussians import Gaussians
from avatar3d.types.motion import Motion
from avatar3d.types.rig import Rig


@dataclass(frozen=True, kw_only=True)
class Wrinkles:
    """What expressions add to the normal map's slopes: the sum of maps, each times its own mix of coefficients."""

    slopes: Int8[Tensor, "e h w 2"]
    """Of the surface's detail against tangent and bitangent (the normal's x / z and y / z); 127 is `scales`."""
    scales: Float[Tensor, "e"]
    mixing: Float[Tensor, "e s"]
    """Weights of the maps are these times the rig's coefficients, kept within -1..1."""

    def weights(self, expression: Float[Tensor, "s"]) -> Float[Tensor, "e"]:
        """Of the maps (at 127) in a face with these coefficients."""
        return (self.mixing @ expression).clamp(-1, 1) * self.scales


@dataclass(frozen=True, kw_only=True)
class TextureSet:
    """Appearance as images in the rig's UVs. Row 0 is the top of the image, i.e. v = 1."""

    albedo: UInt8[Tensor, "h w 3"]
    """Base colour, sRGB, with the lighting divided out."""
    light: Float[Tensor, "9 3"] | None = None
    """Second-order spherical-harmonics irradiance of the footage in world space, or of a scan in model space, linear
    RGB; None where colours were taken as they are."""
    exposure: Float[Tensor, "t 3"] | None = None
    """Gain of every footage frame, linear RGB."""
    seen: UInt8[Tensor, "h w"] | None = None
    """255 where the footage showed the texel, 0 where it was completed."""
    normals: UInt8[Tensor, "nh nw 3"] | None = None
    """Detail that the mesh is too coarse for: tangent-space normals, x along u, y along v (up), 128 128 255 flat."""
    wrinkles: Wrinkles | None = None
    """Detail that comes and goes with expressions, on top of `normals`."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """The footage as the avatar's own motion refers to it."""

    sources: tuple[str, ...]
    """File names as given."""
    frames: int
    cameras: tuple[Camera, ...]
    camera_of_frame: Int[Tensor, "t"]
    frame_of_motion: Int[Tensor, "t"]
    """Frame index within its source for every frame of the motion."""
    source_of_frame: Int[Tensor, "t"]


@dataclass(frozen=True, kw_only=True)
class Avatar:
    """An animatable person."""

    model: str
    """Id of the model that it was fitted with."""
    identity: Float[Tensor, "k"]
    rig: Rig
    appearance: TextureSet | None
    """Of the mesh."""
    gaussians: Gaussians | None = None
    """Splats: where there are some, they are what the avatar looks like, and the textured mesh is for engines."""
    motion: Motion | None = None
    """The motion of its own footage, one frame per frame of the footage."""
    footage: Footage | None = None
    manifest: dict = field(default_factory=dict)
    """Provenance: model, networks, footage, licences, version, settings."""

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper corner of the neutral mesh, metres."""
        return self.rig.neutral.amin(0), self.rig.neutral.amax(0)
