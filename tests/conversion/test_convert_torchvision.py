"""Networks of torchvision convert unchanged, and their rates match activations."""

import pytest
import torch
from torch import nn

import snnfast
from snnfast.conversion import SpikingNetwork


@pytest.fixture(scope="module")
def torchvision_networks():
    """Return a ResNet with one block in each stage, and a VGG whose hidden layers of 4096 are cut to 16."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    resnet = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)
    with torch.device("meta"):
        vgg = models.vgg11_bn(num_classes=4)
    for place, sizes in ((0, (512 * 49, 16)), (3, (16, 16)), (6, (16, 4))):
        vgg.classifier[place] = nn.Linear(*sizes, device="meta")
    vgg.to_empty(device="cpu")
    for module in vgg.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return {"resnet": resnet, "vgg": vgg}


@pytest.mark.parametrize(("name", "layers"), [("resnet", 9), ("vgg", 10)])
@pytest.mark.parametrize("method", ["max", "percentile", "spikenorm"])
def test_torchvision_converts_unchanged(torchvision_networks, name, layers, method):
    model = torchvision_networks[name]
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    few = {"num_steps": 2} if method == "spikenorm" else {}
    network = snnfast.convert(model, [x], method=method, **few)
    # A block of a ResNet calls its ReLU twice.
    assert len(network.thresholds) == layers
    scores, _ = network.analog(x)
    torch.testing.assert_close(scores, model.eval()(x).detach(), rtol=1e-3, atol=1e-4)
    assert network(x, 2).shape == scores.shape


@pytest.mark.parametrize(("name", "layers"), [("resnet18", 17), ("resnet50", 49), ("vgg16", 15), ("vgg19_bn", 18)])
def test_whole_networks_of_torchvision_are_known_to_the_last_node(name, layers):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(models, name)()
    assert len(SpikingNetwork(model).thresholds) == layers


def test_rates_of_resnet18_match_activations():
    """The error is within the sampling error of docs/conversion.md, layer by layer.

    After T steps of a current ``z`` a neuron that starts at half its threshold has ``rate * threshold = z + (v[0] -
    v[T]) / T``, and ``v[T]`` may lie anywhere in [0, threshold): an error spread evenly over ``threshold / T``. Its
    effect on later layers follows from adding such noise to the activations of the ReLU network. Currents from spikes
    are uneven, which moves ``v[T]`` further with each layer.
    """
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18(num_classes=10).eval()
    x, steps = torch.randn(1, 3, 32, 32), 32
    network = snnfast.convert(model, [x], method="max", initial_membrane=0.5)
    stream = network.stream(x, record=True).advance(steps)
    _, activations = network.analog(x)
    expected = noise_of_sampling(network, x, steps)
    for depth, (name, activation) in enumerate(activations.items()):
        rate = stream.counts[name] / steps * network.neurons(name).threshold
        ratio = (rate - activation).square().mean().sqrt() / expected[name]
        assert 0.9 < ratio < (1.1 if depth == 0 else 2.2), network.plan.nodes[name].place


def noise_of_sampling(network, x, steps, draws=3):
    """Return, by layer, the root mean square of the change of its activations by the noise of all layers up to it."""
    clean, squares = network.analog(x)[1], {}
    for _ in range(draws):
        values = {network.plan.input: x}
        for node in list(network.plan.nodes.values())[1:]:
            if node.name not in clean:
                with torch.no_grad():
                    values[node.name] = network.call(node)(values.__getitem__)
                continue
            noise = (torch.rand_like(clean[node.name]) - 0.5) * network.neurons(node.name).threshold
            active = values[node.source].clamp(min=0)
            noisy = torch.where(active > 0, active + noise / steps, active)
            values[node.name] = noisy
            square = (noisy - clean[node.name]).square().mean() / draws
            squares[node.name] = squares.get(node.name, 0.0) + square
    return {name: square.sqrt() for name, square in squares.items()}
