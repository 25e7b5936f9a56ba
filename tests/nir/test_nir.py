"""NIR: the same bits after a round trip, and files of other tools."""

import itertools

import numpy as np
import pytest
import torch
from graphs import graph_of
from torch import nn
from torch.nn.utils import prune

from snnfast import convert
from snnfast import nir as sn
from snnfast.nn import IF, LI, LIF, RLIF, CubaLI, CubaLIF, Delay, ParametricLIF, Recurrent, Time

nir = pytest.importorskip("nir")


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def per_neuron(*shape, low=1.5, high=6.0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * (high - low) + low


def test_layers_of_a_converted_network():
    """With hard reset and from rest its neurons are those of NIR."""
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    x = torch.rand(4, 1, 8, 8)
    network = convert(ann, [x], percentile=99.0, reset="hard", initial_membrane=0.0)
    net = network.sequential()
    back = sn.from_nir(sn.to_nir(net[:-1], (1, 8, 8), dt=1.0, scheme="euler"))
    frames = x.expand(12, *x.shape)
    with torch.no_grad():
        same(back(frames), net[:-1](frames))
        torch.testing.assert_close(back(frames).mean(0), network(x, 12), rtol=1e-5, atol=1e-6)


class Skip(nn.Module):
    """A sum of two paths."""

    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.back = Time(nn.Linear(6, 6)), LIF(), Time(nn.Linear(6, 4))

    def forward(self, x):
        y = self.lif(self.fc(x))
        return self.back(y + x)


class Added(nn.Module):
    """In-place additions, read by both names; nested sums, and sums of a value with a sum that contains it."""

    def __init__(self):
        super().__init__()
        self.input, self.lif, self.output = Time(nn.Linear(6, 6)), LIF(v_threshold=0.2), LIF()
        self.fc, self.same = Time(nn.Linear(6, 4)), nn.Identity()

    def forward(self, x):
        y = self.input(x)
        same = self.same(y)
        y.add_(self.lif(y))
        y += x
        return self.output(self.fc(same + (y + (x + same))))


def pruned():
    layer = nn.Linear(6, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    return nn.Sequential(Time(layer), LIF(v_threshold=0.2))


def normalized():
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            value.uniform_(0.5, 2.0)
    return nn.Sequential(Time(nn.Conv2d(2, 3, 3), norm), LIF()).eval()


NETWORKS = {
    "LIF": (lambda: LIF(3.0), (6,)),
    "LIF of decay_input=False": (lambda: LIF(decay=0.9, decay_input=False), (6,)),
    "LIF with a rest": (lambda: LIF(2.2, v_reset=-0.3, v_rest=0.1, v_threshold=0.7), (6,)),
    "LIF strict": (lambda: LIF(2.0, strict=True), (6,)),
    "LIF of each its own": (
        lambda: LIF(per_neuron(6), v_threshold=per_neuron(6, low=0.3, high=1.0), v_reset=per_neuron(6) / 9),
        (6,),
    ),
    "LIF of each channel": (lambda: LIF(per_neuron(3, 1, 1), decay_input=False), (3, 4, 4)),
    "ParametricLIF": (lambda: ParametricLIF(2.7), (6,)),
    "ParametricLIF of channels": (lambda: ParametricLIF(2.7, channels=3), (3, 4, 4)),
    "LIF without leak": (lambda: LIF(decay=1.0, decay_input=False), (6,)),
    "IF": (lambda: IF(v_threshold=1.3, v_reset=-0.2), (6,)),
    "IF strict": (lambda: IF(strict=True), (6,)),
    "CubaLIF strict": (lambda: CubaLIF(strict=True), (6,)),
    "CubaLIF": (lambda: CubaLIF(3.0, 1.7), (6,)),
    "CubaLIF of each its own": (lambda: CubaLIF(per_neuron(6), per_neuron(6), decay_input=False), (6,)),
    "CubaLIF learned": (lambda: CubaLIF(3.0, 4.0, learnable=True, channels=6), (6,)),
    "LI": (lambda: LI(5.0, v_rest=0.2), (6,)),
    "I": (lambda: LI(decay=1.0, decay_input=False), (6,)),
    "CubaLI of one op": (lambda: CubaLI(3.0, 1.7, v_rest=0.1), (6,)),
    "CubaLI of one op, unscaled": (lambda: CubaLI(per_neuron(6), 2.0, decay_input=False), (6,)),
    "CubaLI": (lambda: sn.TwoLI(LI(2.0), LI(3.0, v_rest=0.1)), (6,)),
    "CubaLI of an unscaled current": (
        lambda: sn.TwoLI(LI(2.0, decay_input=False), LI(3.0)),
        (6,),
    ),
    "Delay": (lambda: Delay(6, 7.5), (6,)),
    "Delay of channels": (lambda: Delay(3, 7.5), (3, 4, 4)),
    "RLIF": (lambda: RLIF(6, 3.0, self_connections=False), (6,)),
    "Recurrent CubaLIF": (lambda: Recurrent(CubaLIF(3.0, 1.7, strict=True), 6), (6,)),
    "Recurrent IF, delayed": (lambda: Recurrent(IF(v_threshold=1.3), 6, max_delay=4.5), (6,)),
    "Offset": (lambda: sn.Offset(per_neuron(6)), (6,)),
    "Threshold": (lambda: sn.Threshold(0.4), (6,)),
    "Scale": (lambda: sn.Scale(per_neuron(6)), (6,)),
    "Linear": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "Affine": (lambda: Time(nn.Linear(6, 4)), (6,)),
    "Conv1d": (lambda: Time(nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2)), (2, 9)),
    "Conv2d": (lambda: Time(nn.Conv2d(2, 4, 3, padding=(1, 0), dilation=2)), (2, 9, 8)),
    "Conv2d same": (lambda: Time(nn.Conv2d(2, 4, 3, padding="same", bias=False)), (2, 5, 5)),
    "AvgPool2d": (lambda: Time(nn.AvgPool2d(3, 2, 1)), (2, 9, 8)),
    "SumPool2d": (lambda: Time(sn.SumPool2d((2, 1))), (2, 6, 6)),
    "Flatten": (lambda: Time(nn.Flatten(2)), (2, 3, 4)),
    "Flatten without Time": (lambda: nn.Sequential(LIF(), nn.Flatten(2), LIF()), (2, 3, 4)),
    "Flatten of the last two": (lambda: nn.Sequential(nn.Flatten(-2), LIF()), (2, 3, 4)),
    "a sum": (Skip, (6,)),
    "sums": (Added, (6,)),
    "pruned": (pruned, (6,)),
    "a convolutional network": (
        lambda: nn.Sequential(
            Time(nn.Conv2d(2, 4, 3)), LIF(), Time(nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2)),
            nn.Sequential(Time(nn.Linear(16, 8)), CubaLIF()), Delay(8, 3.0), Time(nn.Linear(8, 3)),
            LI(9.0),
        ),
        (2, 6, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["euler", "exponential"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_round_trip_through_a_file_keeps_every_bit(name, scheme, tmp_path):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    net = make().eval()
    x = torch.randn(30, 3, *shape, generator=torch.Generator().manual_seed(1)) * 3
    for twice in range(2):
        path = tmp_path / f"{twice}.nir"
        sn.write(path, net, shape, dt=1e-4, scheme=scheme)
        if name != "Conv1d":  # it has groups, for which nir's check is wrong
            nir.read(path)
        back = sn.read(path)
        same(back(x), net(x))
        net = back


def test_batch_normalisation_is_folded_to_rounding(tmp_path):
    net = normalized()
    graph = sn.to_nir(net, (2, 5, 5), dt=1.0, scheme="euler")
    assert [type(n).__name__ for n in graph.nodes.values()] == ["Input", "Conv2d", "LIF", "Output"]
    x = torch.randn(4, 2, 2, 5, 5)
    torch.testing.assert_close(sn.from_nir(graph).nodes["0_0"](x), net[0](x), rtol=1e-5, atol=1e-5)


def test_fields_are_nirs(tmp_path):
    """By hand: 1 ms a step; decay 0.5 is tau = 2 ms by Euler, 1 ms / log 2 exactly."""
    for scheme, tau in {"euler": 2e-3, "exponential": 1e-3 / np.log(2)}.items():
        graph = sn.to_nir(LIF(2.0, v_threshold=0.3), (4,), dt=1e-3, scheme=scheme)
        assert graph.metadata == {"dt": 1e-3, "scheme": scheme, "source": "snnfast"}
        (node,) = (n for n in graph.nodes.values() if isinstance(n, nir.LIF))
        for field, value in {"tau": tau, "r": 1, "v_leak": 0, "v_threshold": 0.3, "v_reset": 0}.items():
            found = getattr(node, field)
            assert (found.shape, found.dtype) == ((4,), np.float32), field
            np.testing.assert_allclose(found, value, rtol=1e-6)
    node = sn.to_nir(LIF(4.0, decay_input=False), (1,), dt=1.0, scheme="euler").nodes
    assert [n.r.item() for n in node.values() if isinstance(n, nir.LIF)] == [4.0]
    node = sn.to_nir(CubaLIF(2.0, 4.0), (1,), dt=0.5, scheme="euler").nodes
    (cuba,) = (n for n in node.values() if isinstance(n, nir.CubaLIF))
    assert [cuba.tau_mem.item(), cuba.tau_syn.item(), cuba.w_in.item()] == [1.0, 2.0, 4.0]


def test_a_time_constant_that_was_set_anew_is_written():
    layer = CubaLIF(2.0, 4.0)
    layer.tau, layer.tau_syn = 8.0, 5.0
    graph = sn.to_nir(layer, (4,), dt=1.0, scheme="euler")
    (node,) = (n for n in graph.nodes.values() if isinstance(n, nir.CubaLIF))
    assert [node.tau_mem[0], node.tau_syn[0]] == [8.0, 5.0]
    x = torch.rand(9, 2, 4, generator=torch.Generator().manual_seed(1)) * 3
    same(sn.from_nir(graph)(x), layer(x))


@pytest.mark.parametrize("scheme", ["euler", "exponential"])
def test_slow_neurons_of_other_tools_take_in_all_digits(scheme):
    """Time constants of 1e4 and 1e6 steps for each neuron, in float32: at rest a membrane increases by ``x / tau``."""
    tau = torch.tensor([1e4, 1e6])
    graph = sn.to_nir(LI(tau), (2,), dt=1e-3, scheme=scheme)
    (node,) = (n for n in graph.nodes.values() if isinstance(n, nir.LI))
    want = 1 / tau.double()
    seconds = -1e-3 / np.log1p(-want.numpy()) if scheme == "exponential" else 1e-3 / want.numpy()
    np.testing.assert_allclose(node.tau, seconds, rtol=1e-6)
    node.metadata = {}
    got = sn.from_nir(graph)(torch.ones(1, 1, 2))[0, 0]
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0)


# Steps with an input, of the single neuron of the NIR paper (Pedersen et al. 2024, figure 2): 1,000 steps of 0.1 ms.
INPUT = [
    *(60, 220, 270, 310, 320, 350, 370, 400, 410, 430, 440, 450, 460, 470, 480, 490, 500, 510, 520),
    *(530, 670, 680, 690, 700, 710, 720, 730, 740, 750, 760, 770, 780, 840, 850),
]


@pytest.mark.parametrize("scheme", ["euler", "exponential"])
def test_the_neuron_of_the_nir_paper(scheme):
    """It fires at the steps of the paper's exact solution, Norse, snnTorch and Nengo."""
    unit = np.ones(1, np.float32)
    lif = nir.LIF(tau=0.0025 * unit, r=unit, v_leak=0 * unit, v_threshold=0.1 * unit)
    affine = nir.Affine(weight=np.ones((1, 1), np.float32), bias=np.zeros(1, np.float32))
    net = sn.from_nir(nir.NIRGraph.from_list(affine, lif), dt=1e-4, scheme=scheme)
    x = torch.zeros(1000, 1, 1)
    x[INPUT] = 1
    assert net(x).flatten().nonzero().flatten().tolist() == [460, 510, 710, 760]


# Files of other tools.


def test_a_neuron_spikes_above_its_threshold_alone():
    unit = np.ones(3)
    for node in (
        nir.IF(r=unit, v_threshold=unit),
        nir.CubaLIF(tau_syn=unit, tau_mem=unit, r=unit, v_leak=0 * unit, v_threshold=unit),
        nir.LIF(tau=unit, r=unit, v_leak=0 * unit, v_threshold=unit),
        nir.Threshold(threshold=unit),
    ):
        net = sn.from_nir(graph_of(node), dt=1.0, scheme="euler")
        x = torch.tensor([1.0, 1.0001, 0.9]).view(1, 1, 3)
        assert net(x).flatten().tolist() == [0, 1, 0], type(node).__name__


def test_an_integrator_of_resistance_1_counts_its_input():
    """With dt = 1 s it adds its input in every step, with dt = 0.5 s half of it."""
    node = nir.IF(r=np.float32(1.0), v_threshold=np.array(1.5))
    x = torch.ones(8, 1, 1)
    spikes = sn.from_nir(graph_of(node, shape=(1,)), dt=1.0, scheme="euler")(x)
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    spikes = sn.from_nir(graph_of(node, shape=(1,)), dt=0.5, scheme="euler")(x)
    assert spikes.flatten().tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def test_resistance_and_weight_scale_the_input():
    """r = 3 and w_in = 2 by hand, Euler of 1 s: v = 0.5 v + 0.5 (v_leak + r i), i = 0.75 i + 0.25 w_in x."""
    full = np.full
    lif = nir.LIF(tau=full(2, 2.0), r=np.array([3.0, 1.0]), v_leak=full(2, 0.1), v_threshold=full(2, 9.0))
    x = torch.ones(2, 1, 2)
    net = sn.from_nir(graph_of(lif, shape=(2,)), dt=1.0, scheme="euler")
    net.nodes["n0"][1].return_v_seq = True
    torch.testing.assert_close(net.nodes["n0"](x)[1].flatten(), torch.tensor([1.6, 0.6, 2.35, 0.85]))
    cuba = nir.CubaLI(tau_syn=full(1, 4.0), tau_mem=full(1, 2.0), r=full(1, 3.0), v_leak=full(1, 0.0), w_in=2.0)
    v = sn.from_nir(graph_of(cuba, shape=(1,)), dt=1.0, scheme="euler")(x[..., :1]).flatten()
    torch.testing.assert_close(v, torch.tensor([0.75, 0.375 + 1.5 * 0.875]))


@pytest.mark.parametrize("input_shape", [None, (6, 6)])
def test_a_convolution_with_and_without_a_shape_and_numpy_scalars(input_shape):
    conv = nir.Conv2d(
        input_shape=input_shape,
        weight=np.ones((4, 1, 3, 3), np.float64),
        stride=np.int64(1),
        padding=np.array([1, 1]),
        dilation=np.int64(1),
        groups=np.int32(2),
        bias=np.arange(4.0),
    )
    neurons = nir.LIF(*(np.full(4, v) for v in (2.0, 1.0, 0.0)), v_threshold=np.arange(1.0, 5.0))
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    flat = nir.Flatten({"input": np.array([4, 3, 3])}, 0, -1)
    net = sn.from_nir(graph_of(conv, neurons, pool, flat, shape=(2, 6, 6)), dt=1.0, scheme="euler")
    assert net(torch.rand(5, 3, 2, 6, 6)).shape == (5, 3, 36)
    assert net.nodes["n1"].v_threshold.shape == (4, 1, 1)


def test_graphs_in_the_graph_are_taken_apart():
    unit = np.ones(2)
    inner = nir.NIRGraph.from_list(
        nir.Affine(weight=np.eye(2) * 3, bias=unit), nir.LI(tau=2 * unit, r=unit, v_leak=0 * unit)
    )
    outer = graph_of(nir.Scale(scale=np.array([1.0, 2.0])), inner, shape=(2,))
    net = sn.from_nir(outer, dt=1.0, scheme="euler")
    same(net(torch.ones(1, 1, 2)).flatten(), torch.tensor([2.0, 3.5]))


def test_a_changed_time_constant_counts_more_than_what_was_kept():
    graph = sn.to_nir(LIF(2.0), (3,), dt=1.0, scheme="euler")
    (node,) = (n for n in graph.nodes.values() if isinstance(n, nir.LIF))
    node.tau = node.tau * 2
    (lif,) = (m for m in sn.from_nir(graph).modules() if isinstance(m, LIF))
    assert lif.decay == 0.75
    assert isinstance(lif, LIF)


# Cycles.


def lif(n, threshold=1.0):
    unit = np.ones(n, np.float32)
    return nir.LIF(tau=2 * unit, r=2 * unit, v_leak=0 * unit, v_threshold=threshold * unit)


def test_spikes_come_back_one_step_later_and_by_the_delay():
    """By hand, Euler of 1 s: v = 0.5 v + x + w s. The input comes only at step 0; the recurrent spike fires again."""
    x = torch.zeros(6, 1, 1)
    x[0] = 3.0
    back = nir.Linear(weight=np.full((1, 1), 1.5, np.float32))
    ends = {"in": nir.Input(np.array([1])), "out": nir.Output(None)}
    edges = [("in", "lif"), ("lif", "out")]
    graph = nir.NIRGraph(
        {**ends, "lif": lif(1), "back": back}, [*edges, ("lif", "back"), ("back", "lif")], type_check=False
    )
    net = sn.from_nir(graph, dt=1.0, scheme="euler")
    assert isinstance(net.nodes["lif"], Recurrent)
    assert net(x).flatten().tolist() == [1, 1, 1, 1, 1, 1]
    late = {"late": nir.Delay(delay=np.array([1.0]))}
    around = [("lif", "late"), ("late", "back"), ("back", "lif")]
    graph = nir.NIRGraph({**ends, "lif": lif(1), "back": back, **late}, [*edges, *around], type_check=False)
    assert sn.from_nir(graph, dt=1.0, scheme="euler")(x).flatten().tolist() == [1, 0, 1, 0, 1, 0]
    again = sn.to_nir(sn.from_nir(graph, dt=1.0, scheme="euler"), (1,), dt=1.0, scheme="euler")
    assert sorted(type(n).__name__ for n in again.nodes.values()) == ["Delay", "Input", "LIF", "Linear", "Output"]


def test_a_cycle_inside_a_graph_with_a_bias_and_resistances():
    """snnTorch writes RLeaky so: neurons and their product in an inner graph."""
    w, bias = per_neuron(3, 3, low=-1.0, high=1.0).numpy(), np.array([0.1, 0.2, 0.3], np.float32)
    neurons = lif(3, 0.5)
    neurons.r = np.array([3.0, 1.0, 2.0])
    names = {"input": nir.Input(np.array([3])), "lif": neurons, "output": nir.Output(None)}
    names["w_rec"] = nir.Affine(weight=w, bias=bias)
    around = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    net = sn.from_nir(graph_of(nir.NIRGraph(names, around, type_check=False)), dt=1.0, scheme="euler")
    x = torch.rand(20, 2, 3, generator=torch.Generator().manual_seed(0))
    # The equation in a loop.
    v = s = torch.zeros(2, 3)
    want = []
    for t in range(20):
        current = x[t] + s @ torch.from_numpy(w).T + torch.from_numpy(bias)
        v = 0.5 * v + 0.5 * torch.tensor([3.0, 1.0, 2.0]) * current
        s = (v > 0.5).float()
        v = torch.where(s == 1, 0.0, v)
        want.append(s)
    assert 0.1 < torch.stack(want).mean() < 0.9
    same(net(x), torch.stack(want))


def test_neurons_that_feed_themselves_and_cycles_without_equal():
    ends = {"in": nir.Input(np.array([2])), "out": nir.Output(None)}
    edges = [("in", "a"), ("a", "out")]

    def read(nodes, more):
        graph = nir.NIRGraph({**ends, **nodes}, [*edges, *more], type_check=False)
        return sn.from_nir(graph, dt=1.0, scheme="euler")

    x = torch.zeros(4, 1, 2)
    x[0] = 2.0
    assert read({"a": lif(2)}, [("a", "a")])(x).sum() == 2  # a single 1 does not make it fire above 1
    scale = nir.Scale(scale=np.array([1.5, 0.5]))
    assert read({"a": lif(2), "w": scale}, [("a", "w"), ("w", "a")])(x).sum(0).tolist() == [[4, 1]]
    two = [("a", "b"), ("b", "a")]
    with pytest.raises(ValueError, match=r"^from_nir: the nodes a, b feed each other in a cycle"):
        read({"a": lif(2), "b": lif(2)}, two)
    with pytest.raises(ValueError, match=r"^from_nir: b must have a weight of as many rows"):
        read({"a": lif(2), "b": nir.Linear(weight=np.ones((3, 3)))}, two)
    with pytest.raises(ValueError, match=r"^from_nir: the nodes a, b feed each other"):
        read({"a": lif(2), "b": nir.Linear(weight=np.eye(2))}, [*two, ("b", "out")])


def test_a_network_goes_on_learning_after_a_round_trip():
    net = nn.Sequential(Time(nn.Linear(3, 4)), LIF(), Time(nn.Linear(4, 2)), LI())
    back = sn.from_nir(sn.to_nir(net, (3,), dt=1.0, scheme="euler"))
    x = torch.rand(6, 2, 3) * 4
    for one in (net, back):
        one(x).square().sum().backward()
    for a, b in zip(net.parameters(), back.parameters(), strict=True):
        same(b.grad, a.grad)


@pytest.mark.parametrize(
    ("start", "end", "shape"), [(1, -1, (2, 12)), (-2, -1, (2, 12)), (-3, -2, (6, 4)), (0, 1, (6, 4)), (0, -1, (24,))]
)
def test_a_flatten_may_count_from_the_end(start, end, shape):
    flatten = nir.Flatten({"input": np.array([2, 3, 4])}, start, end)
    net = sn.from_nir(graph_of(flatten, shape=(2, 3, 4)), dt=1.0, scheme="euler")
    x = torch.arange(120.0).view(5, 1, 2, 3, 4)
    same(net(x), x.view(5, 1, *shape))


@pytest.mark.parametrize("odd", [(3, 1), (1,), ()])
def test_neurons_whose_fields_have_other_shapes_as_rockpool_writes_them(odd, tmp_path):
    """Rockpool's synaptic time constants have an additional dimension for the synapses; built by hand."""
    import h5py

    fields = {n: np.full(3, v, np.float32) for n, v in {"tau_mem": 0.02, "r": 20.0, "v_leak": 0.0}.items()}
    units = {n: np.ones(3, np.float32) for n in ("v_threshold", "w_in")}
    neurons = nir.CubaLIF(tau_syn=np.full(3, 0.01, np.float32), **fields, **units)
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        "0_LinearTorch": nir.Affine(weight, np.zeros(3, np.float32)),
        "1_LIFTorch": neurons,
        "output": nir.Output({"output": np.array([3])}),
    }
    path = tmp_path / "rockpool.nir"
    nir.write(path, nir.NIRGraph(nodes, list(itertools.pairwise(nodes))))
    x = torch.rand(20, 2, 2)
    settings = {"dt": 1e-3, "scheme": "exponential"}
    expected = sn.read(path, **settings)(x)
    with h5py.File(path, "r+") as file:
        group = file["node/nodes/1_LIFTorch"]
        del group["tau_syn"]
        group["tau_syn"] = np.full(odd, 0.01, np.float32)
    with pytest.raises(AssertionError, match="same shape"):
        nir.read(path)
    assert expected.any()
    same(sn.read(path, **settings)(x), expected)
