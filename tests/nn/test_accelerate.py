"""``accelerate``: the same network with the kernels also for the layers around its neurons."""

import copy
from collections import OrderedDict

import pytest
import torch
from jelly import layer as jelly
from looping import Layers
from replaced import loud
from torch import nn

import snnfast
import snnfast.nn as sn
from snnfast.nn import IF, LIF, ParametricLIF, Rate, SpikeConv2d, SpikeLinear, Time


def kinds(net):
    return [type(module).__name__ for module in net.modules() if not list(module.children())]


def run(net, x):
    """Return the output of ``net`` for ``x``, and the gradients of ``x`` and all parameters."""
    x = x.clone().requires_grad_()
    y = net(x)
    weights = torch.arange(y.numel(), dtype=y.dtype).sin().view(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), [x, *net.parameters()])


def equal(fast, net, x):
    """Assert equal spikes, and gradients equal to rounding."""
    (y, grads), (expected, wanted) = run(fast, x), run(net, x)
    assert expected.any()
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    for a, b in zip(grads, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class Named(nn.Module):
    """Layers that are not called in the order of their definition."""

    def __init__(self):
        super().__init__()
        self.pool, self.late_pool = nn.MaxPool2d(2), Time(nn.AvgPool2d(2))
        self.seen, self.neuron = LIF(), ParametricLIF(2.0)
        self.conv, self.late = (loud(nn.Conv2d(n, 8, 3, padding=1)) for n in (2, 8))

    def forward(self, x):
        steps = x.shape[0]
        fired = self.neuron(self.conv(x.flatten(0, 1)).unflatten(0, (steps, -1)))
        y = self.pool(fired.flatten(0, 1))
        spikes = self.seen(self.late(y).unflatten(0, (steps, -1)))
        return self.late_pool(spikes) + spikes[..., ::2, ::2]


class ByValues(nn.Module):
    """A forward that torch.fx cannot trace, around an ``nn.Sequential`` that need not be traced."""

    def __init__(self):
        super().__init__()
        self.layers = NETWORKS["pools"]()

    def forward(self, x):
        return self.layers(x if float(x.sum()) > 0 else -x)


NETWORKS = {
    "pools": lambda: nn.Sequential(
        Time(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)), ParametricLIF(2.0), Time(nn.MaxPool2d(2)),
        Time(nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8)), IF(),
    ),
    "pools first of several": lambda: nn.Sequential(
        Time(loud(nn.Conv2d(2, 8, 3))), LIF(),
        Time(nn.AvgPool2d(2), nn.Sequential(loud(nn.Conv2d(8, 4, 2)), nn.Flatten(), loud(nn.Linear(16, 5)))), LIF(),
    ),
    "linear": lambda: nn.Sequential(
        nn.Flatten(2), loud(nn.Linear(128, 9)), LIF(), loud(nn.Linear(9, 5, bias=False)), LIF()
    ),
    "named": Named,
    "by values": ByValues,
}  # fmt: skip
FOUND = {
    "pools": "SpikeConv2d BatchNorm2d ParametricLIF MaxPool2d SpikeConv2d BatchNorm2d IF",
    "pools first of several": "SpikeConv2d LIF AvgPool2d SpikeConv2d Flatten SpikeLinear LIF",
    "linear": "Flatten SpikeLinear LIF SpikeLinear LIF",
    "named": "FoldedMaxPool2d AvgPool2d LIF ParametricLIF FoldedConv2d FoldedConv2d",
    "by values": "SpikeConv2d BatchNorm2d ParametricLIF MaxPool2d SpikeConv2d BatchNorm2d IF",
}


def make(name):
    torch.manual_seed(0)
    return NETWORKS[name]().double()


def x_of():
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(5, 3, 2, 8, 8, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_gradients_and_keys_are_the_networks(name):
    net = make(name)
    before = copy.deepcopy(net.state_dict())
    fast = sn.accelerate(net)
    assert " ".join(kinds(fast)) == FOUND[name]
    equal(fast, net, x_of())
    assert list(fast.state_dict()) == list(net.state_dict())
    assert [p.shape for p in fast.parameters()] == [p.shape for p in net.parameters()]
    # State dicts load in both directions, with all values.
    torch.manual_seed(2)
    other = sn.accelerate(NETWORKS[name]().double())
    other.load_state_dict(net.state_dict())
    equal(other, net, x_of())
    net.load_state_dict(fast.state_dict())
    net.load_state_dict(before)
    assert all(mine is not theirs for mine, theirs in zip(fast.parameters(), net.parameters()))


def test_states_go_on():
    net = nn.Sequential(Time(loud(nn.Conv2d(2, 8, 3))), LIF(stateful=True), Time(nn.MaxPool2d(2))).double()
    x = x_of()
    net(x)
    fast = sn.accelerate(net)
    assert list(fast.state_dict()) == list(net.state_dict()) == ["0.layer.weight", "0.layer.bias", "1.v"]
    for _ in range(2):
        torch.testing.assert_close(fast(x), net(x), rtol=0, atol=0)
    fast.load_state_dict(net.state_dict())
    torch.testing.assert_close(fast(x), net(x), rtol=0, atol=0)


class Conv2dSubclass(nn.Conv2d):
    pass


def test_what_stays_as_it_is():
    net = Time(
        Conv2dSubclass(1, 1, 3), nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(1, 1, 3, padding="same"), nn.Conv1d(1, 1, 3)
    )
    assert kinds(sn.accelerate(net)) == ["Conv2dSubclass", "Conv2d", "Conv2d", "Conv1d"]
    assert kinds(sn.accelerate(nn.Sequential(Conv2dSubclass(1, 1, 3), nn.MaxPool1d(2)))) == [
        "Conv2dSubclass",
        "MaxPool1d",
    ]
    with pytest.raises(TypeError, match="accelerate: net must be a module, got Tensor"):
        sn.accelerate(torch.zeros(1))


def test_other_tools_take_what_it_gives():
    net = sn.accelerate(nn.Sequential(*make("pools"), Rate())).float()
    x = x_of().float()
    y = net(x)
    for one in (net, sn.accelerate(make("pools first of several"))):
        assert [type(m) for m in sn.accelerate(one).modules()] == [type(m) for m in one.modules()]
    fused = sn.fuse(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    torch.testing.assert_close(copy.deepcopy(net)(x), y)
    with snnfast.monitor(net) as watching:
        torch.testing.assert_close(net(x), y)
    assert 0 < watching.activity().scalars()["1/rate"] < 1


class Keeps(nn.Module):
    """Layer that stores its first input, as SpikingJelly's dropout stores its mask."""

    stored = None

    def forward(self, x):
        self.stored = self.stored if self.stored is not None else x.detach()
        return self.stored + x


def test_nothing_is_left_in_a_layer_that_keeps_things():
    net = nn.Sequential(Keeps(), Time(loud(nn.Conv2d(2, 8, 3))), LIF(), Time(nn.MaxPool2d(2))).double()
    fast = sn.accelerate(net)
    assert fast[0].stored is None
    equal(fast, net, x_of())


def test_activations_in_place_are_given_what_may_be_kept():
    net = nn.Sequential(Time(loud(nn.Conv2d(2, 8, 3))), nn.ReLU(inplace=True), LIF(), Time(nn.MaxPool2d(2))).double()
    fast = sn.accelerate(net)
    assert net[1].inplace
    image = x_of()[:1].expand(4, 3, 2, 8, 8)
    torch.testing.assert_close(fast(image), net[2:](net[0](image).clone().relu()))


# ---- SpikingJelly


class SeqToANNContainer(nn.Sequential):
    """Stand-in for SpikingJelly's layers that fold time into the batch."""

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


SeqToANNContainer.__module__ = "spikingjelly.activation_based.layer"


class Spike(torch.autograd.Function):
    """A spike with a rectangle as its derivative, as users write it."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * (u.abs() < 0.5).to(u)


class Forward(nn.Module):
    """Layers that a forward calls by name."""

    def __init__(self, conv, neuron, pool, last):
        super().__init__()
        self.last, self.pool, self.neuron, self.conv = last, pool, neuron, conv

    def forward(self, x):
        return self.last(self.pool(self.neuron(self.conv(x))))


@pytest.mark.parametrize("network", [nn.Sequential, Forward])
@pytest.mark.parametrize(
    "neuron", [ParametricLIF, lambda: LIF(surrogate=lambda u: Spike.apply(u))], ids=["learned", "callable"]
)
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.MaxPool2d(2)],
        lambda: [nn.AvgPool2d(2)],
        lambda: [nn.MaxPool2d(2), loud(nn.Conv2d(4, 3, 2))],
        lambda: [nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.ReLU()],
    ],
    ids=["max", "average", "with a convolution", "with a normalisation"],
)
def test_a_container_behind_neurons_pools_once(network, neuron, layers):
    torch.manual_seed(0)
    conv = loud(jelly(nn.Conv2d, 2, 4, 3, padding=1))
    net = network(conv, neuron(), SeqToANNContainer(*layers()), IF()).double()
    fast = sn.accelerate(net)
    equal(fast, net, x_of())
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert list(fast.state_dict()) == list(net.state_dict())


def test_its_layers_in_step_mode_m_run_in_time_with_the_same_keys():
    torch.manual_seed(0)
    net = nn.Sequential(
        jelly(nn.Conv2d, 2, 8, 3), jelly(nn.BatchNorm2d, 8), ParametricLIF(2.0), jelly(nn.MaxPool2d, 2),
        jelly(nn.Flatten), loud(jelly(nn.Linear, 72, 5)), LIF(), SeqToANNContainer(loud(nn.Linear(5, 4))), LIF(),
    ).double()  # fmt: skip
    assert type(net[0]).__module__.startswith("spikingjelly")
    fast = sn.accelerate(net)
    assert kinds(fast) == [
        *("SpikeConv2d", "BatchNorm2d", "ParametricLIF", "MaxPool2d", "Flatten"),
        *("SpikeLinear", "LIF", "SpikeLinear", "LIF"),
    ]
    assert list(fast.state_dict()) == list(net.state_dict())
    equal(fast, net, x_of())
    constant = x_of()[0].expand(4, 3, 2, 8, 8)
    torch.testing.assert_close(fast(constant), net(constant), rtol=0, atol=0)
    fast.load_state_dict(net.state_dict())
    # Equal steps are detected: the first layer runs once.
    y = fast[0](constant.contiguous())
    assert y.stride(0) == 0
    torch.testing.assert_close(y, net[0](constant), rtol=0, atol=1e-12)
    assert fast[0](constant.contiguous().requires_grad_()).stride(0) != 0
    other = constant.contiguous()
    other[3, 2, 1, 7, 7] += 1
    assert fast[0](other).stride(0) != 0
    torch.testing.assert_close(fast(other), net(other), rtol=0, atol=0)
    fast[0].step_mode = "m"
    with pytest.raises(ValueError, match="SpikeConv2d: step_mode must be 'm', since its copy takes sequences, got 's'"):
        fast[0].step_mode = "s"
    # A network that takes one step a call does not change.
    net[0].step_mode = "s"
    assert type(sn.accelerate(net)[0]) is type(net[0])


def test_neurons_of_others_that_take_a_step_a_call_are_left_alone_with_a_warning():
    net = Layers()
    with pytest.warns(UserWarning, match=r"accelerate: lif1, a Leaky of snntorch, .* call snnfast.nn.replace first"):
        fast = sn.accelerate(net)
    assert type(fast.fc1) is type(net.fc1)
    assert fast is not net


def test_its_layers_in_several_places_stay_one_layer():
    conv, pool = jelly(nn.Conv2d, 2, 2, 3, padding=1), jelly(nn.AvgPool2d, 2)
    loud(conv)
    net = nn.Sequential(conv, LIF(), pool, nn.Sequential(conv), LIF(), pool).double()
    fast = sn.accelerate(net)
    assert fast[0] is fast[3][0]
    assert fast[2] is fast[5]
    equal(fast, net, x_of())


def test_its_layers_that_time_cannot_run_stay():
    pooling = jelly(nn.MaxPool2d, 2, return_indices=True)
    hooked = jelly(nn.Conv2d, 2, 2, 3)
    seen = []
    hooked.register_forward_hook(lambda module, inputs, result: seen.append(result.shape))
    net = nn.Sequential(hooked, pooling, jelly(nn.MaxUnpool2d, 2))
    fast = sn.accelerate(net)
    assert [type(layer) for layer in fast] == [type(layer) for layer in net]
    fast[0](x_of().float())
    assert [len(shape) for shape in seen] == [5]


def test_its_layers_keep_their_settings_and_take_what_they_took():
    linear = loud(jelly(nn.Linear, 4, 3)).double()
    fast = sn.accelerate(nn.Sequential(linear))
    assert fast[0].weight is fast[0].layer.weight
    assert fast[0].out_features == 3
    with pytest.raises(AttributeError, match="nothing"):
        _ = fast[0].nothing
    x = torch.rand(5, 4, dtype=torch.float64)
    torch.testing.assert_close(fast(x), nn.functional.linear(x, linear.weight, linear.bias))
    named = SeqToANNContainer(OrderedDict(conv=nn.Conv2d(2, 2, 3), norm=nn.BatchNorm2d(2)))
    net = nn.Sequential(named)
    assert list(sn.accelerate(net).state_dict()) == list(net.state_dict())


class TestTheLibrariesThemselves:
    """Tests with the libraries that are installed."""

    def test_a_network_of_spikingjelly(self):
        pytest.importorskip("spikingjelly.activation_based")
        from spikingjelly.activation_based import functional, layer, neuron

        torch.manual_seed(0)
        net = nn.Sequential(
            layer.Conv2d(1, 8, 3), layer.BatchNorm2d(8), neuron.LIFNode(), layer.MaxPool2d(2), layer.Dropout(0.2),
            layer.SeqToANNContainer(loud(nn.Conv2d(8, 8, 2)), nn.BatchNorm2d(8)), neuron.ParametricLIFNode(),
            layer.AvgPool2d(2), layer.Flatten(), loud(layer.Linear(8, 4), 9.0), neuron.IFNode(),
        ).double()  # fmt: skip
        functional.set_step_mode(net, "m")
        fast = sn.accelerate(sn.replace(net))
        assert list(fast.state_dict()) == list(net.state_dict())
        x = 2 * torch.rand(6, 3, 1, 8, 8, dtype=torch.float64)
        for one in (net, fast):
            torch.manual_seed(1)
            one.result = [one(x) for _ in range(2)]  # the second continues, with the mask of the first
            functional.reset_net(one)
        for a, b in zip(fast.result, net.result):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        for one in (net, fast):
            one.eval()
        equal(fast, net, x)

    def test_a_network_of_snntorch(self):
        snn = pytest.importorskip("snntorch")

        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), snn.Leaky(0.9, init_hidden=True), nn.Flatten(),
            loud(nn.Linear(72, 4)), snn.Leaky(0.5, init_hidden=True, output=True),
        )  # fmt: skip
        fast = sn.accelerate(sn.replace(net, sequences=True))
        assert [type(fast[i]) for i in (0, 4)] == [SpikeConv2d, SpikeLinear]
        x = 2 * torch.rand(6, 3, 1, 8, 8)
        spikes, membranes = fast(x)
        expected = [net(x_t) for x_t in x]
        torch.testing.assert_close(spikes, torch.stack([s for s, _ in expected]), rtol=0, atol=0)
        torch.testing.assert_close(membranes, torch.stack([v for _, v in expected]))

    def test_a_network_of_norse(self):
        norse = pytest.importorskip("norse.torch")
        torch.manual_seed(0)
        net = norse.SequentialState(
            norse.Lift(loud(nn.Conv2d(1, 8, 3), 9.0)), norse.LIF(), norse.Lift(nn.MaxPool2d(2)),
            norse.Lift(loud(nn.Conv2d(8, 8, 2), 9.0)), norse.LIF(), nn.Flatten(2), loud(nn.Linear(32, 4)), norse.LI(),
        )  # fmt: skip
        fast = sn.accelerate(sn.replace(net))
        assert kinds(fast)[::3] == ["SpikeConv2d", "SpikeConv2d", "SpikeLinear"]
        assert list(fast.state_dict()) == list(net.state_dict())
        x = 2 * torch.rand(8, 3, 1, 8, 8)
        (membranes, _), (expected, _) = fast(x), net(x)
        assert expected.any()
        torch.testing.assert_close(membranes, expected, rtol=1e-4, atol=1e-5)
