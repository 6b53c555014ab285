"""The texture of an avatar from a scan: baked from the scan's own, or plausible skin where it has none."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from avatar3d.appearance.chart import Chart, build_chart
from avatar3d.appearance.eyes import EyeReading
from avatar3d.appearance.finish import finish
from avatar3d.appearance.inside import DEFAULT_SCLERA, FINE, Readings, settle_tints
from avatar3d.appearance.light import FLOOR, Lighting, shade
from avatar3d.appearance.regions import region, skin_faces
from avatar3d.appearance.scan_light import ScanLight, divide_light
from avatar3d.appearance.texture import COARSE, Bake
from avatar3d.geometry.colour import srgb_to_linear
from avatar3d.geometry.surface import averaged, face_normals, vertex_normals
from avatar3d.geometry.transform import apply
from avatar3d.models.linear import LinearModel
from avatar3d.models.paint import Palette, paint
from avatar3d.ops import nearest_on_mesh
from avatar3d.types import Rig, TextureSet
from avatar3d.types.mesh import Mesh
from avatar3d.typing import typed

NEAR, FAR = 0.003, 0.010
"""Distance of the scan up to which its colour holds, and from which it does not, metres."""
BROW_SHARE = 0.45
IRIS_RING, WHITES = (0.45, 0.85), (1.35, 1.8)
"""Of the iris' radius: where its colour is read, and that of the white beside it."""


@typed
def dress_scan(
    scan: Mesh,
    T_model_scan: Float[Tensor, "4 4"],
    posed: Float[Tensor, "v 3"],
    rig: Rig,
    model: LinearModel,
    *,
    size: int = 1024,
    iris: Float[Tensor, "n 3"] | None = None,
    light: ScanLight = "auto",
) -> TextureSet:
    """An avatar's texture.

    Every texel takes the colour of the scan's nearest point, where that is near and faces the same way; the rest is
    completed as for footage: mirrored, spread over the surface, with grain. Eyes, teeth and mouth are painted.

    Args:
        scan: The scan.
        T_model_scan: Brings it to model space.
        posed: The registered vertices, posed as the scan, model space.
        rig: The avatar's, in one texture.
        model: Its model.
        size: Side of the texture, a multiple of 64.
        iris: Points of the irises in the scan's space, five for each: centre, then its edge; for their colour.
        light: Whether the scan's light is divided out: see `scan_light.divide_light`.
    """
    chart, coarse = build_chart(rig, size), build_chart(rig, min(size, COARSE))
    if not scan.is_coloured:
        return _plain(rig, model, chart, coarse)
    points = apply(T_model_scan, scan.vertices.double()).float()
    fine, sure = _sampled(scan, points, posed, rig, chart)
    at = fine.clamp_min(FLOOR).log()
    low, low_sure = _reduced(at, sure, chart, coarse)
    bake = Bake(
        coarse=torch.where(low_sure[:, None] > 0, low, torch.nan), confidence=low_sure,
        fine=torch.where(sure[:, None] > 0, at, torch.nan), lighting=_no_light(coarse.count),
    )  # fmt: skip
    unlit = divide_light(bake, posed, rig, chart, coarse, light)
    bake, found = (bake, None) if unlit is None else (unlit, unlit.lighting.light)
    tints = settle_tints(_read_eyes(scan, iris, found))
    albedo, seen = finish(bake, rig, chart, coarse, mirror=model.mirror, tints=tints)
    return TextureSet(albedo=(albedo * 255).round().byte(), light=found, seen=seen.byte() * 255)


def _no_light(count: int) -> Lighting:
    """Colours as they are."""
    return Lighting(
        light=torch.zeros(9, 3), gain=torch.ones(1, 3), albedo=torch.zeros(count, 3), trust=torch.ones(1, count)
    )


def _sampled(scan: Mesh, points: Tensor, posed: Tensor, rig: Rig, chart: Chart) -> tuple[Tensor, Tensor]:
    """Linear colour [n, 3] of the scan's nearest point for every texel, and how far it holds, 0..1."""
    faces = rig.faces.long()
    pick = chart.of_faces(skin_faces(rig))
    where = chart.interpolate(posed, faces, pick)
    normals = normalize(chart.interpolate(vertex_normals(posed, faces), faces, pick), dim=1)
    if scan.faces is None:
        value, distance, alike, inside = _of_cloud(scan, points, where)
    else:
        value, distance, alike, inside = _of_mesh(scan, points, where, normals)
    sure = ((FAR - distance) / (FAR - NEAR)).clamp(0, 1) * alike * inside
    colour, held = torch.zeros(chart.count, 3), torch.zeros(chart.count)
    colour[pick], held[pick] = srgb_to_linear(value), torch.where(sure < 0.02, 0.0, sure)
    return colour, held


def _of_mesh(scan: Mesh, points: Tensor, where: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    assert scan.faces is not None
    low, high = where.amin(0) - 2 * FAR, where.amax(0) + 2 * FAR
    near = ((points > low) & (points < high)).all(1)
    kept = near[scan.faces].all(1).nonzero()[:, 0]
    if not len(kept):
        none = torch.zeros(len(where))
        return torch.zeros(len(where), 3), none + 1, none, none
    found = nearest_on_mesh(where, points, scan.faces[kept])
    face, share = kept[found.face.long()], found.barycentrics
    n = normalize(face_normals(points, scan.faces)[face], dim=1)
    sided = (n * normals).sum(1)
    # a scan may be wound either way round
    sided = sided * (1.0 if float(sided[found.distance < NEAR].sum()) >= 0 else -1.0)
    # what lies beyond an edge of the scan is nearest to that edge
    offset = where - found.point
    aside = (offset - (offset * n).sum(1, keepdim=True) * n).norm(dim=1)
    inside = ((0.003 - aside) / 0.002).clamp(0, 1)
    return _colours_on(scan, face, share), found.distance, ((sided - 0.2) / 0.4).clamp(0, 1), inside


def _colours_on(scan: Mesh, face: Tensor, share: Tensor) -> Tensor:
    """sRGB 0..1 of points on a scan's faces, texture before vertex colours."""
    if scan.texture is not None and scan.uvs is not None and scan.uv_faces is not None:
        uv = (scan.uvs[scan.uv_faces[face]] * share[..., None]).sum(1)
        # by hand: `ops.sample_texture` wants the whole texture as floats, 0.8 GB at 8192 texels
        h, w = scan.texture.shape[:2]
        x = uv[:, 0].remainder(1) * w - 0.5
        y = (1 - uv[:, 1].remainder(1)) * h - 0.5
        left, top = x.floor().long(), y.floor().long()
        u, v = (x - left)[:, None], (y - top)[:, None]

        def texel(column: Tensor, row: Tensor) -> Tensor:
            assert scan.texture is not None
            return scan.texture[row.clamp(0, h - 1), column.clamp(0, w - 1)].float() / 255

        above = torch.lerp(texel(left, top), texel(left + 1, top), u)
        below = torch.lerp(texel(left, top + 1), texel(left + 1, top + 1), u)
        return torch.lerp(above, below, v)
    assert scan.colours is not None and scan.faces is not None
    return (scan.colours[scan.faces[face]].float() / 255 * share[..., None]).sum(1)


def _of_cloud(scan: Mesh, points: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colours weighted over the nearest points."""
    from scipy.spatial import KDTree

    assert scan.colours is not None
    distance, index = KDTree(points.numpy()).query(where.numpy(), k=4, workers=2)
    d = torch.from_numpy(distance).float()
    w = 1 / (d.square() + 1e-8)
    colours = scan.colours[torch.from_numpy(index)].float() / 255
    value = (colours * w[..., None]).sum(1) / w.sum(1, keepdim=True)
    one = torch.ones(len(where))
    return value, d[:, 0], one, one


def _reduced(values: Tensor, sure: Tensor, chart: Chart, coarse: Chart) -> tuple[Tensor, Tensor]:
    """Fine texels averaged at the coarse ones, and how much of them was seen."""
    factor = chart.size // coarse.size
    weighted = chart.image(torch.cat([values * sure[:, None], sure[:, None], torch.ones(chart.count, 1)], 1))
    c = coarse.size
    cells = weighted.view(c, factor, c, factor, 5).sum((1, 3)).view(-1, 5)[coarse.texel]
    mean = cells[:, :3] / cells[:, 3:4].clamp_min(1e-6)
    return mean, torch.where(cells[:, 3] > 0.02, cells[:, 3] / cells[:, 4].clamp_min(1), 0.0)


def _read_eyes(scan: Mesh, iris: Tensor | None, light: Tensor | None) -> Readings:
    """Linear colours of irises and whites, where the scan shows them, without the light that falls on a face's front.

    Of the whites only the brightness is read, from the brighter half of what is beside the irises: what lashes and lids
    leave of them in a scan's pictures has their hue.
    """
    if iris is None or not torch.isfinite(iris).all():
        return Readings(eyes=[], teeth=[])
    level = 1.0 if light is None else shade(torch.tensor([[0.0, 0.0, 1.0]]), light)[0]

    def read(at: Tensor) -> Tensor:
        if scan.faces is None:
            assert scan.colours is not None
            value = scan.colours[torch.cdist(at, scan.vertices).argmin(1)].float() / 255
        else:
            found = nearest_on_mesh(at, scan.vertices, scan.faces)
            value = _colours_on(scan, found.face.long(), found.barycentrics.float())
        linear = srgb_to_linear(value) / level
        return linear[linear.sum(1).argsort()]

    irises, whites = [], []
    eyes = iris.double().reshape(-1, 5, 3)
    towards = eyes[-1, 0] - eyes[0, 0]  # each other
    for five in eyes:
        centre, edge = five[0], five[1:]
        ring = read(torch.cat([centre + f * (edge - centre) for f in torch.linspace(*IRIS_RING, 3).tolist()]))
        # highlights and lids apart
        irises.append(ring[2 : len(ring) - 4].median(0).values.numpy())
        sides = edge[((edge - centre) @ towards).abs().topk(2).indices]
        beside = torch.cat([centre + f * (sides - centre) for f in torch.linspace(*WHITES, 6).tolist()])
        white = read(beside)
        brightness = white[len(white) // 2 :].mean(1).median()
        usual = torch.tensor(DEFAULT_SCLERA)
        whites.append((usual * brightness / usual.mean()).numpy())
    return Readings(
        eyes=[EyeReading(openness=0, radius=FINE, iris=a, sclera=b) for a, b in zip(irises, whites, strict=True)],
        teeth=[],
    )


def _plain(rig: Rig, model: LinearModel, chart: Chart, coarse: Chart) -> TextureSet:
    """Skin, lips and brows of a usual colour for a scan that says nothing of them."""
    palette = Palette()
    colours = paint(model, palette, hair=False)
    bare = torch.tensor(palette.skin)
    brows = region(rig, "brow")
    colours[brows] = torch.lerp(bare, colours[brows], BROW_SHARE)
    faces = rig.faces.long()
    skin = ~region(rig, "eyeball", "teeth", "gum", "tongue", "mouth_cavity", "eye_socket")
    colours = torch.where(skin[:, None], averaged(colours, faces[skin[faces].all(1)], 3), colours)
    linear = srgb_to_linear(colours).clamp_min(FLOOR).log()
    fine, low = (c.interpolate(linear, rig.faces.long()) for c in (chart, coarse))
    bake = Bake(coarse=low, confidence=torch.ones(coarse.count), fine=fine, lighting=_no_light(coarse.count))
    albedo, seen = finish(bake, rig, chart, coarse, mirror=model.mirror, tints=settle_tints(Readings([], [])))
    return TextureSet(albedo=(albedo * 255).round().byte(), seen=torch.zeros_like(seen, dtype=torch.uint8))
