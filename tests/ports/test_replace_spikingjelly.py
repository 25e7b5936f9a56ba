"""Networks of SpikingJelly on our layers, compared with recorded traces, and with SpikingJelly if installed."""

import pytest
import torch
from jelly import ATan, IFNode, LIFNode, Node, Sigmoid, named
from recorded import inputs_of, recorded
from replaced import agrees, inputs, loud, same
from samples import assert_equal
from torch import nn

import snnfast
from snnfast import nn as sn


@pytest.mark.parametrize("name", ["spikingjelly_lif", "spikingjelly_if"])
def test_neurons_reproduce_recorded_traces(name):
    trace = recorded(name)
    kind = LIFNode if name.endswith("lif") else IFNode
    x, v0, _ = inputs_of(trace)
    for case in trace["cases"]:
        options = dict(case["settings"])
        options["surrogate_function"] = {"Sigmoid": Sigmoid(4.0), "ATan": ATan(2.0)}[options["surrogate_function"]]
        layer = sn.replace(kind(**options, store_v_seq=True))
        layer.v = v0
        assert layer(x).long().tolist() == case["spikes"]
        same(layer.v_seq, torch.tensor(case["v_seq"], dtype=torch.float64))


@pytest.mark.parametrize("multi", [True, False])
def test_the_nodes_of_clock_driven_have_no_step_mode(multi):
    """The older half of SpikingJelly has a class for each step mode."""

    @named("MultiStepLIFNode" if multi else "LIFNode", "spikingjelly.clock_driven.neuron")
    class Older(LIFNode):
        def __init__(self):
            super().__init__(tau=3.0, v_reset=None)
            del self.step_mode

        def forward(self, x):
            return super().forward(x) if multi else super().forward(x.unsqueeze(0)).squeeze(0)

    net = nn.Sequential(loud(nn.Linear(5, 6)), Older())
    x = inputs(9, 3, 5)
    ours = sn.replace(net, verify=x if multi else list(x))
    assert ours[1].step_mode == ("m" if multi else "s")
    assert isinstance(ours[1], Older)


def test_a_vendored_copy_is_replaced_unless_it_was_changed():
    """A copy under another package is found by its modules, and compared on a random sequence."""

    @named("LIFNode", "src.spikingjelly.clock_driven.neuron")
    class Vendored(LIFNode):
        def forward(self, x):
            return super().forward(x)

    changed = named("LIFNode", "models.sj.activation_based.neuron")(
        type("", (Vendored,), {"charge": lambda s, x: 3 * x})
    )
    x = inputs(9, 3, 5)
    for function in (Sigmoid, named("ATan", "src.spikingjelly.clock_driven.surrogate")(type("", (ATan,), {}))):
        net = nn.Sequential(loud(nn.Linear(5, 6)), Vendored(tau=3.0, surrogate_function=function(2.0)))
        ours = sn.replace(net, verify=x)
        assert isinstance(ours[1], Vendored)
        assert ours[1].surrogate == (snnfast.surrogate.sigmoid if function is Sigmoid else snnfast.surrogate.atan)(2.0)
    with pytest.raises(ValueError, match=r"0, a LIFNode of spikingjelly, .* copy of the library's, .* spikes of "):
        sn.replace(nn.Sequential(changed()))


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
    """In ``nn.Time`` they would process all steps as one."""

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
    expected = torch.stack([steps(x_t) for x_t in x])
    assert expected.any()
    same(whole(x), expected, exact=True)
    with pytest.raises(ValueError, match=r"0 is a Block, which runs its steps itself"):
        sn.replace(net(Block), sequences=True)


@named("KLIFNode")
class KLIFNode(Node):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.k = nn.Parameter(torch.tensor(2.0))
        self.scale_reset = settings.get("scale_reset", False)


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


class Mine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        if u.requires_grad:
            ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * torch.exp(-u.abs())


def test_the_apply_of_an_autograd_function_has_its_gradient():
    """``surrogate_function=Mine.apply`` is what ``lambda u: Mine.apply(u)`` is."""
    x, grads = inputs(10, 4), []
    for surrogate in (Mine.apply, lambda u: Mine.apply(u)):
        leaf = x.clone().requires_grad_()
        sn.replace(KLIFNode(surrogate_function=surrogate))(leaf).sum().backward()
        grads.append(leaf.grad)
    assert_equal(*grads)
    assert grads[0].abs().sum() > 1


@named("GatedLIFNode")
class GatedLIFNode(nn.Module):
    def __init__(self, steps, **gates):
        super().__init__()
        self.T, self.v, self.surrogate_function = steps, 0.0, Sigmoid(4.0)
        for name, value in gates.items():
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))


def test_gated_lif_reproduces_its_recorded_trace():
    trace = recorded("spikingjelly_gated")
    (case,) = trace["cases"]
    x, v0, weights = (t.view(*t.shape, 1, 1).requires_grad_() for t in inputs_of(trace))
    node = GatedLIFNode(len(x), **case["settings"])
    node.store_v_seq = True
    ours = sn.replace(node)
    assert list(ours.state_dict()) == list(node.state_dict())
    ours.store_v_seq, ours.v = True, v0
    spikes = ours(x)
    assert spikes.flatten(2).long().tolist() == case["spikes"]
    grads = torch.autograd.grad((weights * spikes).sum(), (x, v0))
    for name, got in zip(("v_seq", "grad_x", "grad_v0"), (ours.v_seq, *grads)):
        wanted = torch.tensor(case[name], dtype=torch.float64)
        torch.testing.assert_close(got.view(wanted.shape), wanted, rtol=0, atol=1e-12)


def test_gated_lif_is_refused_where_its_gates_would_be_passed_over(tmp_path):
    gates = {n: 0.0 for n in ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay")}
    gates["v_subreset"] = 0.0
    ours = sn.replace(GatedLIFNode(2, **gates, conduct=[0.0, 0.0]))
    with pytest.raises(ValueError, match=r"x must have shape \[2, B, C, H, W\], got \[3, 1, 1\]"):
        ours(torch.zeros(3, 1, 1))
    with pytest.raises(ValueError, match="its input has gates"):
        sn.Recurrent(ours, 1)(torch.zeros(2, 1, 1))
    single = sn.replace(GatedLIFNode(1, **gates, conduct=[0.0]))
    net = nn.Sequential(sn.Time(nn.Conv2d(1, 1, 1)), single)
    with pytest.raises(ValueError, match="has no equal in C"):
        snnfast.export_c(net, tmp_path, input_shape=(1, 2, 2))


def test_neurons_from_step_functions_are_pooled_behind_their_kernel():
    net = sn.replace(nn.Sequential(KLIFNode(), sn.Time(nn.MaxPool2d(2))))
    x = torch.rand(5, 2, 3, 4, 4)
    expected = net(x)
    sn.reset(net)
    assert expected.any()
    assert_equal(sn.accelerate(net)(x), expected)


@named("MultiLevelSpikeCount", "spikingjelly.activation_based.surrogate")
class MultiLevelSpikeCount:
    max_spike_count, grad_min, grad_max, spiking = 3, 0.0, 3.0, True


@named("ILIFNode")
class ILIFNode(Node):
    pass


def test_a_network_of_step_functions_is_watched_and_explained():
    node = ILIFNode(v_reset=None, surrogate_function=MultiLevelSpikeCount())
    klif, x = KLIFNode(), torch.tensor([2.6, 0.0, 0.4]).view(3, 1, 1)
    net = sn.replace(nn.Sequential(node, nn.Identity(), klif))
    with snnfast.monitor(net) as watching:
        # h = 2.6 gives 3 and leaves -0.4; -0.2; -0.1 + 0.4
        assert net[0](x).flatten().tolist() == [3, 0, 0]
        net(x)
    rows = {row.place: row for row in watching.activity().neurons}
    assert rows["0"].kind == "ILIFNode"
    assert rows["0"].spikes == 3
    assert rows["2"].kind == "KLIFNode"
    lines = snnfast.backend.explain(net, x).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["0", "2"]
    assert "ilif" in lines[0]
    assert "klif: CPU kernel compiled from its step" in lines[1] or "no C++ compiler" in lines[1]
    assert list(net.state_dict()) == ["2.k"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("PSN", "sees other steps by a matrix"),
        ("OTTTLIFNode", "gradient of its own"),
        ("MPBNLIFNode", "batch normalisation"),
        ("LIAFNode", "a function of yours"),
        ("FlexSN", "snnfast.neuron"),
        ("ActivationAwareIFNode", "there are equals for"),
    ],
)
def test_what_is_refused_says_why(name, why):
    with pytest.raises(ValueError, match=f"net, a {name} of spikingjelly, cannot be .*{why}"):
        sn.replace(named(name)(type(name, (Node,), {}))())


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


def test_neurons_with_recurrent_connections_begin_where_theirs_do():
    """h = 0.7 + (1.5 - 0.7) / 2 fires; then 0 + 1.5 / 2 does not."""
    node = LIFNode()
    node.v = 0.7
    layer = sn.Recurrent(sn.replace(node), 1, weight=torch.zeros(1, 1))
    assert layer(torch.full((2, 1, 1), 1.5)).flatten().tolist() == [1, 0]


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


class TestTheLibraryItself:
    """Tests with SpikingJelly, if it is installed."""

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
        # The same with one step a call.
        for one in (net, ours):
            functional.reset_net(one)
            functional.set_step_mode(one, "s")
        for x_t in x:
            same(ours(x_t), net(x_t), exact=True)
        # A copy of a network in use continues from its state.
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
            ("KLIFNode", {"scale_reset": True, "v_reset": None}),
            ("ComplementaryLIFNode", {"tau": 3.0, "v_threshold": 0.7}),
            ("ILIFNode", {"tau": 2.0, "v_threshold": 0.7, "detach_reset": True}),
            ("RAFNode", {"v_reset": -0.3, "omega": 0.5}),
            ("RAFNode", {"v_reset": None, "b": -0.1}),
            ("TernaryIFNode", {"v_reset": None}),
            ("TernaryLIFNode", {"tau": 3.0, "v_reset": -0.2}),
            ("SimpleIFNode", {"v_reset": -0.2}),
            ("SimpleLIFNode", {"tau": 3.0, "decay_input": True}),
            ("HalfThresholdIFNode", {"v_threshold": 1.5}),
            ("CUBALIFNode", {"c_decay": 0.3, "v_reset": -0.2}),
            ("IzhikevichNode", {"tau_w": 4.0, "a": 0.5, "b": 0.25, "v_reset": -0.2, "w_rest": 0.3}),
        ],
    )
    @pytest.mark.parametrize("step_mode", ["m", "s"])
    def test_a_neuron(self, name, settings, step_mode):
        node = getattr(self.neuron, name)(**settings)
        node.step_mode = step_mode
        stores = not name.startswith(("Simple", "Complementary"))
        node.store_v_seq = stores
        if name == "KLIFNode":
            nn.init.constant_(node.k, 1.3)

        def run(module, x):
            module.reset()
            spikes = torch.stack([module(x_t) for x_t in x]) if step_mode == "s" else module(x)
            return spikes, module.v_seq if stores else module.v

        high = 1.5 if name == "RAFNode" else 4.0
        low = -4.0 if name.startswith("Ternary") else -0.3
        agrees(node, run, inputs(30, 4, 6, low=low, high=high))

    @pytest.mark.parametrize("channels", [None, 3])
    def test_gated_lif(self, channels):
        node = self.neuron.GatedLIFNode(T=12, inplane=channels)
        torch.manual_seed(1)
        with torch.no_grad():
            for gate in node.parameters():
                gate.add_(torch.randn_like(gate) * 0.5)

        def run(module, x):
            module.reset()
            return torch.cat([module(x[:12]), module(x[12:])]), module.v

        agrees(node, run, inputs(24, 2, 3, 4, 5, high=2.0))

    @pytest.mark.parametrize("decode", [None, "last-mem", "max-mem", "max-abs-mem", "mean-mem"])
    @pytest.mark.parametrize("name", ["NonSpikingIFNode", "NonSpikingLIFNode"])
    def test_a_neuron_that_gives_its_membranes(self, name, decode):
        def run(module, x):
            membranes = module(x)
            return [torch.stack(membranes) if isinstance(membranes, list) else membranes]

        node, x = getattr(self.neuron, name)(decode=decode), inputs(9, 3, 4, low=-1.0)
        agrees(node, run, x, fires=False)
        sn.replace(nn.Sequential(node), verify=x)

    @pytest.mark.filterwarnings("ignore:klif runs in plain")
    def test_a_surrogate_that_cannot_be_compiled_is_kept(self):
        node = self.neuron.KLIFNode(step_mode="m", surrogate_function=self.surrogate.PiecewiseExp(2.0))
        agrees(node, lambda m, x: (m.reset(), m(x))[1:], inputs(20, 4, 6, high=4.0))

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
        node = self.neuron.LIFNode(step_mode="m", surrogate_function=getattr(self.surrogate, name)(alpha))
        ours = agrees(node, lambda m, x: (m.reset(), m(x))[1:], inputs(20, 4, 6, high=4.0))
        assert getattr(ours.surrogate, "name", None) == kernel
