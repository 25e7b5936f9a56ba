"""Networks of SpikingJelly on our layers: against its recorded traces, and against itself where it is installed."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from snnfast import nn as sn

TRACES = Path(__file__).parent / "traces"


def named(name, library="spikingjelly.activation_based.neuron"):
    """A class that stands for another library's."""

    def decorate(cls):
        cls.__module__, cls.__name__ = library, name
        return cls

    return decorate


class Surrogate:
    def __init__(self, alpha):
        self.alpha, self.spiking = alpha, True


Sigmoid, ATan, Erf = (type(n, (Surrogate,), {}) for n in ("Sigmoid", "ATan", "Erf"))


class Node(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        defaults = {"tau": 2.0, "decay_input": True, "v_threshold": 1.0, "v_reset": 0.0}
        defaults |= {"detach_reset": False, "step_mode": "m", "surrogate_function": Sigmoid(4.0)}
        for key, value in {**defaults, **settings}.items():
            setattr(self, key, value)
        self.v = 0.0

    def reset(self):
        self.v = 0.0


@named("LIFNode")
class LIFNode(Node):
    """SpikingJelly's equation: v + (x - (v - v_reset)) / tau, or v - (v - v_reset) / tau + x; then fire and reset."""

    def charge(self, x):
        rest = 0.0 if self.v_reset is None else self.v_reset
        if self.decay_input:
            return self.v + (x - (self.v - rest)) / self.tau
        return self.v - (self.v - rest) / self.tau + x

    def forward(self, x):
        spikes = []
        for now in x:
            v = self.charge(now)
            fired = (v >= self.v_threshold).to(v)
            soft = self.v_reset is None
            self.v = (
                v - fired * self.v_threshold if soft else torch.where(fired > 0, self.v_reset, v)
            )
            spikes.append(fired)
        return torch.stack(spikes)


@named("IFNode")
class IFNode(LIFNode):
    def charge(self, x):
        return self.v + x


@named("ParametricLIFNode")
class ParametricLIFNode(LIFNode):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.w = nn.Parameter(torch.tensor(-0.4))

    def charge(self, x):
        self.tau = 1 / self.w.sigmoid()
        return super().charge(x)


def network(**settings):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(5, 6), IFNode(**settings), nn.Linear(6, 6), LIFNode(**settings),
        nn.Sequential(nn.Linear(6, 4), ParametricLIFNode(**settings)),
    )  # fmt: skip
    with torch.no_grad():  # so that all layers fire
        for layer in (net[2], net[4][0]):
            layer.weight.abs_().mul_(4)
    return net


@pytest.mark.parametrize(
    "settings",
    [{}, {"v_reset": None}, {"decay_input": False, "v_reset": -0.2}, {"v_threshold": 0.5}],
)
def test_a_network_gives_the_same_spikes_and_keys(settings):
    net = network(**settings)
    x = torch.randn(20, 3, 5, generator=torch.Generator().manual_seed(1)) * 3
    ours = sn.replace(net, verify=x)
    kinds = [type(ours[1]), type(ours[3]), type(ours[4][1])]
    assert kinds == [sn.IF, sn.LIF, sn.ParametricLIF]
    assert list(ours.state_dict()) == list(net.state_dict())
    ours.load_state_dict(net.state_dict())
    expected = net(x)
    assert expected.any()
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=0)
    # The state stays between calls, as theirs does.
    torch.testing.assert_close(ours(x), net(x), rtol=0, atol=0)
    assert type(net[1]) is IFNode


@pytest.mark.parametrize("name", ["spikingjelly_lif", "spikingjelly_if"])
def test_neurons_reproduce_recorded_traces(name):
    trace = json.loads((TRACES / f"{name}.json").read_text())
    kind = LIFNode if name.endswith("lif") else IFNode
    x, v0 = (torch.tensor(trace[k], dtype=torch.float64) for k in ("x", "v0"))
    for case in trace["cases"]:
        own = dict(case["settings"])
        own.pop("surrogate_function", None)
        layer = sn.replace(kind(**own))
        layer.v = v0
        assert layer(x).long().tolist() == case["spikes"]


def test_verify_names_the_first_layer_and_step_that_differ():
    net = network()

    @named("LIFNode")
    class Other(LIFNode):
        def charge(self, x):
            return super().charge(x) + 10.0 * (self.calls() == 3)

        def calls(self):
            self.n = getattr(self, "n", -1) + 1
            return self.n

    net[3] = Other()
    with pytest.raises(ValueError, match=r"^replace: spikes of 3 differ from step 3 on, there of "):
        sn.replace(net, verify=torch.zeros(6, 2, 5))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"step_mode": "s"}, r"^replace: net, a LIFNode, is in step_mode 's'"),
        (
            {"surrogate_function": Erf(2.0)},
            r"has the surrogate Erf; there is an exact equal for Sig",
        ),
        ({"store_v_seq": True}, r"has store_v_seq=True"),
    ],
)
def test_settings_without_an_equal_are_refused_by_name(settings, error):
    with pytest.raises(ValueError, match=error):
        sn.replace(LIFNode(**settings))


def test_neurons_without_an_equal_are_refused_by_name():
    @named("KLIFNode")
    class KLIFNode(Node):
        pass

    @named("Leaky", "snntorch._neurons.leaky")
    class Leaky(Node):
        pass

    with pytest.raises(ValueError, match=r"^replace: 1, a KLIFNode of spikingjelly, cannot be"):
        sn.replace(nn.Sequential(IFNode(), KLIFNode()))
    with pytest.raises(ValueError, match=r"^replace: 0, a Leaky of snntorch, cannot be mapped"):
        sn.replace(nn.Sequential(Leaky()))
    with pytest.raises(ValueError, match=r"^replace: net has no neurons of SpikingJelly"):
        sn.replace(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"^replace: net must be a module, got int"):
        sn.replace(3)
    with pytest.raises(TypeError, match=r"^replace: verify must be a tensor"):
        sn.replace(IFNode(), verify=[1.0])


def test_a_network_of_the_library_itself():
    jelly = pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, layer, neuron

    assert jelly
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 4, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(144, 5),
        neuron.IFNode(v_reset=None), layer.Linear(5, 4), neuron.ParametricLIFNode(),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    with torch.no_grad():  # so that all layers fire
        for linear in (net[3], net[5]):
            linear.weight.abs_().mul_(3)
    assert net[6].w.dim() == 0
    x = torch.rand(8, 2, 1, 8, 8) * 6
    ours = sn.replace(net, verify=x)
    ours.load_state_dict(net.state_dict())
    for _ in range(2):
        expected = net(x)
        assert expected.any()
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=0)
    for one in (net, ours):
        functional.reset_net(one)
    torch.testing.assert_close(ours(x), net(x), rtol=0, atol=0)
