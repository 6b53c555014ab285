import pytest
import torch

from avatar3d import ops
from avatar3d.geometry.projection import project
from avatar3d.render import ambient_light, render_mesh
from avatar3d.types import Camera
from tests.mesh_cases import sphere

FRONT = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]], dtype=torch.float64)


def camera(width=96, height=80, focal=90.0, T=FRONT, distortion=None):
    K = Camera.from_focal(focal, width, height).K
    return Camera(K, width, height, T, distortion)


def test_a_sphere_seen_from_the_front():
    vertices, faces = sphere(60, 90)
    out = render_mesh(
        vertices[None], faces, camera(), light=ambient_light(1.0), vertex_colours=torch.ones_like(vertices)[None]
    )
    assert out.rgb.shape == (1, 80, 96, 3) and out.uv is None
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    rays = torch.stack([(x - 48) / 90, (y - 40) / 90, torch.ones_like(x)], -1).double()
    d = torch.nn.functional.normalize(rays, dim=-1)
    along = 3 * d[..., 2]
    inside = 1 - (9 - along**2)  # squared half chord
    hit = inside > 0.05
    distance = along - inside.clamp_min(0).sqrt()
    normal = (d * distance[..., None] - torch.tensor([0, 0, 3.0]).double()) * torch.tensor([1, -1, -1.0]).double()
    assert (out.alpha[0][hit] == 1).all() and (out.alpha[0][inside < -0.1] == 0).all()
    torch.testing.assert_close(out.depth[0][hit], (d[..., 2] * distance)[hit], rtol=0.004, atol=0)
    assert (out.normals[0] * normal).sum(-1)[hit].min() > 0.999
    torch.testing.assert_close(out.rgb, torch.ones_like(out.rgb), rtol=0, atol=2e-4)


def test_texture_lies_where_the_coordinates_say():
    """A quad that fills the picture shows its texture upright."""
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uvs = torch.tensor([[9.0, 9], [0, 0], [1, 0], [1, 1], [0, 1]])
    texture = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(1))
    view = camera(8, 8, 12.0)
    out = render_mesh(vertices, faces, view, uvs=uvs, uv_faces=faces + 1, texture=texture)
    torch.testing.assert_close(out.rgb, texture, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="texture coordinates"):
        render_mesh(vertices, faces, view, texture=texture)


def test_mipmaps_average_what_a_pixel_covers():
    """A fine chequer far away is grey with mipmaps, noise without; near by both are the same."""
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])[None]
    faces, uvs = torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    i = torch.arange(256)
    texture = ((i[:, None] + i) % 2).float()[None, ..., None].expand(1, 256, 256, 3)
    far = [
        render_mesh(vertices, faces, camera(16, 16, 24.5), uvs=uvs, texture=texture, mipmaps=bool(m)).rgb
        for m in (0, 1)
    ]
    assert far[0].std() > 0.1 and far[1].std() < 1e-3
    torch.testing.assert_close(far[1].mean(), torch.tensor(0.5), rtol=0, atol=1e-3)
    small = texture[:, :8, :8].contiguous()
    near = [
        render_mesh(vertices, faces, camera(96, 96, 144.0), uvs=uvs, texture=small, mipmaps=bool(m)).rgb for m in (0, 1)
    ]
    torch.testing.assert_close(*near)


def test_one_mesh_many_cameras_many_meshes_one_camera():
    vertices, faces = sphere(8, 12)
    turned = FRONT.clone()
    turned[:3, :3] = turned[:3, :3] @ torch.diag(torch.tensor([-1.0, 1, -1])).double()
    views = [camera(), camera(T=turned)]
    both = render_mesh(vertices[None], faces, views)
    for i, view in enumerate(views):
        torch.testing.assert_close(both.rgb[i], render_mesh(vertices[None], faces, view).rgb[0])
    meshes = torch.stack([vertices, vertices * 0.5])
    assert render_mesh(meshes, faces, camera()).alpha.sum((1, 2)).diff() < -1000
    with pytest.raises(ValueError, match="2 cameras for 3 meshes"):
        render_mesh(torch.cat([meshes, meshes[:1]]), faces, views)
    with pytest.raises(ValueError, match="different sizes"):
        render_mesh(vertices[None], faces, [camera(), camera(width=90)])


def test_background_is_what_is_not_covered(rng):
    vertices, faces = sphere(8, 12)
    picture = torch.rand(80, 96, 3, generator=rng, dtype=torch.float64)
    out = render_mesh(vertices[None], faces, camera(), background=picture)
    outside = out.alpha[0] == 0
    assert torch.equal(out.rgb[0][outside], picture[outside]) and 0.2 < outside.double().mean() < 0.9


def test_distortion_agrees_with_projection():
    vertices, faces = sphere(12, 16)
    view = camera(distortion=torch.tensor([-0.2, 0.05, 0.002, -0.003]))
    out = render_mesh(vertices[None], faces, view)
    pixels = project(vertices, view)
    y, x = torch.nonzero(out.triangle[0] >= 0, as_tuple=True)
    corners = pixels[faces[out.triangle[0, y, x].long()].long()]
    lo, hi = corners.amin(1), corners.amax(1)
    centres = torch.stack([x, y], -1) + 0.5
    assert len(x) > 1000 and (centres >= lo - 1e-6).all() and (centres <= hi + 1e-6).all()


def test_gradients_reach_everything():
    vertices, faces = sphere(10, 14)
    vertices = vertices[None].requires_grad_()
    colours = torch.full_like(vertices, 0.5).requires_grad_()
    light, background = ambient_light(0.8).requires_grad_(), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    T, K = FRONT.clone().requires_grad_(), Camera.from_focal(90.0, 96, 80).K.requires_grad_()
    view = Camera(K, 96, 80, T)
    out = render_mesh(vertices, faces, view, vertex_colours=colours, light=light, background=background)
    target = render_mesh(vertices.detach() * 1.05, faces, camera(), vertex_colours=colours.detach()).rgb.detach()
    wrt = (vertices, colours, light, background, T, K)
    for gradient in torch.autograd.grad(((out.rgb - target) ** 2).sum(), wrt):
        assert torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0


def test_shape_and_place_are_found_from_outlines():
    """Gradient descent on the picture of a mask alone moves a sphere to where the target is, and to its size."""
    vertices, faces = sphere(12, 18)
    neighbours = ops.face_neighbours(faces)
    truth = torch.tensor([0.25, -0.15, 0.2, 1.1], dtype=torch.float64)

    def draw(state):
        moved = vertices * state[3] + state[:3] * torch.tensor([1.0, 1, 0])
        return render_mesh(moved[None], faces, camera(), neighbours=neighbours).alpha

    target = draw(truth)
    state = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([state], 0.02)
    for step in range(70):
        optimiser.param_groups[0]["lr"] = 0.03 * 0.94**step
        optimiser.zero_grad()
        ((draw(state) - target) ** 2).mean().backward()
        optimiser.step()
    assert (state.detach() - truth)[[0, 1, 3]].abs().max() < 0.003
