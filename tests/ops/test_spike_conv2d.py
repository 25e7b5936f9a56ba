"""``spike_conv2d``: PyTorch's convolution and its gradients, by the pixels that are not 0."""

from pathlib import Path

import pytest
import torch
from backends import PRESENT
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import snnfast
from snnfast import nn as layers
from snnfast import ops, reference
from snnfast.ops.spike_conv2d import LARGE_WEIGHTS, TURNED

pytestmark = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
SIZES = [  # N, C, H, W, O, kernel, padding
    (2, 3, 6, 5, 4, (3, 3), (1, 1)),
    (17, 20, 7, 7, 16, (3, 3), (0, 0)),
    (33, 1, 9, 4, 17, (5, 2), (2, 0)),
    (1, 40, 3, 3, 70, (1, 1), (0, 0)),
    (3, 16, 5, 8, 130, (2, 4), (1, 3)),
    (2, 5, 4, 4, 49, (4, 4), (0, 0)),
    (2, 3, 12, 12, 70, (3, 3), (0, 0)),
    (50, 18, 4, 4, 20, (2, 2), (1, 0)),  # three groups of images; inputs in two parts
]


def spikes(shape, share=0.3, dtype=torch.float64, graded=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fired = torch.rand(shape, generator=generator) < share
    values = torch.randn(shape, generator=generator, dtype=dtype) if graded else 1
    return (fired * values).to(dtype)


def sample(size, dtype=torch.float64, graded=False):
    n, c, h, w, o, kernel, padding = size
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((o, c, *kernel), generator=generator, dtype=dtype)
    bias = torch.randn(o, generator=generator, dtype=dtype)
    return spikes((n, c, h, w), dtype=dtype, graded=graded), weight, bias, padding


def outputs(run, x, weight, bias, padding, **more):
    """What ``run`` gives, and its gradients."""
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    y = run(*leaves, padding=padding, **more)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return y.detach(), *torch.autograd.grad(y, leaves, grad)


def events(x, weight, bias=None, *, padding=0, stride=1):
    return ops.spike_conv2d(x, weight, bias, stride=stride, padding=padding, method="events")


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_reference_and_pytorch(size, graded):
    arguments = sample(size, graded=graded)
    got = outputs(events, *arguments)
    for other in (reference.spike_conv2d, functional.conv2d):
        for a, b in zip(got, outputs(other, *arguments)):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * float(b.abs().max()))


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("stride", [2, (1, 2), (3, 1), (2, 5)])
@pytest.mark.parametrize("size", SIZES)
def test_strides_equal_the_reference_and_pytorch(size, stride, graded):
    """Also strides of more than the kernel, and those that leave rows and columns out."""
    arguments = sample(size, graded=graded)
    got = outputs(events, *arguments, stride=stride)
    for other in (reference.spike_conv2d, functional.conv2d):
        for a, b in zip(got, outputs(other, *arguments, stride=stride), strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * float(b.abs().max()))
    with torch.no_grad():
        for method in ("auto", "dense"):
            x, weight, bias, padding = arguments
            y = ops.spike_conv2d(x, weight, bias, stride=stride, padding=padding, method=method)
            torch.testing.assert_close(y, got[0])


def test_strides_worked_by_hand():
    """A row of four pixels, of which the second and the last spike; two weights, every second place."""
    x = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 4)
    weight = torch.tensor([[[[2.0, 3.0]]]], requires_grad=True)
    y = events(x, weight, stride=2, padding=(0, 1))
    assert y.flatten().tolist() == [0.0, 2.0, 2.0]  # those at -1 and 0, 1 and 2, 3 and 4
    assert torch.autograd.grad(y, weight, torch.tensor([[[[1.0, 10.0, 100.0]]]]))[
        0
    ].flatten().tolist() == [110.0, 0.0]


@pytest.mark.parametrize("method", ["auto", "events", "dense"])
@pytest.mark.parametrize("size", SIZES)
def test_float32(size, method):
    arguments = sample(size, torch.float32)

    def run(*tensors, padding):
        return ops.spike_conv2d(*tensors, padding=padding, method=method)

    for a, b in zip(outputs(run, *arguments), outputs(functional.conv2d, *arguments)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


def test_worked_by_hand():
    x = torch.tensor([[[[0.0, 1.0], [2.0, 0.0]]]], requires_grad=True)
    weight = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]], requires_grad=True)
    y = events(x, weight, padding=1)
    want = [[0.0, 1000.0, 100.0], [2000.0, 210.0, 1.0], [20.0, 2.0, 0.0]]
    assert y[0, 0].tolist() == want
    grad = torch.arange(9.0).view(1, 1, 3, 3)
    grad_x, grad_weight = torch.autograd.grad(y, (x, weight), grad)
    # weight [r, s] meets x [0, 1] at y [1 - r, 2 - s] and x [1, 0] at y [2 - r, 1 - s]
    assert grad_weight[0, 0].tolist() == [[5 + 2 * 7, 4 + 2 * 6], [2 + 2 * 4, 1 + 2 * 3]]
    assert grad_x[0, 0, 0, 1] == 1 * 5 + 10 * 4 + 100 * 2 + 1000 * 1


def test_finite_differences():
    x, weight, bias, padding = sample((2, 2, 4, 3, 3, (3, 2), (1, 1)), graded=True)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *t: events(*t, padding=padding), leaves)


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_same_bits_from_any_number_of_threads_and_any_layout(size):
    x, weight, bias, padding = sample(size, torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count, memory_format in (
            (1, torch.contiguous_format),
            (2, torch.channels_last),
            (8, torch.channels_last),
        ):
            torch.set_num_threads(count)
            laid = x.contiguous(memory_format=memory_format)
            found.append(outputs(events, laid, weight, bias, padding))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for k in (0, 2):  # the gradients of x and the bias are PyTorch's
            torch.testing.assert_close(found[0][k], other[k], rtol=0, atol=0)


def test_images_one_by_one_and_strides():
    x, weight, bias, padding = sample(SIZES[1])
    y = events(x, weight, bias, padding=padding)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        y, torch.cat([events(i, weight, bias, padding=padding) for i in x.split(1)]), rtol=0, atol=0
    )
    expanded = x[:1].expand_as(x)
    torch.testing.assert_close(
        events(expanded, weight, bias, padding=padding)[5], y[0], rtol=0, atol=0
    )
    wide = torch.zeros(*x.shape[:3], 14, dtype=x.dtype)
    wide[..., ::2] = x
    strided = weight.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(
        events(wide[..., ::2], strided, bias, padding=padding), y, rtol=0, atol=0
    )


def test_what_is_zero_adds_nothing_and_nan_is_not_zero():
    x = torch.zeros(1, 2, 3, 3)
    x[0, 0, 1, 1] = 1
    weight = torch.ones(1, 2, 3, 3)
    weight[0, 1] = torch.inf
    assert events(x, weight).item() == 1
    x[0, 0, 0, 0] = torch.nan
    assert events(x, weight).isnan().item()


@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (2, 0, 4, 4)])
def test_nothing(shape):
    x, weight, bias = torch.ones(shape), torch.ones(3, shape[1], 3, 3), torch.arange(1.0, 4)
    y, grad_x, grad_weight, _ = outputs(events, x, weight, bias, 0)
    assert y.shape == (shape[0], 3, 2, 2)
    torch.testing.assert_close(y, bias.view(1, -1, 1, 1).expand_as(y), rtol=0, atol=0)
    assert grad_x.shape == x.shape
    torch.testing.assert_close(grad_weight, torch.zeros_like(weight), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("nonzeros", "o", "by_events"),
    [(0, 16, 1), (785, 16, 1), (786, 16, 0), (785, 9, 1), (1365, 64, 1), (1366, 64, 0)],
)
def test_the_rule(nonzeros, o, by_events):
    """Whole lines of 16 outputs, a wait for each output and row of the kernel, and the copy of the weights."""
    x = torch.zeros(1, 64, 8, 8)
    x.view(-1)[torch.randperm(4096)[:nonzeros]] = 1
    weight = torch.randn(o, 64, 3, 3)
    y, _, found = torch.ops.snnfast.spike_conv2d_forward(x, weight, None, 1, 1, 1, 1, 0)
    assert found.tolist() == [nonzeros, 0, by_events]
    want = functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(y, want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_few_pixels_are_not_worth_the_copy_of_the_weights():
    weight = torch.randn(16, 64, 3, 3)
    for images, by_events in ((3, 0), (4, 1)):
        x = torch.zeros(images, 64, 2, 2)
        x[0, 0, 0, 0] = 1
        forward = torch.ops.snnfast.spike_conv2d_forward
        assert forward(x, weight, None, 1, 1, 1, 1, 0)[2][2] == by_events


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


class Convolutions(TorchDispatchMode):
    """Counts PyTorch's convolutions."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "aten.convolution.default" in str(func)
        return func(*args, **(kwargs or {}))


def test_other_dtypes_and_transforms_are_dense():
    x, weight, bias, padding = sample(SIZES[0], torch.float32)
    half = ops.spike_conv2d(x.bfloat16(), weight.bfloat16(), padding=padding)
    assert half.dtype == torch.bfloat16
    want = events(x, weight, bias, padding=padding)
    got = torch.vmap(lambda i: ops.spike_conv2d(i, weight, bias, padding=padding))(x[:, None])
    torch.testing.assert_close(got[:, 0], want)
    compiled = torch.compile(ops.spike_conv2d, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weight, bias, padding=padding), want)
    with torch.autocast("cpu", torch.bfloat16):
        got = ops.spike_conv2d(x.bfloat16(), weight, bias, padding=padding)
        assert got.equal(functional.conv2d(x.bfloat16(), weight, bias, padding=padding))
        assert ops.spike_conv2d(x, weight, bias, padding=padding).dtype == torch.bfloat16


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


X, W = torch.ones(2, 3, 5, 5), torch.ones(4, 3, 3, 3)
# Of X, and what was found in it.
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
        ((X.half(), W.half()), {"method": "events"}, TypeError, "takes x of float32 or float64"),
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
        ((X, W, None, 1, 1, 0, 0, 4), "method must be 0, 1, 2 or 3"),
        ((X.half(), W.half(), None, 1, 1, 0, 0, 1), "float32 or float64, got float16"),
        (
            (X[:1, :, :1, :1].expand(1, 3, 2**16, 2**16), W, None, 1, 1, 0, 0, 1),
            r"fewer than 2\^31 pixels",
        ),
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
        with pytest.raises(
            RuntimeError, match=r"spike_conv2d: grad_y must (have shape .*|be float32), got"
        ):
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
        torch.ops.snnfast.spike_conv2d_backward(
            X, W, None, 1, 1, 0, 0, 1, bits, found, torch.ones(2, 4, 3, 3)
        )


# ---- what is kept for the backward pass


def kept(y):
    """Bytes of images that the backward pass keeps."""
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
    assert kept(y) == dtype.itemsize
    assert y.grad_fn.saved_tensors[2].shape == (3, -(-channels * 35 // 64))
    # The same spikes as values: in a batch with an image that is not spikes, whose gradient is 0.
    more = torch.cat([x, torch.full_like(x[:1], 0.5)])
    y = events(more, weight, bias, padding=padding)
    assert kept(y) == more.nbytes
    (want,) = torch.autograd.grad(y, weight, torch.cat([grad, torch.zeros_like(grad[:1])]))
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_an_input_changed_afterwards():
    x, weight, bias, padding = sample(SIZES[0])
    weight.requires_grad_()
    want = torch.autograd.grad(events(x, weight, bias, padding=padding).sum(), weight)
    y = events(x, weight, bias, padding=padding)
    x.zero_()  # of spikes there are bits
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


@pytest.mark.parametrize("stride", [1, 2])
def test_registration(stride):
    x, weight, bias, _ = sample((2, 2, 4, 3, 3, (3, 2), (1, 1)))
    inputs = (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())
    forward = (*inputs, stride, stride, 1, 1, 1)
    torch.library.opcheck(torch.ops.snnfast.spike_conv2d_forward, forward)
    y, bits, found = torch.ops.snnfast.spike_conv2d_forward(*forward)
    got = torch.autograd.grad(y.square().sum(), inputs)
    want = functional.conv2d(*inputs, stride, padding=1)
    for a, b in zip(got, torch.autograd.grad(want.square().sum(), inputs)):
        torch.testing.assert_close(a, b)
    plain = [t.detach() if isinstance(t, torch.Tensor) else t for t in forward]
    torch.library.opcheck(
        torch.ops.snnfast.spike_conv2d_backward, (*plain, bits, found, y.detach())
    )


def test_registration_of_turned_weights():
    """As the gradient of x has them: ``[C, O, kh, kw]``, turned round."""
    x, weight, _, _ = sample((2, 2, 4, 3, 3, (3, 2), (1, 1)))
    arguments = (x, weight.transpose(0, 1).contiguous(), None, 1, 1, 1, 1, TURNED)
    torch.library.opcheck(torch.ops.snnfast.spike_conv2d_forward, arguments)
    y, _, _ = torch.ops.snnfast.spike_conv2d_forward(*arguments)
    torch.testing.assert_close(y, functional.conv2d(x, weight.flip(2, 3), padding=1))


def test_the_dense_gradient_of_images_behind_a_stride_is_channels_last():
    """Only the sizes of x are read for it: x itself is kept as bits."""
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


def test_the_rule_of_large_weights_is_one_in_both_languages():
    source = (Path(__file__).parents[2] / "csrc/ops/spike_conv2d.cpp").read_text()
    assert f"kLargeWeights = {LARGE_WEIGHTS};" in source


@pytest.mark.parametrize("shape", [(2, 40, 1, 1), (2, 40, 2, 3)])
def test_dense_products_with_large_weights(shape):
    """They take images by channels, and give them channels-last."""
    weight = torch.randn(30, 40, 3, 3, dtype=torch.float64, requires_grad=True)
    x = (
        torch.rand(shape, dtype=torch.float64)
        .to(memory_format=torch.channels_last)
        .requires_grad_()
    )
    for stride in (1, 2):
        y = ops.spike_conv2d(x, weight, stride=stride, padding=1)
        want = functional.conv2d(x, weight, stride=stride, padding=1)
        assert y.is_contiguous(memory_format=torch.channels_last)
        grad = torch.rand_like(y)
        got = torch.autograd.grad(y, (x, weight), grad)
        for a, b in zip((y, *got), (want, *torch.autograd.grad(want, (x, weight), grad))):
            torch.testing.assert_close(a, b)


# ---- the layer


def test_the_layer_is_conv2d_by_another_name():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, (3, 2), padding=(1, 0))
    torch.manual_seed(0)
    layer = layers.SpikeConv2d(3, 4, (3, 2), padding=(1, 0), method="events")
    for a, b in zip(plain.state_dict().items(), layer.state_dict().items(), strict=True):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=0)
    x = spikes((2, 3, 5, 5), dtype=torch.float32)
    with Convolutions() as seen:
        y = layer(x)
    assert seen.count == 0
    torch.testing.assert_close(y, plain(x))
    assert "method='events'" in repr(layer)
    assert repr(layers.SpikeConv2d(3, 4, 3)) == "Spike" + repr(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize(
    "keywords",
    [
        {"dilation": 2},
        {"groups": 3, "out_channels": 3},
        {"padding": 3},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
def test_what_events_cannot_do_is_dense(keywords):
    keywords = {"in_channels": 3, "out_channels": 4, "kernel_size": 3} | keywords
    torch.manual_seed(0)
    plain = nn.Conv2d(**keywords)
    torch.manual_seed(0)
    layer = layers.SpikeConv2d(**keywords)
    x = spikes((2, 3, 7, 7), dtype=torch.float32)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="SpikeConv2d: method='events' takes a dilation"):
        layers.SpikeConv2d(**keywords, method="events")


def test_one_image_and_time():
    layer = layers.SpikeConv2d(3, 4, 3)
    x = spikes((5, 2, 3, 6, 6), 0.1, torch.float32)
    assert layer(x[0, 0]).shape == (4, 4, 4)
    y = layers.Time(layer)(x)
    torch.testing.assert_close(y[3, 1], layer(x[3, 1]))
    assert layers.Time(layer)(x[0].expand(5, 2, 3, 6, 6)).stride(0) == 0


def test_a_training_step_is_that_of_conv2d():
    def gradients(conv):
        torch.manual_seed(0)
        convolution = conv(4, 8, 3, padding=1)
        net = nn.Sequential(layers.LIF(), layers.Time(convolution), layers.LIF(), layers.Rate())
        x = 2 * torch.randn(4, 3, 4, 6, 6, dtype=torch.float64)
        loss = net.double()(x).square().mean()
        return torch.autograd.grad(loss, list(net.parameters()))

    events_only = lambda *a, **k: layers.SpikeConv2d(*a, **k, method="events")  # noqa: E731
    for a, b in zip(gradients(events_only), gradients(nn.Conv2d), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_forced_reference():
    x, weight, bias, padding = sample(SIZES[0])
    with snnfast.backend.use("reference"):
        y = events(x, weight, bias, padding=padding)
    torch.testing.assert_close(y, functional.conv2d(x, weight, bias, padding=padding))
