"""Errors of ``spike_conv2d`` and its kernels."""

import pytest
import torch
from spike_conv2d_cases import needs_kernels

from snnfast import ops, reference

pytestmark = needs_kernels

X, W = torch.ones(2, 3, 5, 5), torch.ones(4, 3, 3, 3)
# The forward pass of X: arguments and results.
BITS = torch.tensor([[-1, 2**11 - 1]] * 2), torch.tensor([150, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    [
        (([1.0], W), {}, TypeError, "spike_conv2d: x must be a tensor, got list"),
        ((X.int(), W), {}, TypeError, "spike_conv2d: x must have one of the dtypes"),
        ((X[0], W), {}, ValueError, r"spike_conv2d: x must have shape \[N, C, H, W\], got \[3, 5"),
        ((X, W[:, :2]), {}, ValueError, r"weight must have shape \[O, 3, kh, kw\], got \[4, 2, 3"),
        ((X, W[:0]), {}, ValueError, r"weight must have shape \[O, 3, kh, kw\], got \[0, 3, 3"),
        ((X, W.double()), {}, TypeError, "weight must have the dtype of x, torch.float32, got"),
        ((X, W, torch.ones(3)), {}, ValueError, r"bias must have shape \[4\], got \[3\]"),
        ((X, W, torch.ones(4).double()), {}, TypeError, "bias must have the dtype of x"),
        ((X, W.to("meta")), {}, ValueError, "weight must be on the device of x, cpu, got meta"),
        ((X, W), {"padding": 3}, ValueError, "padding must be less than the kernel's 3, got 3"),
        ((X, W), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ((X, W), {"stride": (2,)}, TypeError, r"stride must be a number or two, got \(2,\)"),
        ((X, W), {"padding": "same"}, TypeError, "padding must be a number or two, got 'same'"),
        ((X, W), {"padding": (1, 1, 1)}, TypeError, "padding must be a number or two"),
        ((X, W), {"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ((X[..., :0], W, None), {"padding": 2}, ValueError, r"x must have pixels, got shape"),
        ((X[..., :2], W), {}, ValueError, r"kernel \[3, 3\] is larger than the images \[5, 2\]"),
        ((X, W), {"method": "sparse"}, ValueError, "method must be auto or events or dense"),
        ((X.half(), W.half()), {"method": "events"}, TypeError, "takes x of float32, float64 or int8"),
    ],
)
def test_errors(arguments, keywords, error, words):
    for op in (ops.spike_conv2d, reference.spike_conv2d):
        with pytest.raises(error, match=words):
            op(*arguments, **keywords)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((X[0], W, None, 1, 1, 0, 0, 1), r"x must have shape \[B, C, H, W\], got"),
        ((X, W[:, :1], None, 1, 1, 0, 0, 1), "weight must have shape"),
        ((X, W.double(), None, 1, 1, 0, 0, 1), "weight must be float32, got float64"),
        ((X, W, torch.ones(3), 1, 1, 0, 0, 1), "bias must have shape"),
        ((X, W, None, 1, 1, 3, 0, 1), "padding must be .* got 3 and 0"),
        ((X, W, None, 1, 1, 0, -1, 1), "padding must be at least 0"),
        ((X, W, None, 0, 1, 0, 0, 1), "stride must be 1 to .* got 0 and 1"),
        ((X, W.mT.transpose(0, 1), None, 1, 2, 0, 0, 3), "stride must be 1 to 1, got 1 and 2"),
        ((X[..., :1], W, None, 1, 1, 0, 0, 1), "no larger than the images"),
        ((X, W, None, 1, 1, 0, 0, 5), "method must be 0, 1, 2, 3 or 4"),
        ((X.half(), W.half(), None, 1, 1, 0, 0, 1), "float32 or float64, got float16"),
        ((X[:1, :, :1, :1].expand(1, 3, 2**16, 2**16), W, None, 1, 1, 0, 0, 1), r"fewer than 2\^31 pixels"),
    ],
)
def test_raw_calls_with_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(RuntimeError, match=f"spike_conv2d: .*{words}"):
        torch.ops.snnfast.spike_conv2d_forward(*arguments)
    if "bias" not in words and "method" not in words:
        with pytest.raises(RuntimeError, match=f"spike_conv2d: .*{words}"):
            torch.ops.snnfast.spike_conv2d_backward(*arguments, *BITS, torch.ones(2, 4, 3, 3))


def test_raw_gradients_with_a_wrong_gradient_are_refused():
    for grad in (torch.ones(2, 4, 3, 2), torch.ones(2, 4, 9), torch.ones(2, 4, 3, 3).double()):
        with pytest.raises(RuntimeError, match=r"spike_conv2d: grad_y must (have shape .*|be float32), got"):
            torch.ops.snnfast.spike_conv2d_backward(X, W, None, 1, 1, 0, 0, 1, *BITS, grad)


@pytest.mark.parametrize(
    ("bits", "found", "words"),
    [
        (BITS[0][:1], BITS[1], r"bits must have shape \[2, 2\], got"),
        (BITS[0].int(), BITS[1], "bits must be int64"),
        (BITS[0].t(), BITS[1], "bits must be contiguous"),
        (BITS[0], BITS[1][:2], r"found must have shape \[3\], got"),
        (BITS[0], BITS[1].float(), "found must be int64"),
    ],
)
def test_raw_gradients_with_wrong_bits_are_refused(bits, found, words):
    with pytest.raises(RuntimeError, match=f"spike_conv2d: {words}"):
        torch.ops.snnfast.spike_conv2d_backward(X, W, None, 1, 1, 0, 0, 1, bits, found, torch.ones(2, 4, 3, 3))
