"""Products of converted networks: skipped zeros, pools as sums of rows, no repeated work, no copies."""

import pytest
import torch
from networks import Residual, images, make
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.conversion import SpikingNetwork
from snnfast.conversion.shortcuts import shortcut_of


def test_constant_input_runs_the_first_layer_once(monkeypatch):
    # Makes the layers themselves run, so that hooks count them.
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
    # The first layer, and the layers after the last neurons, run once; the others at every step.
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
    """Skipped products are 0: the spikes are those of dense products, except for rounding."""
    from snnfast.conversion import shortcuts

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(128, 600), nn.ReLU(), nn.Linear(600, 500), nn.ReLU(), nn.Linear(500, 5)
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
    model = nn.Sequential(*(a, nn.ReLU(), nn.AvgPool2d(2), b, nn.ReLU(), c, nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)))
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    network = SpikingNetwork(model.double())
    network.update_threshold([2.0, 0.5, 0.5])
    return network, x


def test_convolutions_of_spikes_run_by_events(monkeypatch):
    """This includes strides, but not the convolution of the images. The spikes are the same."""
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
    # In the layout of the kernel, so that nothing is copied.
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
    # After the pool and the Flatten; the others read the images, or spikes that are counted already.
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
@pytest.mark.parametrize("arguments", [{"kernel_size": 2}, {"kernel_size": (3, 3), "stride": 3}, {"kernel_size": 4}])
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
