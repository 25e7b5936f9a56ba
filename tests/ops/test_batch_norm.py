"""``batch_norm``: PyTorch's batch normalisation, with sums as exact as in float64."""

import pytest
import torch
from backends import PRESENT
from torch import nn
from torch.nn import functional

from snnfast import ops, reference
from snnfast.nn import Time

pytestmark = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
# Whole and partial vectors, full and remaining rows, several blocks, many channels, volumes.
SIZES = [(3, 32, 6, 4), (2, 12, 7, 5), (2, 21, 9, 9), (3, 70, 5, 5), (9, 2, 30, 31)]
SIZES += [(1, 3, 2, 3), (2, 3, 4, 5, 6), (20, 64, 17, 19), (2049, 128)]
LAYOUTS = {2: torch.contiguous_format, 4: torch.channels_last, 5: torch.channels_last_3d}
TOLERANCES = {torch.float64: 1e-13, torch.float32: 5e-7, torch.bfloat16: 2.0**-7}


def images(size, dtype=torch.float64, offset=0.0):
    x = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (x + offset).to(dtype).contiguous(memory_format=LAYOUTS[len(size)])


def parameters(channels, dtype=torch.float64):
    """Return weight and bias; mean and variance."""
    values = torch.linspace(0.5, 1.5, channels, dtype=torch.float64)
    return [v.to(dtype) for v in (values, values - 1.2, values - 0.7, values * 2)]


def outputs(run, x, weight=None, bias=None, *statistics, **keywords):
    """Return the results of ``run``, and the gradients of its tensors."""
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    padding = [None] * (3 - len(leaves))
    y, mean, var = run(*leaves, *padding, *statistics, **keywords)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return y.detach(), mean, var, *torch.autograd.grad(y, leaves, (grad + 0.3).to(y.dtype))


def assert_close(got, want, tolerance):
    for a, b in zip(got, want, strict=True):
        scale = max(b.abs().max().item(), 1e-30)
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("fixed_statistics", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_reference(size, dtype, fixed_statistics):
    x = images(size, dtype, 3.0)
    weight, bias, *statistics = parameters(size[1], dtype)
    arguments = x, weight, bias, *(statistics if fixed_statistics else ())
    got = outputs(ops.batch_norm, *arguments)
    assert got[0].stride() == x.stride() == got[3].stride()
    assert [t.dtype for t in got] == [dtype, torch.float64, torch.float64, *(dtype,) * 3]
    # in float64, of the same values
    wide = [t.double() for t in arguments]
    assert_close(got, outputs(reference.batch_norm, *wide), TOLERANCES[dtype])
    assert_close(outputs(ops.batch_norm, x), outputs(reference.batch_norm, wide[0]), TOLERANCES[dtype])


@pytest.mark.parametrize("size", SIZES[:2])
def test_gradients_are_pytorchs_in_float64(size):
    x, (weight, bias, mean, var) = images(size), parameters(size[1])

    def pytorch(x, weight, bias, mean=None, var=None):
        return (functional.batch_norm(x, mean, var, weight, bias, mean is None), x.mean((0, 2, 3)), 0 * x[0, :, 0, 0])

    for statistics in ((), (mean, var)):
        got = outputs(ops.batch_norm, x, weight, bias, *statistics)
        want = outputs(pytorch, x, weight, bias, *statistics)
        assert_close([got[0], *got[3:]], [want[0], *want[3:]], 1e-12)
    leaves = [t.requires_grad_() for t in (images((2, 4, 2, 3)), *parameters(4)[:2])]
    assert torch.autograd.gradcheck(lambda *a: ops.batch_norm(*a)[0], leaves)


def test_worked_by_hand():
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]]).view(2, 2, 1, 1).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.tensor([2.0, 1.0]), torch.tensor([0.5, 0.0])
    y, mean, var = ops.batch_norm(x, weight, bias, eps=1e-30)
    assert (mean.tolist(), var.tolist()) == ([2.0, 20.0], [1.0, 100.0])
    assert y.flatten().tolist() == [-1.5, -1.0, 2.5, 1.0]


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0, 1e5])
def test_statistics_are_as_exact_as_float64_s(offset):
    """Errors are below 3e-7, with PyTorch channels-last 1e-4; the deviations of offset values do not cancel."""
    x = images((64, 8, 40, 40), torch.float32, offset)
    y, mean, var = ops.batch_norm(x)
    want = x.double()
    assert (mean - want.mean((0, 2, 3))).abs().max() <= 3e-7 * want.std()
    torch.testing.assert_close(var, want.var((0, 2, 3), correction=0), rtol=3e-7, atol=0)
    assert_close([y], [reference.batch_norm(want)[0]], 3e-7)


def test_an_outlier_where_deviations_are_taken_from_costs_little():
    x = images((64, 8, 40, 40), torch.float32)
    x[0, :, 0, 0] = 300.0
    _, mean, var = ops.batch_norm(x)
    want = x.double()
    assert (mean - want.mean((0, 2, 3))).abs().max() <= 3e-7 * want.std()
    torch.testing.assert_close(var, want.var((0, 2, 3), correction=0), rtol=3e-6, atol=0)


def test_special_values_stay_in_their_channel():
    x = images((2, 5, 4, 4), torch.float32)
    x[0, 0, 0, 0], x[1, 1, 1, 1], x[0, 2, 0, 0], x[:, 3] = torch.nan, torch.inf, -torch.inf, 7.0
    y, mean, var = ops.batch_norm(x)
    assert y[:, :3].isnan().all()
    assert (var[3], y[:, 3].abs().max()) == (0, 0)
    assert mean[1:3].tolist() == [torch.inf, -torch.inf]
    clean = images((2, 5, 4, 4), torch.float32)
    assert_close([y[:, 4]], [ops.batch_norm(clean)[0][:, 4]], 0)


@pytest.mark.parametrize("size", SIZES)
def test_the_same_from_any_number_of_threads(size):
    x, (weight, bias, *_) = images(size, torch.float32), parameters(size[1], torch.float32)
    want, threads = outputs(ops.batch_norm, x, weight, bias), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert_close(outputs(ops.batch_norm, x, weight, bias), want, 0)
    finally:
        torch.set_num_threads(threads)


def test_streamed_past_the_caches():
    x = images((5, 32, 128, 64), torch.float32, 1.0)
    assert x.nbytes >= 2**22
    assert_close(outputs(ops.batch_norm, x), outputs(reference.batch_norm, x.double()), 5e-7)


def test_mixed_precision_keeps_float32_parameters():
    x, (weight, bias, *_) = images(SIZES[0], torch.bfloat16), parameters(32, torch.float32)
    y, *_, grad_x, grad_weight, grad_bias = outputs(ops.batch_norm, x, weight, bias)
    assert (y.dtype, grad_x.dtype) == (torch.bfloat16,) * 2
    assert (grad_weight.dtype, grad_bias.dtype) == (torch.float32,) * 2
    want = outputs(reference.batch_norm, x.double(), weight.double(), bias.double())
    assert_close([grad_weight, grad_bias], want[4:], 0.01)


def test_a_gradient_without_strides_and_one_that_is_not_wanted():
    x, (weight, bias, mean, var) = images(SIZES[1], torch.float32), parameters(12, torch.float32)
    y, *_ = ops.batch_norm(x, weight.requires_grad_(), bias, mean, var)
    (got,) = torch.autograd.grad(y.sum(), weight)  # expanded
    want = ((x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + 1e-5).sqrt()).double().sum((0, 2, 3))
    assert_close([got], [want], 1e-6)
    x.requires_grad_()
    y, batch_mean, _ = ops.batch_norm(x)
    assert not batch_mean.requires_grad
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.abs().max() < 1e-5


def kernels_of(run):
    with torch.profiler.profile() as profile:
        run()
    return {event.name for event in profile.events()}


@pytest.mark.parametrize(
    ("x", "ours"),
    [
        (images((2, 2, 4, 4), torch.float32), True),
        (images((2, 1, 4, 4), torch.float32), False),
        (images((2, 4, 4, 4)).contiguous(), False),
        (images((2, 4, 4, 4), torch.float16), False),
        (images((2, 4, 4, 4, 4), torch.bfloat16), True),
        (images((2048, 128), torch.float32), True),
        (images((64, 128), torch.float32), False),
        (torch.randn(2, 4, 4), False),
    ],
)
def test_the_rule(x, ours):
    names = kernels_of(lambda: ops.batch_norm(x))
    assert ("snnfast::batch_norm_forward" in names) == ours
    assert ("aten::batch_norm" in names) != ours
    for got, want in zip(ops.batch_norm(x), reference.batch_norm(x)):
        tolerance = 1e-5 if x.dtype.itemsize > 2 else 0.01
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


X, C = torch.ones(2, 3, 4, 5), torch.ones(3)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    [
        (([1.0],), {}, TypeError, "batch_norm: x must be a tensor, got list"),
        ((X.int(),), {}, TypeError, "batch_norm: x must have one of the dtypes"),
        ((C,), {}, ValueError, r"batch_norm: x must have shape \[B, C, ...\], got \[3\]"),
        ((X, C[:2]), {}, ValueError, r"batch_norm: weight must have shape \[3\], got \[2\]"),
        ((X, None, C[None]), {}, ValueError, r"batch_norm: bias must have shape \[3\], got \[1, 3\]"),
        ((X, C.double()), {}, TypeError, "batch_norm: weight must have dtype float32, got"),
        ((X, None, None, C), {}, ValueError, "batch_norm: var must be given if mean is"),
        ((X,), {"var": C}, ValueError, "batch_norm: mean must be given if var is"),
        ((X, None, None, C.clone().requires_grad_(), C), {}, ValueError, "mean must not require"),
        ((X[:1, :, :1, :1],), {}, ValueError, "x must have more than 1 value a channel .* got shape"),
        ((X,), {"eps": 0.0}, ValueError, "batch_norm: eps must be positive, got 0"),
    ],
)
def test_errors(arguments, keywords, error, words):
    for op in (ops.batch_norm, reference.batch_norm):
        with pytest.raises(error, match=words):
            op(*arguments, **keywords)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((C, None, None, None, None), r"x must have shape \[B, C, ...\], got \[3\]"),
        ((X.half(), None, None, None, None), "x must be float32, float64 or bfloat16, got float16"),
        ((X, C[:2], None, None, None), r"weight must have shape \[3\], got \[2\]"),
        ((X, None, C.int(), None, None), "bias must be float32, .*, got int32"),
        ((X, None, None, C, None), "mean and var must both be given or both be None"),
        ((X[:0], None, None, None, None), "x must have at least one value a channel .*, got none"),
    ],
)
def test_raw_calls_with_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(RuntimeError, match=f"batch_norm: {words}"):
        torch.ops.snnfast.batch_norm_forward(*arguments, 1e-5)


def test_raw_gradients_with_wrong_arguments_are_refused():
    def backward(grad, mean=C):
        return torch.ops.snnfast.batch_norm_backward(X, None, None, mean, C, 1e-5, True, grad, True, True, True)

    for grad in (X[:1], X[:, 0], X.double()):
        with pytest.raises(RuntimeError, match=r"batch_norm: grad_y must (have shape|be float32)"):
            backward(grad)
    with pytest.raises(RuntimeError, match="batch_norm: mean and var must be given for gradients"):
        backward(X, None)


def test_nothing():
    mean = torch.zeros(8)
    y, *_, grad = outputs(ops.batch_norm, torch.ones(0, 8, 4, 4), None, None, mean, mean)
    assert y.shape == grad.shape == (0, 8, 4, 4)


# ---- within Time


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.3, "momentum": 0.7}],
)
def test_time_normalises_by_it(settings, training):
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, **settings)
    net, plain = Time(*layers), Time(*layers, fast=False)
    x, weights, results = torch.randn(3, 2, 2, 9, 9), torch.randn(3, 2, 8, 7, 7), []
    for network in (net, plain):
        norm = nn.BatchNorm2d(8, **settings)
        layers[1].load_state_dict(norm.state_dict())
        network.train(training)
        for _ in range(2):
            leaf = x.clone().requires_grad_()
            y = network(leaf)
        grads = torch.autograd.grad((y * weights).sum(), (leaf, *net.parameters()))
        buffers = [b.clone() for b in layers[1].buffers()]
        results.append((y, *grads, *buffers))
    names = kernels_of(lambda: net(x))
    assert "snnfast::batch_norm_forward" in names
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


class Subclass(nn.BatchNorm2d):
    """Subclass of a known layer, whose behaviour ``Time`` cannot assume."""


@pytest.mark.parametrize("kind", ["hooked", "subclass", "block", "sync"])
def test_norms_that_time_does_not_know_get_contiguous_images(kind):
    """PyTorch's channels-last sums are less precise."""
    seen, norm = [], nn.BatchNorm2d(8)
    hook = lambda layer, args: seen.append(args[0].is_contiguous())  # noqa: E731
    layer = {"hooked": norm, "subclass": Subclass(8), "block": nn.ModuleList([norm]), "sync": nn.SyncBatchNorm(8)}[kind]
    if kind == "block":
        layer.forward = norm.forward
    layer.register_forward_pre_hook(hook)
    Time(nn.Conv2d(2, 8, 3), layer)(torch.randn(3, 2, 2, 9, 9))
    assert seen == [True]


def test_images_without_channels():
    x = torch.rand(2, 0, 3, 3, requires_grad=True)
    y, mean, var = ops.batch_norm(x, mean=torch.rand(0), var=torch.rand(0))
    y.sum().backward()
    assert y.shape == x.grad.shape == (2, 0, 3, 3)
    assert mean.shape == var.shape == (0,)
