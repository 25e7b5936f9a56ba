"""Networks of SpikingJelly on our layers: against its recorded traces, and against itself where it is installed."""

import copy
import json
from pathlib import Path

import pytest
import torch
from replaced import agrees, inputs, leaky, loud, same
from torch import nn

import snnfast
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


Sigmoid, ATan = (
    named(n, "spikingjelly.activation_based.surrogate")(type(n, (Surrogate,), {}))
    for n in ("Sigmoid", "ATan")
)


class Node(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        defaults = {"tau": 2.0, "decay_input": True, "v_threshold": 1.0, "v_reset": 0.0}
        defaults |= {"detach_reset": False, "step_mode": "m", "surrogate_function": Sigmoid(4.0)}
        for key, value in {**defaults, **settings}.items():
            setattr(self, key, value)
        self.v = 0.0 if self.v_reset is None else self.v_reset
        self._memories_rv = {"v": self.v}

    def reset(self):
        self.v = self._memories_rv["v"]


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
    for layer, kind in ((ours[1], sn.IF), (ours[3], sn.LIF), (ours[4][1], sn.ParametricLIF)):
        assert isinstance(layer, kind)
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
        own["surrogate_function"] = {"Sigmoid": Sigmoid(4.0), "ATan": ATan(2.0)}[
            own["surrogate_function"]
        ]
        layer = sn.replace(kind(**own, store_v_seq=True))
        layer.v = v0
        assert layer(x).long().tolist() == case["spikes"]
        same(layer.v_seq, torch.tensor(case["v_seq"], dtype=torch.float64))


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
    message = r"^replace: spikes of 3, a LIFNode, differ from step 3 on, at that step in 12 of 12 neurons$"
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
    net[3].register_forward_hook(
        lambda module, given, result: seen.append(type(module)) or 0 * result
    )
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
    """As in SpikingJelly and snnTorch, whose files have no states."""
    net = network()
    ours, jelly = sn.replace(net), torch.rand(20, 3, 5) * 3
    torch_net = sn.replace(
        leaky({"beta": 0.5, "threshold": 1.0, "reset_mechanism": "zero", "reset_delay": True})
    )
    torch_net(torch.full((1, 1), 0.5))
    expected = copy.deepcopy(ours)
    for one in (ours, expected):
        one(jelly)
    ours.load_state_dict(net.state_dict())
    assert ours[1].v.any()
    same(ours(jelly), expected(jelly), exact=True)
    torch_net.load_state_dict(torch_net.state_dict())
    assert float(torch_net(torch.full((1, 1), 0.5))[1]) == 0.75


def test_surrogates_of_the_user_are_kept():
    """Whatever their name, by which SpikingJelly's are known."""

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


def test_memories_that_stay_spikingjellys_are_reset_and_detached():
    @named("MemoryModule", "spikingjelly.activation_based.base")
    class MemoryModule(nn.Module):
        y = 0.0

        def forward(self, x):
            self.y = self.y + x
            return self.y

        def reset(self):
            self.y = 0.0

        def detach(self):
            self.y = self.y.detach()

    class SynapseFilter(MemoryModule):
        pass

    net = sn.replace(nn.Sequential(SynapseFilter(), nn.Linear(5, 3), IFNode()))
    x = torch.rand(4, 2, 5, requires_grad=True)
    net(x)
    sn.detach(net)
    assert not net[0].y.requires_grad
    sn.reset(net)
    assert net[0].y == 0


def test_memories_that_stay_spikingjellys_take_sequences_themselves():
    """In nn.Time they would take all steps for one."""

    @named("MemoryModule", "spikingjelly.activation_based.base")
    class MemoryModule(nn.Module):
        step_mode, y = "s", 0.0

        def forward(self, x):
            steps = x if self.step_mode == "m" else x[None]
            y = torch.cumsum(steps, 0) + self.y
            self.y = y[-1]
            return y if self.step_mode == "m" else y[0]

    class Block(nn.Sequential):
        pass

    def net(outer=nn.Sequential):
        torch.manual_seed(0)
        inner = outer(nn.Linear(5, 4), MemoryModule())
        return nn.Sequential(inner, nn.Linear(4, 3), IFNode(step_mode="s"))

    x = inputs(6, 2, 5, high=3.0)
    steps, whole = sn.replace(net()), sn.replace(net(), sequences=True)
    expected = torch.stack([steps(now) for now in x])
    assert expected.any()
    same(whole(x), expected, exact=True)
    with pytest.raises(ValueError, match=r"0 is a Block, which runs its steps itself"):
        sn.replace(net(Block), sequences=True)


@named("KLIFNode")
class KLIFNode(Node):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.k = nn.Parameter(torch.tensor(2.0))


@pytest.mark.filterwarnings("ignore:KLIFNode runs in plain")
@pytest.mark.parametrize(
    ("settings", "spikes", "v_seq"),
    [
        # h = 0.5, f = 1 fires; 0.4, 0.8; 0.8 - 1.9 = -1.1, 0; 0.3, 0.6
        ({"scale_reset": False}, [1, 0, 0, 0], [0.0, 0.8, 0.0, 0.6]),
        # f = 1 leaves 0.5 - 0.5; h = 0.4 stays 0.4; 0.4 - 1.7 = -1.3, 0; 0.3 stays
        ({"scale_reset": True, "v_reset": None}, [1, 0, 0, 0], [0.0, 0.4, 0.0, 0.3]),
    ],
)
def test_klif_by_hand(settings, spikes, v_seq):
    net = KLIFNode(**settings, store_v_seq=True)
    ours = sn.replace(net)
    x = torch.tensor([1.0, 0.8, -3.0, 0.6]).view(4, 1, 1)
    assert ours(x).flatten().tolist() == spikes
    torch.testing.assert_close(ours.v_seq.flatten(), torch.tensor(v_seq))


@named("CUBALIFNode")
class CUBALIFNode(Node):
    c, c_decay, v_decay = 0.0, 0.5, 0.75


def test_cubalif_by_hand(tmp_path):
    """c = 0.6, 0.3, 0.65; h = 0.6 - 0.15 fires at 0.45; -0.2 0.75 + 0.3 = 0.15; 0.1125 + 0.65 fires."""
    ours = sn.replace(CUBALIFNode(v_reset=-0.2, v_threshold=0.45, store_v_seq=True))
    assert ours(torch.tensor([0.6, 0.0, 0.5]).view(3, 1, 1)).flatten().tolist() == [1, 0, 1]
    torch.testing.assert_close(ours.v_seq.flatten(), torch.tensor([-0.2, 0.15, -0.2]))
    torch.testing.assert_close(ours.i, torch.tensor([[0.65]]))
    with pytest.raises(ValueError, match=r"starts with v=-0\.2, and neurons in C start at v_rest"):
        snnfast.export_c(nn.Sequential(nn.Linear(1, 1), ours), tmp_path)


@named("Dropout", "spikingjelly.activation_based.layer")
class Dropout(nn.Module):
    def forward(self, x):
        return x


@named("Linear", "spikingjelly.activation_based.layer")
class Linear(nn.Linear):
    step_mode = "m"


def test_a_replaced_network_goes_on_to_c_and_nir(tmp_path):
    torch.manual_seed(0)
    layers = loud(Linear(5, 6)), LIFNode(), Dropout(), Linear(6, 4), IFNode()
    net = nn.Sequential(*layers).eval()
    ours, x = sn.replace(net), torch.rand(20, 1, 5) * 2
    wanted = ours(x)
    assert wanted.any()
    program = snnfast.export_c(ours, tmp_path).network
    graph = snnfast.nir.to_nir(ours, (5,), dt=1e-3, scheme="euler")
    for other in (program, snnfast.nir.from_nir(graph)):
        torch.testing.assert_close(other(x), wanted, rtol=0, atol=0)
    assert type(ours[0]) is Linear


def test_neurons_without_an_equal_are_refused_by_name():
    @named("NonSpikingLIFNode")
    class NonSpikingLIFNode(Node):
        pass

    @named("PSN", "spikingjelly.activation_based.neuron.psn")
    class PSN(Node):
        pass

    class Mine(LIFNode):
        pass

    start = r"^replace: 1, a {} of spikingjelly, cannot be mapped exactly: {}"
    for node, reason in (
        (NonSpikingLIFNode(), "it returns a list of membranes"),
        (PSN(), "there are equals for IFNode, LIFNode"),
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


class TestTheLibraryItself:
    """Where SpikingJelly is installed."""

    @pytest.fixture(autouse=True)
    def jelly(self):
        pytest.importorskip("spikingjelly.activation_based")
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        self.functional, self.layer, self.neuron = functional, layer, neuron
        self.surrogate = surrogate

    def test_a_network(self):
        functional, layer, neuron = self.functional, self.layer, self.neuron
        torch.manual_seed(0)
        net = nn.Sequential(
            layer.Conv2d(1, 4, 3), neuron.LIFNode(), layer.Dropout(0.2), layer.Flatten(), loud(layer.Linear(144, 5)),
            neuron.IFNode(v_reset=None), loud(layer.Linear(5, 4)), neuron.ParametricLIFNode(),
        ).eval()  # fmt: skip
        functional.set_step_mode(net, "m")
        assert net[-1].w.dim() == 0
        x = torch.rand(8, 2, 1, 8, 8) * 6
        ours = sn.replace(net, verify=x)
        ours.load_state_dict(net.state_dict())
        for _ in range(2):
            expected = net(x)
            assert expected.any()
            same(ours(x), expected, exact=True)
        for one in (net, ours):
            functional.reset_net(one)
        same(ours(x), net(x), exact=True)
        # The same a step a call.
        for one in (net, ours):
            functional.reset_net(one)
            functional.set_step_mode(one, "s")
        for now in x:
            same(ours(now), net(now), exact=True)
        # What is made of a network in use goes on where that is.
        same(sn.replace(net, verify=list(x))(x[0]), net(x[0]), exact=True)

    def test_containers_stay(self):
        layer, neuron = self.layer, self.neuron
        torch.manual_seed(0)
        net = nn.Sequential(
            layer.SeqToANNContainer(loud(nn.Conv2d(1, 3, 3)), nn.BatchNorm2d(3)), neuron.LIFNode(step_mode="m"),
            layer.MultiStepContainer(neuron.IFNode()), nn.Flatten(2),
            layer.LinearRecurrentContainer(neuron.LIFNode(), 48, 48, step_mode="m"),
        )  # fmt: skip
        x = inputs(10, 4, 1, 6, 6, high=3.0)
        ours = sn.replace(net, verify=x)
        assert type(ours[0]) is layer.SeqToANNContainer
        assert isinstance(ours[2][0], sn.IF)
        assert isinstance(ours[4].sub_module, sn.LIF)
        assert list(ours.state_dict()) == list(net.state_dict())

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("LIFNode", {"tau": 3.0, "decay_input": False}),
            ("ParametricLIFNode", {"init_tau": 3.0, "v_reset": None}),
            ("QIFNode", {"v_reset": -0.2}),
            ("EIFNode", {"delta_T": 0.5, "v_reset": -0.3}),
            ("KLIFNode", {"tau": 3.0, "scale_reset": True, "v_reset": -0.2}),
            ("KLIFNode", {"decay_input": False, "v_reset": None, "detach_reset": True}),
            ("CUBALIFNode", {"c_decay": 0.3, "v_reset": -0.2}),
            ("IzhikevichNode", {"tau_w": 4.0, "a": 0.5, "b": 0.25, "v_reset": -0.2, "w_rest": 0.3}),
        ],
    )
    @pytest.mark.parametrize("step_mode", ["m", "s"])
    @pytest.mark.filterwarnings("ignore:KLIFNode runs in plain")
    def test_a_neuron(self, name, settings, step_mode):
        node = getattr(self.neuron, name)(**settings)
        node.step_mode, node.store_v_seq = step_mode, True
        if name == "KLIFNode":
            nn.init.constant_(node.k, 1.3)

        def run(module, x):
            module.reset()
            spikes = torch.stack([module(now) for now in x]) if step_mode == "s" else module(x)
            return spikes, module.v_seq

        agrees(node, run, inputs(30, 4, 6, high=4.0))

    @pytest.mark.parametrize(
        ("name", "alpha", "kernel"),
        [
            ("Sigmoid", 3.0, "sigmoid"), ("ATan", 3.0, "atan"), ("Erf", 1.5, "gaussian"), ("Rect", 0.7, "rectangle"),
            ("PiecewiseQuadratic", 0.8, "triangle"), ("SoftSign", 2.0, "fast_sigmoid"),
            ("SuperSpike", 1.0, "fast_sigmoid"), ("SuperSpike", 3.0, None), ("SoftSign", 1.0, None),
            ("PiecewiseExp", 2.0, None),
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore:lif runs in plain")
    def test_a_surrogate(self, name, alpha, kernel):
        node = self.neuron.LIFNode(
            step_mode="m", surrogate_function=getattr(self.surrogate, name)(alpha)
        )
        ours = agrees(node, lambda m, x: (m.reset(), m(x))[1:], inputs(20, 4, 6, high=4.0))
        assert getattr(ours.surrogate, "name", None) == kernel
