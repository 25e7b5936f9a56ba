"""Layers of neurons simulated by exact events."""

import math

import pytest
import torch

from snnfast import ops
from snnfast.nn import EventProp, EventReadout, SpikeProp, calibrate, loss

INF = math.inf
TAUS = {"tau_mem": 12.0, "tau_syn": 4.0}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_layer_is_the_op_with_its_weights_and_delays():
    layer = EventProp(6, 4, recurrent=True, delay_range=(1.0, 5.0), learn_delays=True, v_threshold=0.7, **TAUS)
    t = torch.rand(3, 6, 2) * 8
    with torch.no_grad():
        layer.delays[0, 0], layer.delays_rec[1, 0] = -2.0, -3.0
    more = {"delays": layer.delays.abs(), "delays_rec": layer.delays_rec.abs()}
    expected = ops.eventprop(t, layer.weight, layer.weight_rec, **more, **TAUS, v_threshold=0.7, t_max=40.0)
    times, u_max = layer(t, return_u_max=True)
    torch.testing.assert_close(times, expected, rtol=0, atol=0)
    assert u_max.shape == (3, 4)
    times.nan_to_num(posinf=0.0).sum().backward()
    assert all(p.grad.any() for p in layer.parameters())
    assert sorted(dict(layer.named_parameters())) == ["delays", "delays_rec", "weight", "weight_rec"]


def test_delays_that_are_not_learned_are_kept_with_the_layer():
    layer = EventProp(3, 2, delay_range=(1.0, 5.0))
    assert list(layer.state_dict()) == ["weight", "delays"]
    assert ((layer.delays >= 1) & (layer.delays <= 5)).all()
    other = EventProp(3, 2, delay_range=(0.0, 0.0))
    other.load_state_dict(layer.state_dict())
    t = torch.rand(4, 3) * 9
    torch.testing.assert_close(other(t), layer(t), rtol=0, atol=0)


@pytest.mark.parametrize("taus", [(20.0, 5.0), (5.0, 20.0), (9.0, 9.0)])
def test_default_weights_fire(taus):
    """Simultaneous spikes of all inputs reach twice the threshold on average."""
    layer = EventProp(300, 50, tau_mem=taus[0], tau_syn=taus[1], max_spikes=99)
    readout = EventReadout(300, 50, tau_mem=taus[0], tau_syn=taus[1])
    assert layer(torch.rand(20, 300) * 3)[..., 0].isfinite().float().mean() > 0.7
    assert readout(torch.zeros(1, 300)).mean().item() == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("taus", [(20.0, 5.0), (5.0, 20.0), (9.0, 9.0), (9.0, 9.00001)])
def test_readouts_are_the_largest_potential_and_its_mean(taus):
    """Compare with a fine grid of the potential, a sum of two exponentials."""
    tau_mem, tau_syn = taus
    how = {"tau_mem": tau_mem, "tau_syn": tau_syn, "t_max": 50.0}
    t = torch.rand(3, 6, 2, dtype=torch.float64) * 40
    t[0, 0, 0] = INF
    largest, mean = (EventReadout(6, 4, kind, **how).double() for kind in ("max", "mean"))
    mean.load_state_dict(largest.state_dict())
    at = torch.linspace(0, 50, 20001, dtype=torch.float64)
    s = (at[:, None, None, None] - t).clamp(min=0).nan_to_num(neginf=0.0)
    if abs(tau_mem - tau_syn) < 1e-3:
        kernel = s / tau_mem * torch.exp(-s / tau_mem)
    else:
        kernel = (torch.exp(-s / tau_mem) - torch.exp(-s / tau_syn)) * tau_syn / (tau_mem - tau_syn)
    v = torch.einsum("tbis,ni->tbn", kernel, largest.weight.detach())
    torch.testing.assert_close(largest(t), v.amax(0).clamp(min=0), rtol=0, atol=2e-5)
    torch.testing.assert_close(mean(t), torch.trapezoid(v, at, dim=0) / 50, rtol=0, atol=2e-5)
    torch.autograd.gradcheck(lambda t: mean(t), t[1:].requires_grad_())


def test_calibrated_neurons_fire_first_at_the_chosen_time():
    layer, t = EventProp(20, 9), torch.rand(100, 20) * 10
    reached = calibrate(layer, t, 12.0)
    assert (reached - 12).abs().median() < 0.1  # a mean jumps where a sample's spike comes or goes
    assert (reached - 12).abs().max() < 2
    torch.testing.assert_close(layer.first_times(t).clamp(max=40).mean(0), reached, rtol=0, atol=1e-4)


@pytest.mark.parametrize("readout", ["max", "mean", "first"])
def test_a_network_learns(readout):
    """The task: which of two inputs comes first."""
    t = torch.rand(200, 2) * 10
    labels = (t[:, 0] < t[:, 1]).long()
    hidden = EventProp(2, 20, slope_min=1.0, **TAUS)
    calibrate(hidden, t, 12.0)
    output = EventProp(20, 2, max_spikes=1, stops=True, slope_min=1.0, **TAUS)
    calibrate(output, hidden(t).detach(), 18.0)
    if readout != "first":
        output = EventReadout(20, 2, readout, **TAUS)
    optimizer = torch.optim.Adam([*hidden.parameters(), *output.parameters()], lr=0.02)
    for _ in range(60):
        between, u_max = hidden(t, return_u_max=True)
        value = loss.revival(between[..., 0], u_max)
        if readout == "first":
            fired, u_out = output(between, return_u_max=True)
            scores = -loss.virtual_times(fired[..., 0], u_out, t_max=40.0)
        else:
            scores = (3 if readout == "max" else 10) * output(between)
        value = value + torch.nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert (scores.argmax(1) == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learn_delays": True}, ValueError, "EventProp: learn_delays must come with a delay_range, got None"),
        ({"delay_range": (3.0, 1.0)}, ValueError, "EventProp: delay_range must be two times, 0 <= low <= high"),
        ({"tau_syn": -1.0}, ValueError, "EventProp: tau_syn must be positive, got -1"),
        ({"stops": 1}, TypeError, "EventProp: stops must be True or False, got 1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error) as raised:
        EventProp(3, 2, **arguments)
    assert str(raised.value).startswith(message)


def test_what_is_printed():
    assert repr(EventProp(5, 2, recurrent=True, t_max=30.0, max_spikes=1, stops=True)) == (
        "EventProp(5, 2, tau_mem=20, tau_syn=5, t_max=30, max_spikes=1, stops=True, recurrent=True)"
    )
    assert repr(EventReadout(5, 2, "mean")) == "EventReadout(5, 2, tau_mem=20, tau_syn=5, t_max=40, readout=mean)"
    assert isinstance(SpikeProp(2, 2).first_times(torch.zeros(1, 2)), torch.Tensor)
