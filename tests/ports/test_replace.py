"""``replace``: what stays, names, errors; with stand-ins for SpikingJelly's neurons."""

import copy

import pytest
import torch
from jelly import IFNode, LIFNode, Node, named
from replaced import leaky, same
from torch import nn

import snnfast
from snnfast import nn as sn


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
    "settings", [{}, {"v_reset": None}, {"decay_input": False, "v_reset": -0.2}, {"v_threshold": 0.5}]
)
def test_a_network_gives_the_same_spikes_and_keys(settings):
    net = network(**settings)
    x = torch.randn(20, 3, 5, generator=torch.Generator().manual_seed(1)) * 3
    ours = sn.replace(net, verify=x)
    for layer, kind in ((ours[1], sn.IF), (ours[3], sn.LIF), (ours[4][1], sn.ParametricLIF)):
        assert isinstance(layer, kind)
    assert list(ours.state_dict()) == list(net.state_dict())
    ours.load_state_dict(net.state_dict())
    expected = net(x)
    assert expected.any()
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=0)
    # The state stays between calls, as in SpikingJelly.
    torch.testing.assert_close(ours(x), net(x), rtol=0, atol=0)
    assert type(net[1]) is IFNode


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
    message = "^replace: spikes of 3, a LIFNode, differ from step 3 on, .* in 12 of 12 neurons, also in float64$"
    with pytest.raises(ValueError, match=message):
        sn.replace(net, verify=torch.zeros(6, 2, 5))
    net[3].n = -1
    with pytest.raises(ValueError, match="differ from step 3 on"):
        sn.replace(net, verify=[torch.zeros(2, 2, 5), torch.zeros(4, 2, 5)])


def test_a_layer_that_other_modules_mention_is_replaced_everywhere():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = LIFNode()
            self.same = self.neuron
            self.listed = [self.neuron]

    net = Net()
    ours = sn.replace(net)
    assert isinstance(ours.neuron, sn.LIF)
    assert ours.same is ours.neuron
    assert ours.listed[0] is ours.neuron
    shared = nn.ModuleList([ParametricLIFNode(), ParametricLIFNode()])
    shared[1].w = shared[0].w
    ours = sn.replace(shared)
    assert ours[1].w is ours[0].w
    assert ours[0].w is not shared[0].w


def test_membranes_that_are_numbers_begin_there_and_reset_to_what_the_neuron_resets_to():
    """v = 0.5 and x = 0.6: 1.1 fires at once; from 0.25 on, after a reset, 0.85 and 1.45 fire at the second step."""
    node = IFNode()
    node.v, node._memories_rv = 0.5, {"v": 0.25}
    ours, x = sn.replace(node), torch.full((2, 1, 1), 0.6)
    assert ours(x).flatten().tolist() == [1, 0]
    ours.reset()
    assert ours(x).flatten().tolist() == [0, 1]
    assert copy.deepcopy(ours)(x).flatten().tolist() == ours(x).flatten().tolist() == [0, 1]


def test_an_infinite_threshold_is_a_membrane_that_never_fires():
    ours = sn.replace(IFNode(v_threshold=float("inf"), store_v_seq=True))
    assert not ours(torch.full((3, 1, 1), 10.0)).any()
    assert ours.v_seq.flatten().tolist() == [10, 20, 30]


def test_hooks_of_neurons_stay():
    net, seen = network(), []
    net[3].register_forward_hook(lambda module, inputs, result: seen.append(type(module)) or 0 * result)
    net[1].register_full_backward_hook(lambda *a: seen.append("backward"))
    ours = sn.replace(net)
    x = torch.rand(20, 3, 5)
    assert not ours[:4](x).any()
    assert seen == [type(ours[3])]
    sn.reset(ours)
    ours(x).sum().backward()
    assert seen[1:] == [type(ours[3]), "backward"]


def test_files_and_copies_after_a_call_are_those_before_it():
    net = network(store_v_seq=True)
    ours = sn.replace(net)
    ours(torch.rand(20, 3, 5))
    assert list(ours.state_dict()) == list(net.state_dict())
    net.load_state_dict(ours.state_dict())
    other = copy.deepcopy(ours)  # its membranes have a graph
    torch.testing.assert_close(other[1].v_seq, ours[1].v_seq)
    assert ours[1].v_seq.requires_grad
    sn.detach(ours)
    assert not ours[1].v_seq.requires_grad


def test_a_file_that_is_loaded_leaves_the_states():
    """Files of SpikingJelly and snnTorch have no states."""
    net = network()
    ours, jelly = sn.replace(net), torch.rand(20, 3, 5) * 3
    torch_net = sn.replace(leaky({"beta": 0.5, "threshold": 1.0, "reset_mechanism": "zero", "reset_delay": True}))
    torch_net(torch.full((1, 1), 0.5))
    expected = copy.deepcopy(ours)
    for one in (ours, expected):
        one(jelly)
    ours.load_state_dict(net.state_dict())
    assert ours[1].v.any()
    same(ours(jelly), expected(jelly), exact=True)
    torch_net.load_state_dict(torch_net.state_dict())
    assert float(torch_net(torch.full((1, 1), 0.5))[1]) == 0.75


def test_surrogates_of_the_user_are_kept(monkeypatch):
    """This holds for any name: SpikingJelly's surrogates are recognised by theirs."""

    class Mine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            return (u >= 0).to(u)

        @staticmethod
        def backward(ctx, grad):
            return 7 * grad

    class Sigmoid(nn.Module):
        alpha = 4.0

        def forward(self, u):
            return Mine.apply(u)

    monkeypatch.setattr(snnfast.backend, "_warned", set())  # warnings come once for each op
    for kind in (LIFNode, IFNode):
        x = torch.full((1, 2, 3), 0.3, requires_grad=True)
        with pytest.warns(snnfast.backend.BackendWarning, match="runs in plain PyTorch"):
            sn.replace(kind(surrogate_function=Sigmoid(), tau=2.0))(x).sum().backward()
        assert x.grad.unique().tolist() == [3.5 if kind is LIFNode else 7.0]
    learned = Sigmoid()
    learned.width = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match=r"a LIFNode .*: its surrogate_function has parameters"):
        sn.replace(LIFNode(surrogate_function=learned))
    other = leaky({"beta": 0.5, "threshold": 1.0, "reset_mechanism": "zero", "reset_delay": True})
    other.spike_grad = learned
    ours = sn.replace(other)
    assert ours.state_dict()["spike_grad.width"] == 1
    assert ours.spike_grad.width is not learned.width


def test_neurons_without_an_equal_are_refused_by_name():
    @named("LIAFNode")
    class LIAFNode(Node):
        pass

    @named("ActivationAwareIFNode", "spikingjelly.activation_based.neuron.activation_aware")
    class ActivationAwareIFNode(Node):
        pass

    class Mine(LIFNode):
        pass

    start = r"^replace: 1, a {} of spikingjelly, cannot be mapped exactly: {}"
    for node, reason in (
        (LIAFNode(), "it gives what a function of yours"),
        (ActivationAwareIFNode(), "there are equals for IFNode, LIFNode"),
        (Mine(), "it inherits from LIFNode"),
    ):
        with pytest.raises(ValueError, match=start.format(type(node).__name__, reason)):
            sn.replace(nn.Sequential(IFNode(), node))
    with pytest.raises(ValueError, match=r"^replace: net has no neurons of spikingjelly, snntorch"):
        sn.replace(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"^replace: net must be a module, got int"):
        sn.replace(3)
    with pytest.raises(TypeError, match=r"^replace: verify must be a tensor"):
        sn.replace(IFNode(), verify=[1.0])
