import pytest
import torch

from avatar3d import ops
from avatar3d.errors import BackendError


def make_inputs(rng, device, *, b=2, n=2, th=9, tw=13, c=3, height=12, width=10, with_level=True):
    texture = torch.randn(n, th, tw, c, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    uv = (torch.rand(b, height, width, 2, generator=rng, dtype=torch.float64) * 1.4 - 0.2).to(device).requires_grad_()
    level = torch.rand(b, height, width, generator=rng, dtype=torch.float64) * 6 - 1
    return texture, uv, level.to(device).requires_grad_() if with_level else None


SIZES = [dict(), dict(n=1), dict(th=1, tw=1), dict(th=64, tw=32, c=1), dict(b=9, n=1, c=5), dict(height=0)]


@pytest.mark.parametrize("with_level", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_native_equals_reference(rng, device, sizes, with_level):
    inputs = make_inputs(rng, device, with_level=with_level, **sizes)
    actual, expected = (ops.sample_texture(*inputs, backend=k) for k in ("native", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(actual.shape, generator=rng, dtype=torch.float64).to(device)
    wrt = [t for t in inputs if t is not None]
    if sizes == dict(th=1, tw=1) and with_level:
        wrt.pop()  # a pyramid of one level does not depend on the level, and the reference's graph leaves it out
    actual, expected = (torch.autograd.grad(y, wrt, cotangent) for y in (actual, expected))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_level", [False, True])
def test_gradcheck(rng, device, with_level):
    inputs = make_inputs(rng, device, th=4, tw=5, height=3, width=3, c=2, with_level=with_level)
    wrt = [t for t in inputs if t is not None]
    assert torch.autograd.gradcheck(lambda *t: ops.sample_texture(*t, backend="native"), wrt)


@pytest.mark.parametrize("levels", [1, 3])
def test_opcheck(rng, device, levels):
    from avatar3d.ops.sample_texture import _sample_texture

    sizes = [(4, 6), (2, 3), (1, 1)][:levels]
    texels = torch.randn(1, sum(h * w for h, w in sizes), 3, generator=rng).to(device).requires_grad_()
    uv = torch.rand(2, 7, 2, generator=rng).to(device).requires_grad_()
    level = (torch.rand(2, 7, generator=rng) * 2).to(device) if levels > 1 else torch.empty(0, device=device)
    flat = [n for size in sizes for n in size]
    torch.library.opcheck(_sample_texture.custom_op, (texels, uv, level.requires_grad_(levels > 1), flat))


def test_texel_centres_give_texels_and_the_top_row_is_v_1(rng, device):
    texture, *_ = make_inputs(rng, device, n=1, th=5, tw=7)
    y, x = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    uv = torch.stack([(x.double() + 0.5) / 7, 1 - (y.double() + 0.5) / 5], -1)[None].to(device)
    torch.testing.assert_close(ops.sample_texture(texture, uv), texture, rtol=1e-12, atol=1e-12)


def test_a_ramp_is_exact_and_clamped(device):
    ramp = ((torch.arange(16, dtype=torch.float64) + 0.5) / 16).view(1, 1, 16, 1).expand(1, 4, 16, 1).to(device)
    u = torch.linspace(-0.5, 1.5, 101, dtype=torch.float64, device=device)
    uv = torch.stack([u, torch.full_like(u, 0.3)], -1)[None, None]
    expected = u.clamp(0.5 / 16, 15.5 / 16)
    torch.testing.assert_close(ops.sample_texture(ramp, uv)[0, 0, :, 0], expected, rtol=1e-12, atol=1e-12)


def test_the_coarsest_level_is_the_mean(rng, device):
    texture, uv, level = make_inputs(rng, device, th=16, tw=32)
    coarse = ops.sample_texture(texture, uv, torch.full_like(level, 9.0))
    torch.testing.assert_close(coarse, texture.mean((1, 2))[:, None, None].expand_as(coarse), rtol=1e-11, atol=1e-12)


def test_level_of_a_pixel_that_spans_texels():
    step = torch.zeros(1, 1, 3, 2, dtype=torch.float64)
    step[0, 0, :, 0] = torch.tensor([0.5, 4.0, 16.0]) / 64
    level = ops.texture_level(step, step * 0.1, 32, 64)
    torch.testing.assert_close(level[0, 0], torch.tensor([0.0, 2, 4], dtype=torch.float64))


def test_threads_change_nothing(rng):
    inputs = make_inputs(rng, torch.device("cpu"), n=1, th=40, height=90, width=80)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        out = ops.sample_texture(*inputs, backend="native")
        results.append((out, *torch.autograd.grad(out.sin().sum(), inputs)))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_bad_calls(rng):
    texture, uv, level = make_inputs(rng, torch.device("cpu"))
    with pytest.raises(ValueError, match="differ; pass one dtype"):
        ops.sample_texture(texture.float(), uv, level)
    with pytest.raises(ValueError, match="for 1 images"):
        ops.sample_texture(texture, uv[:1], level[:1])
    with pytest.raises(BackendError, match="no compiled kernel"):
        ops.sample_texture(texture.half(), uv.half(), backend="native")
    nan = torch.full_like(uv, float("nan"))
    assert ops.sample_texture(texture, nan, backend="native").shape == (2, 12, 10, 3)  # reads inside the texture
