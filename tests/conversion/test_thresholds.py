"""Thresholds of all methods, by hand and against the definitions; the manual's form equals ours."""

import json

import pytest
import torch
from networks import NETWORKS, Dense, Functional, Residual, images, make
from torch import nn

import snnfast
from snnfast.conversion import SpikingNetwork
from snnfast.conversion.calibration import Histogram, Layers
from snnfast.papers import SVGG16, VGG16, Diehl2015, ResNet20, SNN_Diehl2015, SResNet20
from snnfast_zoo.n3ml.threshold import activation_based, spikenorm


def small(**kwargs):
    torch.manual_seed(0)
    return Diehl2015(input_shape=(1, 8, 8), kernel_size=3, padding=1, **kwargs).eval()


def digits(batch=6, dtype=torch.float32):
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(3)).to(dtype)


def test_largest_activation_over_all_batches():
    model = small()
    x = digits(8)
    with torch.no_grad():
        first = model.relu1(model.conv1(x))
        second = model.relu2(model.conv2(model.pool1(first)))
    network = snnfast.convert(model, x.split(3), method="max")
    assert network.thresholds[0].item() == pytest.approx(first.max().item())
    assert network.thresholds[1].item() == pytest.approx(second.max().item())
    by_channel = snnfast.convert(model, x.split(3), method="max", per_channel=True)
    most = first.amax((0, 2, 3))
    want = torch.where(most > 0, most, most.max())
    torch.testing.assert_close(by_channel.thresholds[0], want.view(-1, 1, 1))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("p", [50.0, 99.0, 99.9])
def test_percentile_of_a_stream(rows, p):
    values = torch.rand(rows, 20000, generator=torch.Generator().manual_seed(0)) ** 3
    values = values.sort(1).values  # later parts are larger: the range has to grow
    histogram = Histogram(p, per_channel=True)
    for part in values.split(1700, 1):
        histogram.add(part.T)
    want = values.quantile(p / 100, 1)
    torch.testing.assert_close(histogram.value(), want, rtol=0.01, atol=1.0 / 1024)


def test_percentile_of_what_is_mostly_silent_is_the_largest():
    histogram = Histogram(99.9, per_channel=True)
    values = torch.zeros(10000, 2)
    values[5, 0] = 3.0
    histogram.add(values)
    assert histogram.value().tolist() == [3.0, 3.0]
    silent = Histogram(99.9, per_channel=False)
    silent.add(torch.zeros(1, 10))
    assert silent.value().item() == 1.0


def test_balance_is_that_of_normalised_weights():
    """Unit spikes with lambda_l / lambda_(l-1) equal weights W lambda_(l-1) / lambda_l with threshold 1."""
    model, x = small().double(), digits(dtype=torch.float64)
    thresholds = activation_based([x], model)
    snn = SNN_Diehl2015(input_shape=(1, 8, 8), kernel_size=3, padding=1).double()
    snn.load_state_dict(model.state_dict(), strict=False)
    snn.update_threshold(thresholds)
    normalised = SNN_Diehl2015(input_shape=(1, 8, 8), kernel_size=3, padding=1).double()
    largest = activation_based([x], model, consistent=False)
    before = 1.0
    for name, threshold in zip(("conv1", "conv2", "fc1"), largest):
        weight = getattr(model, name).weight.detach()
        getattr(normalised, name).weight.data.copy_(weight * before / threshold)
        before = threshold
    normalised.update_threshold([1.0, 1.0, 1.0])
    torch.manual_seed(0)
    run = snn.stream(x, record=True).advance(60)
    torch.manual_seed(0)
    other = normalised.stream(x, record=True).advance(60)
    for name in run.counts:
        # If the threshold is met exactly, rounding may decide.
        assert ((run.counts[name] - other.counts[name]).abs() > 0).float().mean() < 1e-3
    assert (run.counts["relu1"] > 0).any()
    assert run.output().sum() > 0


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_balance_is_that_of_convert(reset):
    model, x = small().double(), digits(dtype=torch.float64)
    snn = SNN_Diehl2015(input_shape=(1, 8, 8), kernel_size=3, padding=1, reset=reset).double()
    snn.load_state_dict(model.state_dict(), strict=False)
    snn.update_threshold(activation_based([x], model))
    ours = snnfast.convert(model, [x], method="max", reset=reset, encoding="poisson", initial_membrane=0.0)
    torch.manual_seed(0)
    a = snn.stream(x, record=True).advance(50)
    torch.manual_seed(0)
    b = ours.stream(x, record=True).advance(50)
    for name in b.counts:
        assert ((a.counts[name] - b.counts[name]).abs() > 0).float().mean() < 1e-3


def test_n3mls_thresholds_are_the_largest_activations():
    model, x = small(), digits()
    largest = activation_based([x], model, consistent=False)
    ratio = activation_based([x], model)
    assert ratio[0] == largest[0]
    assert ratio[1].item() == pytest.approx((largest[1] / largest[0]).item())
    assert ratio[2].item() == pytest.approx((largest[2] / largest[1]).item())
    clipped = activation_based([x], model, consistent=False, percentile=99.0)
    assert all(c <= m for c, m in zip(clipped, largest))


def test_balance_needs_a_chain_without_biases():
    with pytest.raises(ValueError, match=r"has a bias, .*use snnfast.convert"):
        activation_based([images()], make(Functional))
    with pytest.raises(ValueError, match=r"add in .*joins branches"):
        activation_based([torch.rand(2, 3, 16, 16)], ResNet20(4, 1, input_shape=(3, 16, 16)))
    with pytest.raises(ValueError, match=r"thresholds_from_activations: the loader holds no images"):
        activation_based([], small())
    with pytest.raises(ValueError, match=r"thresholds_from_activations: percentile must lie in \(0, 100\]"):
        activation_based([digits()], small(), percentile=-5)
    with pytest.raises(ValueError, match=r"images must have shape \[B, 1, 8, 8\]"):
        activation_based([images()], small())


def test_thresholds_of_channels_have_one_form():
    """This holds before and after the shapes of activations are known."""
    model, x = make(Functional), images()
    thresholds = torch.rand(6) + 0.1
    known = snnfast.convert(model, [x], method="max")
    other = SpikingNetwork(model)
    rest = known.thresholds[1:]
    want = None
    for network in (known, other):
        for first in (thresholds, thresholds.view(-1, 1, 1), thresholds.view(-1, 1)):
            network.update_threshold([first, *rest])
            want = network(x, 20) if want is None else want
            torch.testing.assert_close(network(x, 20), want, rtol=0, atol=0)
            assert network.thresholds[0].shape == (6, 1, 1)
    state = {**known.state_dict(), "spiking.relu.threshold": thresholds}
    other.load_state_dict(state)
    torch.testing.assert_close(other(x, 20), want, rtol=0, atol=0)
    other = SpikingNetwork(model)
    other.load_state_dict(state)
    torch.testing.assert_close(other(x, 20), want, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3,), (6, 8, 8), (1, 6, 1), (8,)], ids=str)
def test_thresholds_of_other_shapes_are_refused(shape):
    model, x = make(Functional), images()
    network = snnfast.convert(model, [x], method="max")
    before, wrong = network.thresholds, torch.ones(shape)
    message = rf"must be a number or one a channel, \[6\] or \[6, 1, ...\], got \{list(shape)}"
    with pytest.raises(ValueError, match=rf"update_threshold: threshold\[0\] {message}"):
        network.update_threshold([wrong, *before[1:]])
    with pytest.raises(RuntimeError, match=f"spiking.relu.threshold {message}"):
        network.load_state_dict({**network.state_dict(), "spiking.relu.threshold": wrong})
    assert network.thresholds == before
    unseen = SpikingNetwork(model)

    def used():
        unseen.update_threshold([wrong, *before[1:]])
        unseen(x, 3)

    with pytest.raises(ValueError, match=r"must be a number or one a channel"):
        used()


def test_of_unit_spikes_a_layer_has_one_threshold():
    """If a spike counts 1, the next layer does not depend on the threshold of its channel."""
    network = SpikingNetwork(make(Functional), unit_spikes=True)
    message = "must be a number, since with unit_spikes a spike counts the same for every channel"
    thresholds = [1.0] * len(network.plan.neurons)
    with pytest.raises(ValueError, match=rf"threshold\[0\] {message}, got \[6\]"):
        network.update_threshold([torch.ones(6), *thresholds[1:]])
    with pytest.raises(ValueError, match=message):
        spikenorm([images()], None, network, 5, per_channel=True)
    network.update_threshold(thresholds)


def test_a_threshold_below_0_is_not_loaded():
    network = snnfast.convert(make(Functional), [images()], method="max")
    state = {**network.state_dict(), "spiking.relu.threshold": torch.tensor(-1.0)}
    with pytest.raises(RuntimeError, match=r"relu\.threshold must be positive and finite, got -1"):
        network.load_state_dict(state)


def currents(network, layer, x, T):
    """Return the currents into one layer of a running network, from a recording of all its layers."""
    name = network.plan.neurons[layer]
    seen = []
    stream = network.stream(x, record=True)
    call = stream._fire
    stream._fire = lambda n, x: (seen.append(x.clone()) if n == name else None, call(n, x))[1]
    stream.advance(T, chunk=1)
    return torch.cat(seen)


@pytest.mark.parametrize("kind", NETWORKS)
def test_spikenorm_is_the_largest_current_of_the_running_network(kind):
    model, x = make(kind, dtype=torch.float64), images(dtype=torch.float64)
    network = snnfast.convert(model, [x], method="spikenorm", num_steps=12, scaling_factor=0.8)
    for layer, threshold in enumerate(network.thresholds):
        largest = currents(network, layer, x, 12).max().item()
        assert threshold.item() == pytest.approx(0.8 * largest, rel=1e-9)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
def test_spikenorm_takes_a_percentile_of_the_currents(kind, per_channel):
    model, x = make(kind, dtype=torch.float64), images(dtype=torch.float64)
    network = snnfast.convert(
        model, [x], method="spikenorm", num_steps=12, percentile=90, per_channel=per_channel, initial_membrane=0.0
    )
    for layer, threshold in enumerate(network.thresholds):
        seen = currents(network, layer, x, 12).clamp(min=0)
        rows = seen.movedim(2, 0).flatten(1) if per_channel else seen.view(1, -1)
        want, largest = rows.quantile(0.9, 1, interpolation="higher"), rows.amax(1)
        want = torch.where(want > 0, want, largest)
        want = torch.where(want > 0, want, want.max())
        assert threshold.dim() == (seen.dim() - 2 if per_channel else 0)
        assert ((threshold.flatten() - want).abs() <= largest.max() / 512).all()


def test_spikenorm_with_the_manuals_encoder_and_several_batches():
    torch.manual_seed(0)
    ann = VGG16((4, "P", 6), (10,), input_shape=(3, 8, 8))
    x = torch.randn(6, 3, 8, 8)
    snn = SVGG16(ann, batch_size=3)
    thresholds = spikenorm(
        train_loader=x.split(3),
        encoder=lambda x: torch.mul(torch.le(torch.rand_like(x), torch.abs(x) * 1.0).float(), torch.sign(x)),
        model=snn,
        num_steps=20,
        scaling_factor=0.9,
        batches=2,
    )
    assert len(thresholds) == 4
    assert snn.encoding == "saturating"
    assert thresholds == snn.thresholds
    torch.manual_seed(7)
    single = spikenorm([x[:3]], None, snn, 20, 1.0)
    torch.manual_seed(7)
    half = spikenorm([x[:3]], None, snn, 20, 0.5)
    assert half[0].item() == pytest.approx(0.5 * single[0].item())


def test_spikenorm_runs_every_product_twice_a_step(monkeypatch):
    """Not once more for each later layer; three more runs before check that the images fit."""
    torch.manual_seed(0)
    ann = VGG16((4, 4, 4, 4, 4, 4), (8,), input_shape=(1, 4, 4))
    snn = SVGG16(ann)
    calls = []
    for owner, name in ((nn.Conv2d, "forward"), (snnfast.ops, "spike_conv2d")):
        product = getattr(owner, name)

        def counted(*args, product=product, **kwargs):
            calls.append(1)
            return product(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    spikenorm([torch.rand(2, 1, 4, 4)], None, snn, 10)
    assert len(calls) == 6 * 10 * 2 + 6 * 3


def test_kept_spikes_are_bytes_and_go_when_nobody_reads_them():
    torch.manual_seed(0)
    network = snnfast.convert(make(Residual), [images()], method="max")
    run = Layers(network, images(), 5)
    names = network.plan.neurons
    for layer in names[:2]:
        run.fire(layer)
    assert set(run._spike_trains) == set(names[:2])  # the shortcut still reads the first
    run.fire(names[2])
    assert all(train.dtype == torch.int8 for train in run._spike_trains.values())


def test_spikenorm_errors():
    snn = SVGG16(VGG16((4,), (), input_shape=(1, 4, 4)))
    x = torch.rand(2, 1, 4, 4)
    for arguments, error, message in (
        (([], None, snn, 5), ValueError, "thresholds_from_currents: the loader holds no images"),
        (([x], None, snn, 0), ValueError, "num_steps must be at least 1"),
        (([x], None, snn, 5, -1.0), ValueError, "scaling_factor must be positive"),
        (([x], None, nn.Linear(2, 2), 5), TypeError, "network must be a spiking network, got Linear"),
        (([x], "poisson", snn, 5), TypeError, "encoding must be callable, got str"),
        (([x[:, :, :3]], None, snn, 5), ValueError, r"images must have shape \[B, 1, 4, 4\]"),
    ):
        with pytest.raises(error, match=message):
            spikenorm(*arguments)
    assert all(t.isnan() for t in snn.thresholds)
    constant = SVGG16(VGG16((4,), (), input_shape=(1, 4, 4)), encoding="constant")
    with pytest.raises(ValueError, match="takes constant current; give encoding=None"):
        spikenorm([x], lambda x: x, constant, 5)
    assert len(spikenorm([x], None, constant, 5)) == 2


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_networks_of_the_papers_run_in_every_form(reset):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 16)
    vgg = VGG16((4, "P", 6, "P", 8), (12,), input_shape=(3, 16, 16))
    resnet = ResNet20(4, 1, input_shape=(3, 16, 16))
    for snn in (SVGG16(vgg, 2, reset=reset), SResNet20(resnet, 2, reset=reset)):
        assert snn.batch_size == 2
        spikenorm([x], None, snn, 10, 0.7)
        counts = snn(x, 10)
        assert counts.shape == (2, 10)
        torch.testing.assert_close(counts, counts.round(), rtol=0, atol=0)
        assert counts.min() >= 0
        assert counts.max() <= 10
    dense = SNN_Diehl2015(hidden=(20, 15), input_shape=(3, 16, 16), reset=reset)
    dense.update_threshold([1.0, 1.0, 1.0])
    assert dense(x, 5).shape == (2, 10)


def test_shapes_of_the_papers():
    vgg = VGG16()
    convolutions = [m for m in vgg.features if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 13
    assert all(c.bias is None for c in convolutions)
    assert [m.in_features for m in vgg.classifier if isinstance(m, nn.Linear)] == [2048, 4096, 4096]
    assert isinstance(vgg.features[-1], nn.ReLU)
    assert len(SVGG16(vgg).thresholds) == 16
    resnet = ResNet20()
    assert len(SpikingNetwork(resnet).thresholds) == 3 + 18
    assert resnet(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    cnn = Diehl2015()
    assert {k: tuple(v.shape) for k, v in cnn.state_dict().items()} == {
        "conv1.weight": (12, 1, 5, 5),
        "conv2.weight": (64, 12, 5, 5),
        "fc1.weight": (10, 1024),
    }
    dense = Diehl2015(hidden=(1200, 1200))
    assert [tuple(p.shape) for p in dense.parameters()] == [(1200, 784), (1200, 1200), (10, 1200)]


def test_resnet20_with_batch_norm_follows_its_rates():
    torch.manual_seed(0)
    ann = ResNet20(4, 1, input_shape=(3, 8, 8), batch_norm=True, dropout=0.0).double()
    norms = [m for m in ann.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3 + 2 * 3 + 2
    # Statistics and factors as after training.
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
    ann.eval()
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    snn = snnfast.convert(ann, [x], method="max")
    assert len(snn.thresholds) == 3 + 2 * 3
    torch.testing.assert_close(snn(x, 2000), ann(x), rtol=0, atol=0.02 * ann(x).abs().max().item())


def test_report_of_a_hand_worked_layer():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
    x = torch.tensor([[1.0, 0.25], [0.5, 0.0]])
    network = snnfast.convert(model, [x], method="max")
    report = snnfast.conversion_report(model, network, [(x, torch.tensor([0, 1]))], steps=[2, 4])
    (layer,) = report.layers
    assert (layer.neurons, layer.threshold, layer.place) == (3, 1.0, "1 (ReLU)")
    # Rates are 1, 0.25, 0 and 0.5, 0, 0, the activations.
    assert layer.correlation == pytest.approx(1.0)
    assert layer.error == pytest.approx(0.0, abs=1e-6)
    assert layer.spikes == (4 + 1 + 2) / 2
    assert layer.rate == pytest.approx(7 / (2 * 3 * 4))
    assert layer.dead == pytest.approx(1 / 3)
    assert layer.saturated == pytest.approx(1 / 3)
    assert report.accuracy == (0.5, 0.5)
    assert report.ann_accuracy == 0.5
    first, last = report.products
    assert (first.synaptic_operations, first.multiplications) == (6, 6)  # constant input: counted once
    assert (last.synaptic_operations, last.multiplications) == (3.5 * 2, 6)
    assert "1 (ReLU)" in str(report)
    assert "50.00 %" in report.table()
    assert report.as_dict()["layers"][0]["neurons"] == 3
    assert len(report.figure().axes) == 3
    more = [(x, torch.tensor([0, 1]), "what else a loader gives")]
    assert snnfast.conversion_report(model, network, more, steps=[2, 4]) == report
    # The scores exclude the warm-up, the counts of layers include it.
    later = snnfast.conversion_report(model, network, more, steps=[4], warm_up=2)
    assert later.accuracy == (float((network(x, 4, warm_up=2).argmax(1) == more[0][1]).sum()) / 2,)
    assert later.layers == report.layers
    unlabelled = snnfast.conversion_report(model, network, [x], steps=[4])
    assert not unlabelled.labelled
    assert unlabelled.accuracy == (1.0,)
    assert "agreement" in str(unlabelled)


def test_a_layer_that_never_fires_has_no_correlation():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.constant_(model[0].bias, -10.0)
    network = SpikingNetwork(model)
    network.update_threshold([1.0])
    report = snnfast.conversion_report(model, network, [torch.rand(4, 2)], steps=[3])
    (layer,) = report.as_dict()["layers"]
    assert (layer["correlation"], layer["error"], layer["dead"]) == (None, None, 1.0)
    assert "NaN" not in json.dumps(report.as_dict(), allow_nan=False)


def test_report_of_convolutions_and_unit_spikes():
    x = digits()
    model = small()
    snn = SNN_Diehl2015(input_shape=(1, 8, 8), kernel_size=3, padding=1, reset="soft")
    snn.load_state_dict(model.state_dict(), strict=False)
    snn.update_threshold(activation_based([x], model))
    report = snnfast.conversion_report(model, snn, [x], steps=[400])
    assert [r.place for r in report.layers] == ["relu1 (ReLU)", "relu2 (ReLU)", "the output"]
    assert all(r.correlation > 0.97 for r in report.layers)
    # 8x8 outputs of 3x3 inputs, without inputs beyond the edge.
    assert report.products[0].multiplications == 12 * (3 * 8 - 2) ** 2
    assert report.products[2].multiplications == 64 * 4 * 10


def test_report_of_a_network_with_branches():
    model, x = make(Dense), images()
    network = snnfast.convert(model, [x], method="max", per_channel=True)
    report = snnfast.conversion_report(model, network, [x, x[:1]], steps=[1, 128])
    assert report.images == 5
    assert all(r.correlation > 0.9 for r in report.layers)
    with pytest.raises(ValueError, match="give the network that snn was made of"):
        snnfast.conversion_report(nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), network, [x])
