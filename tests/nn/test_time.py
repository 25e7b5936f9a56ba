import copy

import numpy as np
import pytest
import torch
from backends import PRESENT
from samples import assert_equal
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from snnfast import nn as sn


class Log(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def copies(self):
        return [n for n in self.names if any(w in n for w in ("clone", "copy", "contiguous"))]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 4), (5, 2, 3)),
        (nn.Conv2d(3, 4, 3), (5, 2, 3, 6, 6)),
        (nn.Conv1d(3, 4, 3), (5, 2, 3, 6)),
        (nn.MaxPool2d(2), (5, 2, 3, 6, 6)),
        (nn.BatchNorm2d(3).eval(), (5, 2, 3, 6, 6)),
        (nn.Flatten(), (5, 2, 3, 6)),
    ],
)
def test_time_runs_the_layer_at_every_step(layer, shape):
    x = torch.rand(shape)
    torch.testing.assert_close(sn.Time(layer)(x), torch.stack([layer(x_t) for x_t in x]))


def test_several_layers_share_one_folding():
    conv, pool = nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)
    x = torch.rand(3, 2, 1, 6, 6)
    torch.testing.assert_close(
        sn.Time(conv, pool)(x), sn.Time(pool)(sn.Time(conv)(x)), rtol=0, atol=0
    )


def test_batch_norm_takes_statistics_over_time_and_batch():
    norm = nn.BatchNorm1d(3)
    x = torch.rand(5, 4, 3)
    y = sn.Time(norm)(x)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(3), atol=1e-6, rtol=0)
    assert norm.num_batches_tracked == 1


def test_labels_of_any_dtype_pass():
    x = torch.randint(4, (5, 2))
    assert sn.Time(nn.Embedding(4, 3))(x).shape == (5, 2, 3)


@pytest.mark.parametrize("shape", [(0, 2, 3), (5, 0, 3)])
def test_empty_time_or_batch(shape):
    assert sn.Time(nn.Linear(3, 4))(torch.rand(shape)).shape == (*shape[:2], 4)


def test_folding_is_a_view():
    x = torch.rand(5, 2, 3)
    y = sn.Time(nn.Identity())(x)
    assert y.data_ptr() == x.data_ptr()
    assert y.stride() == x.stride()


def test_channels_last_passes_without_copies():
    net = nn.Sequential(sn.Time(nn.Conv2d(3, 4, 3)), sn.LIF(), sn.Time(nn.Conv2d(4, 2, 3)))
    net.to(memory_format=torch.channels_last)
    x = torch.rand(10, 3, 8, 8).to(memory_format=torch.channels_last).unflatten(0, (5, 2))
    with torch.no_grad(), Log() as log:
        y = net(x)
    assert not log.copies
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_gradient_of_a_rate_reaches_the_kernel_without_copies():
    x = torch.rand(5, 2, 3, requires_grad=True)
    for readout in (sn.Rate(), sn.Count()):
        spikes = sn.LIF()(x)
        strides = []
        spikes.register_hook(lambda grad, seen=strides: seen.append(grad.stride(0)))
        loss = readout(spikes).square().sum()
        with Log() as log:
            loss.backward()
        assert strides == [0]
        assert not log.copies


def test_rate_and_count():
    spikes = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert sn.Rate()(spikes).tolist() == [1.0, 0.5]
    assert sn.Count()(spikes).tolist() == [2.0, 1.0]
    assert sn.Count()(torch.empty(0, 3)).tolist() == [0.0] * 3
    with pytest.raises(ValueError, match="Rate: x must have shape"):
        sn.Rate()(torch.tensor(1.0))
    with pytest.raises(TypeError, match="Count: x must have one of the dtypes"):
        sn.Count()(torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("layer", "shown"),
    [(nn.Linear, "the class Linear"), ([nn.Linear(2, 2)], "a list"), (torch.relu, "a builtin_")],
)
def test_what_is_no_layer_is_refused(layer, shown):
    with pytest.raises(TypeError, match=f"^Time: layers must be modules, .* got {shown}"):
        sn.Time(nn.Identity(), layer)


def test_wrong_use_of_time_raises():
    with pytest.raises(TypeError, match=r"^Time: the layer must return a tensor, got tuple"):
        sn.Time(nn.GRU(2, 2))(torch.rand(4, 3, 2))
    with pytest.raises(TypeError, match=r"^Time: the layer must return a tensor, got tuple"):
        sn.Time(nn.MaxPool2d(2, return_indices=True))(torch.rand(2, 3, 4, 4).expand(4, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="at least one layer"):
        sn.Time()
    with pytest.raises(ValueError, match="LIF needs"):
        sn.Time(nn.Sequential(nn.Linear(3, 4), sn.LIF()))
    with pytest.raises(ValueError, match=r"x must have shape \[T, B, \.\.\.\], got \[3\]"):
        sn.Time(nn.Identity())(torch.rand(3))
    with pytest.raises(ValueError, match=r"keep the batch of T B = 10, got shape \[30\]"):
        sn.Time(nn.Flatten(0))(torch.rand(5, 2, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_readouts_of_16_bits_sum_in_float32(dtype):
    """float16 ends at 65504, and bfloat16 has 8 bits."""
    x = torch.ones(70_001, 2, dtype=dtype, requires_grad=True)
    count, rate = sn.Count()(x), sn.Rate()(x)
    assert count.dtype == torch.float32
    assert count.tolist() == [70_001, 70_001]
    assert rate.dtype == dtype
    assert rate.tolist() == [1, 1]
    strides = []
    y = x[:5] * 1
    y.register_hook(lambda grad: strides.append(grad.stride()))
    sn.Rate()(y).sum().backward()
    assert strides[0][0] == 0
    torch.testing.assert_close(x.grad[0], torch.full((2,), 0.2, dtype=dtype))


def test_readouts_of_16_bits_under_vmap():
    x = (torch.rand(3, 7, 5) < 0.5).bfloat16()
    for readout in (sn.Count(), sn.Rate()):
        want = torch.stack([readout(one) for one in x])
        torch.testing.assert_close(torch.vmap(readout)(x), want, rtol=0, atol=0)


class Bias(nn.Module):
    """A layer that is not one of PyTorch's; notes how large its batches are."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return x + 1


def both_ways(layers, x, grad=None):
    """Outputs, gradients and buffers of ``Time(*layers)``, fast and not."""
    found = []
    for fast in (True, False):
        leaf = x.clone().requires_grad_()
        time = sn.Time(*(copy.deepcopy(layer) for layer in layers), fast=fast)
        y = time(leaf.expand(5, *x.shape))
        if grad is None:
            grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
        grads = torch.autograd.grad(y, [leaf, *time.parameters()], grad)
        found.append((y, *grads, *time.buffers()))
    return found


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_the_same_at_every_step_is_computed_once(momentum, training, channels):
    norm = nn.BatchNorm2d(4, momentum=momentum).double()
    norm(torch.randn(8, 4, 3, 3).double())
    conv = nn.Conv2d(channels, 4, 3).double()
    layers = [conv, norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2).double()]
    for layer in layers:
        layer.train(training)
    fast, plain = both_ways(layers, torch.rand(2, channels, 6, 6).double())
    assert fast[0].stride(0) == 0
    assert plain[0].stride(0) != 0
    for a, b in zip(fast, plain):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_layers_run_once_and_one_after_the_other_stay_so():
    x = torch.rand(2, 3, 6, 6).expand(5, 2, 3, 6, 6)
    net = nn.Sequential(sn.Time(nn.Conv2d(3, 4, 3)), sn.Time(nn.BatchNorm2d(4)), sn.Time(nn.ReLU()))
    sizes = []
    with Log() as log:
        y = net(x)
    assert sum("convolution" in name for name in log.names) == 1
    assert y.stride(0) == 0
    net[0].layer.register_forward_hook(lambda layer, args, y: sizes.append(len(args[0])))
    y = net(x)
    assert sizes == [10]  # hooks see every step
    assert y.stride(0) != 0


def test_the_gradient_of_an_expanded_input_is_its_mean_at_every_step():
    x = torch.rand(5, 2, 3)[:1].expand(5, 2, 3).requires_grad_()
    grads = {}
    for fast in (True, False):
        torch.manual_seed(0)
        layer = sn.Time(nn.Linear(3, 4), fast=fast)
        y = layer(x)
        (grads[fast],) = torch.autograd.grad((y * torch.arange(5.0)[:, None, None]).sum(), x)
    assert grads[True].stride(0) == 0
    torch.testing.assert_close(grads[True].sum(0), grads[False].sum(0))
    torch.testing.assert_close(grads[True][3], grads[False].mean(0))


@pytest.mark.parametrize("layer", [nn.ReLU, nn.Hardtanh, nn.SiLU])
def test_a_layer_that_works_in_place_leaves_the_repeated_input_alone(layer):
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 4)
    given, x = image.clone(), image.expand(5, *image.shape)
    y = sn.Time(nn.Identity(), layer(inplace=True))(x)
    assert_equal(image, given)
    assert_equal(y, layer()(x))
    net = nn.Sequential(sn.Time(nn.Conv2d(3, 4, 3)), sn.Time(layer(inplace=True)), sn.LIF())
    net(x).sum().backward()
    assert net[0].layer.weight.grad.any()


def test_a_gradient_without_time_is_not_summed():
    x = torch.rand(2, 3, requires_grad=True)
    y = sn.Time(nn.Identity())(x.expand(5, 2, 3))
    grad = torch.rand(2, 3)
    (got,) = torch.autograd.grad(y, x, grad.expand(5, 2, 3))
    torch.testing.assert_close(got, 5 * grad)


@pytest.mark.parametrize("dropout", [nn.Dropout, nn.AlphaDropout])
def test_dropout_draws_at_every_step(dropout):
    time = sn.Time(nn.Linear(3, 50), dropout(0.5))
    x = torch.rand(2, 3).expand(5, 2, 3)
    y = time(x)
    assert not torch.equal(y[0], y[1])
    y = time.eval()(x)
    assert y.stride(0) == 0


def test_a_layer_that_is_not_known_sees_every_step():
    bias, norm = Bias(), nn.BatchNorm1d(3)
    x = torch.rand(2, 3).expand(5, 2, 3)
    sn.Time(nn.Linear(3, 3), bias, norm)(x)
    assert bias.batches == [10]
    y = sn.Time(nn.BatchNorm1d(3))(x[:, :1])  # one value a step, but five in all
    # Rounding of the mean is divided by sqrt(eps), 0.003.
    torch.testing.assert_close(y, torch.zeros(5, 1, 3), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match=r"keep the batch of T B = 10, got shape \[30\]"):
        sn.Time(nn.Flatten(0))(x)
    with pytest.raises(ValueError, match=r"keep the batch of T B = 10, got shape \[30\]"):
        sn.Time(nn.Flatten(-2))(x)


def test_images_are_channels_last_from_the_first_convolution_on():
    x = torch.rand(5, 2, 1, 8, 8)
    layers = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)
    y = sn.Time(*layers)(x)
    plain = sn.Time(*layers, fast=False)(x)
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous()
    torch.testing.assert_close(y, plain)
    assert sn.Time(*layers).double()(x.double()).is_contiguous()


def test_permuted_sequences_compile_in_one_graph_for_every_size(fresh_compiler):
    def layer(x):
        return sn.LIF()(x.permute(0, 1, 4, 2, 3))

    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for width in (3, 5, 6):
        x = 3 * torch.rand(4, 2, 5, width, 8)
        assert_equal(compiled(x), layer(x))


def test_gradients_stay_channels_last():
    """PyTorch's sum over steps does not, and its batch normalisation is ten times slower when formats differ."""
    x = torch.rand(2, 3, 6, 6)
    seen = []
    y = sn.Time(nn.Conv2d(3, 4, 3))(x.expand(5, *x.shape))
    first = y.grad_fn.next_functions[0][0]
    first.register_prehook(lambda grads: seen.append(grads[0]))
    sn.LIF()(y).square().sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        lambda: (nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3)),
        lambda: (nn.InstanceNorm2d(3, affine=True), nn.Conv2d(3, 8, 3)),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_normalisation_of_a_single_image_and_a_convolution(layers, together):
    """PyTorch's has a wrong gradient for images that step otherwise from one to the next than by their size."""
    torch.manual_seed(0)
    layers = layers()
    x = torch.rand(1, 1, 3, 8, 8, requires_grad=True)
    times = [sn.Time(*layers)] if together else [sn.Time(layer) for layer in layers]
    y, plain = nn.Sequential(*times)(x), nn.Sequential(*layers)(x[0])[None]
    weight, learned = torch.randn(y.shape), [p for layer in layers for p in layer.parameters()]
    found, wanted = (torch.autograd.grad(z, (x, *learned), weight) for z in (y, plain))
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 4])
def test_group_norm_of_images_without_a_gradient(channels):
    """PyTorch's ends the process in its backward pass if they are channels-last."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, channels, 3).requires_grad_(False), nn.GroupNorm(1, channels)
    x = torch.rand(2, 3, 3, 6, 6)
    y = sn.Time(conv, norm)(x)
    assert y.stride()[2:] == (16, 4, 1)
    plain = sn.Time(conv, norm, fast=False)(x)
    weight = torch.randn(y.shape)
    for found, wanted in zip(
        *(torch.autograd.grad(z, norm.parameters(), weight) for z in (y, plain))
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_a_layer_that_refuses_the_shape_is_named_with_the_shape_wanted():
    images = torch.rand(4, 1, 8, 8)  # no time
    with pytest.raises(
        RuntimeError,
        match=r"^Time: Conv2d does not take \[4, 8, 8\], all steps of x \[4, 1, 8, 8\]: .*"
        r"x must have shape \[T, B, \.\.\.\], time first: .*x\.expand\(T, \*x\.shape\).*x\.transpose\(0, 1\)$",
    ):
        sn.Time(nn.Conv2d(1, 2, 3))(images)
    with pytest.raises(RuntimeError, match=r"^Time: Linear does not take \[15, 7\], all steps of"):
        sn.Time(nn.Dropout(), nn.Linear(6, 2))(torch.rand(5, 3, 7))
    with pytest.raises(ValueError, match=r"^Time: BatchNorm2d does not take \[15, 7\]"):
        sn.Time(nn.BatchNorm2d(7))(torch.rand(5, 3, 7))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.float64])
def test_a_layer_that_refuses_the_dtype_says_so(dtype):
    with pytest.raises(
        RuntimeError, match=rf"Linear does not .* x is {dtype}, the weights are torch.float32$"
    ):
        sn.Time(nn.Linear(7, 2))(torch.ones(5, 3, 7, dtype=dtype))
    with pytest.raises(TypeError, match=r"^Time: x must be a tensor, got ndarray"):
        sn.Time(nn.Linear(7, 2))(np.ones((5, 3, 7)))


@pytest.mark.parametrize("layers", [1, 2])
def test_keys_are_those_documented_and_files_of_the_other_kind_load(layers):
    one, several = sn.Time(nn.Linear(3, 2)), sn.Time(nn.Linear(3, 2), nn.ReLU())
    assert list(one.state_dict()) == ["layer.weight", "layer.bias"]
    assert list(several.state_dict()) == ["layer.0.weight", "layer.0.bias"]
    given, taken = (one, several) if layers == 1 else (several, one)
    nn.Sequential(taken).load_state_dict(nn.Sequential(given).state_dict())
    torch.testing.assert_close(
        list(taken.state_dict().values()), list(given.state_dict().values()), rtol=0, atol=0
    )
    again = sn.Time(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    again.load_state_dict(one.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        sn.Time(nn.ReLU(), nn.Linear(3, 2)).load_state_dict(one.state_dict())
    both = sn.Time(nn.Linear(3, 2), nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        one.load_state_dict(both.state_dict())


def test_layers_for_spikes_run_once_too():
    x = (torch.rand(2, 3, 6, 6) < 0.1).float().expand(5, 2, 3, 6, 6)
    time = sn.Time(sn.SpikeConv2d(3, 4, 3), nn.Flatten(), sn.SpikeLinear(64, 2))
    y = time(x)
    assert y.stride(0) == 0
    torch.testing.assert_close(y[3], time.layer(x[3]))


@pytest.mark.parametrize("neuron", [sn.LIF(2.0), sn.ALIF(), sn.ParametricLIF(2.0), sn.LI(2.0)])
@pytest.mark.parametrize("steps", [2, 3, 40])
@pytest.mark.parametrize("layers", ["linear", "convolution"])
def test_neurons_sum_the_gradient_of_an_input_that_repeats(neuron, steps, layers):
    layer, size = (
        (nn.Linear(4, 5), (3, 4)) if layers == "linear" else (nn.Conv2d(2, 5, 3), (3, 2, 6, 5))
    )
    net = nn.Sequential(sn.Time(layer), neuron).double()
    x = torch.rand(size, generator=torch.Generator().manual_seed(0)).double() * 4
    found = []
    for fast in (True, False):
        net[0].fast = fast
        current = net[0](x.expand(steps, *size))
        current.retain_grad()
        y = neuron(current)
        weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()
        found.append((y, torch.autograd.grad((y * weight).sum(), [current, *net.parameters()])))
    (y, (mean, *grads)), (want, (each, *others)) = found
    torch.testing.assert_close(y, want, rtol=0, atol=0)
    on_cpu = "cpu" in PRESENT
    assert (mean.stride(0) == 0) is on_cpu  # one step, and no sum over the steps in PyTorch
    torch.testing.assert_close(mean[0], each.mean(0) if on_cpu else each[0], rtol=1e-12, atol=1e-12)
    for a, b in zip(grads, others, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_other_views_of_one_step_get_the_gradient_of_every_step():
    x = torch.rand(3, 4).mul(4).requires_grad_()
    current = x.expand(5, 3, 4)
    weight = torch.rand(5, 3, 4)
    (got,) = torch.autograd.grad((sn.LIF(2.0)(current) * weight).sum(), current)
    (want,) = torch.autograd.grad((sn.LIF(2.0)(c := current.contiguous()) * weight).sum(), c)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert not torch.equal(got[0], got[1])


def test_two_layers_behind_one_input_that_repeats():
    layer = sn.Time(nn.Linear(4, 6)).double()
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).double() * 5
    step = torch.arange(1.0, 8).double()[:, None, None]
    found = []
    for fast in (True, False):
        layer.fast = fast
        current = layer(x.expand(7, 3, 4))
        y = sn.LIF(2.0)(current) * step + sn.ALIF(3.0)(current) * 3 + current * step**2
        found.append(torch.autograd.grad(y.sum(), list(layer.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_with_large_weights_takes_images_by_channels(dtype):
    conv, seen = nn.Conv2d(40, 30, 3, padding=1, dtype=dtype), []
    conv.register_forward_pre_hook(lambda module, given: seen.append(given[0].stride()))
    x = torch.rand(2, 3, 40, 1, 1, dtype=dtype).to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(sn.Time(conv)(x), conv(x.flatten(0, 1)).unflatten(0, (2, 3)))
    assert seen[0] == (40, 1, 1, 1)
    sn.Time(conv)(torch.rand(2, 3, 40, 16, 16, dtype=dtype))
    assert seen[-1] == (40 * 256, 1, 16 * 40, 40)
