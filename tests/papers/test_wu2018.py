"""The network of Wu et al. 2018."""

import pytest
import torch
from samples import assert_all
from torch import nn

from snnfast import backend
from snnfast.papers import Wu2018


def paper_code(net: Wu2018, x: torch.Tensor, T: int) -> torch.Tensor:
    """Run the released code of the paper step by step, with direct input and the weights of ``net``."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            ctx.save_for_backward(u)
            return u.gt(0.5).to(u)

        @staticmethod
        def backward(ctx, grad):
            (u,) = ctx.saved_tensors
            return grad * ((u - 0.5).abs() < 0.5).to(u)

    def update(current, u, s):
        u = u * 0.2 * (1.0 - s) + current
        return u, Spike.apply(u)

    synapses = [layer.layer for layer in net.layers[0::2]]
    states = [(torch.tensor(0.0, dtype=x.dtype),) * 2 for _ in synapses]
    total = 0
    for _ in range(T):
        s = x
        for i, synapse in enumerate(synapses):
            states[i] = update(synapse(s), *states[i])
            s = states[i][1]
        total = total + s
    return total / T


def lively(net: Wu2018) -> Wu2018:
    """Return a network with weights so large that every layer fires."""
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2.5)
    return net


@pytest.mark.parametrize(("shape", "hidden"), [((1, 28, 28), None), ((1, 8, 8), None), ((1, 8, 8), (20, 16))])
def test_equals_the_papers_code_in_values_and_gradients(shape, hidden):
    torch.manual_seed(1)
    net = lively(Wu2018(num_steps=6, input_shape=shape, hidden=hidden, encoding="direct"))
    net = net.double()
    x = torch.rand(3, *shape, dtype=torch.float64)
    target = torch.rand(3, 10, dtype=torch.float64)
    rates, expected = net(x), paper_code(net, x, 6)
    assert 0 < rates.mean() < 1
    torch.testing.assert_close(rates, expected, rtol=0, atol=1e-12)
    ours = torch.autograd.grad((rates - target).square().mean(), net.parameters())
    theirs = torch.autograd.grad((expected - target).square().mean(), net.parameters())
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_layers_are_those_of_the_paper():
    shapes = {name: tuple(p.shape) for name, p in Wu2018().named_parameters() if "weight" in name}
    assert list(shapes.values()) == [(32, 1, 3, 3), (32, 32, 3, 3), (128, 1568), (10, 128)]
    assert [tuple(p.shape) for p in Wu2018(hidden=(800,)).parameters()] == [(800, 784), (800,), (10, 800), (10,)]


def test_width_is_a_factor_on_channels_and_hidden_neurons():
    shapes = [tuple(p.shape) for name, p in Wu2018(width=0.5).named_parameters() if "weight" in name]
    assert shapes == [(16, 1, 3, 3), (16, 16, 3, 3), (64, 784), (10, 64)]
    assert Wu2018(width=0.5)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("hidden", [None, (20,)])
def test_the_rate_of_a_class_is_the_mean_over_its_voters(hidden):
    net = lively(Wu2018(5, input_shape=(1, 8, 8), num_classes=4, hidden=hidden, voters=3))
    images = torch.rand(9, 1, 8, 8)
    torch.manual_seed(0)
    spikes = net.spikes(images)
    torch.manual_seed(0)
    rates = net(images)
    assert (spikes.shape, rates.shape) == ((5, 9, 12), (9, 4))
    assert 0 < rates.mean() < 1
    expected = torch.stack([spikes[:, :, 3 * k : 3 * k + 3].mean((0, 2)) for k in range(4)], 1)
    torch.testing.assert_close(rates, expected)


@pytest.mark.parametrize("hidden", [None, (20,)])
def test_batch_norm_stands_before_all_neurons(hidden):
    net = Wu2018(5, input_shape=(1, 8, 8), hidden=hidden, batch_norm=True)
    currents = []
    for neurons in net.layers[1::2]:
        neurons.register_forward_pre_hook(lambda neurons, x: currents.append(x[0]))
    net(torch.rand(60, 1, 8, 8))
    assert len(currents) == (4 if hidden is None else 2)
    for current in currents:
        mean = torch.zeros(current.shape[2])
        over = [0, 1, *range(3, current.dim())]
        torch.testing.assert_close(current.mean(over), mean, rtol=0, atol=1e-3)
        # Below 1 because of the epsilon of the normalisation.
        torch.testing.assert_close(current.std(over), mean + 1, rtol=0, atol=0.02)


def test_manual_calls():
    images = torch.rand(4, 1, 28, 28) * 32
    for net in (Wu2018(batch_size=4, time_interval=3), Wu2018(batch_size=4), Wu2018()):
        assert net(images).shape == (4, 10)
        assert net(images[:3], 2).shape == (3, 10)
        assert net(images, num_steps=2).shape == (4, 10)


def test_num_steps_of_a_call_override_those_of_the_network():
    net = lively(Wu2018(num_steps=3, input_shape=(1, 8, 8), encoding="direct"))
    x = torch.rand(2, 1, 8, 8)
    assert net.spikes(x).shape == (3, 2, 10)
    assert net.spikes(x, 7).shape == (7, 2, 10)
    torch.testing.assert_close(net(x, 7), net.spikes(x, 7).mean(0))


def test_bernoulli_input_fires_with_the_pixels_probability():
    net = Wu2018(num_steps=4000, input_shape=(1, 4, 4), num_classes=16, hidden=())
    with torch.no_grad():
        net.layers[0].layer[1].weight.copy_(torch.eye(16))
        net.layers[0].layer[1].bias.zero_()
    x = torch.linspace(0, 1.5, 16).view(1, 1, 4, 4)
    rates = net(x)[0]
    torch.testing.assert_close(rates, x.flatten().clamp(max=1), rtol=0, atol=0.03)
    assert rates[0] == 0
    assert_all(rates[11:], 1)


def test_bernoulli_follows_the_seed():
    net = lively(Wu2018(num_steps=4, input_shape=(1, 8, 8)))
    x = torch.rand(5, 1, 8, 8)
    torch.manual_seed(3)
    first, second = net(x), net(x)
    torch.manual_seed(3)
    torch.testing.assert_close(net(x), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("encoding", ["direct", "bernoulli"])
def test_kernels_and_reference_agree(encoding):
    torch.manual_seed(0)
    net = lively(Wu2018(num_steps=5, input_shape=(1, 8, 8), encoding=encoding)).double()
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    results = []
    for name in (None, "reference"):
        torch.manual_seed(7)
        with backend.use(name):
            rates = net(x)
            results.append((rates, *torch.autograd.grad(rates.square().sum(), net.parameters())))
    torch.testing.assert_close(results[0], results[1])


def test_channels_last_changes_nothing():
    net = lively(Wu2018(num_steps=4, encoding="direct")).double()
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    before = net(x)
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(x), before)


def test_bfloat16_autocast_counts_exactly():
    net = lively(Wu2018(num_steps=7, encoding="direct"))
    with torch.autocast("cpu", torch.bfloat16):
        rates = net(torch.rand(4, 1, 28, 28))
    assert rates.dtype == torch.float32
    torch.testing.assert_close(rates * 7, (rates * 7).round())


def test_state_dict_round_trip_and_empty_batch():
    net, other = Wu2018(encoding="direct"), Wu2018(encoding="direct")
    other.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(net(x), other(x), rtol=0, atol=0)
    assert net(x[:0]).shape == (0, 10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu():
    net = lively(Wu2018(num_steps=4, encoding="direct")).double()
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    expected = net(x)
    net.cuda()
    torch.testing.assert_close(net(x.cuda()).cpu(), expected)
    assert net(x).device.type == "cpu"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
        ({"time_interval": 0}, ValueError, "time_interval must be at least 1, got 0"),
        ({"num_steps": 2.5}, TypeError, "num_steps must be an integer, got float"),
        ({"input_shape": (28, 28)}, ValueError, r"input_shape must have 3 numbers, got \(28, 28\)"),
        ({"input_shape": 784}, TypeError, "input_shape must be a sequence of integers, got int"),
        ({"input_shape": (1, 3, 3)}, ValueError, "two poolings by 2 need images of 4x4, got 3x3"),
        ({"num_classes": 0}, ValueError, "num_classes must be at least 1"),
        ({"hidden": (0,)}, ValueError, "hidden must be at least 1"),
        ({"voters": 0}, ValueError, "voters must be at least 1, got 0"),
        ({"voters": 1.5}, TypeError, "voters must be"),
        ({"width": 0}, ValueError, "width must be positive, got 0"),
        ({"width": "2"}, TypeError, "width must be a number, got str"),
        ({"width": 2, "hidden": (9,)}, ValueError, "width is for the network without hidden, got 2"),
        ({"encoding": "rate"}, ValueError, "encoding must be one of bernoulli, direct"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Wu2018(**arguments)


def test_wrong_images_are_named():
    net = Wu2018()
    with pytest.raises(ValueError, match=r"shape \[B, 1, 28, 28\], got \[2, 1, 8, 8\]"):
        net(torch.rand(2, 1, 8, 8))
    with pytest.raises(TypeError, match="floating point"):
        net(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        net(torch.rand(2, 1, 28, 28), 0)


def test_every_parameter_gets_a_gradient():
    net = lively(Wu2018(num_steps=4))
    nn.functional.mse_loss(net(torch.rand(8, 1, 28, 28)), torch.rand(8, 10)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
