"""``spike_conv2d``: PyTorch's convolution by the pixels that are not 0, and the choice of the method."""

from pathlib import Path

import pytest
import torch
from spike_conv2d_cases import SIZES, events, needs_kernels, sample, spikes
from torch.nn import functional

from snnfast import ops, reference
from snnfast.ops.spike_conv2d import LARGE_WEIGHTS, TURNED, _without_padding_alone
from snnfast.reference.spike_conv2d import SpikeConv2dCall

pytestmark = needs_kernels


def outputs(run, x, weight, bias, padding, **more):
    """Return the output of ``run``, and the gradients of its tensors."""
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    y = run(*leaves, padding=padding, **more)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return y.detach(), *torch.autograd.grad(y, leaves, grad)


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
    """This includes strides larger than the kernel, and strides that skip rows and columns."""
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
    """A row of four pixels, of which the second and the last are spikes; two weights, stride 2."""
    x = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 4)
    weight = torch.tensor([[[[2.0, 3.0]]]], requires_grad=True)
    y = events(x, weight, stride=2, padding=(0, 1))
    assert y.flatten().tolist() == [0.0, 2.0, 2.0]  # those at -1 and 0, 1 and 2, 3 and 4
    assert torch.autograd.grad(y, weight, torch.tensor([[[[1.0, 10.0, 100.0]]]]))[0].flatten().tolist() == [110.0, 0.0]


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


@pytest.mark.parametrize("size", [*SIZES[:3], *SIZES[-2:]])
def test_the_same_bits_from_any_number_of_threads_and_any_layout(size):
    x, weight, bias, padding = sample(size, torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count, memory_format in ((1, torch.contiguous_format), (2, torch.channels_last), (8, torch.channels_last)):
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
    torch.testing.assert_close(events(expanded, weight, bias, padding=padding)[5], y[0], rtol=0, atol=0)
    wide = torch.zeros(*x.shape[:3], 14, dtype=x.dtype)
    wide[..., ::2] = x
    strided = weight.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(events(wide[..., ::2], strided, bias, padding=padding), y, rtol=0, atol=0)


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
    ("nonzeros", "o", "by_events", "weights_by_events"),
    [
        (0, 16, 1, 1),
        (785, 16, 1, 1),
        (786, 16, 0, 1),
        (785, 9, 1, 1),
        (1029, 16, 0, 1),
        (1030, 16, 0, 0),
        (1365, 64, 1, 1),
        (1366, 64, 0, 1),
        (1537, 64, 0, 1),
        (1538, 64, 0, 0),
    ],
)
def test_the_rule(nonzeros, o, by_events, weights_by_events):
    """The rule counts whole lines of 16 outputs, each output and row of the kernel, and the copy of the weights."""
    x = torch.zeros(1, 64, 8, 8)
    x.view(-1)[torch.randperm(4096)[:nonzeros]] = 1
    weight = torch.randn(o, 64, 3, 3)
    with torch.profiler.profile() as profile:
        y, _, found = torch.ops.snnfast.spike_conv2d_forward(x, weight, None, 1, 1, 1, 1, 0)
    assert found.tolist() == [nonzeros, 0, weights_by_events]
    assert by_events == ("aten::conv2d" not in {event.name for event in profile.events()})
    want = functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(y, want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize(("share", "by_events"), [(0.6, 1), (0.7, 0)])
def test_the_weights_of_small_images_go_by_events_further(share, by_events):
    x, weight = spikes((32, 128, 4, 4), share, torch.float32), torch.randn(128, 128, 3, 3)
    assert torch.ops.snnfast.spike_conv2d_forward(x, weight, None, 1, 1, 1, 1, 0)[2][2] == by_events


def test_few_pixels_are_not_worth_the_copy_of_the_weights():
    weight = torch.randn(16, 64, 3, 3)
    for images, by_events in ((3, 0), (4, 1)):
        x = torch.zeros(images, 64, 2, 2)
        x[0, 0, 0, 0] = 1
        with torch.profiler.profile() as profile:
            torch.ops.snnfast.spike_conv2d_forward(x, weight, None, 1, 1, 1, 1, 0)
        assert by_events == ("aten::conv2d" not in {event.name for event in profile.events()})


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


def test_registration_of_turned_weights():
    """The gradient of x uses the weights as ``[C, O, kh, kw]``, flipped."""
    x, weight, _, _ = sample((2, 2, 4, 3, 3, (3, 2), (1, 1)))
    arguments = (x, weight.transpose(0, 1).contiguous(), None, 1, 1, 1, 1, TURNED)
    torch.library.opcheck(torch.ops.snnfast.spike_conv2d_forward, arguments)
    y, _, _ = torch.ops.snnfast.spike_conv2d_forward(*arguments)
    torch.testing.assert_close(y, functional.conv2d(x, weight.flip(2, 3), padding=1))


def test_the_rule_of_large_weights_is_one_in_both_languages():
    source = (Path(__file__).parents[2] / "csrc/ops/spike_conv2d.cpp").read_text()
    assert f"kLargeWeights = {LARGE_WEIGHTS};" in source


@pytest.mark.parametrize("shape", [(2, 40, 1, 1), (2, 40, 2, 3)])
def test_dense_products_with_large_weights(shape):
    """They run on contiguous images and return channels-last ones."""
    weight = torch.randn(30, 40, 3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.rand(shape, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    for stride in (1, 2):
        y = ops.spike_conv2d(x, weight, stride=stride, padding=1)
        want = functional.conv2d(x, weight, stride=stride, padding=1)
        assert y.is_contiguous(memory_format=torch.channels_last)
        grad = torch.rand_like(y)
        got = torch.autograd.grad(y, (x, weight), grad)
        for a, b in zip((y, *got), (want, *torch.autograd.grad(want, (x, weight), grad))):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (5, 4)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 3), (4, 1)])
def test_images_smaller_than_the_kernel(size, kernel, stride):
    """Rows and columns of the kernel that meet only padding are skipped; their weights have a gradient of 0."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(3, 2, *size, generator=generator) < 0.5).double()
    weight, bias = torch.randn(4, 2, *kernel, generator=generator).double(), torch.randn(4).double()
    for padding in ((kernel[0] // 2, kernel[1] // 2), (kernel[0] - 1, kernel[1] - 1)):
        for method in ("events", "auto"):
            arguments = (x, weight, bias, padding)
            got = outputs(ops.spike_conv2d, *arguments, stride=stride, method=method)
            for a, b in zip(got, outputs(functional.conv2d, *arguments, stride=stride), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * float(b.abs().max()))


def test_of_a_pixel_one_weight_is_left():
    weight = torch.ones(4, 2, 3, 3)
    for side, stride, kernel in ((1, 1, (1, 1)), (2, 2, (2, 2)), (2, 1, (3, 3)), (3, 1, (3, 3))):
        call = SpikeConv2dCall(torch.ones(1, 2, side, side), weight, None, stride, stride, 1, 1, 0)
        assert _without_padding_alone(call).weight.shape[2:] == kernel


@pytest.mark.parametrize("method", ["auto", "events", "dense"])
def test_images_without_channels_give_the_bias(method):
    x, bias = torch.rand(2, 0, 5, 4), torch.rand(3, requires_grad=True)
    y = ops.spike_conv2d(x, torch.rand(3, 0, 3, 3), bias, padding=1, method=method)
    y.sum().backward()
    torch.testing.assert_close(y, bias[:, None, None].expand(2, 3, 5, 4), rtol=0, atol=0)
    torch.testing.assert_close(bias.grad, torch.full((3,), 40.0), rtol=0, atol=0)
