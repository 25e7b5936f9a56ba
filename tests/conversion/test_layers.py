"""A converted network as plain layers: equal spikes, equal scores, and refusals by name."""

import copy

import pytest
import torch
from networks import Dense, Functional, Residual, images, make
from samples import assert_all
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.conversion import SpikingNetwork
from snnfast.nn import IF, RatePool
from snnfast.nn.scale import Scale
from snnfast.papers import SVGG16, VGG16, Diehl2015, ResNet20, SResNet20

STEPS = 18


class Normed(nn.Sequential):
    """Batch norm, max and average pooling."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Dropout(),
            nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 7), nn.ReLU(),
            nn.Identity(), nn.Linear(7, 5),
        )  # fmt: skip


class Called(nn.Module):
    """Functions and methods in the place of modules, and a pool before the first ReLU."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(F.max_pool2d(self.one(x), 2)), 2, 1, ceil_mode=True)
        x = F.adaptive_avg_pool2d(F.relu(F.avg_pool2d(self.two(x), 1)), 1)
        return self.out(x.view(x.size(0), -1))


class Shortcut(nn.Module):
    """Spikes that are added, and read by a product as well; the scores are rates of neurons."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.out = nn.Linear(4 * 64, 5)

    def forward(self, x):
        x = torch.relu(self.one(x))
        x = torch.relu(self.two(x) + x)
        return torch.relu(self.out(x.flatten(1)))


class Rows(nn.Sequential):
    """One dimension."""

    def __init__(self):
        super().__init__(
            nn.Flatten(2), nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(6, 4, 3),
            nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(56, 5),
        )  # fmt: skip


def vgg16():
    return VGG16((8, "P", 8, 8, "P"), (12,), input_shape=(2, 8, 8), pooling="max", batch_norm=True)


MODELS = {
    "normed": Normed,
    "residual": Residual,
    "shortcut": Shortcut,
    "vgg16": vgg16,
    "resnet20": lambda: ResNet20(8, 1, input_shape=(2, 8, 8)),
    "diehl2015": lambda: Diehl2015(input_shape=(2, 8, 8), kernel_size=3, padding=1),
}


def equal_spikes(network, x):
    """Compare every spike of both forms; return the layers and their scores."""
    net = network.sequential()
    trains = []
    hooks = [m.register_forward_hook(lambda m, _, s: trains.append(s)) for m in net.modules() if isinstance(m, IF)]
    with torch.no_grad():
        scores = net(x.expand(STEPS, *x.shape))
    for hook in hooks:
        hook.remove()
    stream = network.stream(x, record=True)
    assert len(trains) == len(network.plan.neurons)
    for t in range(STEPS):
        stream.advance(1)
        for spikes, counts in zip(trains, stream.counts.values()):
            torch.testing.assert_close(spikes[: t + 1].sum(0), counts, rtol=0, atol=0)
    assert all(0.01 < spikes.mean() < 0.8 for spikes in trains), "a test without spikes shows nothing"
    return net, scores


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_layers_have_the_spikes_of_the_network(name, per_channel):
    """In float64: sums of other orders move no spike."""
    x = images(dtype=torch.float64)
    for settings in ({}, {"reset": "hard", "initial_membrane": 0.3}):
        model = make(MODELS[name], dtype=torch.float64)
        network = snnfast.convert(model, [x], method="max", per_channel=per_channel, **settings)
        _, scores = equal_spikes(network, x)
        torch.testing.assert_close(scores, network(x, STEPS), rtol=1e-12, atol=1e-12)


def test_functions_and_rows_become_layers():
    x = images(dtype=torch.float64)
    for kind, per_channel in ((Called, False), (Called, True), (Rows, False), (Rows, True)):
        network = snnfast.convert(make(kind, dtype=torch.float64), [x], method="max", per_channel=per_channel)
        equal_spikes(network, x)


@pytest.mark.parametrize("twin", [SVGG16, SResNet20])
def test_spikes_of_the_output_are_counted(twin):
    x = images(dtype=torch.float64)
    model = vgg16() if twin is SVGG16 else ResNet20(8, 1, input_shape=(2, 8, 8))
    network = twin(model.double().eval(), initial_membrane=0.5, encoding="constant")
    sizes = [a.amax() for a in network.analog(x)[1].values()]
    network.update_threshold([t / s for t, s in zip(sizes, [1, *sizes])] if twin is SVGG16 else sizes)
    _, scores = equal_spikes(network, x)
    torch.testing.assert_close(scores, network(x, STEPS), rtol=0, atol=0)
    assert_all(scores.frac(), 0)
    assert scores.max() > 0


def test_chains_are_sequential_and_branches_a_graph_before_the_readout():
    x = images()
    net = snnfast.convert(make(Normed), [x]).sequential()
    assert [type(layer).__name__ for layer in net] == [
        "Time", "IF", "RatePool", "Time", "IF", "Time", "IF", "Time", "Rate"
    ]  # fmt: skip
    assert net[1].v_init == net[1].v_threshold / 2
    net = snnfast.convert(make(Shortcut), [x]).sequential()
    assert len(net) == 2
    assert [type(m) for m in net.modules()].count(Scale) == 2
    copied = copy.deepcopy(net)
    torch.testing.assert_close(copied(x.expand(4, *x.shape)), net(x.expand(4, *x.shape)), rtol=0, atol=0)


def test_layers_have_weights_of_their_own_and_can_be_trained():
    model, x = make(Normed), images()
    network = snnfast.convert(model, [x])
    net = network.sequential()
    before, scores = network(x, 5), net(x.expand(5, *x.shape))
    scores.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    torch.testing.assert_close(network(x, 5), before, rtol=0, atol=0)
    assert not any(isinstance(layer, RatePool) for layer in network.modules())


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Functional, r"^sequential: add in forward: it adds a constant; layers are known for Linear, Conv1d"),
        (Dense, r"^sequential: cat in forward: it has no layer of its own"),
    ],
)
def test_other_operations_are_named(kind, error):
    with pytest.raises(ValueError, match=error):
        snnfast.convert(make(kind), [images()]).sequential()


def test_thresholds_must_be_there():
    network = SpikingNetwork(make(Normed))
    with pytest.raises(RuntimeError, match=r"^SpikingNetwork: there are no thresholds yet at 2 \(ReLU\)"):
        network.sequential()
    network.update_threshold([torch.ones(8), torch.ones(6), 1.0])
    with pytest.raises(RuntimeError, match=r"^SpikingNetwork: run it on images first"):
        network.sequential()
