"""``spike_linear`` and ``spike_conv2d`` of int8: exact sums in int32; sums that could overflow are refused."""

import pytest
import torch
from backends import PRESENT
from torch.nn import functional as F  # noqa: N812

from snnfast import ops, reference
from snnfast.ops.spike_linear import exactly

needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")


def drawn(*shape, low=-128, high=128, dtype=torch.int8, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def spikes(*shape, rate=0.2, seed=1):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).to(torch.int8)


def same(a, b):
    assert a.dtype == b.dtype == torch.int32
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@needs_kernels
@pytest.mark.parametrize("size", [(3, 20, 7), (5, 1030, 64), (1, 300, 130), (70, 65, 1), (2, 0, 3), (0, 4, 3)])
def test_linear_is_exact(size):
    rows, inputs, outputs = size
    weight, bias = drawn(outputs, inputs), drawn(outputs, low=-(2**30), high=2**30, dtype=torch.int32, seed=2)
    for w in (weight, weight.t().contiguous().t(), drawn(outputs, 2 * inputs)[:, ::2]):
        for x in (spikes(rows, inputs), drawn(rows, inputs, seed=3), spikes(rows, inputs).bool()):
            for b in (bias, None):
                want = x.long() @ w.long().t() + (0 if b is None else b)
                same(ops.spike_linear(x, w, b), want.int())
                same(reference.spike_linear(x, w, b), want.int())
                same(exactly(F.linear, x, w, b), want.int())


@needs_kernels
@pytest.mark.parametrize(
    ("images", "kernels", "settings"),
    [
        ((2, 3, 6, 5), (4, 3, 3, 3), {"padding": 1}),
        ((1, 1, 9, 9), (70, 1, 5, 5), {"stride": 2}),
        ((3, 20, 7, 8), (33, 20, 3, 2), {"stride": (1, 2), "padding": (2, 0)}),
        ((2, 9, 4, 4), (16, 9, 5, 5), {"padding": 4}),
    ],
)
def test_conv2d_is_exact(images, kernels, settings):
    weight, bias = drawn(*kernels), drawn(kernels[0], low=-(2**30), high=2**30, dtype=torch.int32, seed=2)
    for x in (spikes(*images), drawn(*images, seed=3), spikes(*images).contiguous(memory_format=torch.channels_last)):
        for b in (bias, None):
            want = exactly(F.conv2d, x, weight, b, *((v, v) if isinstance(v, int) else v for v in (
                settings.get("stride", 1), settings.get("padding", 0))))  # fmt: skip
            same(ops.spike_conv2d(x, weight, b, **settings), want)
            same(reference.spike_conv2d(x, weight, b, **settings), want)


@needs_kernels
def test_the_largest_sum():
    """A bias of 2^30 and a sum just below 2^30 fit in 32 bits."""
    x = torch.full((1, 65535), -128, dtype=torch.int8)
    bias = torch.tensor([2**30], dtype=torch.int32)
    assert ops.spike_linear(x, x, bias).item() == 2**30 + 65535 * 2**14


def test_errors():
    x, weight = spikes(2, 8), drawn(3, 8)
    image, kernel = spikes(1, 2, 4, 4), drawn(3, 2, 3, 3)
    big = torch.full((3,), 2**30 + 1, dtype=torch.int32)
    cases = [
        (lambda: ops.spike_linear(x, weight, method="dense"), "spike_linear: int8 weights are summed by events"),
        (lambda: ops.spike_linear(x, weight, big), "spike_linear: bias must lie in"),
        (lambda: ops.spike_linear(x, weight, torch.zeros(3)), "spike_linear: bias must have dtype int32"),
        (lambda: ops.spike_linear(x.float(), weight), "spike_linear: x must have the dtype of weight, torch.int8"),
        (lambda: ops.spike_linear(spikes(1, 65536), drawn(1, 65536)), "must have at most 65535 inputs"),
        (lambda: ops.spike_conv2d(image, kernel, method="dense"), "spike_conv2d: int8 weights are summed by events"),
        (lambda: ops.spike_conv2d(image, kernel, big), "spike_conv2d: bias must lie in"),
        (lambda: ops.spike_conv2d(image, kernel.float()), "spike_conv2d: weight must have the dtype of x"),
        (lambda: ops.spike_conv2d(spikes(1, 7282, 3, 3), drawn(1, 7282, 3, 3)), "must have at most 65535 inputs"),
    ]
    for run, message in cases:
        with pytest.raises((TypeError, ValueError), match=message.replace("(", r"\(")):
            run()


@needs_kernels
def test_raw_calls_are_refused():
    x, weight = spikes(2, 8), drawn(3, 8)
    raw = torch.ops.snnfast
    for run, message in (
        (lambda: raw.spike_linear_forward(x, weight, None, 2), "int8 weights are summed by events, got method 2"),
        (lambda: raw.spike_linear_forward(x, weight, torch.full((3,), -(2**31)).int(), 0), "bias must lie in"),
        (lambda: raw.spike_linear_forward(spikes(1, 65536), drawn(1, 65536), None, 0), "at most 65535 inputs"),
        (
            lambda: raw.spike_linear_backward(
                x, weight, None, 0, *raw.spike_linear_forward(x, weight, None, 0)[1:], x, True, False, False
            ),
            "int8 weights have no gradient",
        ),
        (
            lambda: raw.spike_conv2d_forward(spikes(1, 2, 4, 4), drawn(2, 3, 3, 3), None, 1, 1, 0, 0, 3),
            "int8 weights are summed by events, got method 3",
        ),
    ):
        with pytest.raises(RuntimeError, match=message):
            run()
