"""Layers of neurons that fire once."""

import math

import pytest
import torch
from torch import nn

from snnfast import ops
from snnfast.nn import SpikeProp, calibrate, loss

INF = math.inf


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_layer_is_the_op_with_its_weights_and_delays():
    layer = SpikeProp(6, 4, tau=5.0, v_threshold=0.7, t_max=30.0)
    t = torch.rand(3, 6) * 8
    assert layer.delays.tolist() == list(range(1, 17))
    expected = ops.spikeprop(t, layer.weight, torch.arange(1.0, 17), tau=5.0, v_threshold=0.7, t_max=30.0)
    torch.testing.assert_close(layer(t), expected, rtol=0, atol=0)
    times, u_max = layer(t, return_u_max=True)
    torch.testing.assert_close(times, expected, rtol=0, atol=0)
    assert u_max.shape == (3, 4)


def test_one_neuron_worked_by_hand():
    # One input at 2 ms, one terminal of 3 ms, weight w: u(t) = w s / tau e^(1 - s / tau), s = t - 5.
    layer = SpikeProp(1, 1, [3.0], tau=4.0, v_threshold=1.0)
    with torch.no_grad():
        layer.weight.fill_(2 * math.exp(-0.5))  # at s = tau / 2 the response is (1/2) e^(1/2)
    t = layer(torch.tensor([[2.0]]))
    assert t.item() == pytest.approx(5 + 4 / 2, abs=1e-5)


def test_clipped_share_counts_slopes_below_the_bound():
    # The neuron above crosses at s = tau / 2 with the slope w (1 - s / tau) e^(1 - s / tau) / tau = 1 / tau.
    layer = SpikeProp(1, 2, [0.0], tau=4.0, t_max=20.0)
    with torch.no_grad():
        layer.weight[0].fill_(2 * math.exp(-0.5))
        layer.weight[1].fill_(1.0001)  # grazes
    t = torch.tensor([[2.0], [INF], [3.0]])
    shares = []
    for layer.slope_min in (1e-6, 0.9, 1.1):
        shares.append(layer.clipped_share(t))
    assert shares == [0.0, 0.5, 1.0]


def test_default_weights_fire():
    for shape in ((3, 5, 16), (50, 10, 16), (800, 20, 1)):
        n_in, n_out, terminals = shape
        layer = SpikeProp(n_in, n_out, terminals)
        fired = layer(torch.rand(20, n_in) * 5).isfinite().float().mean()
        assert fired > 0.8, shape


def test_dt_rounds_up_to_the_grid():
    layer = SpikeProp(6, 4)
    coarse = SpikeProp(6, 4, dt=1.0)
    coarse.load_state_dict(layer.state_dict())
    t = torch.rand(3, 6) * 8
    exact, grid = layer(t), coarse(t)
    fired = exact.isfinite() & grid.isfinite()
    torch.testing.assert_close(grid[fired], exact[fired].ceil(), rtol=0, atol=0)


def test_fixed_random_and_given_delays():
    assert SpikeProp(4, 2, [0.0]).weight.shape == (2, 4, 1)
    assert SpikeProp(4, 2, torch.rand(4, 3)).weight.shape == (2, 4, 3)
    drawn = SpikeProp(40, 2, 3, delay_range=(2.0, 5.0)).delays
    assert drawn.shape == (40, 3)
    assert 2 <= drawn.min() < 2.3
    assert 4.7 < drawn.max() <= 5
    layer = SpikeProp(4, 2)
    assert "delays" in layer.state_dict()
    assert [n for n, _ in layer.named_parameters()] == ["weight"]


def test_learned_delays_and_tau_have_gradients():
    tau = nn.Parameter(torch.tensor(6.0))
    layer = SpikeProp(6, 4, 3, learn_delays=True, tau=tau)
    layer(torch.rand(3, 6) * 8).clamp(max=40).sum().backward()
    assert {n for n, _ in layer.named_parameters()} == {"weight", "delays", "tau"}
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_print_says_what_is_learned():
    assert "tau=7," in repr(SpikeProp(3, 2, tau=torch.tensor(7.0)))
    assert "tau=learned," in repr(SpikeProp(3, 2, tau=torch.nn.Parameter(torch.tensor(7.0))))


def test_learned_delays_are_reflected_at_zero():
    layer = SpikeProp(2, 3, [1.0, 2.0], learn_delays=True)
    t = torch.rand(5, 2)
    before = layer(t)
    with torch.no_grad():
        layer.delays[0] = -1.0
    torch.testing.assert_close(layer(t), before, rtol=0, atol=0)


def test_signs_hold_whatever_the_weights_become():
    layer = SpikeProp(3, 4, signs=[1, 1, -1])
    nn.init.normal_(layer.weight)
    w, _ = layer.effective()
    assert (w[:, :2] >= 0).all()
    assert (w[:, 2] <= 0).all()
    torch.testing.assert_close(w.abs(), layer.weight.abs(), rtol=0, atol=0)
    t = torch.rand(2, 3)
    torch.testing.assert_close(layer(t), ops.spikeprop(t, w, layer.delays, tau=7.0, t_max=40.0), rtol=0, atol=0)
    assert "signs" in layer.state_dict()


def test_trains_by_plain_backward():
    net = nn.Sequential(SpikeProp(4, 8), SpikeProp(8, 2))
    t, target = torch.rand(6, 4) * 6, torch.tensor([14.0, 18.0])
    calibrate(net[0], t, 9.0)
    calibrate(net[1], net[0](t).detach(), 14.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    values = []
    for _ in range(60):
        value = loss.spike_time_squared_error(net(t), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.1 * values[0]


def test_revival_wakes_a_silent_layer():
    layer = SpikeProp(4, 8)
    with torch.no_grad():
        layer.weight.mul_(0.05)
    t = torch.rand(6, 4) * 6
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    with pytest.warns(UserWarning, match=r"silent: no neuron of SpikeProp, w \[8, 4, 16\] reached"):
        assert layer(t).isinf().all()
    for _ in range(30):
        layer.validate = False
        value = loss.revival(*layer(t, return_u_max=True))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert layer(t).isfinite().all(1).any()
    assert layer(t).isfinite().any(0).all()


def test_potentials_cross_the_threshold_at_the_spike():
    layer = SpikeProp(5, 3).double()
    t = torch.rand(2, 5, dtype=torch.float64) * 6
    t[0, 0] = INF
    calibrate(layer, t, 12.0)
    times = layer(t)
    at = times.flatten()
    v = layer.potentials(t, at)
    assert v.shape == (6, 2, 3)
    at_spikes = v.reshape(6, 6).diagonal()
    torch.testing.assert_close(at_spikes, torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-9)
    early = layer.potentials(t, at - 0.01).reshape(6, 6).diagonal()
    assert (early < 1).all()


# calibrate


@pytest.mark.parametrize("terminals", [1, 16])
def test_calibrate_reaches_the_mean_time(terminals):
    layer = SpikeProp(30, 12, terminals, t_max=50.0)
    layer.reset_parameters(-0.3, 1.0)
    t = torch.rand(40, 30) * 8
    reached = calibrate(layer, t, 9.0)
    torch.testing.assert_close(layer(t).clamp(max=50.0).mean(0), reached)
    torch.testing.assert_close(reached, torch.full((12,), 9.0), rtol=0, atol=0.3)


def test_calibrate_scales_each_neuron_and_changes_no_direction():
    layer = SpikeProp(10, 4)
    before = layer.weight.detach().clone()
    calibrate(layer, torch.rand(20, 10) * 5, 11.0)
    gain = layer.weight / before
    torch.testing.assert_close(gain, gain[:, :1, :1].expand_as(gain))
    assert (gain > 0).all()
    assert len(gain[:, 0, 0].unique()) == 4


def test_calibrate_leaves_neurons_that_cannot_fire_and_says_so():
    layer = SpikeProp(10, 4)
    with torch.no_grad():
        layer.weight[2].abs_().neg_()
    before = layer.weight.detach().clone()
    with pytest.warns(UserWarning, match=r"1 of 4 neurons cannot fire at 11 ms"):
        reached = calibrate(layer, torch.rand(20, 10) * 5, 11.0)
    torch.testing.assert_close(layer.weight[2], before[2], rtol=0, atol=0)
    assert reached[2] == layer.t_max
    assert not torch.equal(layer.weight[1], before[1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.Linear(2, 2), 5.0), TypeError, "layer must be a SpikeProp or an EventProp, got Linear"),
        ((SpikeProp(2, 2), 0.0), ValueError, "mean_time must lie between 0 and t_max = 40 ms"),
        ((SpikeProp(2, 2), 40.0), ValueError, "mean_time must lie between 0 and t_max = 40 ms"),
        ((SpikeProp(2, 2), math.nan), ValueError, "mean_time must be finite"),
    ],
)
def test_errors_of_calibrate(arguments, error, message):
    layer, mean_time = arguments
    with pytest.raises(error, match=f"calibrate: {message}"):
        calibrate(layer, torch.rand(3, 2), mean_time)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 2), {}, ValueError, "in_features must be at least 1, got 0"),
        ((2, 2.0), {}, TypeError, "out_features must be an integer, got float"),
        ((2, 2, 0), {}, ValueError, "delays must be at least 1, got 0"),
        ((2, 2, []), {}, ValueError, r"delays must have shape \[K\] or \[2, K\]"),
        ((2, 2, torch.rand(3, 4)), {}, ValueError, r"got \[3, 4\]"),
        ((2, 2, [-1.0]), {}, ValueError, "at least 0, got values from -1.0 to -1.0"),
        ((2, 2, "a"), {}, TypeError, "delays must be a number of terminals or their delays"),
        ((2, 2, [1.0]), {"delay_range": (1, 2)}, ValueError, "give delays as a number"),
        ((2, 2, 3), {"delay_range": (2, 1)}, ValueError, "0 <= low <= high, got"),
        ((2, 2), {"tau": 0.0}, ValueError, "tau must be positive, got 0"),
        ((2, 2), {"tau": "7"}, TypeError, "tau must be a number, got str"),
        ((2, 2), {"v_threshold": -1}, ValueError, "v_threshold must be positive, got -1"),
        ((2, 2), {"t_max": INF}, ValueError, "t_max must be finite, got inf"),
        ((2, 2), {"dt": 0}, ValueError, "dt must be positive, got 0"),
        ((2, 2), {"slope_min": 0}, ValueError, "slope_min must be positive, got 0"),
        ((2, 2), {"signs": [1, 2]}, ValueError, r"signs must be \+1 or -1 for each of 2 inputs"),
        ((2, 2), {"signs": [1]}, ValueError, r"signs must be \+1 or -1 for each of 2 inputs"),
    ],
)
def test_errors_of_the_layer(arguments, options, error, message):
    with pytest.raises(error, match=f"SpikeProp: .*{message}"):
        SpikeProp(*arguments, **options)


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.tensor([[math.nan, 1.0]]), "t_in must hold times"),
        (torch.tensor([[-1.0, 1.0]]), "t_in must hold times"),
        (torch.tensor([[50.0, 1.0]]), "t_max must not lie before the last input spike"),
        (torch.tensor([[1.0, 1.0, 1.0]]), "spikeprop: "),
        (torch.tensor([1.0, 1.0]), r"t_in must have shape \[B, I\]"),
    ],
)
def test_bad_times_are_named(t, message):
    with pytest.raises(ValueError, match=message):
        SpikeProp(2, 2)(t)
