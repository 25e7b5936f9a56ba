"""Gradients of ``spike_conv2d``, and the tensors saved for them."""

import pytest
import torch
from spike_conv2d_cases import SIZES, Convolutions, events, needs_kernels, sample, spikes
from torch import nn
from torch.nn import functional

from snnfast import nn as layers
from snnfast import ops

pytestmark = needs_kernels


def test_finite_differences():
    x, weight, bias, padding = sample((2, 2, 4, 3, 3, (3, 2), (1, 1)), graded=True)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *t: events(*t, padding=padding), leaves)


WIDE = [  # gradients of many channels
    (16, 16, 5, 8, 130, (2, 4), (1, 3)),
    (40, 70, 7, 7, 64, (3, 3), (1, 1)),
    (40, 9, 7, 7, 200, (3, 3), (0, 1)),
    (40, 16, 8, 8, 90, (5, 5), (2, 2)),
]


@pytest.mark.parametrize(("share", "by_events"), [(0.02, True), (1.0, False)])
@pytest.mark.parametrize("size", WIDE)
def test_the_gradient_of_x_by_events_is_the_dense_one(size, share, by_events):
    x, weight, _, padding = sample(size, graded=True)
    x.requires_grad_()
    y = events(x, weight, padding=padding)
    grad = spikes(y.shape, share, graded=True, seed=3)
    with torch.profiler.profile() as profile:
        (got,) = torch.autograd.grad(y, x, grad)
    seen = {event.name for event in profile.events()}
    assert by_events == ("aten::conv_transpose2d" not in seen)
    (want,) = torch.autograd.grad(functional.conv2d(x, weight, padding=padding), x, grad)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * float(want.abs().max()))


def test_the_gradient_of_x_with_more_pixels_than_keys_is_dense():
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    weight = torch.ones(1, 1, 1, 1).expand(2**20 + 1, 1, 1, 1)
    y = ops.spike_conv2d(x, weight, method="events")
    assert torch.autograd.grad(y.sum(), x)[0].item() == 2**20 + 1


def test_no_gradient_is_computed_that_is_not_wanted():
    x, weight, bias, padding = sample(SIZES[0])
    y = events(x, weight.requires_grad_(), bias, padding=padding)
    with Convolutions() as seen:
        (grad,) = torch.autograd.grad(y.sum(), weight)
    assert seen.count == 0
    assert grad.shape == weight.shape


def test_second_derivatives_raise():
    x, weight, bias, padding = sample(SIZES[0])
    y = events(x, weight.requires_grad_(), bias, padding=padding)
    (grad,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="spike_conv2d: a second derivative"):
        grad.sum().backward()
    for outputs in (4, 3):  # as many channels as x, and fewer
        spikes = torch.rand(2, 4, 6, 6).round().requires_grad_()
        y = events(spikes, torch.randn(outputs, 4, 3, 3, requires_grad=True), padding=1)
        (grad,) = torch.autograd.grad(y.square().sum(), spikes, create_graph=True)
        with pytest.raises(RuntimeError, match="spike_conv2d: a second derivative"):
            grad.sum().backward()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(RuntimeError, match="spike_conv2d: forward-mode"):
            events(dual, weight, bias, padding=padding)


def saved_bytes(y):
    """Return the bytes of images saved for the backward pass."""
    return sum(t.untyped_storage().nbytes() for t in (y.grad_fn.saved_tensors[0],))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 12, 64, 70])
def test_spikes_are_kept_as_bits_with_the_same_gradients(channels, dtype):
    x, weight, bias, padding = sample((3, channels, 5, 7, 17, (3, 2), (1, 1)), dtype)
    x.view(-1)[::5] *= -0.0
    weight.requires_grad_()
    y = events(x, weight, bias, padding=padding)
    grad = torch.randn_like(y)
    (got,) = torch.autograd.grad(y, weight, grad, retain_graph=True)
    assert saved_bytes(y) == dtype.itemsize
    *_, bits, _ = y.grad_fn.saved_tensors
    assert bits.shape == (3, -(-channels * 35 // 64))
    # The same spikes, saved as values: in a batch with an image of other values, whose gradient is 0.
    more = torch.cat([x, torch.full_like(x[:1], 0.5)])
    y = events(more, weight, bias, padding=padding)
    assert saved_bytes(y) == more.nbytes
    (want,) = torch.autograd.grad(y, weight, torch.cat([grad, torch.zeros_like(grad[:1])]))
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_an_input_changed_afterwards():
    x, weight, bias, padding = sample(SIZES[0])
    weight.requires_grad_()
    want = torch.autograd.grad(events(x, weight, bias, padding=padding).sum(), weight)
    y = events(x, weight, bias, padding=padding)
    x.zero_()  # spikes are saved as bits
    torch.testing.assert_close(torch.autograd.grad(y.sum(), weight), want, rtol=0, atol=0)
    for graded, method in ((True, "events"), (False, "dense"), (True, "auto")):
        x = sample(SIZES[0], graded=graded)[0]
        y = ops.spike_conv2d(x, weight, bias, padding=padding, method=method)
        x.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize("size", [(1, 2, 6, 6), (1, 2, 6, 1), (2, 2, 1, 1)], ids=str)
def test_a_result_may_be_changed_in_place(size):
    torch.manual_seed(0)
    conv, x = layers.SpikeConv2d(2, 3, 3, padding=1), torch.rand(size).round()
    grads = []
    for in_place in (True, False):
        conv.zero_grad()
        nn.Sequential(conv, nn.ReLU(in_place))(x).sum().backward()
        grads.append(conv.weight.grad)
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_the_gradient_of_the_bias_alone_computes_no_other():
    x, weight, bias, padding = sample(SIZES[0])
    y = events(x, weight, bias.requires_grad_(), padding=padding)
    with torch.profiler.profile() as profile:
        (grad,) = torch.autograd.grad(y.sum(), bias)
    assert not {"aten::convolution_backward"} & {event.name for event in profile.events()}
    torch.testing.assert_close(grad, torch.full_like(grad, y.numel() / len(bias)))


def test_the_dense_gradient_of_images_behind_a_stride_is_channels_last():
    """It reads only the sizes of x, which is saved as bits."""
    x, weight, _, _ = sample((2, 3, 6, 6, 4, (3, 3), (1, 1)))
    x = x.to(memory_format=torch.channels_last)
    inputs = x.requires_grad_(), weight.requires_grad_()
    y = ops.spike_conv2d(*inputs, stride=2, padding=1, method="events")
    want = functional.conv2d(*inputs, stride=2, padding=1)
    grad = torch.rand_like(want)
    got = torch.autograd.grad(y, inputs, grad)
    for a, b in zip(got, torch.autograd.grad(want, inputs, grad)):
        torch.testing.assert_close(a, b)
    assert got[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("stride", [1, (2, 1), 2])
@pytest.mark.parametrize("size", [(2, 80, 3, 4, 110, (3, 3), (1, 1)), (1, 60, 5, 4, 110, (5, 2), (3, 0))])
def test_few_pixels_are_a_product_with_the_weights(size, stride, graded):
    x, weight, bias, padding = sample(size, graded=graded)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    want = functional.conv2d(*inputs, stride=stride, padding=padding)
    grad = torch.randn_like(want)
    wants = torch.autograd.grad(want, inputs, grad)
    with torch.profiler.profile() as profile:
        y = ops.spike_conv2d(*inputs, stride=stride, padding=padding)
        with torch.no_grad():
            x.zero_()  # not needed any more
        found = torch.autograd.grad(y, inputs, grad)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close((y, *found), (want, *wants), rtol=0, atol=1e-12 * float(wants[1].abs().max()))
    assert not any("conv2d_" in event.name or "convolution" in event.name for event in profile.events())


WINOGRAD = [  # N, C, H, W, O, kernel, padding
    (3, 48, 18, 23, 80, (3, 3), (1, 1)),  # tiles in two blocks, the last one of 42, with tiles that y does not fill
    (2, 32, 12, 18, 48, (3, 3), (1, 1)),  # one block, which transforms the weights of each block of outputs
    (3, 64, 18, 19, 32, (3, 3), (0, 0)),
    (3, 32, 14, 18, 64, (3, 3), (2, 1)),
]


def grad_x(size, method, dtype=torch.float32, share=1.0):
    """Return the gradient of images, that in float64, and the operators that computed it."""
    x, weight, _, padding = sample(size, dtype)
    y = ops.spike_conv2d(x.requires_grad_(), weight, padding=padding, method=method)
    grad = spikes(y.shape, share, dtype, graded=True, seed=3)
    with torch.profiler.profile() as profile:
        (found,) = torch.autograd.grad(y, x, grad)
    exact = torch.nn.grad.conv2d_input(x.shape, weight.double(), grad.double(), padding=padding)
    return found, exact, {event.name for event in profile.events()}


@pytest.mark.parametrize("size", WINOGRAD, ids=str)
def test_the_gradient_of_images_by_winograd(size):
    found, exact, seen = grad_x(size, "auto")
    assert "aten::conv_transpose2d" not in seen
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-5 * float(exact.abs().max()))
    direct, _, seen = grad_x(size, "events")
    assert "aten::conv_transpose2d" in seen
    assert (found - direct).abs().max() > 0


@pytest.mark.parametrize("size", WINOGRAD, ids=str)
def test_the_gradient_of_images_by_winograd_does_not_depend_on_threads(size):
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(grad_x(size, "auto")[0])
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("size", "dtype", "share", "operator"),
    [
        (WINOGRAD[0], torch.float64, 1.0, "aten::conv_transpose2d"),
        (WINOGRAD[0], torch.float32, 0.02, "snnfast::spike_conv2d_forward"),
        ((3, 40, 18, 23, 80, (3, 3), (1, 1)), torch.float32, 1.0, "aten::conv_transpose2d"),  # not lines of 16
        ((3, 48, 18, 23, 80, (3, 2), (1, 1)), torch.float32, 1.0, "aten::conv_transpose2d"),
        ((4, 64, 7, 7, 64, (3, 3), (1, 1)), torch.float32, 1.0, "aten::conv_transpose2d"),  # few tiles
    ],
    ids=str,
)
def test_where_winograd_does_not_run(size, dtype, share, operator):
    found, exact, seen = grad_x(size, "auto", dtype, share)
    assert operator in seen
    assert ("aten::conv_transpose2d" in seen) == (operator == "aten::conv_transpose2d")
    rounding = 1e-12 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=rounding * float(exact.abs().max()))


def test_the_gradient_of_the_weights_by_events_behind_a_dense_product():
    """Its dense product is slower than that of the forward pass."""
    x, weight, _, _ = sample((64, 32, 14, 14, 32, (3, 3), (1, 1)), torch.float32)
    for share, by_events in ((0.3, True), (0.6, False)):
        x = spikes(x.shape, share, torch.float32).to(memory_format=torch.channels_last)
        y = ops.spike_conv2d(x, weight.requires_grad_(), padding=1)
        torch.testing.assert_close(y, functional.conv2d(x, weight, padding=1), rtol=0, atol=0)
        grad = torch.randn_like(y)
        with torch.profiler.profile() as profile:
            (found,) = torch.autograd.grad(y, weight, grad)
        seen = {event.name for event in profile.events()}
        assert by_events == ("snnfast::spike_conv2d_backward" in seen)
        exact = torch.nn.grad.conv2d_weight(x.double(), weight.shape, grad.double(), padding=1)
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=3e-6 * float(exact.abs().max()))
