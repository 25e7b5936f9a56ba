"""Converted networks give the ReLU network's scores, whatever they are made of and however their steps are cut."""

import copy

import pytest
import torch
from networks import NETWORKS, Dense, Functional, Residual, Series, images, make
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.conversion import QCFS, SpikingNetwork, fine_tune, quantise
from snnfast.conversion.shortcuts import shortcut_of

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
    """By the largest activation nothing is clipped, so that the error falls as 1 / steps."""
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
    network = snnfast.convert(
        model, [x], method="percentile", per_channel=kind is Dense, encoding=encoding
    )
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
    """With every layer recorded all products run step by step, those after the last neurons, too."""
    model, x = make(kind, dtype=torch.float64), images(dtype=torch.float64)
    network = snnfast.convert(model, [x], method="max")
    recorded = network.stream(x, record=True).advance(30)
    torch.testing.assert_close(recorded.output(), network(x, 30), rtol=1e-12, atol=1e-12)
    assert set(recorded.counts) == set(network.plan.neurons)


def test_equals_a_loop_over_steps():
    """A network with everything stateful in it, written out in plain PyTorch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
    ).double()
    x = images(dtype=torch.float64)
    for reset, initial in (("soft", 0.0), ("soft", 0.5), ("hard", 0.25)):
        network = snnfast.convert(model, [x], method="max", reset=reset, initial_membrane=initial)
        th1, th2 = network.thresholds
        v1 = torch.full((4, 4, 6, 6), float(th1) * initial, dtype=torch.float64)
        v2 = torch.full((4, 3, 2, 2), float(th2) * initial, dtype=torch.float64)
        count1, pooled, total = torch.zeros_like(v1), 0.0, torch.zeros_like(v2)
        for _ in range(25):
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
            total = total + s2
        want = model[6]((total / 25 * th2).flatten(1)).detach()
        torch.testing.assert_close(network(x, 25), want, rtol=1e-12, atol=1e-12)


def test_rate_of_a_pool_is_the_largest_rate_at_every_step():
    """Which input spikes the most may change; the pool neither loses nor doubles a spike."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Unflatten(1, (1, 6)), nn.MaxPool1d(3), nn.Flatten()
    )
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


def test_constant_input_runs_the_first_layer_once(monkeypatch):
    # So that the layers themselves run, and hooks count them.
    monkeypatch.setattr("snnfast.conversion.shortcuts.has_events", lambda layer: False)
    model, x = make(Residual), images()
    network = snnfast.convert(model, [x], method="max")
    calls = {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            calls[name] = 0

            def count(module, args, output, name=name):
                calls[name] += 1

            module.register_forward_hook(count)
    network(x, 12)
    # The first layer, and the last after the last neurons: once; the others at every step.
    assert calls["stem.0"] == calls["fc"] == 1
    assert calls["down.0"] == 12
    torch.manual_seed(0)
    poisson = snnfast.convert(model, [x], method="max", encoding="poisson")
    assert poisson.plan.once == []


def test_nothing_keeps_a_sequence_where_only_counts_are_read(monkeypatch):
    from snnfast import ops

    written, real = [], ops.iaf
    monkeypatch.setattr(ops, "iaf", lambda x, *a, **k: written.append(x.shape) or real(x, *a, **k))
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 9), nn.ReLU(), nn.Linear(9, 5))
    network = snnfast.convert(model, [images()], method="max")
    network(images(), 30)
    assert written == []


@pytest.mark.parametrize("unit_spikes", [False, True])
def test_products_leave_silent_inputs_out_where_few_spike(monkeypatch, unit_spikes):
    """What is skipped is 0: the same spikes as with dense products, but for rounding."""
    from snnfast.conversion import shortcuts

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(128, 600),
        nn.ReLU(),
        nn.Linear(600, 500),
        nn.ReLU(),
        nn.Linear(500, 5),
    ).double()
    x = images(dtype=torch.float64)
    network = SpikingNetwork(model, unit_spikes=unit_spikes)
    linear, shares = shortcuts.ops.spike_linear, []

    def watched(x, weight, bias):
        shares.append(x.count_nonzero().item() / x.numel())
        return linear(x, weight, bias)

    monkeypatch.setattr(shortcuts.ops, "spike_linear", watched)
    for first, low, high in ((3.0, 0, 0.2), (0.05, 0.35, 1)):
        network.update_threshold([first, 0.1])
        shares.clear()
        scores = network(x, 20)
        assert len(shares) == 20
        assert low < max(shares) <= high
        assert network.stream(x, record=True).advance(20).counts["_4"].sum() > 100
        with monkeypatch.context() as patched:
            patched.setattr(shortcuts, "is_worth_skipping", lambda weight: False)
            torch.testing.assert_close(network(x, 20), scores, rtol=1e-9, atol=1e-9)


def pooled():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 2, stride=2)]
    a, b, c = convolutions
    model = nn.Sequential(
        *(a, nn.ReLU(), nn.AvgPool2d(2), b, nn.ReLU(), c, nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    )
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    network = SpikingNetwork(model.double())
    network.update_threshold([2.0, 0.5, 0.5])
    return network, x


def test_convolutions_of_spikes_run_by_events(monkeypatch):
    """With strides, too, but not of the images. The spikes are the same."""
    from snnfast.conversion import shortcuts

    network, x = pooled()
    convolution, seen = shortcuts.ops.spike_conv2d, []

    def watched(x, weight, bias, **sides):
        seen.append(x)
        return convolution(x, weight, bias, **sides, method="events")

    monkeypatch.setattr(shortcuts.ops, "spike_conv2d", watched)
    stream = network.stream(x, record=True).advance(20)
    assert {tuple(x.shape) for x in seen} == {(5, 8, 4, 4), (5, 6, 2, 2)}
    assert len(seen) == 40
    # As the kernel reads them, so that nothing is copied.
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert all(count.sum() > 20 for count in stream.counts.values())
    monkeypatch.setattr(shortcuts, "has_events", lambda layer: False)
    dense = network.stream(x, record=True).advance(20)
    for name in network.plan.neurons:
        torch.testing.assert_close(dense.counts[name], stream.counts[name], rtol=0, atol=0)


def test_a_stream_counts_what_its_products_read():
    network, x = pooled()
    stream, before, want = network.stream(x, record=True), 0.0, 0.0
    first = network.plan.neurons[0]
    for _ in range(12):
        count = stream.advance(1).counts[first]
        want = want + (F.avg_pool2d(count - before, 2) != 0).double()
        before = count
    # Behind the pool and the Flatten; the others read the images, or spikes, which are counted already.
    assert {network.plan.nodes[name].target for name in stream.active} == {"3", "8"}
    torch.testing.assert_close(stream.active["_3"].double(), want, rtol=0, atol=0)
    assert want.sum() > count.sum() / 4 > 0


@pytest.mark.parametrize("outputs", [256, 300])
def test_weights_of_a_product_are_read_where_they_lie(outputs):
    from snnfast.conversion.shortcuts import input_major

    weight = torch.randn(outputs, 70)
    copied = input_major(weight)
    torch.testing.assert_close(copied, weight, rtol=0, atol=0)
    assert copied.stride(0) == 1
    assert copied.stride(1) * copied.element_size() % 1024 != 0


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize(
    "arguments", [{"kernel_size": 2}, {"kernel_size": (3, 3), "stride": 3}, {"kernel_size": 4}]
)
def test_average_pools_by_sums_of_rows(side, arguments):
    x = torch.rand(3, 2, side, side, dtype=torch.float64)
    pool = nn.AvgPool2d(**arguments)
    torch.testing.assert_close(shortcut_of(pool, is_sparse=True)(x), pool(x))


@pytest.mark.parametrize(
    "arguments",
    [{"stride": 1}, {"padding": 1}, {"ceil_mode": True}, {"divisor_override": 3}],
    ids=lambda a: next(iter(a)),
)
def test_other_pools_stay(arguments):
    assert shortcut_of(nn.AvgPool2d(2, **arguments), is_sparse=True) is None


def test_early_exit_keeps_each_images_scores():
    model, x = make(Functional), images(12)
    with torch.no_grad():
        model.fc2.weight.mul_(100)
    network = snnfast.convert(model, [x], method="max")
    confidence = network(x, 60).softmax(1).amax(1).median().item()
    scores, steps = network.classify(x, 60, confidence=confidence, chunk=5)
    assert steps.min() < 60
    assert (steps % 5 == 0).all()
    full = network.over_time(x, range(5, 61, 5))
    for i in range(12):
        torch.testing.assert_close(scores[i], full[steps[i] // 5 - 1, i], rtol=1e-5, atol=1e-5)
        sure = full[:, i].softmax(1).amax(1) >= confidence
        first = int(sure.int().argmax()) if bool(sure.any()) else 11
        assert steps[i] == 5 * (first + 1)
    torch.testing.assert_close(
        network(x, 60, confidence=confidence, chunk=5), scores, rtol=0, atol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_early_exit_of_nobody_is_the_whole_run(kind):
    model, x = make(kind), images()
    network = snnfast.convert(model, [x], method="max")
    scores, steps = network.classify(x, 9, confidence=1.0, chunk=2)
    torch.testing.assert_close(scores, network(x, 9), rtol=0, atol=0)
    assert (steps == 9).all()


@pytest.mark.parametrize("kind", [Residual, Dense, Series])
def test_a_part_of_the_batch_goes_on_as_it_was(kind):
    model, x = make(kind, dtype=torch.float64), images(dtype=torch.float64)
    network = snnfast.convert(model, [x], method="max")
    stream = network.stream(x).advance(5)
    stream.select(torch.tensor([False, True, True, False]))
    stream.advance(20)
    torch.testing.assert_close(stream.output(), network(x, 25)[1:3], rtol=1e-9, atol=1e-9)


def test_qcfs_is_what_neurons_do_in_levels_steps():
    """The paper's theorem: floor and clip are the mean output after L steps of constant current."""
    levels = 6
    layer = QCFS(1.5, levels)
    x = torch.linspace(-1, 3, 401)
    spikes, _ = snnfast.ops.iaf(
        x.expand(levels, -1), torch.full_like(x, 0.75), v_threshold=1.5, v_reset=None
    )
    torch.testing.assert_close(layer(x).detach(), spikes.mean(0) * 1.5)


def test_qcfs_gradients_pass_the_floor():
    layer = QCFS(2.0, 4)
    x = torch.tensor([-1.0, 0.3, 1.1, 5.0], requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, torch.tensor([0.0, 0.5, 1.0, 2.0]))
    gradients = torch.autograd.grad(y.sum(), [x, layer.threshold])
    assert gradients[0].tolist() == [0, 1, 1, 0]
    # y/th - x/th inside, 1 above
    torch.testing.assert_close(gradients[1], torch.tensor((0.25 - 0.15) + (0.5 - 0.55) + 1.0))


def test_fine_tuned_thresholds_serve_few_steps():
    torch.manual_seed(0)
    x = torch.rand(400, 2)
    y = (x[:, 0] > x[:, 1]).long()
    model = nn.Sequential(
        nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    loader = list(zip(x.split(50), y.split(50)))
    fine_tune(model, loader, epochs=20, lr=1e-2, progress=False)
    before = copy.deepcopy(model.state_dict())
    few = snnfast.convert(model, loader, method="qcfs", levels=4, epochs=10, lr=5e-3)
    for k, a in model.state_dict().items():
        torch.testing.assert_close(a, before[k], rtol=0, atol=0)
    accuracy = (few(x, 4).argmax(1) == y).float().mean()
    assert accuracy > 0.95
    largest = snnfast.convert(model, loader, method="max")
    assert accuracy > (largest(x, 4).argmax(1) == y).float().mean()
    assert all(n.initial == 0.5 for n in few.spiking.values())


def test_a_model_with_qcfs_in_it_is_taken_as_it_is():
    torch.manual_seed(0)
    model, x = make(Residual), images()
    quantised = quantise(model, [x], levels=8)
    network = snnfast.convert(quantised, [x], method="qcfs")
    learned = [m.threshold.item() for m in quantised.modules() if isinstance(m, QCFS)]
    assert [t.item() for t in network.thresholds] == learned
    torch.testing.assert_close(network.analog(x)[0], model(x).detach(), rtol=1e-4, atol=1e-4)


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


@pytest.fixture(scope="module")
def torchvision_networks():
    """A ResNet of one block a stage, and a VGG whose first hidden layers of 4096 are cut to 16."""
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


@pytest.mark.parametrize(
    ("name", "layers"), [("resnet18", 17), ("resnet50", 49), ("vgg16", 15), ("vgg19_bn", 18)]
)
def test_whole_networks_of_torchvision_are_known_to_the_last_node(name, layers):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(models, name)()
    assert len(SpikingNetwork(model).thresholds) == layers


def test_rates_of_resnet18_match_activations():
    """Within the sampling error of docs/conversion.md, layer by layer.

    After T steps of a current ``z`` a neuron that starts at half its threshold has ``rate * threshold = z + (v[0] -
    v[T]) / T``, and ``v[T]`` may lie anywhere in [0, threshold): an error spread evenly over ``threshold / T``. What it
    becomes further on, the ReLU network itself tells when such noise is added to its activations. Currents from
    spikes are uneven, which moves ``v[T]`` further: the more layers before, the more.
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
    """By layer, the root of the mean square of what the noise of all layers up to it does to its activations."""
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
