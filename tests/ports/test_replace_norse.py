"""Norse's neurons and networks compared with their copies on our kernels, where Norse is installed."""

import pytest
import torch
from replaced import agrees, inputs, loss_of, loud, same
from torch import nn

from snnfast import nn as sn

norse = pytest.importorskip("norse.torch")
lif_box = pytest.importorskip("norse.torch.functional.lif_box")
reset = pytest.importorskip("norse.torch.functional.reset")


def step_by_step(cell, x):
    state, outputs = None, []
    for x_t in x:
        out, state = cell(x_t, state)
        outputs.append(out)
    return [torch.stack(outputs), *flat(state)]


def flat(state):
    """Return all tensors of a state, which may be nested."""
    return [t for s in state for t in (flat(s) if isinstance(s, tuple) else [s])]


def in_two_parts(layer, x):
    """Run two sequences, the second from the state after the first."""
    first, state = layer(x[:15])
    second, state = layer(x[15:], state)
    return [torch.cat([first, second]), *flat(state)]


def lsnn():
    return norse.LSNNParameters(tau_adapt_inv=torch.tensor(50.0))


def per_neuron():
    return norse.LIFParameters(
        tau_mem_inv=torch.tensor([100.0, 200, 300, 100, 50, 60]),
        tau_syn_inv=torch.tensor(300.0),
        v_leak=torch.tensor(0.1),
        v_reset=torch.tensor(-0.2),
    )


def adaptive():
    return norse.LIFAdExParameters(
        **{"v_leak": torch.tensor(0.1), "v_reset": torch.tensor(-0.2), "v_th": torch.tensor(0.9)},
        **{"delta_T": torch.tensor(0.4), "adaptation_spike": torch.tensor(0.3)},
        tau_ada_inv=torch.tensor(30.0),
    )


def refractory():
    return norse.LIFRefracParameters(per_neuron()._replace(tau_mem_inv=torch.tensor(90.0)), torch.tensor(3.0))


def adaptive_refractory():
    return norse.LIFAdExRefracParameters(adaptive(), torch.tensor(3.0))


CELLS = {
    "LIFExCell": lambda: norse.LIFExCell(),
    "LIFExRecurrentCell": lambda: norse.LIFExRecurrentCell(6, 5),
    "LIFAdExCell": lambda: norse.LIFAdExCell(adaptive()),
    "LIFAdExRecurrentCell": lambda: norse.LIFAdExRecurrentCell(6, 5, adaptive(), autapses=True),
    "LIFRefracCell": lambda: norse.LIFRefracCell(refractory()),
    "LIFRefracRecurrentCell": lambda: norse.LIFRefracRecurrentCell(6, 5, refractory()),
    "LIFAdExRefracCell": lambda: norse.LIFAdExRefracCell(adaptive_refractory()),
    "LIFAdExRefracRecurrentCell": lambda: norse.LIFAdExRefracRecurrentCell(6, 5, adaptive_refractory()),
    "LIFBoxCell": lambda: norse.LIFBoxCell(),
    "LIFBoxCell subtract": lambda: norse.LIFBoxCell(lif_box.LIFBoxParameters(reset_method=reset.reset_subtract)),
    "LIFCell": lambda: norse.LIFCell(),
    "LIFCell of each its own": lambda: norse.LIFCell(per_neuron()),
    "IAFCell": lambda: norse.IAFCell(),
    "LIFRecurrentCell": lambda: norse.LIFRecurrentCell(6, 5),
    "LIFRecurrentCell autapses": lambda: norse.LIFRecurrentCell(6, 5, autapses=True),
    "LSNNCell": lambda: norse.LSNNCell(lsnn()),
    "LSNNRecurrentCell": lambda: norse.LSNNRecurrentCell(6, 5, lsnn()),
    "LSNNRecurrentCell autapses": lambda: norse.LSNNRecurrentCell(6, 5, lsnn(), autapses=True),
}
LAYERS = {
    "LIFEx": lambda: norse.LIFEx(),
    "LIFEx erfc": lambda: norse.LIFEx(norse.LIFExParameters(method="heavi_erfc", alpha=torch.tensor(2.0))),
    "LIFAdEx": lambda: norse.LIFAdEx(adaptive()),
    "LIFAdExRecurrent": lambda: norse.LIFAdExRecurrent(6, 5, adaptive()),
    "LIFRefracRecurrent": lambda: norse.LIFRefracRecurrent(6, 5, refractory()),
    "LIFAdExRefracRecurrent": lambda: norse.LIFAdExRefracRecurrent(6, 5, adaptive_refractory()),
    "LIF": lambda: norse.LIF(),
    "LIF of each its own": lambda: norse.LIF(per_neuron(), dt=0.002),
    "LIF erfc": lambda: norse.LIF(norse.LIFParameters(method="heavi_erfc", alpha=torch.tensor(2.0))),
    "LIFRecurrent": lambda: norse.LIFRecurrent(6, 5),
    "LSNN": lambda: norse.LSNN(lsnn()),
    "LSNNRecurrent": lambda: norse.LSNNRecurrent(6, 5, lsnn()),
    "IAF": lambda: norse.IAF(),
}
X = {"low": -1.0, "high": 3.0}


@pytest.mark.filterwarnings("ignore:recurrent runs in plain", "ignore:cuba runs in plain")
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_gives_the_same_spikes_states_and_gradients(name):
    torch.manual_seed(0)
    agrees(CELLS[name](), step_by_step, inputs(30, 4, 6, **X))


@pytest.mark.filterwarnings("ignore:cuba runs in plain", "ignore:lif_ex runs in plain")
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_same_spikes_states_and_gradients(name):
    torch.manual_seed(0)
    agrees(LAYERS[name](), in_two_parts, inputs(30, 4, 6, **X))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", ["IzhikevichCell", "Izhikevich"])
def test_izhikevich_begins_with_its_behaviour(name, recurrent):
    torch.manual_seed(0)
    sizes = (6, 5) if recurrent else ()
    name = name.replace("vich", "vichRecurrent") if recurrent else name
    layer = getattr(norse, name)(*sizes, norse.tonic_spiking).double()
    if recurrent:
        layer.input_weights.data.abs_().mul_(3)
    run = step_by_step if name.endswith("Cell") else in_two_parts
    x = inputs(30, 4, 6, low=0.0, high=60.0, dtype=torch.float64)
    agrees(layer, run, x)


@pytest.mark.parametrize("name", ["LI", "LICell", "LIBoxCell", "LILinearCell"])
def test_a_readout_gives_the_same_membranes(name):
    run = step_by_step if name.endswith("Cell") else in_two_parts
    sizes = (6, 5) if "Linear" in name else ()
    agrees(getattr(norse, name)(*sizes), run, inputs(30, 4, 6, **X), fires=False)


@pytest.mark.parametrize("name", ["LI", "LIF", "LIFRecurrent", "LSNN", "LSNNRecurrent", "LIFBoxCell", "LIBoxCell"])
def test_a_learned_leak_or_threshold_learns_nothing_from_where_states_begin(name):
    torch.manual_seed(0)
    sizes = (6, 5) if name.endswith("Recurrent") else ()
    layer = getattr(norse, name)(*sizes)
    names = ["v_leak", "v_th"] if hasattr(layer.p, "v_th") else ["v_leak"]
    layer.p = layer.p._replace(**{n: nn.Parameter(getattr(layer.p, n).clone()) for n in names})
    run = step_by_step if name.endswith("Cell") else in_two_parts
    gradients = []
    for one in (layer, sn.replace(layer)):
        learned = [getattr(one.p, n) for n in names]
        gradients.append(torch.autograd.grad(loss_of(run(one, inputs(20, 4, 6, **X))), learned))
    for ours, theirs in zip(*gradients):
        same(ours, theirs)


@pytest.mark.parametrize(
    "name",
    [
        *("LIF", "LI", "LIFRecurrent", "LSNN", "LSNNRecurrent", "IAF", "LIFEx", "LIFAdEx"),
        *("LIFAdExRecurrent", "LIFRefracRecurrent"),
    ],
)
def test_recorded_states_are_those_of_every_step(name):
    torch.manual_seed(0)
    sizes = (6, 5) if name.endswith("Recurrent") else ()
    options = {"p": lsnn()} if name.startswith("LSNN") else {}
    if name == "IAF":  # takes no record_states
        layer = norse.IAF()
        layer.record_states = True
    else:
        layer = getattr(norse, name)(*sizes, **options, record_states=True)
    x = inputs(30, 4, 6, **X)
    (a, theirs), (b, ours) = layer(x), sn.replace(layer)(x)
    same(b, a)
    assert ours._fields == theirs._fields
    for mine, other in zip(flat(ours), flat(theirs), strict=True):
        same(mine, other)


def test_a_network_of_the_library():
    torch.manual_seed(0)
    net = norse.SequentialState(
        norse.Lift(loud(nn.Conv2d(1, 3, 3))), norse.LIF(), nn.Flatten(2),
        norse.Lift(loud(nn.Linear(108, 10))), norse.LIFRecurrent(10, 8), norse.LI(),
    )  # fmt: skip
    x = inputs(20, 2, 1, 8, 8)
    ours = sn.replace(net, verify=x)
    assert list(ours.state_dict()) == list(net.state_dict())
    theirs, state = net(x)
    result, final = ours(x)
    same(result, theirs)
    # States continue, and the states of each network are valid for the other.
    for a, b in ((state, final), (final, state)):
        same(ours(x, b)[0], net(x, a)[0])


@pytest.mark.parametrize("cell", ["LIFBoxCell", "LIFCell"])
def test_lift_runs_all_steps_at_once(cell):
    net = norse.Lift(getattr(norse, cell)())
    x = inputs(20, 4, 6, high=4.0)
    ours = sn.replace(net, verify=x)
    assert list(ours.state_dict()) == list(net.state_dict())
    (a, s), (b, t) = net(x), ours(x)
    same(b, a, exact=True)
    same(t.v, s.v)
    same(ours((x, t))[0], net((x, s))[0], exact=True)


def test_lift_of_layers_without_time():
    torch.manual_seed(0)
    for layer, x in (
        (nn.Conv2d(1, 2, 3), inputs(5, 3, 1, 6, 6)),
        (nn.Conv2d(1, 2, 3), inputs(5, 1, 6, 6)),  # without a batch
        (nn.BatchNorm1d(6), inputs(5, 3, 6)),  # a batch is one step
        (nn.Flatten(), inputs(5, 3, 1, 6, 6)),
    ):
        lifted = norse.Lift(layer)
        same(sn.replace(lifted)(x), lifted(x))


@pytest.mark.parametrize("cell", [norse.LIFCell, norse.LIFBoxCell, norse.LICell, norse.LSNNCell])
def test_a_loop_over_the_steps_is_taken_apart(cell):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.fc, self.cell = norse.LIFRecurrentCell(8, 10), nn.Linear(10, 5), cell()
            for weight in (self.first.input_weights, self.fc.weight):
                weight.data.abs_().mul_(5)

        def forward(self, x):
            s1 = s2 = None
            outputs = []
            for t in range(x.shape[0]):
                z, s1 = self.first(x[t], s1)
                z, s2 = self.cell(self.fc(z), s2)
                outputs.append(z)
            return torch.stack(outputs), s2.v

    torch.manual_seed(0)
    net, x = Loop(), inputs(20, 3, 8, high=2.0)
    ours = sn.replace(net, sequences=True, verify=x)
    assert list(ours.state_dict()) == list(net.state_dict())
    results = []
    for module in (net, ours):
        out = module(x)
        results.append((*out, *torch.autograd.grad(loss_of(out), module.parameters())))
    assert results[0][0].any()
    for a, b in zip(*reversed(results), strict=True):
        same(a, b)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (
            lambda: norse.LIFMCRecurrentCell(3, 3),
            r"^replace: net, a LIFMCRecurrentCell of norse, cannot be .*: its membranes drive each other",
        ),
        (lambda: norse.CobaLIFCell(3, 3), "two conductances"),
        (lambda: norse.LIF(norse.LIFParameters(method="adjoint")), "adjoint"),
        (lambda: norse.LIF(norse.LIFParameters(method="logistic")), "at random"),
        (lambda: norse.LSNN(norse.LSNNParameters(beta=torch.tensor(0.0))), "beta must not be 0"),
        (lambda: norse.Lift(norse.LIFMCRecurrentCell(3, 3)), "it lifts a LIFMCRecurrentCell, which keeps a state"),
    ],
)
def test_what_has_no_equal_is_refused(make, error):
    with pytest.raises(ValueError, match=error):
        sn.replace(make())
