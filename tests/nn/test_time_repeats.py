"""``nn.Time`` of an input that is the same at every step: computed once, with the same gradients."""

import copy

import pytest
import torch
from backends import PRESENT
from operators import Log
from samples import assert_equal
from torch import nn

from snnfast import nn as sn


class Bias(nn.Module):
    """Layer unknown to ``Time`` that records the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return x + 1


def both_ways(layers, x, grad=None):
    """Return outputs, gradients and buffers of ``Time(*layers)``, with and without ``fast``."""
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
    copy, x = image.clone(), image.expand(5, *image.shape)
    y = sn.Time(nn.Identity(), layer(inplace=True))(x)
    assert_equal(image, copy)
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
    layer, size = (nn.Linear(4, 5), (3, 4)) if layers == "linear" else (nn.Conv2d(2, 5, 3), (3, 2, 6, 5))
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
    (y, (mean, *grads)), (want, (per_step, *others)) = found
    torch.testing.assert_close(y, want, rtol=0, atol=0)
    on_cpu = "cpu" in PRESENT
    assert (mean.stride(0) == 0) is on_cpu  # one step, and no sum over the steps in PyTorch
    torch.testing.assert_close(mean[0], per_step.mean(0) if on_cpu else per_step[0], rtol=1e-12, atol=1e-12)
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
