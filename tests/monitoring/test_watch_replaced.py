"""Networks from ``nn.replace``: a monitor's counts equal those of the library's network."""

import pytest
import torch
from replaced import inputs, loud, network
from torch import nn

import snnfast
from snnfast.nn import replace


def linear():
    return loud(nn.Linear(6, 6), 2.0)


# Each returns the network, its successive inputs, and the weights inside kernels, by position.


def spikingjelly(x):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    m = {"step_mode": "m"}
    return network(linear(), neuron.LIFNode(**m), linear(), neuron.QIFNode(**m)), [x], {}


def spikingjelly_by_steps(x):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    return network(linear(), neuron.LIFNode(), linear(), neuron.IFNode()), list(x), {}


def snntorch(x):
    snn = pytest.importorskip("snntorch")
    last = snn.RLeaky(0.9, linear_features=6, init_hidden=True)
    net = network(linear(), snn.Leaky(0.9, init_hidden=True), linear(), last)
    return net, list(x), {"3.recurrent": last.recurrent.weight}


def norse(x):
    lib = pytest.importorskip("norse.torch")
    last = lib.LIFRecurrent(6, 6)
    with torch.no_grad():
        last.input_weights.abs_().mul_(9)
    inner = {"2.input_weights": last.input_weights, "2.recurrent_weights": last.recurrent_weights}
    return lib.SequentialState(linear(), lib.LIF(), last), [x], inner


def sinabs(x):
    layers = pytest.importorskip("sinabs.layers")
    last = layers.LIFRecurrent(tau_mem=5.0, rec_connect=linear())
    net = network(linear(), layers.LIF(tau_mem=5.0), linear(), last)
    return net, [x.transpose(0, 1)], {"3.rec_connect": last.rec_connect.weight}


@pytest.mark.parametrize("library", [spikingjelly, spikingjelly_by_steps, snntorch, norse, sinabs])
def test_spikes_and_operations_are_the_librarys(library):
    torch.manual_seed(0)
    net, calls, inner = library(inputs(12, 4, 6, high=3.0))
    fired = {"1": [], str(len(net) - 1): []}
    ours = replace(net)
    for place, rows in fired.items():
        net.get_submodule(place).register_forward_hook(
            lambda m, x, y, rows=rows: rows.append(y[0] if isinstance(y, tuple) else y)
        )
    with torch.no_grad():
        for x in calls:
            net(x)
        with snnfast.monitor(ours, membranes=2) as watching:
            for x in calls:
                ours(x)
    activity = watching.activity()
    assert [n.place for n in activity.neurons] == list(fired)
    for neurons in activity.neurons:
        spikes = torch.stack(fired[neurons.place])
        assert spikes.any()
        assert neurons.spikes * activity.samples == pytest.approx(float(spikes.sum()))
        assert (neurons.neurons, neurons.rate) == (6, pytest.approx(float((spikes != 0).float().mean())))
        assert watching.membranes[neurons.place].shape == (12 // len(calls), 2)
    found = {p.place: p for p in activity.products if p.place in inner}
    assert found.keys() == inner.keys()
    for place, product in found.items():
        sent = torch.stack(fired["1" if "input" in place else place[0]])
        if library is sinabs:  # the last spikes of a call are not fed back
            sent = sent[0].transpose(0, 1)[:-1]
        operations = (sent != 0).double().flatten(0, -2).sum(0) @ (inner[place] != 0).double().sum(0)
        counted = product.accumulates + product.multiply_accumulates
        assert counted * activity.samples == pytest.approx(float(operations))
