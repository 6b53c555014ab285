import math

import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError

WIDTH, HEIGHT = 70, 45


def make_inputs(rng, device, *, b=1, n=200, c=3, dtype=torch.float64, largest=8.0, shared=False):
    """Ellipses of all shapes in and around the image."""

    def rand(*shape):
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    pixels = rand(b, n, 2) * torch.tensor([WIDTH + 20.0, HEIGHT + 20.0], dtype=torch.float64) - 10
    sigma = 0.4 + rand(b, n, 2) ** 2 * largest
    angle, inverse = rand(b, n) * math.pi, sigma**-2
    cos, sin = angle.cos(), angle.sin()
    conics = torch.stack([
        cos**2 * inverse[..., 0] + sin**2 * inverse[..., 1],
        cos * sin * (inverse[..., 0] - inverse[..., 1]),
        sin**2 * inverse[..., 0] + cos**2 * inverse[..., 1],
    ], -1)  # fmt: skip
    attributes = rand(1 if shared else b, n, c)
    tensors = pixels, conics, rand(b, n), rand(b, n), attributes
    return [t.to(device, dtype).requires_grad_(i != 3) for i, t in enumerate(tensors)]


def make_background(rng, device, *, b=1, c=3):
    return torch.rand(b, c, generator=rng, dtype=torch.float64).to(device).requires_grad_()


def blend(inputs, background=None, *, size=(WIDTH, HEIGHT), backend="native", **kwargs):
    return ops.blend_splats(*inputs, *size, background, backend=backend, **kwargs)


@pytest.mark.parametrize("b, n, c, shared", [
    (1, 1, 3, False), (1, 300, 3, False), (2, 150, 3, True), (3, 40, 4, False), (1, 200, 1, False), (2, 100, 2, True),
    (2, 60, 7, True), (1, 60, 9, False), (2, 0, 3, False), (0, 5, 3, True), (1, 1200, 3, False),
])  # fmt: skip
def test_native_equals_reference(rng, device, b, n, c, shared):
    inputs = make_inputs(rng, device, b=b, n=n, c=c, shared=shared)
    background = make_background(rng, device, b=1 if shared else b, c=c)
    wrt = [*inputs[:3], inputs[4], background]
    actual, expected = (blend(inputs, background, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
    if not b:
        return
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(device) for t in actual]
    actual, expected = (torch.autograd.grad(y, wrt, cotangents, materialize_grads=True) for y in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-9)


def test_many_in_one_place_end_the_pixel(rng, device):
    """A stack so deep that most of it is never seen; the limits on alpha and transmittance are met many times."""
    inputs = make_inputs(rng, device, n=150, largest=60.0)
    inputs[2] = (0.3 + 0.9 * inputs[2]).clamp(max=1).detach().requires_grad_()
    actual, expected = (blend(inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
    assert expected[1].min() >= 0.99 and expected[1].mean() > 0.99
    wrt = [*inputs[:3], inputs[4]]
    cotangents = [torch.randn(t.shape, generator=rng, dtype=torch.float64).to(device) for t in actual]
    actual, expected = (torch.autograd.grad(y, wrt, cotangents) for y in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-8)


def test_float_is_close_to_double(rng, device):
    inputs = make_inputs(rng, device, b=2, n=300)
    background = make_background(rng, device, b=2)
    single = [t.detach().float().requires_grad_(t.requires_grad) for t in inputs]
    outs = [blend(inputs, background), blend(single, background.float())]
    # A pair whose alpha lies at 1/255 may fall on either side: up to 1/255 of a colour, in few pixels.
    for actual, expected in zip(outs[1], outs[0], strict=True):
        difference = (actual.double() - expected).abs()
        assert difference.max() < 1 / 254 and difference.mean() < 2e-6
    cotangent = torch.randn(outs[0][0].shape, generator=rng, dtype=torch.float64).to(device)
    for i in (0, 1, 2, 4):
        (expected,) = torch.autograd.grad(outs[0][0], inputs[i], cotangent, retain_graph=True)
        (actual,) = torch.autograd.grad(outs[1][0], single[i], cotangent.float(), retain_graph=True)
        assert (actual.double() - expected).norm() < 2e-3 * expected.norm()


def test_gradcheck(rng, device):
    inputs = make_inputs(rng, device, b=2, n=6, largest=4.0)
    size = 10, 7
    inputs[0] = (inputs[0] / 6).detach().requires_grad_()
    inputs[2] = (0.2 + 0.7 * inputs[2]).detach().requires_grad_()
    background = make_background(rng, device, b=2)

    def f(pixels, conics, opacities, attributes, background):
        image, alpha = blend([pixels, conics, opacities, inputs[3], attributes], background, size=size)
        # Only where no pair is near a limit: elsewhere the picture jumps.
        return image * smooth[..., None], alpha * smooth

    smooth = _away_from_limits(inputs, *size)
    assert smooth.mean() > 0.5
    assert torch.autograd.gradcheck(f, (*inputs[:3], inputs[4], background), eps=1e-7, atol=1e-5)


def _away_from_limits(inputs, width, height):
    pixels, conics, opacities = (t.detach()[:, :, None, None] for t in inputs[:3])
    y, x = (torch.arange(k, device=pixels.device) + 0.5 for k in (height, width))
    dx, dy = x - pixels[..., 0], y[:, None] - pixels[..., 1]
    a, b, c = conics.unbind(-1)
    alpha = opacities * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
    near = ((alpha * 255 - 1).abs() < 1e-3) | ((alpha - 0.99).abs() < 1e-4)
    return (~near.any(1)).double()


@pytest.mark.parametrize("b, n, c", [(1, 20, 3), (2, 10, 5)])
def test_opcheck(rng, device, b, n, c):
    from avatar3d.ops.blend_splats import _blend_splats

    inputs = make_inputs(rng, device, b=b, n=n, c=c)
    absolute = torch.zeros(b, n, 2, dtype=torch.float64, device=device, requires_grad=True)
    arguments = (*inputs, make_background(rng, device, b=b, c=c), absolute, WIDTH, HEIGHT, True)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_blend_splats.custom_op, arguments, test_utils=tests)


def test_one_splat_is_a_gaussian(device):
    centre, sigma = torch.tensor([20.25, 17.5], dtype=torch.float64), 3.0
    conic = torch.tensor([1 / sigma**2, 0, 1 / sigma**2], dtype=torch.float64)
    inputs = [
        centre.view(1, 1, 2),
        conic.view(1, 1, 3),
        torch.tensor([[0.8]], dtype=torch.float64),
        torch.ones(1, 1),
        torch.ones(1, 1, 1),
    ]
    image, alpha = blend([t.to(device, torch.float64) for t in inputs])
    y, x = (torch.arange(k, dtype=torch.float64) + 0.5 for k in (HEIGHT, WIDTH))
    y, x = torch.meshgrid(y, x, indexing="ij")
    expected = 0.8 * torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    expected = torch.where(expected >= 1 / 255, expected, 0.0).to(device)
    torch.testing.assert_close(image[0, ..., 0], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alpha[0], expected, rtol=1e-12, atol=1e-12)


def test_the_order_in_the_array_does_not_matter(rng, device):
    inputs = make_inputs(rng, device, n=500, dtype=torch.float32)
    order = torch.randperm(500, generator=rng).to(device)
    image = blend(inputs)[0]
    (gradient,) = torch.autograd.grad(image.square().sum(), inputs[0])
    shuffled = [t.detach()[:, order].requires_grad_() for t in inputs]
    other = blend(shuffled)[0]
    assert torch.equal(other, image)
    (moved,) = torch.autograd.grad(other.square().sum(), shuffled[0])
    assert torch.equal(moved, gradient[:, order])


def test_of_equal_depths_the_lower_index_lies_in_front(rng, device):
    inputs = make_inputs(rng, device, n=300)
    inputs[3] = torch.ones_like(inputs[3])
    images = [blend(inputs, backend=k)[0] for k in ("native", "reference")]
    torch.testing.assert_close(*images, rtol=1e-11, atol=1e-11)
    inputs[3] = torch.arange(300, dtype=torch.float64, device=device)[None]
    assert torch.equal(blend(inputs)[0], images[0])


def test_the_result_does_not_depend_on_threads(rng):
    inputs = make_inputs(rng, torch.device("cpu"), b=2, n=700, dtype=torch.float32)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            image, alpha = blend(inputs)
            loss = (image * alpha[..., None]).sum()
            results.append([image, *torch.autograd.grad(loss, [*inputs[:3], inputs[4]])])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_absolute_gradients(rng, device):
    """The sum over pixels of |dL/dpixels|, against one backward pass for every pixel."""
    inputs, size = make_inputs(rng, device, n=40), (20, 9)
    absolute = torch.zeros(1, 40, 2, dtype=torch.float64, device=device, requires_grad=True)
    weight = torch.randn(9, 20, 3, generator=rng, dtype=torch.float64).to(device)
    image = blend(inputs, size=size, absolute_gradients=absolute)[0]
    assert torch.equal(image, blend(inputs, size=size)[0])
    (actual,) = torch.autograd.grad((image[0] * weight).sum(), absolute)
    expected = torch.zeros_like(actual)
    terms = (blend(inputs, size=size, backend="reference")[0][0] * weight).sum(-1).flatten()
    for term in terms.split(1):
        expected += torch.autograd.grad(term.sum(), inputs[0], retain_graph=True)[0].abs()
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


def test_what_cannot_be_drawn_changes_nothing(rng, device):
    inputs = [t.detach() for t in make_inputs(rng, device, n=60)]
    image, alpha = blend(inputs)
    nan, inf = math.nan, math.inf
    spoilt = [
        (0, [nan, 3.0]), (0, [3.0, inf]), (1, [nan, 0, 1]), (1, [0.1, 0, -0.1]), (1, [1.0, 1.0, 1.0]),
        (1, [0.0, 0, 0]), (1, [inf, 0, 1.0]), (2, nan), (2, inf), (2, 0.0), (2, -1.0), (2, 1 / 256), (3, nan),
        (3, inf), (4, [nan, 0, 0]), (4, [0, inf, 0]), (0, [-1e6, 5.0]), (0, [5.0, 1e30]),
    ]  # fmt: skip
    more = [torch.cat([t, t[:, : len(spoilt)]], 1) for t in inputs]
    for i, (which, value) in enumerate(spoilt):
        more[which][0, 60 + i] = torch.tensor(value, dtype=torch.float64)
    more = [t.requires_grad_() for t in more]
    for backend in ("native", "reference"):
        other = blend(more, backend=backend)
        torch.testing.assert_close(other, (image, alpha), rtol=1e-11, atol=1e-11)
    gradients = torch.autograd.grad(blend(more)[0].sum(), [*more[:3], more[4]])
    assert all((g[:, 60:] == 0).all() and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_shapes(rng, device, dtype):
    """A million pixels wide, thinner than a pixel, far away, at the edge: as the reference draws them."""
    wide, thin = 1e-12, 3.0
    diagonal = [(wide + thin) / 2, (wide - thin) / 2, (wide + thin) / 2]
    needle = [(1e-4 + thin) / 2, (1e-4 - thin) / 2, (1e-4 + thin) / 2]
    pixels = [[35, 20], [-1e5, 20], [35, 20], [20, 30], [0, 0], [WIDTH, HEIGHT], [-40, 10], [500, -400]]
    conics = [[wide, 0, wide], [wide, 0, thin], diagonal, needle]
    conics += [[0.1, 0, 0.1], [0.1, 0.05, 0.1], [1e-3, 0, 0.2], [1e-5, 0, 1e-5]]
    inputs = [torch.tensor(x, dtype=dtype, device=device)[None] for x in (pixels, conics)]
    if dtype == torch.float32:
        inputs = [torch.cat([t[:, :2], t[:, 3:]], 1) for t in inputs]  # a diagonal that thin is lost in float
    n = inputs[0].shape[1]
    rest = [torch.full((1, n), 0.6), torch.arange(n)[None], torch.rand(1, n, 3, generator=rng)]
    inputs = [t.requires_grad_() for t in inputs + [t.to(device, dtype) for t in rest]]
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    actual, expected = (blend(inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    for gradient in torch.autograd.grad(actual[0].sum(), inputs[:3]):
        assert gradient.isfinite().all()


def test_thirty_thousand_in_one_tile(rng, device):
    n = 30_000
    pixels = torch.rand(1, n, 2, generator=rng) * 28 + 2
    conics = torch.tensor([0.3, 0.05, 0.2]).expand(1, n, 3)
    rest = [torch.full((1, n), 0.02), torch.rand(1, n, generator=rng), torch.rand(1, n, 3, generator=rng)]
    inputs = [t.to(device).requires_grad_() for t in (pixels, conics.contiguous(), *rest)]
    image, alpha = ops.blend_splats(*inputs, 32, 32, backend="native")
    assert alpha[0, 8:24, 8:24].min() > 0.9 and alpha.max() < 1
    gradients = torch.autograd.grad(image.sum(), [*inputs[:3], inputs[4]])
    assert all(g.isfinite().all() for g in gradients) and (gradients[3] >= 0).all() and gradients[3].max() > 0


@pytest.mark.parametrize("width, height", [(1, 1), (31, 2), (33, 65), (4, 129)])
def test_any_size(rng, device, width, height):
    inputs = make_inputs(rng, device, n=100)
    actual, expected = (ops.blend_splats(*inputs, width, height, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
    cotangent = torch.randn(actual[0].shape, generator=rng, dtype=torch.float64).to(device)
    wrt = [*inputs[:3], inputs[4]]
    actual, expected = (torch.autograd.grad(y[0], wrt, cotangent, materialize_grads=True) for y in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-9)


def test_bad_calls(rng):
    inputs = [t.detach() for t in make_inputs(rng, torch.device("cpu"), n=4)]
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        blend([inputs[0].float(), *inputs[1:]])
    with pytest.raises(ValueError, match="size 0 x 5; expected 1 to 32767 pixels"):
        ops.blend_splats(*inputs, 0, 5)
    with pytest.raises(ValueError, match="the torch reference has no absolute_gradients"):
        blend(inputs, backend="reference", absolute_gradients=torch.zeros(1, 4, 2, dtype=torch.float64))
    with pytest.raises(BackendError, match="no compiled kernel"):
        blend([t.half() for t in inputs])
    with pytest.raises(Exception, match="Type-check"):
        blend([inputs[0][0], *inputs[1:]])
