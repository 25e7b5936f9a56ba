"""calibrate_ sets the firing rates of all layers; layers that are silent or saturated in training warn."""

import copy
import warnings

import pytest
import torch
from equations import klif
from torch import nn

import snnfast
from snnfast import connect
from snnfast.nn import (
    IF,
    LI,
    LIF,
    RLIF,
    AdLIF,
    Rate,
    Recomputed,
    Recurrent,
    SparseLinear,
    SparseRecurrent,
    SpikeConv2d,
    SpikeLinear,
    SpikeProp,
    Time,
    calibrate_,
)

GRAPH = connect.fixed_indegree(64, indegree=5, seed=2)
X = (torch.rand(20, 16, 30, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def rate_of(net, name, x=X):
    found = []
    hook = net.get_submodule(name).register_forward_hook(lambda m, i, y: found.append(y))
    with torch.no_grad():
        net(x)
    hook.remove()
    return found[0].mean().item()


def plain():
    return nn.Sequential(
        *(Time(nn.Linear(30, 64)), LIF(tau=10.0)),
        *(Time(SpikeLinear(64, 64)), LIF(tau=10.0)),
        *(Time(nn.Linear(64, 5)), LIF(tau=10.0), Rate()),
    )


def normalised():
    return nn.Sequential(
        *(Time(nn.Linear(30, 64), nn.BatchNorm1d(64)), Recurrent(AdLIF(64), 64)),
        *(Time(nn.Linear(64, 64), nn.BatchNorm1d(64)), LIF(tau=20.0)),
        *(Time(nn.Linear(64, 5)), RLIF(5), LI()),
    )


def sparse():
    return nn.Sequential(
        *(SparseLinear(connect.fixed_indegree(30, 64, indegree=9, seed=0)), SparseRecurrent(LIF(tau=10.0), GRAPH)),
        *(SparseLinear(connect.fixed_indegree(64, 64, indegree=9, seed=1)), LIF(tau=20.0)),
        *(Time(nn.Linear(64, 5)), LIF(), Rate()),
    )


@pytest.mark.parametrize("make", [plain, normalised, sparse])
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_every_layer_fires_at_the_rate(make, rate):
    torch.manual_seed(0)
    net = make()
    reached = calibrate_(net, X, rate)
    assert len(reached) == 3
    for name, value in reached.items():
        assert value == pytest.approx(rate, rel=0.2)
        assert rate_of(net, name) == pytest.approx(value, rel=0.1)


def test_images_pooling_and_a_shortcut_of_spikes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(Time(nn.Conv2d(2, 8, 3, padding=1)), LIF(tau=5.0))
            self.conv, self.lif = Time(SpikeConv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)), LIF()
            self.pooled = nn.Sequential(Time(nn.Conv2d(8, 8, 3)), IF(), Time(nn.AvgPool2d(2)))

        def forward(self, x):
            y = self.first(x)
            return self.pooled(self.lif(self.conv(y) + y))

    torch.manual_seed(0)
    net = Net()
    x = torch.rand(4, 2, 12, 12).expand(6, 4, 2, 12, 12)
    reached = calibrate_(net, x, 0.15)
    assert set(reached) == {"first.1", "lif", "pooled.1"}
    for name, value in reached.items():
        assert value == pytest.approx(0.15, rel=0.35)
        assert rate_of(net, name, x) == pytest.approx(value, rel=0.05)


def test_layers_that_are_recomputed_in_parts():
    torch.manual_seed(0)
    layers = (Time(nn.Linear(20, 30)), LIF(tau=10.0), Time(nn.Linear(30, 10)), LIF(tau=10.0))
    plain, parts = nn.Sequential(*layers), nn.Sequential(Recomputed(*copy.deepcopy(layers), every=5))
    x = (torch.rand(12, 8, 20) < 0.2).float()
    assert list(calibrate_(parts, x).values()) == list(calibrate_(plain, x).values())
    assert parts[0].every == 5
    torch.testing.assert_close(parts(x), plain(x))


def test_every_neuron_fires_alike():
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(30, 64)), LIF(tau=10.0))
    nn.init.uniform_(net[0].layer.bias, -3.0, 3.0)
    calibrate_(net, X)
    rates = net(X).mean((0, 1))
    assert rates.min() > 0.03
    assert rates.max() < 0.25


def test_only_weights_change():
    torch.manual_seed(0)
    net = normalised().eval()
    net[1].stateful = True
    net(X)
    state, modes = net[1].past.clone(), [m.training for m in net.modules()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    calibrate_(net, X)
    torch.testing.assert_close(random, torch.get_rng_state(), rtol=0, atol=0)
    assert modes == [m.training for m in net.modules()]
    torch.testing.assert_close(net[1].past, state, rtol=0, atol=0)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {
        *("0.layer.1.weight", "2.layer.1.weight"),  # a bias of 0 stays 0
        *("4.layer.weight", "4.layer.bias"),
    }
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_layer_that_cannot_reach_the_rate_is_named():
    net = nn.Sequential(Time(nn.Linear(30, 4, bias=False)), LIF())
    nn.init.constant_(net[0].layer.weight, -1.0)
    with pytest.warns(UserWarning, match=r"calibrate_: 1, LIF\(.*fires at 0 of the steps, and at 0.1 with no"):
        assert calibrate_(net, X) == {"1": 0.0}


def test_spike_times_have_a_mean_time():
    torch.manual_seed(0)
    layer = SpikeProp(20, 5)
    times = torch.rand(40, 20) * 10
    reached = calibrate_(layer, times, mean_time=12.0)
    torch.testing.assert_close(reached, torch.full((5,), 12.0), rtol=0.05, atol=0)
    with pytest.raises(TypeError, match="SpikeProp fires at times, not at rates: give mean_time="):
        calibrate_(layer, times)
    with pytest.raises(TypeError, match="mean_time is for SpikeProp, got Sequential"):
        calibrate_(plain(), X, mean_time=3.0)


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.lif = nn.Linear(30, 4), LIF(stateful=True)

    def forward(self, x):
        return torch.stack([self.lif.step(self.linear(step)) for step in x])


@pytest.mark.parametrize(
    ("net", "x", "rate", "message"),
    [
        (plain(), X, 0.0, "rate must lie between 0 and 1 spikes a neuron and step, got 0"),
        (plain(), X, 1.0, "rate must lie between 0 and 1"),
        (nn.Linear(30, 2), X, 0.1, "Linear has no spiking layers"),
        (Loop(), X, 0.1, "lif is called several times in a call of the network"),
    ],
)
def test_errors(net, x, rate, message):
    with pytest.raises(ValueError, match=f"calibrate_: {message}"):
        calibrate_(net, x, rate)


def test_a_compiled_network_is_refused():
    with pytest.raises(ValueError, match="calibrate_: net is compiled"):
        calibrate_(torch.compile(plain()), X, 0.1)


def call(net, x, times=10):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            net(x)
    return [str(w.message) for w in caught if "Nothing fires" in str(w.message)]


@pytest.mark.parametrize("net", [LIF(tau=10.0), RLIF(30, 10.0), Recurrent(AdLIF(30), 30), klif.layer()])
def test_a_silent_layer_warns_once_in_training(net):
    assert call(net.eval(), 0.01 * X) == []
    (text,) = call(net.train(), 0.01 * X)
    assert "never fired in the first 5 calls of training (100 steps)" in text
    assert "x [T, B, 30]" in text
    assert "snnfast.nn.calibrate_(net, x)" in text
    assert "lower v_threshold" in text
    assert call(net, 0.01 * X) == []


def test_a_saturated_layer_warns_and_one_that_works_does_not():
    (text,) = call(LIF(), 100 + X)
    assert "fired at every step" in text
    assert "higher v_threshold" in text
    assert call(LIF(), 3 * X) == []
    late = LIF()
    assert call(late, 0 * X, 3) == []
    late(3 * X)
    assert call(late, 0 * X) == []


def test_a_single_spike_in_ten_thousand_does_not_count_as_firing():
    x = torch.zeros(50, 8, 30)
    x[0, 0, 0] = 10.0
    (text,) = call(LIF(), x)
    assert "have fired at 8.3e-05 of all steps in the first 4 calls of training (200 steps)" in text
    assert "lower v_threshold" in text


def test_recurrent_adlif_behind_batch_norm_warns_and_learns_when_calibrated():
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(30, 64), nn.BatchNorm1d(64)), Recurrent(AdLIF(64), 64))
    x = torch.randn(10, 16, 30).repeat_interleave(10, 0)
    (text,) = call(net, x)
    assert "fired at 0.00" in text
    assert "snnfast.nn.calibrate_(net, x)" in text
    calibrate_(net, x)
    net[1].neuron.watched = (0, 0, -1)
    assert call(net, x) == []
    assert 0.05 < net(x).mean() < 0.2


def test_one_spike_a_neuron_in_a_long_sequence_is_no_silence():
    x = torch.zeros(2000, 1, 30)
    x[7] = 10.0
    assert call(LIF(), x) == []


def test_a_compiled_layer_has_one_graph():
    net = nn.Sequential(Time(nn.Linear(30, 8)), LIF(tau=10.0))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), net(X))


def test_the_old_name_says_where_rates_are_set():
    with pytest.raises(TypeError, match=r"layer must be a SpikeProp.*calibrate_\(net, x, rate=0.1\)"):
        snnfast.nn.calibrate(plain(), X, 0.1)
