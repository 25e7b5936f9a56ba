"""Converted networks give the ReLU network's scores, for all kinds of layers and any chunks of steps."""

import copy

import pytest
import torch
from networks import NETWORKS, Dense, Functional, Residual, Series, images, make
from samples import assert_all
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.conversion import SpikingNetwork
from snnfast.papers import ResNet20

KINDS = [pytest.param(k, id=k.__name__) for k in NETWORKS]


@pytest.mark.parametrize("kind", KINDS)
def test_analog_network_is_the_model(kind):
    model = make(kind, dtype=torch.float64)
    x = images(dtype=torch.float64)
    network = SpikingNetwork(model)
    scores, activations = network.analog(x)
    torch.testing.assert_close(scores, model(x).detach(), rtol=1e-12, atol=1e-12)
    assert len(activations) == len(network.thresholds) == len(network.places)
    assert all(a.min() >= 0 and a.max() > 0 for a in activations.values())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_go_to_the_models(kind, per_channel):
    """With the largest activation as threshold nothing is clipped, so the error falls as 1 / steps."""
    model, x = make(kind), images()
    network = snnfast.convert(model, [x], method="max", per_channel=per_channel)
    want = model(x).detach()
    errors = [(network(x, T) - want).abs().max() / want.abs().max() for T in (8, 256)]
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("encoding", ["constant", "poisson"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_chunk_gives_the_same_bits(kind, encoding):
    model, x = make(kind), images()
    network = snnfast.convert(model, [x], method="percentile", per_channel=kind is Dense, encoding=encoding)
    torch.manual_seed(5)
    want = network(x, 40)
    for chunk in (1, 3, 7, 40, 100):
        torch.manual_seed(5)
        torch.testing.assert_close(
            network(x, 40, chunk=chunk), want, rtol=0, atol=0, msg=lambda m, k=chunk: f"{k}: {m}"
        )
    torch.manual_seed(5)
    stream = network.stream(x)
    for steps in (1, 0, 13, 26):
        stream.advance(steps, chunk=4)
    torch.testing.assert_close(stream.output(), want, rtol=0, atol=0)
    torch.manual_seed(5)
    torch.testing.assert_close(network.over_time(x, [3, 40])[1], want, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_counting_in_the_kernel_changes_nothing(kind):
    """If every layer is recorded, all products run step by step, also those after the last neurons."""
    model, x = make(kind, dtype=torch.float64), images(dtype=torch.float64)
    network = snnfast.convert(model, [x], method="max")
    recorded = network.stream(x, record=True).advance(30)
    torch.testing.assert_close(recorded.output(), network(x, 30), rtol=1e-12, atol=1e-12)
    assert set(recorded.counts) == set(network.plan.neurons)


def test_equals_a_loop_over_steps():
    """Compare with a network of all stateful layers, written in plain PyTorch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5)
    ).double()
    x = images(dtype=torch.float64)
    for reset, initial, warm_up in (("soft", 0.0, 0), ("soft", 0.5, 7), ("hard", 0.25, 24)):
        network = snnfast.convert(model, [x], method="max", reset=reset, initial_membrane=initial)
        th1, th2 = network.thresholds
        v1 = torch.full((4, 4, 6, 6), float(th1) * initial, dtype=torch.float64)
        v2 = torch.full((4, 3, 2, 2), float(th2) * initial, dtype=torch.float64)
        count1, pooled, total = torch.zeros_like(v1), 0.0, torch.zeros_like(v2)
        for t in range(25):
            v1 = v1 + model[0](x)
            s1 = (v1 >= th1).double()
            v1 = v1 - s1 * th1 if reset == "soft" else v1 * (1 - s1)
            count1 = count1 + s1
            most = F.max_pool2d(count1, 2)
            out, pooled = most - pooled, most
            assert set(out.unique().tolist()) <= {0.0, 1.0}
            v2 = v2 + model[3](out * th1)
            s2 = (v2 >= th2).double()
            v2 = v2 - s2 * th2 if reset == "soft" else v2 * (1 - s2)
            total = total + s2 * (t >= warm_up)
        want = model[6]((total / (25 - warm_up) * th2).flatten(1)).detach()
        scores = network(x, 25, warm_up=warm_up)
        torch.testing.assert_close(scores, want, rtol=1e-12, atol=1e-12)


def test_half_a_threshold_and_a_warm_up_settle_a_deep_network():
    """From rest, every layer waits for the first spikes of the layer before."""
    torch.manual_seed(3)
    model = ResNet20(8, 1, input_shape=(3, 8, 8), batch_norm=True, dropout=0.0)
    for _ in range(10):
        model(torch.randn(16, 3, 8, 8))
    x = torch.randn(8, 3, 8, 8)
    want = model.eval()(x).detach()

    def error(warm_up=0, **arguments):
        network = snnfast.convert(model, [x], method="max", per_channel=True, **arguments)
        return ((network(x, 64, warm_up=warm_up) - want).norm() / want.norm()).item()

    late, half = error(initial_membrane=0.0), error()
    assert half < late / 2
    assert error(warm_up=32) < half / 1.5


@pytest.mark.parametrize("spiking_output", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_leave_the_warm_up_out(kind, spiking_output):
    model, x = make(kind), images()
    network = SpikingNetwork(model, spiking_output=spiking_output)
    network.update_threshold([a.amax() for a in network.analog(x)[1].values()])
    for warm_up in (5, 16):
        want = network(x, 20, warm_up=warm_up)
        again = network(x, 20, warm_up=warm_up, chunk=3)
        torch.testing.assert_close(again, want, rtol=0, atol=0)
        over = network.over_time(x, [17, 20], warm_up=warm_up)
        torch.testing.assert_close(over[1], want, rtol=0, atol=0)
        stream = network.stream(x, warm_up=warm_up, record=True).advance(3).advance(17)
        torch.testing.assert_close(stream.output(), want, rtol=1e-5, atol=1e-5)
        whole = network.stream(x, record=True).advance(20)
        assert all(stream.counts[n].equal(whole.counts[n]) for n in network.plan.neurons)
        if spiking_output:
            scores_at = network.over_time(x, [warm_up, 20])
            torch.testing.assert_close(scores_at[1] - scores_at[0], want, rtol=0, atol=0)
        stream = network.stream(x, warm_up=warm_up).advance(18)
        stream.select(torch.tensor([3, 1]))
        stream.advance(2)
        torch.testing.assert_close(stream.output(), want[[3, 1]], rtol=1e-5, atol=1e-5)
        scores, steps = network.classify(x, 20, confidence=1.0, warm_up=warm_up)
        torch.testing.assert_close(scores, want, rtol=0, atol=0)
        assert steps.tolist() == [20] * 4


def test_rate_of_a_pool_is_the_largest_rate_at_every_step():
    """The input with the most spikes may change; the pool neither loses nor doubles a spike."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Unflatten(1, (1, 6)), nn.MaxPool1d(3), nn.Flatten())
    with pytest.raises(ValueError, match=r"2 \(Unflatten\)"):
        SpikingNetwork(model)

    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(4, 6), nn.Linear(2, 3)

        def forward(self, x):
            pooled = F.max_pool1d(F.relu(self.fc(x)).reshape(-1, 1, 6), 3)
            return F.relu(self.out(pooled.flatten(1)))

    x = torch.rand(5, 4)
    network = snnfast.convert(Pool(), [x], method="max")
    name = next(n for n, node in network.plan.nodes.items() if node.kind == "max_pool")
    stream = network.stream(x, record=True)
    for _ in range(50):
        stream.advance(1)
        largest = F.max_pool1d(stream.counts[network.plan.neurons[0]].view(-1, 1, 6), 3)
        got = stream._pools[name][1] / network.thresholds[0]
        torch.testing.assert_close(got, largest)


def test_early_exit_keeps_each_images_scores():
    model, x = make(Functional), images(12)
    with torch.no_grad():
        model.fc2.weight.mul_(100)
    network = snnfast.convert(model, [x], method="max")
    confidence = network(x, 60).softmax(1).amax(1).median().item()
    scores, steps = network.classify(x, 60, confidence=confidence, chunk=5)
    assert steps.min() < 60
    assert_all(steps % 5, 0)
    full = network.over_time(x, range(5, 61, 5))
    for i in range(12):
        torch.testing.assert_close(scores[i], full[steps[i] // 5 - 1, i], rtol=1e-5, atol=1e-5)
        sure = full[:, i].softmax(1).amax(1) >= confidence
        first = int(sure.int().argmax()) if bool(sure.any()) else 11
        assert steps[i] == 5 * (first + 1)
    torch.testing.assert_close(network(x, 60, confidence=confidence, chunk=5), scores, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_early_exit_of_nobody_is_the_whole_run(kind):
    model, x = make(kind), images()
    network = snnfast.convert(model, [x], method="max")
    scores, steps = network.classify(x, 9, confidence=1.0, chunk=2)
    torch.testing.assert_close(scores, network(x, 9), rtol=0, atol=0)
    assert_all(steps, 9)


@pytest.mark.parametrize("kind", [Residual, Dense, Series])
def test_a_part_of_the_batch_goes_on_as_it_was(kind):
    model, x = make(kind, dtype=torch.float64), images(dtype=torch.float64)
    network = snnfast.convert(model, [x], method="max")
    stream = network.stream(x).advance(5)
    stream.select(torch.tensor([False, True, True, False]))
    stream.advance(20)
    torch.testing.assert_close(stream.output(), network(x, 25)[1:3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_deepcopy_and_dtype(kind):
    model, x = make(kind), images()
    network = snnfast.convert(model, [x], method="max", per_channel=True)
    want = network(x, 10)
    torch.testing.assert_close(copy.deepcopy(network)(x, 10), want, rtol=0, atol=0)
    other = SpikingNetwork(make(kind, seed=3))
    other.load_state_dict(network.state_dict())
    other.input_shape = network.input_shape
    torch.testing.assert_close(other(x, 10), want, rtol=0, atol=0)
    assert network.double()(x.double(), 10).dtype == torch.float64


def test_the_model_is_left_alone():
    model, x = make(Residual).train(), images()
    before = copy.deepcopy(model.state_dict())
    network = snnfast.convert(model, [x], method="max")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert model.training
    for k, a in model.state_dict().items():
        torch.testing.assert_close(a, before[k], rtol=0, atol=0)
