"""Waves that a scan has and the avatar's mesh is too coarse for come out as displacements and normals.

A ball of flat faces a centimetre wide stands for the mesh, an exact ball with waves for the scan.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import distance_transform_edt

from avatar3d.appearance.chart import build_chart
from avatar3d.appearance.detail import FLAT, Detail, scan_detail
from avatar3d.export.glb import write_glb
from avatar3d.types import ARKIT_NAMES, Avatar, Rig, TextureSet
from avatar3d.types.mesh import Mesh

RADIUS, LENGTH, HEIGHT = 0.1, 0.008, 1.5e-4
"""Of the ball and of the waves along y, metres."""
SIZE = 512
METRES = torch.diag(torch.tensor([1e-3, 1e-3, 1e-3, 1.0]))


def ball(rings: int = 40, segments: int = 64) -> Rig:
    """A front half of a ball over the whole texture: u from -x to x, v from below to above."""
    theta = torch.linspace(0.25 * math.pi, 0.75 * math.pi, rings + 1)
    phi = torch.linspace(-0.35 * math.pi, 0.35 * math.pi, segments + 1)
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    points = RADIUS * torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1).view(-1, 3)
    uvs = torch.stack([(p - phi[0]) / (phi[-1] - phi[0]), (theta[-1] - t) / (theta[-1] - theta[0])], -1).view(-1, 2)
    i, j = torch.meshgrid(torch.arange(rings), torch.arange(segments), indexing="ij")
    a = (i * (segments + 1) + j).reshape(-1)
    b, c, d = a + 1, a + segments + 1, a + segments + 2
    faces = torch.cat([torch.stack([a, c, d], 1), torch.stack([a, d, b], 1)])
    v = len(points)
    return Rig(
        neutral=points, faces=faces, uvs=uvs, uv_faces=faces, shapes=torch.zeros(52, v, 3), shape_names=ARKIT_NAMES,
        joint_names=("root",), joint_parents=(-1,), joint_positions=torch.zeros(1, 3),
        skinning_weights=torch.ones(v, 1), regions={"face": torch.ones(v, dtype=torch.bool)},
    )  # fmt: skip


def wave(points: torch.Tensor) -> torch.Tensor:
    return HEIGHT * torch.sin(2 * math.pi / LENGTH * points[:, 1])


@pytest.fixture(scope="module")
def rig():
    return ball(20, 28)


@pytest.fixture(scope="module")
def scan():
    """The upper part of an exact ball with waves, in millimetres."""
    sphere = trimesh.creation.icosphere(subdivisions=6, radius=1.0)
    way, faces = torch.from_numpy(sphere.vertices.copy()).float(), torch.from_numpy(sphere.faces.copy()).long()
    faces = faces[(way[faces][:, :, 1] > -0.3).all(1)]
    at = RADIUS * way
    return Mesh(vertices=1000 * (at + wave(at)[:, None] * way).double(), faces=faces)


@pytest.fixture(scope="module")
def found(scan, rig) -> Detail:
    detail = scan_detail(scan, METRES, rig.neutral, rig, size=SIZE)
    assert detail is not None
    return detail


@pytest.fixture(scope="module")
def texels(rig, found):
    """Positions on the ball and places in the image, away from the edges of what is known."""
    chart = build_chart(rig, SIZE)
    p = chart.interpolate(rig.neutral, rig.faces)
    pick = (p[:, 1] > -0.02) & (p[:, 1] < 0.06) & (p[:, 0].abs() < 0.06)
    assert found.known.reshape(-1)[chart.texel[pick]].float().mean() > 0.99
    return RADIUS * torch.nn.functional.normalize(p[pick], dim=1), chart.texel[pick]


def test_waves_are_found_where_they_are(found, texels):
    points, at = texels
    d, truth = found.displacement.reshape(-1)[at], wave(points)
    assert float((d @ truth) / (d.norm() * truth.norm())) > 0.97
    assert 0.75 < float((d @ truth) / (truth @ truth)) < 1.05  # smoothing for the scan's spacing takes a tenth
    # the faces' flatness, 0.12 mm in their middle, is no detail
    assert float((d - truth * (d @ truth) / (truth @ truth)).square().mean().sqrt()) < 0.2 * HEIGHT


def test_normals_lean_against_the_slope(found, texels):
    """u goes to the subject's left, v up: waves along y tilt green, not red."""
    points, at = texels
    colour = (found.normals.reshape(-1, 3)[at].float() - 128) / 127.5
    north = points[:, 1:2] / RADIUS
    rise = torch.sqrt(1 - north[:, 0] ** 2)  # of y along the ball's meridian
    slope = 2 * math.pi / LENGTH * HEIGHT * torch.cos(2 * math.pi / LENGTH * points[:, 1]) * rise
    lean = colour[:, 1] / colour[:, 2]
    assert float((lean @ -slope) / (lean.norm() * slope.norm())) > 0.95
    assert 0.75 < float((lean @ -slope) / (slope @ slope)) < 1.1
    assert colour[:, 0].square().mean().sqrt() < 0.25 * colour[:, 1].square().mean().sqrt()


def test_what_is_not_scanned_is_flat(found):
    away = ~found.known
    assert 0.05 < away.float().mean() < 0.5 and (found.displacement[away] == 0).all()
    flat = found.normals[away].float() - torch.tensor(FLAT).float()
    assert (flat.abs().amax(1) <= 1).float().mean() > 0.97


def test_normals_fade_towards_the_edge_of_the_scan(found, rig):
    chart = build_chart(rig, SIZE)
    p = chart.image(chart.interpolate(rig.neutral, rig.faces))
    known = found.known.numpy()
    # in texels, each a third of a millimetre
    from_edge = torch.from_numpy(distance_transform_edt(np.pad(known, 1, constant_values=True))[1:-1, 1:-1])
    along = p[..., 0].abs() < 0.05
    slope = found.slopes.norm(dim=2)
    ring, inner = (slope[along & (from_edge > a) & (from_edge < b)] for a, b in ((0, 2.5), (8, 40)))
    assert len(ring) > 200 and len(inner) > 1000
    assert ring.square().mean() < 0.06 * inner.square().mean()  # 0.18 where nothing fades


def test_a_cloud_has_no_detail(scan, rig):
    assert scan_detail(replace(scan, faces=None), METRES, rig.neutral, rig, size=64) is None


def test_noise_is_not_taken_for_skin(scan, rig):
    """A millimetre of it; and a scan of a few faces has none to tell."""
    noise = torch.randn(scan.vertices.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = scan_detail(replace(scan, vertices=scan.vertices + noise), METRES, rig.neutral, rig, size=256)
    assert noisy is None or noisy.displacement.abs().mean() < 2e-4
    coarse = trimesh.creation.icosphere(subdivisions=3, radius=1000 * RADIUS)
    few = Mesh(vertices=torch.from_numpy(coarse.vertices.copy()), faces=torch.from_numpy(coarse.faces.copy()).long())
    assert scan_detail(few, METRES, rig.neutral, rig, size=256) is None


def test_winding_does_not_matter(scan, rig, found):
    turned = scan_detail(replace(scan, faces=scan.faces.flip(1)), METRES, rig.neutral, rig, size=SIZE)
    torch.testing.assert_close(turned.displacement, found.displacement)


def test_a_glb_carries_the_normals(found, rig, tmp_path):
    import pygltflib

    grey = torch.full((64, 64, 3), 128, dtype=torch.uint8)
    looks = TextureSet(albedo=grey, normals=found.normals)
    avatar = Avatar(model="head", identity=torch.zeros(1), rig=rig, appearance=looks)
    write_glb(avatar, tmp_path / "x.glb", None)
    file = pygltflib.GLTF2().load(str(tmp_path / "x.glb"))
    image = file.images[file.textures[file.materials[0].normalTexture.index].source]
    assert image.name == "normals" and image.mimeType == "image/png"
    write_glb(replace(avatar, appearance=TextureSet(albedo=grey)), tmp_path / "y.glb", None)
    assert pygltflib.GLTF2().load(str(tmp_path / "y.glb")).materials[0].normalTexture is None
