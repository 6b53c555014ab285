import math

import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError

WIDTH, HEIGHT = 48, 36


def make_splats(rng, device, *, n=80, dtype=torch.float64):
    """Ellipsoids in a box of half a metre, seen from 1.2 m; colours as spherical harmonics of degree 1."""

    def rand(*shape):
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    means = (rand(n, 3) - 0.5) * torch.tensor([0.8, 0.6, 0.5], dtype=torch.float64)
    quats = torch.randn(n, 4, generator=rng, dtype=torch.float64)
    scales = 0.01 + 0.05 * rand(n, 3)
    sh = torch.randn(n, 4, 3, generator=rng, dtype=torch.float64) * 0.4
    return [t.to(device, dtype).requires_grad_() for t in (means, quats, scales, 0.1 + 0.85 * rand(n), sh)]


def make_cameras(device, *, b=1, dtype=torch.float64):
    K = torch.tensor([[60.0, 0, 25], [0, 62, 17], [0, 0, 1]], dtype=dtype).repeat(b, 1, 1)
    T = torch.eye(4, dtype=dtype).repeat(b, 1, 1)
    for i in range(b):
        c, s = math.cos(0.3 * i), math.sin(0.3 * i)
        T[i, :3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=dtype)
        T[i, 2, 3] = 1.2
    return K.to(device).requires_grad_(), T.to(device).requires_grad_()


def render(splats, cameras, background=None, *, backend="native", **kwargs):
    return ops.render_splats(*splats, *cameras, WIDTH, HEIGHT, background, backend=backend, **kwargs)


@pytest.mark.parametrize("b, antialiased, everything", [(1, False, False), (2, True, True), (3, False, True)])
def test_native_equals_reference(rng, device, b, antialiased, everything):
    splats, cameras = make_splats(rng, device), make_cameras(device, b=b)
    background = torch.rand(b, 3, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    features = torch.randn(80, 5, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    kwargs = {"antialiased": antialiased}
    if everything:
        kwargs |= {"depth": True, "normals": True, "features": features}
    images = [render(splats, cameras, background, backend=k, **kwargs) for k in ("native", "reference")]
    actual, expected = ([t for t in image if t is not None] for image in images)
    assert len(actual) == (5 if everything else 2)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(device) for t in actual]
    wrt = [*splats, *cameras, background, *([features] if everything else [])]
    actual, expected = (torch.autograd.grad(y, wrt, cotangents) for y in (actual, expected))
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-8 * max(1.0, float(y.abs().max())))


def test_gradcheck(rng, device):
    """Every attribute, and the camera's pose and intrinsics. Few large splats, so that no pair sits at a limit."""
    splats, (K, T) = make_splats(rng, device, n=4), make_cameras(device, b=2)
    splats[2] = (0.08 + 0.05 * splats[2]).detach().requires_grad_()
    rows = T[:, :3].detach().requires_grad_()
    mask = _smooth(splats, (K, T))

    def f(means, quats, scales, opacities, sh, K, rows):
        T_camera_world = torch.cat([rows, T[:, 3:].detach()], 1)
        image = render((means, quats, scales, opacities, sh), (K, T_camera_world), depth=True)
        return (image.color * mask[..., None]).sum((1, 2)), (image.depth * mask).sum((1, 2))

    assert mask.mean() > 0.5
    assert torch.autograd.gradcheck(f, (*splats, K, rows), eps=1e-7, atol=2e-4, rtol=1e-4)


def _smooth(splats, cameras):
    """Pixels where no splat's alpha is near 1/255."""
    seen = ops.project_splats(*splats[:4], *cameras, WIDTH, HEIGHT, backend="reference")
    pixels, conics, opacities = (t.detach()[:, :, None, None] for t in seen[:3])
    y, x = (torch.arange(k, device=pixels.device) + 0.5 for k in (HEIGHT, WIDTH))
    dx, dy = x - pixels[..., 0], y[:, None] - pixels[..., 1]
    a, b, c = conics.unbind(-1)
    alpha = opacities * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
    return (~((alpha * 255 - 1).abs() < 1e-3).any(1)).double()


def test_opacity_zero_changes_nothing(rng, device):
    splats, cameras = make_splats(rng, device), make_cameras(device)
    image = render(splats, cameras)
    more = [torch.cat([t, u]) for t, u in zip(splats, make_splats(rng, device), strict=True)]
    more[3] = torch.cat([splats[3], torch.zeros_like(splats[3])])
    other = render(more, cameras)
    assert torch.equal(other.color, image.color) and torch.equal(other.alpha, image.alpha)


def test_the_order_in_the_array_does_not_matter(rng, device):
    splats, cameras = make_splats(rng, device, n=300), make_cameras(device, b=2)
    order = torch.randperm(300, generator=rng).to(device)
    assert torch.equal(render([t[order] for t in splats], cameras).color, render(splats, cameras).color)


def test_moving_camera_and_scene_together_changes_nothing(rng, device):
    splats, (K, T) = make_splats(rng, device), make_cameras(device)
    shift = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64, device=device)
    moved = T.detach().clone()
    moved[:, :3, 3] -= moved[:, :3, :3] @ shift
    image, other = render(splats, (K, T)), render([splats[0] + shift, *splats[1:]], (K, moved))
    torch.testing.assert_close(other.color, image.color, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other.alpha, image.alpha, rtol=1e-9, atol=1e-9)


def test_cameras_of_a_batch_do_not_see_each_other(rng, device):
    splats, (K, T) = make_splats(rng, device), make_cameras(device, b=3)
    together = render(splats, (K, T), depth=True)
    for i in range(3):
        alone = render(splats, (K[i], T[i]), depth=True)
        assert torch.equal(alone.color[0], together.color[i]) and torch.equal(alone.depth[0], together.depth[i])
    shared = render(splats, (K[0], T), torch.ones(3, dtype=torch.float64, device=device))
    assert shared.color.shape == (3, HEIGHT, WIDTH, 3)


def test_one_opaque_splat_shows_its_colour_depth_and_normal(device):
    def tensor(x):
        return torch.tensor(x, dtype=torch.float64, device=device)

    geometry = tensor([[0.0, 0, 0]]), tensor([[1.0, 0, 0, 0]]), tensor([[0.5, 0.5, 1e-4]])
    splats = [*geometry, tensor([1.0]), tensor([[0.2, 0.4, 0.6]])]
    image = render(
        splats, make_cameras(device), tensor([1.0, 1, 1]), depth=True, normals=True, features=tensor([[7.0]])
    )
    at = 0, 17, 25
    alpha = image.alpha[at].item()
    assert 0.98 < alpha <= 0.99
    expected = tensor([0.2, 0.4, 0.6]) * alpha + (1 - alpha)
    torch.testing.assert_close(image.color[at], expected)
    torch.testing.assert_close(image.depth[at], tensor(1.2 * alpha))
    torch.testing.assert_close(image.normals[at], tensor([0.0, 0, -alpha]))
    torch.testing.assert_close(image.features[at], tensor([7 * alpha]))


def test_colours_or_harmonics(rng, device):
    splats, cameras = make_splats(rng, device), make_cameras(device)
    *geometry, sh = splats
    named = ops.render_splats(*geometry, None, *cameras, WIDTH, HEIGHT, sh=sh, backend="native")
    assert torch.equal(named.color, render(splats, cameras).color)
    flat = (0.5 + 0.28209479177387814 * sh[:, 0]).clamp(min=0)
    degree_0, colours = render([*geometry, sh[:, :1]], cameras), render([*geometry, flat], cameras)
    torch.testing.assert_close(degree_0.color, colours.color, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_splats_that_are_not_to_be_drawn(rng, device, dtype):
    """Behind the camera, not finite, without extent, of zero rotation: nothing of them is seen or gets a gradient."""
    splats, cameras = make_splats(rng, device, dtype=dtype), make_cameras(device, dtype=dtype)
    image = render(splats, cameras)
    nan, inf = math.nan, math.inf
    spoilt = [
        (0, [0, 0, -2.0]), (0, [0, 0, -1.2]), (0, [nan, 0, 0]), (0, [0, inf, 0]), (0, [1e20, 0, 0]),
        (1, [0.0, 0, 0, 0]), (1, [nan, 0, 0, 1]), (2, [nan, 0.1, 0.1]), (2, [inf, 0.1, 0.1]), (3, nan),
        (3, -1.0), (3, 1 / 256),
        (0, [0, 50.0, 0]),
    ]  # fmt: skip
    more = [torch.cat([t.detach(), t.detach()[: len(spoilt)]]) for t in splats]
    for i, (which, value) in enumerate(spoilt):
        more[which][80 + i] = torch.tensor(value, dtype=dtype)
    more = [t.requires_grad_() for t in more]
    for backend in ("native", "reference"):
        other = render(more, cameras, backend=backend)
        torch.testing.assert_close(other.color, image.color, rtol=1e-4, atol=1e-5 if dtype == torch.float32 else 1e-10)
    for gradient in torch.autograd.grad(render(more, cameras).color.sum(), more):
        assert gradient.isfinite().all() and (gradient[80:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_splats(rng, device, dtype):
    """A million pixels wide, flat, thin as a hair, at the image's corner, just before the camera: as the reference."""
    means = [[0, 0, 0], [0, 0, 0.3], [0.1, 0, 0.1], [-0.48, -0.33, 0], [0, 0.05, -1.15], [0.3, 0.2, 0]]
    scales = [[2e4, 2e4, 2e4], [0.3, 0.3, 0], [1.0, 1e-5, 1e-5], [0.03, 0.03, 0.03], [0.01, 0.01, 0.01], [0, 0, 0]]
    n = len(means)
    quats = torch.randn(n, 4, generator=rng, dtype=torch.float64)
    rest = [torch.full((n,), 0.5), torch.rand(n, 3, generator=rng)]
    splats = [torch.tensor(means), quats, torch.tensor(scales), *rest]
    splats = [t.to(device, dtype).requires_grad_() for t in splats]
    cameras = make_cameras(device, dtype=dtype)
    actual, expected = (render(splats, cameras, backend=k).color for k in ("native", "reference"))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    for gradient in torch.autograd.grad(actual.sum(), splats):
        assert gradient.isfinite().all()


def test_empty(device):
    empty = [torch.zeros(0, k, dtype=torch.float64, device=device) for k in (3, 4, 3, 3)]
    splats = [t.requires_grad_() for t in (*empty[:3], empty[0][:, 0].detach(), empty[3])]
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, device=device)
    image = render(splats, make_cameras(device), background, depth=True, normals=True)
    torch.testing.assert_close(image.color, background.expand(1, HEIGHT, WIDTH, 3))
    assert (image.alpha == 0).all() and (image.depth == 0).all() and (image.normals == 0).all()
    gradients = torch.autograd.grad(image.color.sum(), splats, materialize_grads=True)
    assert [g.shape for g in gradients] == [t.shape for t in splats]


def test_gradients_lead_back_to_the_camera_and_the_splats(rng, device):
    """From a camera that is off by 3 cm, its gradients lead back to within 2 mm."""
    splats = [t.detach() for t in make_splats(rng, device)]
    K, T = (t.detach() for t in make_cameras(device))
    target = render(splats, (K, T)).color
    shift = torch.tensor([0.03, -0.02, 0.02], dtype=torch.float64, device=device).requires_grad_()
    optimizer = torch.optim.Adam([shift], lr=2e-3)
    for _ in range(80):
        moved = torch.cat([T[:, :, :3], T[:, :, 3:] + torch.cat([shift, shift.new_zeros(1)])[None, :, None]], 2)
        optimizer.zero_grad()
        (render(splats, (K, moved)).color - target).square().sum().backward()
        optimizer.step()
    assert shift.abs().max() < 2e-3


def test_absolute_gradients(rng, device):
    splats, cameras = make_splats(rng, device), make_cameras(device, b=2)
    absolute = torch.zeros(2, 80, 2, dtype=torch.float64, device=device, requires_grad=True)
    render(splats, cameras, absolute_gradients=absolute).color.square().sum().backward()
    assert (absolute.grad >= 0).all() and absolute.grad.max() > 0


def test_bad_calls(rng):
    device = torch.device("cpu")
    splats, cameras = make_splats(rng, device, n=3), make_cameras(device)
    with pytest.raises(ValueError, match="neither of colors and sh given"):
        render([*splats[:4], None], cameras)
    with pytest.raises(ValueError, match="both of colors and sh given"):
        render([*splats[:4], splats[4][:, 0]], cameras, sh=splats[4])
    with pytest.raises(ValueError, match="2 coefficients; expected 1, 4, 9 or 16"):
        render([*splats[:4], splats[4][:, :2]], cameras)
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        render([splats[0].float(), *splats[1:]], cameras)
    with pytest.raises(ValueError, match="expected 1 to 32767 pixels"):
        ops.render_splats(*splats, *cameras, 0, 5)
    with pytest.raises(BackendError, match="no compiled kernel"):
        render([t.half() for t in splats], [t.half() for t in cameras])
    with pytest.raises(Exception, match="Type-check"):
        render([splats[0][None], *splats[1:]], cameras)
