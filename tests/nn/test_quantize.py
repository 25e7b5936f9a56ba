"""``quantize``: weights of few bits, the gradients of learned step sizes, and programs with the same weights."""

import pytest
import torch
from program import needs_compiler, run
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import snnfast
from snnfast import connect
from snnfast.nn import LIF, RLIF, Rate, SparseLinear, SpikeConv2d, SpikeLinear, Time, calibrate_, quantize


def grid_of(layer):
    return layer.parametrizations.weight[0]


def with_weight(rows, **settings):
    net = nn.Linear(len(rows[0]), len(rows), bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor(rows))
    return quantize(net, **settings)


def with_scale(layer, *scales):
    with torch.no_grad():
        grid_of(layer).log2_scale.copy_(torch.tensor(scales).log2().view(-1, 1))
    return layer


def test_weights_by_hand():
    layer = with_scale(with_weight([[0.26, -0.9, 0.1], [3.0, 0.0, -0.125]], weights="int4"), 0.1, 0.25)
    q, scale = grid_of(layer).on_grid(layer.parametrizations.weight.original)
    assert q.tolist() == [[3, -7, 1], [7, 0, 0]]  # -0.125 / 0.25 is half way: rounded to even
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.25]).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(layer.weight, q * scale[:, None], rtol=0, atol=0)


def test_gradients_by_hand():
    """In range: that of ``scale q`` for the weight, ``q - weight / scale`` for the scale; beyond: 0 and ``q``."""
    layer = with_scale(with_weight([[0.26, -0.9, 0.1]], weights="int4"), 0.1)
    grid, weight = grid_of(layer), layer.parametrizations.weight.original
    (layer.weight * torch.tensor([[2.0, 3.0, 5.0]]).double()).sum().backward()
    assert weight.grad.tolist() == [[2.0, 0.0, 5.0]]
    of_scale = 2 * (3 - 2.6) + 3 * -7 + 5 * (1 - 1.0)
    wanted = of_scale / (7 * 3) ** 0.5 * 0.1 * torch.tensor(2.0).log().item()
    torch.testing.assert_close(grid.log2_scale.grad.item(), wanted, rtol=1e-7, atol=0)


@pytest.mark.parametrize(("per_channel", "count"), [(True, 3), (False, 6)])
def test_the_gradient_of_a_scale_is_shared_by_its_own_weights(per_channel, count):
    """``count`` weights have a scale; its gradient is the sum of their ``q - weight / scale``."""
    layer = with_weight([[0.34, -0.24, 0.13], [0.3, 0.0, -0.16]], weights="int4", per_channel=per_channel)
    with_scale(layer, *[0.1] * (2 if per_channel else 1))
    layer.weight.sum().backward()
    of_scale = torch.tensor([(3 - 3.4) + (-2 + 2.4) + (1 - 1.3), 0.0 + 0.0 + (-2 + 1.6)]).double()
    of_scale = of_scale if per_channel else of_scale.sum(0, keepdim=True)
    wanted = of_scale / (7 * count) ** 0.5 * 0.1 * torch.tensor(2.0).log()
    torch.testing.assert_close(grid_of(layer).log2_scale.grad.flatten(), wanted, rtol=1e-6, atol=1e-12)


def test_a_scale_that_is_a_power_of_two():
    layer = with_scale(with_weight([[0.26, -0.9, 0.1]], weights="int4", scale="power-of-two"), 0.1)
    assert grid_of(layer).scale.item() == 0.125
    assert layer.weight.tolist() == [[0.25, -0.875, 0.125]]
    layer.weight.sum().backward()
    assert grid_of(layer).log2_scale.grad.item() != 0


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_first_scale_loses_least(weights, per_channel):
    torch.manual_seed(0)
    layer = nn.Linear(50, 6)
    quantized = quantize(layer, weights, per_channel=per_channel)
    grid = grid_of(quantized)
    assert grid.log2_scale.shape == (6 if per_channel else 1, 1)
    lost = (quantized.weight - layer.weight).square().sum()
    for factor in (0.8, 1.25):
        other = quantize(layer, weights, per_channel=per_channel)
        with torch.no_grad():
            grid_of(other).log2_scale += torch.tensor(factor).log2()
        assert (other.weight - layer.weight).square().sum() > lost
    torch.testing.assert_close(layer.weight, quantized.parametrizations.weight.original, rtol=0, atol=0)


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        Time(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), LIF(decay_input=False), Time(nn.Flatten()),
        Time(SpikeLinear(144, 20)), RLIF(20, 2.0, decay_input=False), Time(nn.Linear(20, 10)), LIF(decay_input=False),
        Rate(),
    )  # fmt: skip
    calibrate_(net, 3 * torch.rand(4, 16, 1, 8, 8), rate=0.2)
    return net.eval()


def test_all_products_and_folded_normalisations():
    net, x = network(), 3 * torch.rand(6, 5, 1, 8, 8)
    quantized = quantize(net)
    kinds = [type(m) for m in quantized.modules() if parametrize.is_parametrized(m)]
    assert [
        parametrize.type_before_parametrizations(m) for m in quantized.modules() if parametrize.is_parametrized(m)
    ] == [nn.Conv2d, SpikeLinear, RLIF, nn.Linear]
    assert len(kinds) == 4
    assert not any(isinstance(m, nn.BatchNorm2d) for m in quantized.modules())
    assert net(x).mean() > 0.1
    assert (quantized(x) - net(x)).abs().mean() < 0.02
    quantized(x).square().sum().backward()
    for name, value in quantized.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
    again = quantize(network(), scale="free")
    again.load_state_dict(quantized.state_dict())
    torch.testing.assert_close(again(x), quantized(x), rtol=0, atol=0)


def test_it_learns_with_4_bits():
    """On three classes rounding to 4 bits after training is worse than training with 4 bits."""
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(40)
    x = (torch.randn(120, 12) + 1.2 * torch.eye(3, 12).repeat(40, 1)).expand(8, 120, 12)
    net = nn.Sequential(Time(nn.Linear(12, 16)), LIF(decay_input=False), Time(nn.Linear(16, 3)), Rate())

    def fit(net, steps):
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(steps):
            loss = nn.functional.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    before = fit(net, 60)
    quantized = quantize(net, "int4")
    with torch.no_grad():
        rounded = nn.functional.cross_entropy(quantized(x), labels).item()
    after = fit(quantized, 60)
    assert after < rounded
    assert after < before


@needs_compiler
@pytest.mark.parametrize("scale", ["free", "power-of-two"])
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_a_program_has_the_weights_that_were_trained(weights, scale, tmp_path):
    net = quantize(network(), weights, scale=scale).eval()
    x = 3 * torch.rand(6, 3, 1, 8, 8)
    report = snnfast.export_c(net, tmp_path, (1, 8, 8))
    torch.testing.assert_close(run(tmp_path, x, 10)[-1], report.network(x), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(report.network(x), net(x), rtol=0, atol=0.17)  # of 6 steps: one spike
    assert [loss.largest for loss in report.losses] == [0.0] * 4
    source = (tmp_path / "snn.c").read_text()
    assert source.count(f"static const {'u' * (weights == 'int4')}int8_t") == 4
    bytes_of = {layer.name: layer.weights for layer in report.layers}
    assert bytes_of["3.layer"] == 144 * 20 // (2 if weights == "int4" else 1) + 2 * 4 * 20  # and scales and biases
    for layer, plain in ((net[3].layer, report.network[3].layer), (net[4], report.network[4])):
        torch.testing.assert_close(layer.weight, plain.weight, rtol=0, atol=0)


def test_a_program_refuses_weights_that_a_later_normalisation_changes(tmp_path):
    norm = nn.BatchNorm1d(4)
    norm.running_var.fill_(3.0)
    net = nn.Sequential(Time(quantize(nn.Linear(6, 4)), norm), LIF()).eval()
    with pytest.raises(
        ValueError, match=r"^export_c: 0.layer.0, a .*Linear, was quantised, .* call snnfast.nn.quantize l"
    ):
        snnfast.export_c(net, tmp_path, (6,))


def test_errors():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    cases = [
        (nn.Sequential(LIF()), "quantize: net has no linear layer, convolution or recurrent connections"),
        (tied, "quantize: the weight of 0, a Linear, is that of another layer, too; give each its own"),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 2)), "quantize: 0, a ConvTranspose2d, is not supported"),
        (nn.Sequential(SparseLinear(connect.one_to_one(3))), "quantize: 0, a SparseLinear, is not supported"),
        (quantize(nn.Linear(3, 2)), "quantize: the weight of net, a ParametrizedLinear, is parametrised"),
        (parametrizations.weight_norm(nn.Linear(3, 2)), "a ParametrizedLinear, is parametrised or pruned already"),
        (nn.Sequential(LIF(), Time(nn.BatchNorm1d(3)), nn.Linear(3, 2)), "1.layer, a BatchNorm1d, cannot be folded"),
    ]
    for net, message in cases:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            quantize(net)
    broken = nn.Linear(3, 2)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ValueError, match="the weight of net, a Linear, is not finite"):
        quantize(broken)
    for settings, message in (
        ({"weights": "int2"}, "quantize: weights must be int8 or int4, got 'int2'"),
        ({"scale": "two"}, "quantize: scale must be free or power-of-two, got 'two'"),
        ({"per_channel": 1}, "quantize: per_channel must be True or False, got 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            quantize(nn.Linear(3, 2), **settings)


def test_a_layer_without_inputs_and_rows_of_zeros():
    empty = nn.Sequential(SpikeConv2d(1, 2, 3), nn.Linear(0, 3))
    nn.init.zeros_(empty[0].weight)
    quantized = quantize(empty)
    assert quantized[0].weight.abs().sum() == 0
    assert not parametrize.is_parametrized(quantized[1])
