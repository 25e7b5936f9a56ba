"""Recurrent and adaptive integer neurons: worked by hand, the same spikes in PyTorch and C, close to the real ones."""

import re

import numpy as np
import pytest
import torch
from program import needs_compiler, run
from samples import assert_equal
from torch import nn

import snnfast
from snnfast.export import integer
from snnfast.nn import LI, LIF, RLIF, AdLIF, IntegerLIF, Recurrent, Time, calibrate_, quantize
from snnfast.nn.integer_adlif import IntegerAdLIF
from snnfast.nn.integer_recurrent import IntegerRecurrent


def whole(*values):
    return torch.tensor(values, dtype=torch.int32)


HALF, ONE = whole(2**14), whole(2**15)


def test_adaptation_by_hand():
    """v = v/2 + 100 x + 1 - w; a spike at 100 or more; w = w/2 + v/2 + 8 s, rounded down.

    x = 1, 1, 0, 2:  h = 101 (spike), 0 + 101 - 8 = 93, 46 + 1 - 50 = -3, -2 + 201 - 23 = 176 (spike)
    symplectic, by the membrane after the reset to 0:  w = 8, 4 + 46 = 50, 25 - 2 = 23, 11 + 0 + 8 = 19
    """
    arguments = {"decay": HALF, "decay_w": HALF, "a": HALF, "b": whole(8), "v_threshold": 100}
    layer = IntegerAdLIF(whole(100), whole(1), **arguments, stateful=True)
    x = whole(1, 1, 0, 2).view(4, 1, 1)
    assert layer(x).flatten().tolist() == [1, 0, 0, 1]
    assert (layer.v.item(), layer.w.item()) == (0, 19)
    # By the membrane before it: w = 50 + 8 = 58;  h = 101 - 58 = 43, w = 29 + 21 = 50;  soft: v = 1 after the spike
    layer = IntegerAdLIF(whole(100), whole(1), **arguments, symplectic=False, v_reset=None, stateful=True)
    assert layer(x[:2]).flatten().tolist() == [1, 0]
    assert (layer.v.item(), layer.w.item()) == (43, 50)


def test_adaptation_that_is_cut_is_counted():
    layer = IntegerAdLIF(ONE * 2**13, 0 * ONE, decay=ONE, decay_w=ONE, a=ONE, b=0 * ONE, v_threshold=2**29)
    with pytest.warns(UserWarning, match="beyond"):
        layer(whole(1, 1, 1, 1, 1).view(5, 1, 1))
    assert layer.saturated > 0


def test_recurrence_by_hand():
    """Neuron 0 fires by the input, and each of its spikes gives neuron 1 a current of 3 times 20; threshold 60.

    With a delay of 1 1/4 steps, 96 of 128 parts arrive two steps later and 32 three steps later.
    """
    neuron = IntegerLIF(whole(60, 60), whole(0, 0), decay=0, v_threshold=60)
    weight = torch.tensor([[0, 0], [3, 0]], dtype=torch.int8)
    x = torch.zeros(5, 1, 2, dtype=torch.int32)
    x[0, 0, 0] = 1
    assert IntegerRecurrent(neuron, weight, whole(20, 20))(x)[:, 0].tolist() == [[1, 0], [0, 1], *[[0, 0]] * 3]
    for late, expected in ((32, [0, 0, 1, 1, 0]), (112, [0, 0, 0, 1, 0])):  # 3 * 96 and 3 * 32; 3 * 16 is too little
        layer = IntegerRecurrent(neuron, weight, whole(1, 1), delay=whole(1, 0), late=whole(late, 0))
        assert layer(x)[:, 0, 1].tolist() == expected


NEURONS = {
    "adlif": lambda: Recurrent(AdLIF(30), 30),
    "bittar, learned delays": lambda: Recurrent(AdLIF(30, form="bittar2022", a=(0.0, 0.5)), 30, max_delay=5.0),
    "one for all": lambda: Recurrent(AdLIF(1), 30),
    "not recurrent": lambda: AdLIF(30),
    "lif": lambda: RLIF(30, tau=5.0),
    "lif, delays": lambda: Recurrent(LIF(5.0, v_reset=None), 30, delay=torch.rand(30) * 4, self_connections=False),
    "lif, whole delays": lambda: Recurrent(LIF(5.0, strict=True), 30, delay=torch.arange(30) % 3 + 0.0),
}


def network(name, weights="int8"):
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(8, 30)), NEURONS[name](), Time(nn.Linear(30, 5)), LI(4.0))
    calibrate_(net, frames().float(), 0.15)
    return quantize(net, weights).eval()


def frames():
    return (torch.rand(60, 7, 8, generator=torch.Generator().manual_seed(1)) < 0.3).to(torch.int8)


@needs_compiler
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", NEURONS)
def test_pytorch_and_c_have_the_same_spikes(name, weights, tmp_path):
    few, x = network(name, weights), frames()
    net = integer(few)
    y, spikes = net(x), net[:2](x)
    assert 0.02 < spikes.float().mean() < 0.5
    report = snnfast.export_c(net, tmp_path)
    assert_equal(torch.as_tensor(run(tmp_path, x, 5, np.int32)), y)
    assert_equal(report.network(x), y)
    snnfast.export_c(net[:2], tmp_path / "spikes")
    assert_equal(torch.as_tensor(run(tmp_path / "spikes", x, 30, np.int8)), spikes)
    assert not re.search(r"\b(float|double)\b|\d\.\d", (tmp_path / "snn.c").read_text())
    with torch.no_grad():
        differ = (few[:2](x.float()) != spikes.float()).float().mean((1, 2))
    assert differ[0] == 0
    assert differ.mean() < 0.05  # one spike that rounding moves changes all that follow


def test_weights_and_delays_are_those_of_the_layer():
    torch.manual_seed(0)
    delay = torch.rand(30) * 4
    net = nn.Sequential(
        Time(nn.Linear(8, 30)), Recurrent(LIF(5.0), 30, weight=nn.Parameter(torch.randn(30, 30)), delay=delay)
    )
    net[1].self_connections = False
    layer = integer(quantize(net).eval())[1]
    assert (layer.delay + layer.late / 128 - delay).abs().max() <= 1 / 256
    assert (layer.late > 0).float().mean() > 0.9
    assert not layer.weight.diagonal().any()
    unit = layer.gain / layer.neuron.gain  # a recurrent sum of 128 parts beside a sum of inputs
    scales = [m.parametrizations.weight[0].scale.flatten() for m in (quantize(net)[1], quantize(net)[0].layer)]
    torch.testing.assert_close(unit, scales[0] / 128 / scales[1], rtol=0.02, atol=0)


def test_recurrent_weights_much_larger_than_those_of_inputs():
    """The largest current is that of all recurrent spikes together; it fits."""
    net = nn.Sequential(Time(nn.Linear(8, 30)), RLIF(30, tau=5.0, decay_input=False))
    with torch.no_grad():
        net[0].layer.weight.fill_(1.0)
        net[1].weight.fill_(500.0)
    few = quantize(net).eval()
    x = frames()
    assert_equal(integer(few)(x).float(), few(x.float()).detach())


@pytest.mark.parametrize("name", ["adlif", "bittar, learned delays", "lif"])
def test_in_parts_gives_the_spikes_of_the_whole(name):
    net, x = integer(network(name))[:2], frames()
    whole_sequence = net(x)
    net[1].stateful = True
    assert_equal(torch.cat([net(part) for part in x.split([1, 30, 29])]), whole_sequence)
    snnfast.nn.reset(net)
    assert_equal(net(x), whole_sequence)


def test_a_step_at_a_time_and_no_nir():
    net, x = integer(network("bittar, learned delays")), frames()
    step, found = snnfast.export.Step(net), []
    states = step.start(x[0])
    for frame in x:
        y, *states = step(frame, *states)
        found.append(y)
    assert_equal(torch.stack(found), net(x))
    pytest.importorskip("nir")
    with pytest.raises(ValueError, match="NIR has no equal for 1, a IntegerRecurrent"):
        snnfast.nir.to_nir(net, (8,), dt=1.0, scheme="euler")


def test_a_copy_that_is_saved_and_loaded():
    net, x = integer(network("bittar, learned delays")), frames()
    other = integer(network("bittar, learned delays"))
    for buffer in other.buffers():
        buffer.zero_()
    other.load_state_dict(net.state_dict())
    assert_equal(other(x), net(x))


def test_errors(tmp_path):
    def behind(*layers):
        return nn.Sequential(Time(nn.Linear(8, 30)), *layers)

    cases = [
        (quantize(behind(RLIF(30, tau=torch.rand(30) + 2))), "holds a RLIF that|has a decay for each neuron"),
        (quantize(behind(AdLIF(30, refractory=2))), "has a refractory period"),
        (quantize(behind(AdLIF(30, v_threshold=torch.rand(30) + 1))), "has a v_threshold for each neuron"),
        (quantize(behind(LIF(), Recurrent(LIF(), 30))), "does not stand directly behind a linear layer"),
    ]
    for net, message in cases:
        with pytest.raises(ValueError, match=f"integer: .*({message})"):
            integer(net)
    one, square = whole(1, 1), torch.ones(2, 2, dtype=torch.int8)
    with pytest.raises(TypeError, match=r"IntegerRecurrent: neuron must be integer neurons that fire, .* LIF"):
        IntegerRecurrent(LIF(), square, one)
    with pytest.raises(ValueError, match="IntegerRecurrent: delay and late must be given together"):
        IntegerRecurrent(IntegerLIF(one, one), square, one, delay=one)
    with pytest.raises(ValueError, match=r"IntegerAdLIF: a must lie in \[-32768, 32768\]"):
        IntegerAdLIF(one, one, decay=one, decay_w=one, a=one * 40_000, b=one)
