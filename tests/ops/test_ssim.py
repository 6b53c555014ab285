import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError

SIZES = [(1, 11, 11, 1), (2, 1, 3, 1), (2, 13, 37, 3), (1, 70, 30, 4), (1, 45, 700, 3), (3, 29, 12, 5), (0, 12, 12, 3)]


def make_images(rng, device, *size):
    a = torch.rand(*size, generator=rng, dtype=torch.float64)
    b = (a + 0.2 * torch.randn(*size, generator=rng, dtype=torch.float64)).clamp(0, 1)
    return a.to(device).requires_grad_(), b.to(device).requires_grad_()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", SIZES)
def test_native_equals_reference(rng, device, size, padding):
    if padding == "valid" and min(size[1:3]) < 11:
        pytest.skip("no window fits")
    images = make_images(rng, device, *size)
    actual, expected = (ops.ssim(*images, padding=padding, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(size[0], generator=rng, dtype=torch.float64).to(device)
    actual, expected = (torch.autograd.grad(y, images, cotangent) for y in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_weights", [False, True])
def test_loss_native_equals_reference(rng, device, size, with_weights):
    image, target = make_images(rng, device, *size)
    weights = torch.rand(*size[:3], generator=rng, dtype=torch.float64).to(device) if with_weights else None
    cotangent = torch.randn(size[0], generator=rng, dtype=torch.float64).to(device)
    results = []
    for backend in ("native", "reference"):
        loss = ops.photometric_loss(image, target.detach(), weights=weights, ssim_weight=0.3, backend=backend)
        results.append((loss, *torch.autograd.grad(loss, image, cotangent)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-13)


def test_single_precision_equals_double(rng, device):
    """Also where variances vanish against the squares that they are differences of."""
    a, b = make_images(rng, device, 1, 64, 64, 3)
    a, b = (x.detach() * 0.01 + 0.98 for x in (a, b))
    expected = ops.ssim(a, b, backend="native")
    actual = ops.ssim(a.float(), b.float(), backend="native")
    torch.testing.assert_close(actual.double(), expected, rtol=2e-5, atol=0)


def test_gradcheck(rng, device):
    images = make_images(rng, device, 2, 13, 12, 2)
    assert torch.autograd.gradcheck(lambda a, b: ops.ssim(a, b, backend="native"), images)
    assert torch.autograd.gradcheck(lambda a, b: ops.ssim(a, b, padding="valid", backend="native"), images)
    target = images[1].detach()
    assert torch.autograd.gradcheck(lambda a: ops.photometric_loss(a, target, backend="native"), images[:1])


def test_opcheck(rng, device):
    from avatar3d.ops.photometric_loss import _photometric_loss
    from avatar3d.ops.ssim import _ssim

    a, b = make_images(rng, device, 2, 12, 14, 3)
    torch.library.opcheck(_ssim.custom_op, (a, b, 0))
    weights = torch.rand(2, 12, 14, generator=rng, dtype=torch.float64).to(device)
    torch.library.opcheck(_photometric_loss.custom_op, (a, b.detach(), weights, 0.2, True))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_an_image_is_like_itself(rng, device, padding):
    a, _ = make_images(rng, device, 2, 40, 30, 3)
    torch.testing.assert_close(ops.ssim(a, a, padding=padding, backend="native"), torch.ones_like(a[:, 0, 0, 0]))


def test_symmetric_in_the_images_and_equivariant_to_mirrors(rng, device):
    a, b = make_images(rng, device, 1, 33, 50, 3)
    expected = ops.ssim(a, b, backend="native")
    torch.testing.assert_close(ops.ssim(b, a, backend="native"), expected)
    torch.testing.assert_close(ops.ssim(a.flip(1), b.flip(1), backend="native"), expected)
    torch.testing.assert_close(ops.ssim(a.mT, b.mT, backend="native"), ops.ssim(b.mT, a.mT, backend="native"))
    turned = (x.transpose(1, 2) for x in (a, b))
    torch.testing.assert_close(ops.ssim(*turned, backend="native"), expected)


def test_valid_does_not_see_the_padding(rng, device):
    """A window of 11 x 11 is one number: the published formula on its weighted moments."""
    a, b = (x.detach() for x in make_images(rng, device, 1, 11, 11, 1))
    x = torch.arange(-5, 6, dtype=torch.float64, device=device)
    w = torch.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    w = (w / w.sum())[None, :, :, None]
    mu_a, mu_b = (w * a).sum(), (w * b).sum()
    s_a, s_b, s_ab = (w * (a - mu_a) ** 2).sum(), (w * (b - mu_b) ** 2).sum(), (w * (a - mu_a) * (b - mu_b)).sum()
    expected = (2 * mu_a * mu_b + 1e-4) * (2 * s_ab + 9e-4) / ((mu_a**2 + mu_b**2 + 1e-4) * (s_a + s_b + 9e-4))
    torch.testing.assert_close(ops.ssim(a, b, padding="valid", backend="native"), expected[None])


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_pixels_of_no_weight_do_not_count_whatever_they_hold(rng, device, backend):
    image, target = (x.detach() for x in make_images(rng, device, 1, 60, 60, 3))
    weights = torch.ones(1, 60, 60, dtype=torch.float64, device=device)
    weights[:, :30] = 0
    broken = image.clone()
    broken[:, :25] = torch.nan  # farther than a window's radius from any pixel that counts
    broken.requires_grad_()
    loss = ops.photometric_loss(broken, target, weights=weights, backend=backend)
    torch.testing.assert_close(loss, ops.photometric_loss(image, target, weights=weights, backend=backend))
    if backend == "native":
        (grad,) = torch.autograd.grad(loss.sum(), broken)
        assert torch.isfinite(grad[:, 30:]).all() and (grad[:, 30:] != 0).any()


def test_same_result_on_any_number_of_threads(rng):
    image, target = make_images(rng, torch.device("cpu"), 2, 130, 90, 3)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            loss = ops.photometric_loss(image, target.detach(), backend="native")
            results.append((loss.detach(), *torch.autograd.grad(loss.sum(), image)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=0)


def test_bad_calls(rng):
    a, b = (x.detach() for x in make_images(rng, torch.device("cpu"), 1, 10, 20, 3))
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.ssim(a, b.float())
    with pytest.raises(ValueError, match="needs 11 pixels each way"):
        ops.ssim(a, b, padding="valid")
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.ssim(a.half(), b.half(), backend="native")
    with pytest.raises(Exception, match="Type-check"):
        ops.ssim(a, b[:, 1:])
    with pytest.raises(ValueError, match="have no pixels"):
        ops.photometric_loss(a[:, :0], b[:, :0])
