"""The network of Bohte et al. 2002 and n3ml's optimizer for it."""

import math

import pytest
import torch

from snnfast.model import Bohte2002
from snnfast.nn import loss
from snnfast_zoo.n3ml.optimizer import Bohte

INF = math.inf


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_defaults_are_the_papers_network_for_iris():
    net = Bohte2002()
    assert [tuple(layer.weight.shape) for layer in net.layers] == [(10, 50, 16), (3, 10, 16)]
    assert all(layer.delays.tolist() == list(range(1, 17)) for layer in net.layers)
    assert [layer.tau for layer in net.layers] == [7.0, 7.0]
    assert net(torch.rand(8, 50) * 10).shape == (8, 3)


def test_arguments_go_by_n3mls_order():
    net = Bohte2002(4, 5, 2, 3, 0.5, 6.0)
    assert [tuple(layer.weight.shape) for layer in net.layers] == [(5, 4, 3), (2, 5, 3)]
    assert [(layer.v_threshold, layer.tau) for layer in net.layers] == [(0.5, 6.0)] * 2


def test_several_hidden_layers_and_options():
    net = Bohte2002(4, (6, 5), 2, [0.0], t_max=20.0, learn_delays=True)
    assert [tuple(layer.weight.shape) for layer in net.layers] == [(6, 4, 1), (5, 6, 1), (2, 5, 1)]
    assert all(layer.delays.requires_grad for layer in net.layers)
    times = net.spike_times(torch.rand(3, 4))
    assert [tuple(t.shape) for t in times] == [(3, 4), (3, 6), (3, 5), (3, 2)]


def test_one_sample_and_n3mls_silence():
    net = Bohte2002(4, 5, 2)
    batch = torch.rand(3, 4) * 5
    batch[1, 2] = INF
    marked = batch.masked_fill(batch.isinf(), -1)
    torch.testing.assert_close(net(marked), net(batch), rtol=0, atol=0)
    torch.testing.assert_close(net(marked[1]), net(batch)[1], rtol=0, atol=0)
    torch.testing.assert_close(net(batch.double()), net(batch), rtol=0, atol=0)
    assert batch[1, 2] == INF


def test_the_warning_of_silent_neurons_names_the_layer():
    net = Bohte2002(3, 4, 2)
    with torch.no_grad():
        net.layers[1].weight.zero_()
    with pytest.warns(UserWarning, match=r"^spikeprop: all outputs are silent: no neuron of layers\.1, w \["):
        net(torch.zeros(2, 3))


def test_silent_outputs_are_inf_or_virtual():
    net = Bohte2002(4, 5, 2, t_max=25.0)
    with torch.no_grad():
        net.layers[1].weight[1] *= 0.01
    batch = torch.rand(3, 4) * 5
    assert net(batch)[:, 1].isinf().all()
    net.virtual = 4.0
    assert (net(batch)[:, 1] > 25.0).all()
    assert (net(batch)[:, 1] <= 29.0).all()
    net(batch)[:, 1].sum().backward()
    assert net.layers[1].weight.grad[1].abs().sum() > 0


def test_initialize_draws_n3mls_weights_again():
    net = Bohte2002()
    net.initialize()
    first = net.layers[0].weight.detach().clone()
    assert 0.02 <= first.min() < 0.03
    assert 0.09 < first.max() <= 0.1
    net.initialize(delay=False)
    assert not torch.equal(net.layers[0].weight, first)


def test_calibrate_sets_every_layer():
    net = Bohte2002(8, (9, 7), 4)
    batch = torch.rand(30, 8) * 6
    batch[0, 0] = -1
    net.calibrate(batch, (9.0, 13.0, 17.0))
    for times, wanted in zip(net.spike_times(batch)[1:], (9.0, 13.0, 17.0)):
        reached = times.clamp(max=40.0).mean(0)
        torch.testing.assert_close(reached, torch.full_like(reached, wanted), rtol=0, atol=0.5)
    with pytest.raises(ValueError, match="a time for each of 3 layers, got 2"):
        net.calibrate(batch, (9.0, 13.0))


@pytest.mark.parametrize("options", [{}, {"learn_delays": True}], ids=["weights", "delays"])
def test_step_is_one_of_gradient_descent(backend, options):
    """If only weights learn, the step does not use autograd."""
    net, by_hand = Bohte2002(4, 5, 2, **options), Bohte2002(4, 5, 2, **options)
    assert net.weights_only == (not options)
    net, by_hand = net.to(backend.device), by_hand.to(backend.device)
    by_hand.load_state_dict(net.state_dict())
    x, target = torch.rand(4) * 5, torch.tensor([8.0, 13.0])
    x, target = x.to(backend.device), target.to(backend.device)
    error = loss.spike_time_squared_error(by_hand(x)[None], target[None])
    error.backward()
    assert error > 0
    answered = Bohte(lr=0.01).step(net, spiked_input=x, spiked_label=target)
    torch.testing.assert_close(answered, by_hand(x), rtol=0, atol=0)
    assert not answered.requires_grad
    for one, two in zip(net.parameters(), by_hand.parameters()):
        torch.testing.assert_close(one, two - 0.01 * two.grad, rtol=1e-6, atol=1e-7)
    assert all(p.grad is None for p in net.parameters())


def test_a_step_lowers_the_error_and_takes_batches():
    net = Bohte2002(4, 5, 2)
    x, target = torch.rand(6, 4) * 5, torch.tensor([[9.0, 13.0]]).expand(6, 2)
    errors = []
    for _ in range(20):
        t = Bohte(lr=0.01).step(model=net, spiked_input=x, spiked_label=target)
        errors.append(loss.spike_time_squared_error(t, target).item())
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("options", [{}, {"learn_delays": True}], ids=["weights", "delays"])
def test_bounds_hold_for_weights_alone(options):
    net = Bohte2002(4, 5, 2, **options)
    net.initialize()
    optimizer = Bohte(lr=1.0, minimum=0.02, maximum=0.08)
    for _ in range(3):
        optimizer.step(net, torch.rand(4) * 5, torch.tensor([8.0, 13.0]))
    for layer in net.layers:
        assert layer.weight.min().item() >= 0.02 - 1e-7
        assert layer.weight.max().item() <= 0.08 + 1e-7
        assert layer.delays.max().item() > 10


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lr": 0}, ValueError, "lr must be positive, got 0"),
        ({"lr": "a"}, TypeError, "lr must be a number"),
        ({"minimum": "a"}, TypeError, "minimum must be a number, got str"),
        ({"maximum": float("nan")}, ValueError, "maximum must be finite, got nan"),
        ({"minimum": 1.0, "maximum": 0.0}, ValueError, "minimum must be at most maximum, 0, got 1"),
    ],
)
def test_errors_of_bohte(arguments, error, message):
    with pytest.raises(error, match=f"SpikePropDescent: {message}"):
        Bohte(**arguments)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (torch.rand(3), ValueError, r"the shape of the outputs, \[2\], got \[3\]"),
        ([8.0, 13.0], TypeError, "target must be a tensor, got list"),
        (torch.tensor([8.0, torch.nan]), ValueError, "target must be times, or inf, got NaN"),
    ],
)
def test_wrong_targets_are_named_and_change_nothing(target, error, message):
    net = Bohte2002(4, 5, 2)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(error, match=f"SpikePropDescent: .*{message}"):
        Bohte().step(net, torch.rand(4), target)
    for a, b in zip(before, net.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_times_may_be_integers_as_the_manuals_encoder_gives_them():
    torch.manual_seed(0)
    net = Bohte2002(6, 4, 2, 3, t_max=20.0)
    net.reset_parameters(2.0, 3.0)
    times = torch.tensor([[0, 3, -1, 5, 2, -1]])
    want = net(torch.tensor([[0.0, 3.0, torch.inf, 5.0, 2.0, torch.inf]]))
    assert want.isfinite().all()
    for dtype in (torch.int8, torch.int64, torch.float64):
        torch.testing.assert_close(net(times.to(dtype)), want, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"virtual": 10**400}, ValueError, "Bohte2002: virtual must be finite"),
        ({"hidden": 2.5}, TypeError, "Bohte2002: hidden must be a sequence of integers, got float"),
    ],
)
def test_wrong_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        Bohte2002(6, **{"hidden": 4, **arguments})
