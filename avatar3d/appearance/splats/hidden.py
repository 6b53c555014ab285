"""What lips and lids hide: splats behind them must not learn from the little that leaks through.

A mouth that is closed says nothing about the teeth. Yet skin lets a few per cent of what lies behind it through, and an
optimiser that makes steps of one size follows that: teeth and tongue would be noise when the mouth opens wider than the
footage has it. So a picture changes only those inner splats whose triangles, or triangles near by, it shows.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from avatar3d import ops
from avatar3d.appearance.splats.initial import MOUTH, of_faces
from avatar3d.appearance.splats.poses import Poses
from avatar3d.appearance.splats.shots import Shot
from avatar3d.geometry.projection import project
from avatar3d.render.mesh import camera_points

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
RINGS = 1
"""Triangles this near to one that is seen count as seen."""


class Hidden:
    """Which triangles behind lips and lids a picture shows, as the track has the head."""

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
        self._known: dict[tuple[int, bool], Tensor] = {}

    @torch.no_grad()
    def __call__(self, shot: Shot) -> Bool[Tensor, "f"]:
        """Mask of the triangles that lie behind lips or lids in this picture."""
        key = (shot.frame, shot.close)
        if key not in self._known:
            self._known[key] = self._look(shot)
        return self._known[key]

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
