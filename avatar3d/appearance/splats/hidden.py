"""What lips, lids and the head itself hide: splats behind them must not learn from the little that leaks through.

A mouth that is closed says nothing about the teeth, nor an ear about the hair behind it. Yet skin lets a few per cent
of what lies behind it through, and an optimiser that makes steps of one size follows that: teeth and tongue would be
noise when the mouth opens wider than the footage has it, and hair behind an ear would be pink. So a picture changes
only those inner splats whose triangles, or triangles near by, it shows, and hair that is not behind the mesh.
"""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from avatar3d import ops
from avatar3d.appearance.splats.initial import MOUTH, of_faces
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.projection import project
from avatar3d.render.mesh import camera_points
from avatar3d.types.gaussians import GROUP_NAMES

HAIR = GROUP_NAMES.index("hair")
OPENINGS = (
    (("lips_inner", *MOUTH), "lips_inner"),
    (("eyeball_left", "eye_socket_left", "iris_left"), "eyeball_left"),
    (("eyeball_right", "eye_socket_right", "iris_right"), "eyeball_right"),
)
"""Regions that something may hide, and the region around which one looks for them."""
MARGIN = 1.3
"""Side of what one looks at in terms of that region."""
SIDE = 112
"""Of the picture in which they are looked for, pixels."""
BEHIND = 0.012
"""Metres behind the mesh from which hair is hidden by it."""
RINGS = 1
"""Triangles this near to one that is seen count as seen."""


class Hidden:
    """Which splats a picture does not show, as the track has the head."""

    def __init__(self, poses: Poses) -> None:
        """Nothing is looked at yet; corrections of the poses do not count."""
        self._poses = Poses.of(poses.rig, poses.motion)
        rig = poses.rig
        self._inner = torch.zeros(len(rig.faces), dtype=torch.bool)
        self._openings: list[Tensor] = []
        for names, around in OPENINGS:
            if around in rig.regions:
                self._inner |= of_faces(rig, names)
                self._openings.append(rig.regions[around])
        self._joints = len(rig.joint_names)
        self._head = len(rig.faces) - self._joints + (rig.joint_names.index("head") if "head" in rig.joint_names else 0)
        self._known: dict[tuple[int, bool], tuple[Tensor, ...]] = {}

    @torch.no_grad()
    def __call__(
        self, shot: Shot, face: Int[Tensor, "n"], offsets: Float[Tensor, "n 3"], group: UInt8[Tensor, "n"]
    ) -> Bool[Tensor, "n"]:
        """Mask of the splats that this picture does not show.

        Args:
            shot: The picture.
            face: Triangles that the splats are bound to, of the rig with its anchors.
            offsets: In the triangles' frames, in units of their size.
            group: As `Gaussians.group`.
        """
        key = (shot.frame, shot.close)
        if key not in self._known:
            self._known[key] = (self._look(shot), *self._depths(shot))
        faces, depth, K, frame = self._known[key]
        hidden = faces[face.long()]
        hair = ((group == HAIR) & (face == self._head)).nonzero()[:, 0]
        x = offsets[hair] @ frame[1:] + frame[0]
        at = (x[:, :2] / x[:, 2:].clamp_min(1e-3) * K[:2] + K[2:]).floor().long()
        within = ((at >= 0) & (at < SIDE)).all(1)
        at = at.clamp(0, SIDE - 1)
        hidden[hair] = within & (x[:, 2] > depth[at[:, 1], at[:, 0]] + BEHIND)
        return hidden

    def _depths(self, shot: Shot) -> tuple[Tensor, Tensor, Tensor]:
        """Depth of the mesh about the head `[SIDE, SIDE]`, its focal lengths and centre, and the head's anchor: origin
        and the axes of its unit offsets in the camera `[4, 3]`."""
        rig = self._poses.rig
        vertices = self._poses.vertices(torch.tensor([shot.frame]))[0]
        points = camera_points(vertices, [shot.camera])
        faces = rig.faces[: len(rig.faces) - self._joints]
        own = vertices[0, : len(rig.neutral) - 3 * self._joints]
        pixels = project(own, shot.camera)
        low, high = pixels.amin(0), pixels.amax(0)
        side = max(1.0, float((high - low).max()))
        K = shot.camera.K.float().clone()
        K[:2, 2] -= (low + high) / 2 - side / 2
        K[:2] *= SIDE / side
        triangle = ops.rasterize(points, faces, K[None], SIDE, SIDE).triangle[0].long()
        corners = points[0, :, 2][faces.long()].mean(1)
        depth = torch.where(triangle >= 0, corners[triangle.clamp_min(0)], torch.inf)
        a, b, c = points[0, rig.faces[self._head].long()]
        x, y = b - a, c - a
        z = torch.linalg.cross(x, y) / x.norm()
        frame = torch.stack([a, x, y, z])
        return depth, torch.stack([K[0, 0], K[1, 1], K[0, 2], K[1, 2]]), frame

    def _look(self, shot: Shot) -> Tensor:
        rig = self._poses.rig
        vertices = self._poses.vertices(torch.tensor([shot.frame]))[0]
        points = camera_points(vertices, [shot.camera])
        faces = rig.faces.long()
        seen = torch.zeros(len(rig.neutral), dtype=torch.bool)
        for region in self._openings:
            pixels = project(vertices[0, region], shot.camera)
            low, high = pixels.amin(0), pixels.amax(0)
            side = MARGIN * float((high - low).max())
            if not side > 0:
                continue
            K = shot.camera.K.float().clone()
            K[:2, 2] -= (low + high) / 2 - side / 2
            K[:2] *= SIDE / side
            triangle = ops.rasterize(points, rig.faces, K[None], SIDE, SIDE).triangle[0].unique().long()
            seen[faces[triangle[triangle >= 0]]] = True
        for _ in range(RINGS):
            near = seen[faces].any(1)
            seen[faces[near]] = True
        return self._inner & ~seen[faces].any(1)
