"""A monitor's counts equal counts by hand; it changes no bit, and has no cost when it is off."""

import json
import re

import pytest
import torch
from equations import klif
from monitor_cases import brute_force, hooks, same
from samples import assert_equal
from torch import nn
from torch.utils.checkpoint import checkpoint

import snnfast
from snnfast import visual
from snnfast.nn import IF, LI, LIF, RLIF, Rate, SpikeProp, Time
from snnfast.papers import Wu2018

pytestmark = pytest.mark.usefixtures("one_thread")


class Known(nn.Module):
    """Network of two layers with known weights."""

    def __init__(self):
        super().__init__()
        self.fc1 = Time(nn.Linear(3, 2))
        self.lif = LIF(decay=0.0, decay_input=False)
        self.fc2 = Time(nn.Linear(2, 1))
        with torch.no_grad():
            self.fc1.layer.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.25]]))
            self.fc1.layer.bias.zero_()
            self.fc2.layer.weight.fill_(2.0)

    def forward(self, x):
        return self.fc2(self.lif(self.fc1(x)))


def test_counts_by_hand():
    """Two steps, two samples. Neuron 0 copies input 0, neuron 1 never reaches its threshold."""
    x = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1.0, 0, 0], [0, 1, 1]]])
    net = Known()
    with snnfast.monitor(net) as watching:
        net(x)
    activity = watching.activity()
    (neurons,) = activity.neurons
    assert (neurons.place, neurons.kind, neurons.neurons) == ("lif", "LIF", 2)
    # Neuron 0 fires at both steps of sample 0: two spikes in 2 samples, 2 neurons, 2 steps.
    assert (neurons.spikes, neurons.rate) == (1.0, 0.25)
    assert (neurons.silent, neurons.saturated) == (0.5, 0.5)
    first, second = activity.products
    # One weight of every input is not 0: the six inputs that are 1 make six accumulates.
    assert (first.place, first.kind) == ("fc1.layer", "Linear")
    assert (first.accumulates, first.multiply_accumulates) == (3.0, 0.0)
    assert first.dense == 12.0
    assert (second.accumulates, second.multiply_accumulates, second.dense) == (1.0, 0.0, 4.0)
    assert activity.total.energy == pytest.approx(4 * 0.9e-12)
    assert watching.rates()["lif"].tolist() == [0.5, 0.0]
    assert activity.scalars()["fc1.layer/accumulates"] == 3.0
    assert "| lif " in str(activity)
    assert json.loads(json.dumps(activity.as_dict()))["samples"] == 2


class Named(nn.Sequential):
    """Network that passes inputs to layers by keyword."""

    def forward(self, *, x):
        time, neurons, linear = self
        return linear(input=neurons(x=time(x=x)))


def test_inputs_given_by_name_are_seen():
    net = Named(Time(nn.Linear(3, 3)), RLIF(3), nn.Linear(3, 2))
    x = torch.rand(4, 2, 3)
    with snnfast.monitor(net, membranes=1) as watching:
        net(x=x)
    with snnfast.monitor(nn.Sequential(*net), membranes=1) as by_place:
        by_place._net(x)
    assert watching.activity() == by_place.activity()
    net = nn.ConvTranspose2d(1, 1, 1, stride=2)
    with snnfast.monitor(net) as watching:
        net(torch.ones(1, 1, 2, 2), output_size=[4, 4])
    assert watching.activity().products[0].dense == 4


def test_only_calls_of_the_network_count():
    net = nn.Sequential(Time(nn.Linear(3, 3)), RLIF(3))
    again = nn.Module()
    again.net, again.forward = net, lambda x: checkpoint(net, x, use_reentrant=False)
    x = torch.rand(4, 2, 3)
    with snnfast.monitor(net, membranes=1) as once:
        net[1](x)
        net(x)
        net[1](x)
    with snnfast.monitor(again, membranes=1) as watching:
        again(x).sum().backward()  # runs the layers again
    counts = [[(n.spikes, n.rate, n.saturated) for n in watched.activity().neurons] for watched in (once, watching)]
    assert counts[0] == counts[1]
    assert once.activity().total == watching.activity().total
    assert once.activity().products[0].dense == 4 * 9


def test_a_compiled_network_is_refused():
    """It skips hooks, so some or all layers would be missing."""
    net = nn.Sequential(LIF(), nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"^monitor: net is compiled, .* before torch\.compile"):
        snnfast.monitor(torch.compile(net))
    net[1].compile()
    with pytest.raises(ValueError, match=r"^monitor: 1 is compiled"):
        snnfast.monitor(net)
    assert hooks(net) == 0


def test_several_spikes_in_a_step_all_count():
    net = IF(v_reset=None, max_spikes=None)
    with snnfast.monitor(net) as watching:
        spikes = net(torch.tensor([[[3.5, 0.25]], [[1.0, 0.25]]]))
    assert spikes.flatten().tolist() == [3.0, 0.0, 1.0, 0.0]
    (found,) = watching.activity().neurons
    assert (found.spikes, found.rate, found.silent, found.saturated) == (4.0, 1.0, 0.5, 0.5)


def test_inputs_between_spikes_are_multiplied():
    net = Known()
    with snnfast.monitor(net, energy_mac=2.0) as watching:
        net(torch.tensor([[[0.5, 0.0, -1.0]]]))
    first, _ = watching.activity().products
    assert (first.accumulates, first.multiply_accumulates, first.energy) == (0.0, 2.0, 4.0)


@pytest.mark.parametrize("encoding", ["direct", "bernoulli"])
@pytest.mark.parametrize("training", [False, True])
def test_no_bit_changes_and_off_leaves_nothing(encoding, training):
    torch.manual_seed(0)
    net = Wu2018(4, input_shape=(1, 8, 8), encoding=encoding).train(training)
    net = net.to(memory_format=torch.channels_last)
    x = torch.rand(6, 1, 8, 8)

    def run():
        net.zero_grad()
        torch.manual_seed(1)
        rates = net(x)
        rates.pow(2).sum().backward()
        return [rates.detach(), *(p.grad.clone() for p in net.parameters())]

    before = run()
    with snnfast.monitor(net, membranes=5) as watching:
        during = run()
    assert hooks(net) == 0
    after = run()
    for name, results in (("during", during), ("after", after)):
        for a, b in zip(before, results):
            torch.testing.assert_close(b, a, rtol=0, atol=0, msg=f"{name} the monitor: other bits")
    assert watching.samples == 6
    assert [tuple(v.shape) for v in watching.membranes.values()] == [(4, 5)] * 4
    constant = watching.activity().products[0]
    # Counted at every step, though a constant input is computed once.
    assert constant.dense == 4 * brute_force(net.layers[0].layer, torch.ones(1, 1, 8, 8))


def test_membranes_are_the_layers_own():
    lif, x = LIF(3.0), torch.rand(5, 2, 4) * 3
    _, v_seq = LIF(3.0, return_v_seq=True)(x)
    with snnfast.monitor(lif, membranes=3) as watching:
        lif(x)
    same(watching.membranes["LIF"], v_seq[:, 0, :3])
    assert not lif.return_v_seq
    already = LIF(3.0, return_v_seq=True)
    with snnfast.monitor(already, membranes=3) as watching:
        assert len(already(x)) == 2
    same(watching.membranes["LIF"], v_seq[:, 0, :3])
    of_user = klif.layer()
    with snnfast.monitor(of_user, membranes=3) as watching:
        of_user(x)
    same(watching.membranes["Klif"], klif(x, return_v_seq=True)[-1][:, 0, :3])
    readout = LI(3.0)
    with snnfast.monitor(readout, membranes=1) as watching:
        v = readout(x)
    same(watching.membranes["LI"], v[:, 0, :1])
    assert watching.activity().neurons == ()


def test_an_error_of_the_network_leaves_the_layers_as_they_were():
    lif = LIF()
    with snnfast.monitor(lif, membranes=1), pytest.raises(TypeError, match=r"^LIF: x must be"):
        lif(3)
    assert not lif.return_v_seq
    assert hooks(lif) == 0


def test_spike_times_are_counted_once_a_sample():
    layer = SpikeProp(2, 3, 4, t_max=20.0)
    t = torch.tensor([[0.0, torch.inf], [1.0, 2.0]])
    with snnfast.monitor(layer) as watching:
        fired = layer(t).isfinite()
    activity = watching.activity()
    assert activity.samples == 2
    assert activity.neurons[0].spikes == fired.sum().item() / 2
    assert activity.neurons[0].rate != activity.neurons[0].rate
    # Three input spikes, each with 4 terminals to 3 neurons.
    assert activity.products[0].accumulates * 2 == 3 * 12
    assert activity.products[0].dense == 2 * 12


def test_on_off_clear():
    net = nn.Sequential(Time(nn.Linear(4, 3)), LIF(), Rate())
    watching = snnfast.monitor(net)
    watching.on()
    net(torch.rand(2, 5, 4))
    watching.off()
    net(torch.rand(2, 5, 4))
    assert watching.samples == 5
    watching.on()
    net(torch.rand(2, 5, 4))
    assert watching.samples == 10
    watching.clear()
    with pytest.raises(ValueError, match=r"^monitor: the network has not run since .* present$"):
        watching.activity()
    net(torch.rand(2, 5, 4))
    watching.off()
    assert watching.activity().samples == 5


def test_another_number_of_neurons_is_refused():
    lif = LIF()
    with snnfast.monitor(lif):
        lif(torch.rand(2, 5, 4))
        with pytest.raises(ValueError, match=r"^monitor: LIF had 4 neurons, now 3; call clear"):
            lif(torch.rand(2, 5, 3))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"net": 3}, r"^monitor: net must be a module, got int"),
        ({"membranes": 17}, r"^monitor: membranes must be at most 16, got 17"),
        ({"membranes": 1.5}, r"^monitor: membranes must be"),
        ({"energy_ac": -1.0}, r"^monitor: energy_ac must be"),
        ({"energy_mac": "a"}, r"^monitor: energy_mac must be"),
    ],
)
def test_what_is_wrong_is_told(arguments, error):
    with pytest.raises((TypeError, ValueError), match=error):
        snnfast.monitor(**{"net": LIF(), **arguments})


class Pooled(nn.Module):
    """Network with functional ReLUs, average pooling, and a product before all neurons."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 3, 3), nn.AvgPool2d(2)
        self.fc, self.out = nn.Linear(12, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.fc(self.pool(self.conv(x).relu()).flatten(1)).relu())


@pytest.mark.parametrize("encoding", ["constant", "poisson"])
def test_a_converted_network_tells_what_its_report_tells(encoding):
    torch.manual_seed(0)
    ann, x, steps = Pooled(), torch.rand(3, 1, 6, 6), 20
    snn = snnfast.convert(ann, [x], encoding=encoding, progress=False)
    torch.manual_seed(1)
    report = snnfast.conversion_report(ann, snn, [x], steps=(steps,), progress=False)
    torch.manual_seed(1)
    plain = snn(x, steps)
    with snnfast.monitor(snn) as watching:
        torch.manual_seed(1)
        torch.testing.assert_close(snn(x, steps), plain)
        with pytest.raises(ValueError, match=r"^SpikingNetwork: a monitor counts all steps"):
            snn(x, steps, confidence=0.5)
    snn(x, steps)
    found = watching.activity()
    assert found.samples == 3
    assert [n.place for n in found.neurons] == ["relu", "relu_1"]
    for layer, want in zip(found.neurons, report.layers, strict=True):
        assert layer.spikes == pytest.approx(want.spikes)
        assert layer.spikes > 0
        assert (layer.rate, layer.silent) == pytest.approx((want.rate, want.dead))
        assert layer.saturated == pytest.approx(want.saturated)
        assert watching.spikes[layer.place].shape == (steps, layer.neurons)
    for product, want in zip(found.products, report.products, strict=True):
        assert product.dense == pytest.approx(want.multiplications * steps)
        # Averages and images are not spikes; the report counts a product of a constant input once.
        spikes = product.place == "out" or (product.place == "conv" and encoding == "poisson")
        once = product.place == "conv" and encoding == "constant"
        counts = (product.accumulates, product.multiply_accumulates)
        assert counts[spikes] == 0
        assert counts[not spikes] == pytest.approx(want.synaptic_operations * (steps if once else 1))
    assert set(watching.figures()) == {"rates", "raster", "weights"}


class Writer:
    def __init__(self):
        self.rows = []

    def add_scalar(self, name, value, step):
        self.rows.append((name, value, step))


def test_scalars_and_figures(tmp_path):
    net = Wu2018(3, input_shape=(1, 8, 8))
    with snnfast.monitor(net, membranes=2) as watching:
        net(torch.rand(4, 1, 8, 8))
    writer = Writer()
    watching.write(writer, 7)
    assert dict((n, v) for n, v, _ in writer.rows) == watching.activity().scalars()
    assert {step for _, _, step in writer.rows} == {7}
    figures = watching.figures()
    assert sorted(figures) == ["membranes", "raster", "rates", "weights"]
    for ax in figures["membranes"].axes:
        assert re.fullmatch(r"layers\.\d+: \w*LIF", ax.get_title(loc="left"))
        assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.5]
    for name, figure in figures.items():
        visual.save(figure, tmp_path / name, dpi=30)
        assert figure.axes[0].get_title(loc="left").startswith("layers.")


@snnfast.neuron(inputs=2)
def gated(fire, x, gate, v, *, v_threshold=1.0):
    s, _, v = fire(0.9 * v + torch.sigmoid(gate) * x, v_threshold)
    return s, s * x, v


@pytest.mark.parametrize("return_v_seq", [False, True])
def test_neurons_with_two_outputs(return_v_seq):
    layer, (x, gate) = gated.layer(return_v_seq=return_v_seq), 3 * torch.rand(2, 6, 4, 5)
    expected = layer(x, gate)
    with snnfast.monitor(layer, membranes=5) as watching:
        found = layer(x, gate)
    assert_equal(found, expected)
    (neurons,) = watching.activity().neurons
    assert neurons.spikes == expected[0].sum() / 4  # a sample
    *_, v_seq = gated(x, gate, return_v_seq=True)
    (membranes,) = watching.membranes.values()
    same(membranes, v_seq[:, 0])
