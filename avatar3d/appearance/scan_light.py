"""A scan's light divided out of its colours, as far as smooth light on its shape explains them.

One picture of a face cannot tell a dark chin from light that comes from above; but the two sides of a face are of one
colour, so what differs between them is light. Light is therefore drawn to light from everywhere, strongly in what both
sides share and weakly in what sets them apart.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.appearance.chart import Chart
from avatar3d.appearance.light import LightPrior, estimate_light, shade
from avatar3d.appearance.regions import faces_in, region, skin_faces
from avatar3d.appearance.texture import Bake
from avatar3d.geometry.surface import vertex_normals
from avatar3d.types import Rig
from avatar3d.typing import typed

ScanLight = Literal["auto", "divide", "keep"]
ONE_VIEW = LightPrior(share=3.0, level=1.0, sideways=0.2)
"""Set on albedos that were measured in many views, lit anew."""
ONE_SIDED = 0.06
"""Spread of the logarithm of light between the sides of a face from which on it is taken for light from a side; evenly
lit faces, none of which is quite symmetric, show up to 0.05."""


@typed
def divide_light(
    bake: Bake, posed: Float[Tensor, "v 3"], rig: Rig, chart: Chart, coarse: Chart, light: ScanLight = "auto"
) -> Bake | None:
    """The bake without its light, and with that light; None where colours stay as they are.

    Args:
        bake: Colours as scanned.
        posed: Vertices posed as the scan, model space.
        rig: The rig.
        chart: Fine texels.
        coarse: Coarse texels.
        light: "keep" leaves colours as they are, "divide" does not, "auto" divides light that comes from a side.
    """
    faces = rig.faces.long()
    skin = faces_in(rig, region(rig, "face", "ear") & ~region(rig, "lip", "scalp", "eyelid"))
    shown = (bake.confidence > 0) & skin_faces(rig)[coarse.face.long()]
    skin = (skin if skin.any() else skin_faces(rig))[coarse.face.long()]
    if light == "keep" or not (skin & shown).any():
        return None
    around = vertex_normals(posed, faces)
    normals, fine = (normalize(c.interpolate(around, faces), dim=1) for c in (coarse, chart))
    weight = torch.where(shown, bake.confidence, 0.0)
    colour = bake.coarse.exp().nan_to_num(0.0)
    found = estimate_light(colour[None], weight[None], normals[None], skin, prior=ONE_VIEW)
    if light == "auto" and one_sidedness(found.light, normals[skin & shown]) < ONE_SIDED:
        return None
    return replace(
        bake, coarse=bake.coarse - shade(normals, found.light).log(), fine=bake.fine - shade(fine, found.light).log(),
        lighting=found,
    )  # fmt: skip


def one_sidedness(light: Float[Tensor, "9 3"], normals: Float[Tensor, "n 3"]) -> float:
    """How much the logarithm of light spreads between normals and their mirror images."""
    mirrored = normals * torch.tensor([-1.0, 1.0, 1.0])
    return float((shade(normals, light) / shade(mirrored, light)).log().mean(1).std() / 2)
