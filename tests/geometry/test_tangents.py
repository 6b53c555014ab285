"""Tangent frames: perpendicular, along u, right-handed where the texture is not mirrored, and inverted exactly."""

import math

import pytest
import torch
from rig_factory import make_rig
from torch.nn.functional import normalize

from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import vertex_normals
from avatar3d.geometry.tangents import bend_of, bent_normals, split_corners, vertex_tangents

SQUARE = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
UVS = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def of_square(uvs: torch.Tensor) -> torch.Tensor:
    up = torch.tensor([0.0, 0, 1]).expand(4, 3)
    return vertex_tangents(SQUARE, up, uvs, FACES)


@pytest.mark.parametrize("degrees", [0, 30, 200])
def test_along_u(degrees):
    """A texture that was turned on its square turns the tangents the other way."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    positions = SQUARE[:, :2]
    uvs = positions @ torch.tensor([[c, s], [-s, c]])  # u grows along (c, -s)
    tangents = of_square(uvs)
    expected = torch.tensor([c, -s, 0.0, 1.0])
    torch.testing.assert_close(tangents, expected.expand(4, 4), atol=1e-6, rtol=0)


def test_mirrored_textures_have_the_other_side():
    tangents = of_square(UVS * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(tangents, torch.tensor([-1.0, 0, 0, -1]).expand(4, 4))
    bitangent = tangents[0, 3] * torch.linalg.cross(torch.tensor([0.0, 0, 1]), tangents[0, :3])
    torch.testing.assert_close(bitangent, torch.tensor([0.0, 1, 0]))  # along v all the same


def test_a_vertex_between_mirrored_halves_is_split():
    """Two triangles that share an edge of points and of uvs, and have u in opposite directions."""
    uvs = torch.tensor([[0.0, 0], [1, 0], [1, 1]])
    vertex, uv, corners = split_corners(FACES, uvs, torch.tensor([[0, 1, 2], [0, 2, 1]]))
    assert len(vertex) == 6 and torch.equal(vertex[corners], FACES)
    assert torch.equal(uv[corners], torch.tensor([[0, 1, 2], [0, 2, 1]]))


def test_angles_weigh():
    """Cutting one of two triangles in two, through the shared vertex, changes nothing."""
    corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0.5], [-1, 0, 0]])
    uvs = torch.tensor([[0.5, 0.5], [1, 0.6], [0.4, 1], [0, 0.5]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    n = normalize(torch.tensor([[0.1, -0.3, 1.0]])).expand(5, 3)
    whole = vertex_tangents(corner, n[:4], uvs, faces)[0]
    middle, uv = 0.3 * corner[1] + 0.7 * corner[2], 0.3 * uvs[1] + 0.7 * uvs[2]
    cut = torch.tensor([[0, 1, 4], [0, 4, 2], [0, 2, 3]])
    again = vertex_tangents(torch.cat([corner, middle[None]]), n, torch.cat([uvs, uv[None]]), cut)[0]
    # angles are measured in the plane of the normal, where those of a cut triangle add up
    torch.testing.assert_close(again, whole, atol=1e-6, rtol=0)


def test_of_a_head_shape():
    rig = make_rig()
    vertex, uv, corners = split_corners(rig.faces, rig.uvs, rig.uv_faces)
    n = vertex_normals(rig.neutral, rig.faces)[vertex]
    tangents = vertex_tangents(rig.neutral[vertex], n, rig.uvs[uv], corners)
    assert (tangents[:, :3].norm(dim=1) - 1).abs().max() < 1e-5
    assert (tangents[:, :3] * n).sum(1).abs().max() < 1e-5 and set(tangents[:, 3].tolist()) <= {1.0, -1.0}
    R = rotvec_to_matrix(torch.tensor([0.3, -0.8, 0.5]))
    turned = vertex_tangents(rig.neutral[vertex] @ R.T, n @ R.T, rig.uvs[uv], corners)
    torch.testing.assert_close(turned[:, :3], tangents[:, :3] @ R.T, atol=1e-5, rtol=0)


def test_no_texture_no_direction():
    """Some direction across the normal, and no NaN."""
    tangents = of_square(torch.zeros(4, 2))
    assert torch.isfinite(tangents).all() and (tangents[:, 2].abs() < 1e-6).all()
    assert ((tangents[:, :3].norm(dim=1) - 1).abs() < 1e-6).all()


def test_bends_and_back():
    rng = torch.Generator().manual_seed(0)

    def unit(n: int) -> torch.Tensor:
        return normalize(torch.randn(n, 3, generator=rng, dtype=torch.float64), dim=1)

    n = unit(200)
    t = normalize(unit(200) * 0.3 + torch.linalg.cross(n, unit(200)), dim=1)  # not quite perpendicular
    side = torch.where(torch.rand(200, 1, generator=rng) < 0.5, -1.0, 1.0).double()
    wanted = normalize(n + 0.6 * unit(200), dim=1)
    frames = torch.cat([t, side], 1)
    bend = bend_of(3 * n, frames, wanted)
    torch.testing.assert_close(bent_normals(3 * n, frames, bend), wanted, atol=1e-6, rtol=0)
    flat = torch.tensor([0.0, 0, 1]).double().expand(200, 3)
    torch.testing.assert_close(bent_normals(n, frames, flat), n)
