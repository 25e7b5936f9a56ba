"""Comparison with NeuroBench: figures recorded from 2.3.0 with snnTorch 1.0.0, and computed if it is installed."""

import pytest
import torch
from torch import nn

import snnfast
from snnfast.nn import Time, like, replace

STEPS, SAMPLES = 6, 3
# By kind of input: effective multiply-accumulates, effective accumulates and dense operations of a sample.
RECORDED = {
    "spikes": {"Effective_MACs": 0.0, "Effective_ACs": 10232 / 3, "Dense": 14088.0},
    "analog": {"Effective_MACs": 3458 / 3, "Effective_ACs": 6160 / 3, "Dense": 14088.0},
}


def layers(leaky):
    """Return a network of a convolution and two fully connected layers; a third of the weights is 0."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), leaky(), nn.Flatten(), nn.Linear(64, 20), leaky(),
        nn.Linear(20, 5), leaky(output=True),
    )  # fmt: skip
    with torch.no_grad():
        for value in (p for layer in net for p in layer.parameters(recurse=False)):
            wave = torch.arange(1.0, value.numel() + 1, dtype=torch.float64).sin().view(value.shape)
            value.copy_(torch.where(wave.abs() < 0.5, 0.0, 0.4 * wave + 0.1))
    return net.eval()


def recorded_input(kind):
    """Return the inputs ``[T, B, 2, 8, 8]``."""
    wave = (torch.arange(1.0, STEPS * SAMPLES * 128 + 1, dtype=torch.float64) * 1.7).cos()
    x = torch.where(wave > 0.6, 1.0 if kind == "spikes" else wave, 0.0)
    return x.float().view(STEPS, SAMPLES, 2, 8, 8)


def found(net, *inputs):
    with torch.no_grad(), snnfast.monitor(net) as watching:
        for x in inputs:
            net(x)
    total, per = watching.activity().total, watching.samples / SAMPLES
    return {
        "Effective_MACs": total.multiply_accumulates * per,
        "Effective_ACs": total.accumulates * per,
        "Dense": total.dense * per,
    }


@pytest.mark.parametrize("kind", RECORDED)
def test_operations_are_those_that_neurobench_has_counted(kind):
    net = layers(lambda output=False: like("snntorch.Leaky", beta=0.9))
    ours = nn.Sequential(
        Time(net[0]), net[1], Time(net[2], net[3]), net[4], Time(net[5]), net[6]
    )  # fmt: skip
    assert found(ours, recorded_input(kind)) == pytest.approx(RECORDED[kind])


@pytest.mark.parametrize("kind", RECORDED)
def test_replaced_networks_count_alike_by_steps_and_by_sequences(kind):
    snn = pytest.importorskip("snntorch")
    theirs, x = (layers(lambda output=False: snn.Leaky(0.9, init_hidden=True, output=output)), recorded_input(kind))
    assert found(replace(theirs), *x) == pytest.approx(RECORDED[kind])
    assert found(replace(theirs, sequences=True), x) == pytest.approx(RECORDED[kind])


@pytest.mark.parametrize("kind", RECORDED)
def test_the_record_is_neurobenchs(kind):
    snn = pytest.importorskip("snntorch")
    pytest.importorskip("neurobench")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import SNNTorchModel

    model = SNNTorchModel(layers(lambda output=False: snn.Leaky(0.9, init_hidden=True, output=output)))
    samples = torch.utils.data.TensorDataset(recorded_input(kind).transpose(0, 1), torch.zeros(SAMPLES))
    loader = torch.utils.data.DataLoader(samples, batch_size=SAMPLES)
    benchmark = Benchmark(model, loader, [], [], [[], [SynapticOperations]])
    assert benchmark.run(quiet=True)["SynapticOperations"] == pytest.approx(RECORDED[kind])
