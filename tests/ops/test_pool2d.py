"""``pool2d``: PyTorch's pooling and its gradients, bit for bit."""

import pytest
import torch
from backends import PRESENT
from torch import nn
from torch.nn import functional

from snnfast import ops, reference
from snnfast.nn import Time

pytestmark = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
# N, C, H, W, kernel: whole and partial vectors, remaining rows and columns, one window for an image
SIZES = [
    (3, 32, 6, 4, (2, 2)),
    (2, 12, 7, 5, (2, 2)),
    (2, 21, 7, 8, (3, 2)),
    (1, 4, 5, 5, (5, 5)),
    (2, 70, 3, 4, (1, 3)),
    (1, 9, 17, 33, (16, 16)),
]
PYTORCH = {"max": functional.max_pool2d, "average": functional.avg_pool2d}


def images(size, dtype=torch.float64, spikes=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size[:4], generator=generator, dtype=dtype)
    x = (x > 1).to(dtype) if spikes else x
    return x.contiguous(memory_format=torch.channels_last)


def outputs(run, x, *arguments, **keywords):
    """Return the output of ``run``, and the gradient of ``x``."""
    x = x.detach().requires_grad_()
    y = run(x, *arguments, **keywords)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return y.detach(), *torch.autograd.grad(y, x, grad)


@pytest.mark.parametrize("method", PYTORCH)
@pytest.mark.parametrize("spikes", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_equals_pytorch_and_the_reference(size, dtype, spikes, method):
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6  # of sums
    x = images(size, dtype, spikes)
    got = outputs(ops.pool2d, x, size[4], method=method)
    for a, b in zip(got, outputs(PYTORCH[method], x, size[4])):
        assert a.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for a, b in zip(got, outputs(reference.pool2d, x, size[4], method=method)):
        torch.testing.assert_close(a, b, rtol=0, atol=0 if method == "max" else tolerance)


def test_worked_by_hand():
    x = torch.tensor([[0.0, 1, 0, 0, 9], [1, 0, 0, 0, 9]]).expand(1, 4, 2, 5)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = ops.pool2d(x, 2)
    assert y[0, 0].tolist() == [[1.0, 0.0]]
    (grad,) = torch.autograd.grad(y, x, torch.tensor([2.0, 3.0]).expand_as(y))
    # to the first 1 by rows; without a 1 to the first pixel; none to the remaining column
    assert grad[0, 3].tolist() == [[0, 2, 3, 0, 0], [0, 0, 0, 0, 0]]
    y = ops.pool2d(x, 2, method="average")
    assert y[0, 1].tolist() == [[0.5, 0.0]]
    (grad,) = torch.autograd.grad(y, x, torch.tensor([2.0, 4.0]).expand_as(y))
    assert grad[0, 2].tolist() == [[0.5, 0.5, 1, 1, 0], [0.5, 0.5, 1, 1, 0]]


@pytest.mark.parametrize("method", PYTORCH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_are_pytorchs(dtype, method):
    x = images((1, 5, 2, 16), dtype)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0])
    for column in range(16):
        x[0, :, 0, column] = special.roll(column)
        x[0, :, 1, column] = special.roll(column // 3)
    x[0, 0, :, :2] = -torch.inf
    x[0, 1, :, 2:4] = torch.nan
    for a, b in zip(outputs(ops.pool2d, x, 2, method=method), outputs(PYTORCH[method], x, 2)):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("method", PYTORCH)
def test_streamed_past_the_caches(method):
    x = images((5, 16, 256, 64), torch.float32, spikes=True)
    assert x.nbytes > 2**22
    for a, b in zip(outputs(ops.pool2d, x, 2, method=method), outputs(PYTORCH[method], x, 2)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_same_from_any_number_of_threads_and_for_views():
    x = images((9, 16, 8, 8), torch.float32)
    want, threads = outputs(ops.pool2d, x, 2), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        torch.testing.assert_close(outputs(ops.pool2d, x, 2), want, rtol=0, atol=0)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(ops.pool2d(x[3:5], 2), want[0][3:5], rtol=0, atol=0)
    y = ops.pool2d(x.requires_grad_(), 2)
    expanded = torch.autograd.grad(y.sum(), x)[0]  # a gradient without strides
    torch.testing.assert_close(expanded.sum(), torch.tensor(float(y.numel())))


def kernels_of(run):
    """Return the names of the kernels that ran under ``run``."""
    with torch.profiler.profile() as profile:
        run()
    return {event.name for event in profile.events()}


@pytest.mark.parametrize(
    ("x", "ours"),
    [
        (images((1, 4, 4, 4), torch.float32), True),
        (images((1, 3, 4, 4), torch.float32), False),
        (images((1, 2, 4, 4)), True),
        (images((1, 4, 4, 4), torch.bfloat16), True),
        (images((1, 3, 4, 4), torch.bfloat16), False),
        (images((1, 8, 4, 4), torch.float16), False),
        (images((1, 8, 4, 4)).contiguous(), False),
    ],
)
def test_the_rule(x, ours):
    names = kernels_of(lambda: ops.pool2d(x, 2))
    assert ("snnfast::pool2d_forward" in names) == ours
    assert any("max_pool2d" in name for name in names) != ours
    torch.testing.assert_close(ops.pool2d(x, 2), functional.max_pool2d(x, 2), rtol=0, atol=0)


def test_the_place_of_a_maximum_fits_in_a_byte():
    x = images((2, 4, 17, 16), torch.float32)
    for kernel, ours in ((16, True), ((17, 15), True), ((17, 16), False)):
        for method in PYTORCH:
            names = kernels_of(lambda: outputs(ops.pool2d, x, kernel, method=method))  # noqa: B023
            assert ("snnfast::pool2d_forward" in names) == (ours or method == "average")
        for a, b in zip(outputs(ops.pool2d, x, kernel), outputs(functional.max_pool2d, x, kernel)):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("method", PYTORCH)
def test_the_image_is_not_kept_and_may_change(method):
    x = images(SIZES[0], torch.float32).requires_grad_()
    want = outputs(ops.pool2d, x, 2, method=method)
    copy = x.detach().clone()
    y = ops.pool2d(copy.requires_grad_(), 2, method=method)
    image, places = y.grad_fn.saved_tensors
    assert image.untyped_storage().nbytes() == x.itemsize  # it has sizes, and no memory
    assert places.nbytes == (y.numel() if method == "max" else 0)
    with torch.no_grad():
        copy.zero_()
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    torch.testing.assert_close(torch.autograd.grad(y, copy, grad)[0], want[1], rtol=0, atol=0)


X = torch.ones(2, 4, 5, 6)
PLACES = torch.zeros(2, 2, 3, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    [
        (([1.0], 2), {}, TypeError, "pool2d: x must be a tensor, got list"),
        ((X.int(), 2), {}, TypeError, "pool2d: x must have one of the dtypes"),
        ((X[0], 2), {}, ValueError, r"pool2d: x must have shape \[N, C, H, W\], got \[4, 5, 6\]"),
        ((torch.ones(1, 1, 1, 1).expand(2**62, 1, 1, 1), 1), {}, ValueError, "x is too large"),
        ((X[:, :0], 2), {}, ValueError, r"x must have pixels and channels, got shape \[2, 0, 5"),
        ((X, 6), {}, ValueError, "kernel must have at most the image's 5 rows, got 6"),
        ((X, (2, 7)), {}, ValueError, "kernel must have at most the image's 6 columns, got 7"),
        ((X, (2, 2, 2)), {}, ValueError, r"kernel must have 2 numbers, got \(2, 2, 2\)"),
        ((X, 2.0), {}, TypeError, "kernel must be a sequence of integers, got float"),
        ((X, 0), {}, ValueError, "pool2d: kernel must be at least 1, got 0"),
        ((X, 2), {"method": "min"}, ValueError, "method must be max or average, got 'min'"),
    ],
)
def test_errors(arguments, keywords, error, words):
    for op in (ops.pool2d, reference.pool2d):
        with pytest.raises(error, match=words):
            op(*arguments, **keywords)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((X[0], 2, 2, False), r"x must have shape \[B, C, H, W\], got "),
        ((X.half(), 2, 2, False), "x must be float32, float64 or bfloat16, got float16"),
        ((X[:, :3], 2, 2, False), "x must have at least 4 channels, got 3"),
        ((X, 0, 2, False), "at least 1 x 1 pixels and at most those of the image, .*, got 0 x 2"),
        ((X, 2, 7, True), "at most those of the image, .*, got 2 x 7"),
        (
            (torch.ones(1, 4, 20, 20), 13, 20, False),
            "the window of a maximum must have at most 256 pixels, got 13 x 20",
        ),
    ],
)
def test_raw_calls_with_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(RuntimeError, match=f"pool2d: .*{words}"):
        torch.ops.snnfast.pool2d_forward(*arguments)
    with pytest.raises(RuntimeError, match=f"pool2d: .*{words}"):
        torch.ops.snnfast.pool2d_backward(*arguments, PLACES, torch.ones(2, 4, 2, 3))


def test_raw_gradients_with_a_wrong_gradient_are_refused():
    for grad in (torch.ones(2, 4, 2, 2), torch.ones(2, 4, 6), torch.ones(2, 4, 2, 3).double()):
        with pytest.raises(RuntimeError, match=r"pool2d: grad_y must (have shape .*|be float32), got"):
            torch.ops.snnfast.pool2d_backward(X, 2, 2, False, PLACES, grad)


@pytest.mark.parametrize(
    ("places", "average", "words"),
    [
        (PLACES[:1], False, r"places must have shape \[2, 2, 3, 4\], got"),
        (PLACES, True, r"places must have shape \[0\], got"),
        (PLACES.int(), False, "places must be uint8, got int32"),
        (PLACES.transpose(0, 1).contiguous().transpose(0, 1), False, "places must be contiguous"),
    ],
)
def test_raw_gradients_with_wrong_places_are_refused(places, average, words):
    with pytest.raises(RuntimeError, match=f"pool2d: {words}"):
        torch.ops.snnfast.pool2d_backward(X, 2, 2, average, places, torch.ones(2, 4, 2, 3))


def test_places_outside_of_a_window_are_no_pixel():
    grad = torch.ones(2, 4, 2, 3)
    got = torch.ops.snnfast.pool2d_backward(X, 2, 2, False, PLACES + 4, grad)
    torch.testing.assert_close(got, torch.zeros_like(X), rtol=0, atol=0)


def test_nothing():
    y, grad = outputs(ops.pool2d, torch.ones(0, 8, 4, 4, dtype=torch.float64), 2)
    assert y.shape == (0, 8, 2, 2)
    assert grad.shape == (0, 8, 4, 4)


# ---- within Time


@pytest.mark.parametrize(
    ("pool", "ours"),
    [
        (nn.MaxPool2d(2), True),
        (nn.AvgPool2d((2, 3)), True),
        (nn.MaxPool2d(2, padding=1), False),
        (nn.MaxPool2d(3, 2), False),
        (nn.MaxPool2d(2, dilation=2), False),
        (nn.AvgPool2d(2, ceil_mode=True), False),
        (nn.AvgPool2d(2, divisor_override=3), False),
    ],
)
def test_time_pools_by_it(pool, ours):
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 8, 3)
    net, plain = Time(convolution, pool), Time(convolution, pool, fast=False)
    x = torch.randn(3, 2, 2, 9, 9)
    names = kernels_of(lambda: net(x))
    assert ("snnfast::pool2d_forward" in names) == ours
    for a, b in zip(outputs(net, x), outputs(plain, x)):
        torch.testing.assert_close(a, b)


def test_time_leaves_hooks_and_small_images_to_the_layer():
    pool, seen = nn.MaxPool2d(2), []
    net = Time(nn.Conv2d(2, 8, 3), pool)
    with pytest.raises(RuntimeError, match="Time: MaxPool2d does not take"):
        net(torch.randn(2, 2, 2, 3, 3))
    pool.register_forward_hook(lambda *_: seen.append(1))
    net(torch.randn(2, 2, 2, 9, 9))
    assert seen == [1]
