"""``integer``: the same spikes in PyTorch, C and NIR, and no floating point in C."""

import ctypes
import re
import shutil
import subprocess
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from program import COMPILER, STRICT, loaded, needs_compiler, run, runs_here
from torch import nn

import snnfast
from snnfast import backend
from snnfast.export import integer
from snnfast.nn import (
    IF,
    LI,
    LIF,
    RLIF,
    Count,
    IntegerLIF,
    Last,
    Max,
    ParametricLIF,
    Rate,
    RatePool,
    SpikeLinear,
    Time,
    calibrate_,
    quantize,
)  # fmt: skip
from snnfast.reference.integer_lif import MOST_CURRENT


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def network(*end, pool=True, soft=False):
    torch.manual_seed(0)
    side = 4 if pool else 8
    net = nn.Sequential(
        Time(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)), LIF(v_reset=None if soft else 0.0, decay_input=False),
        Time(*(nn.MaxPool2d(2),) * pool, nn.Flatten()), Time(nn.Linear(4 * side * side, 20)), LIF(3.0, strict=True),
        Time(SpikeLinear(20, 10)), *(end or (LI(4.0),)),
    )  # fmt: skip
    calibrate_(net, torch.rand(4, 16, 1, 8, 8), rate=0.2)
    return net.eval()


def small(weights="int8", *end, scale="free", **kind):
    return quantize(network(*end, **kind), weights, scale=scale).eval()


def frames(steps=6, batch=5):
    x = torch.rand(steps, batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return (127 * x).round().to(torch.int8)


@needs_compiler
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", ["free", "power-of-two"])
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_pytorch_its_reference_and_c_have_the_same_spikes(weights, scale, soft, tmp_path):
    net = integer(small(weights, scale=scale, soft=soft), (1, 8, 8), unit=1 / 127)
    x = frames()
    y = net(x)
    assert y.dtype == torch.int32
    spikes = net[:5](x)
    assert spikes.dtype == torch.int8
    assert 0.02 < spikes.float().mean() < 0.5
    with backend.use("reference"):
        same(net(x), y)
        same(net[:5](x), spikes)
    report = snnfast.export_c(net, tmp_path, (1, 8, 8))
    same(run(tmp_path, x, 10, np.int32), y)
    same(report.network(x), y)
    assert len(re.findall(rf"static const {'u' * (weights == 'int4')}int8_t", (tmp_path / "snn.c").read_text())) == 2
    snnfast.export_c(net[:5], tmp_path / "spikes", (1, 8, 8))
    same(run(tmp_path / "spikes", x, 20, np.int8), spikes)


@needs_compiler
@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_maximum_pools_may_stand_before_neurons(weights, channels, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        Time(nn.Conv2d(channels, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1)), LIF(2.0, decay_input=False),
        Time(nn.Conv2d(8, 5, 3, 2, bias=False), nn.MaxPool2d(2)), LIF(2.0, decay_input=False), Count(),
    )  # fmt: skip
    calibrate_(net, torch.rand(4, 16, channels, 16, 16), rate=0.2)
    few = quantize(net, weights, scale="power-of-two").eval()
    x = (torch.rand(6, 20, channels, 16, 16) > 0.5).to(torch.int8)
    whole = integer(few, (channels, 16, 16))
    y = whole(x)
    with torch.no_grad():
        assert (whole[:-1](x).float() != few[:-1](x.float())).float().mean() < 0.01
        assert 0.02 < whole[:-1](x).float().mean() < 0.5
    snnfast.export_c(whole, tmp_path, (channels, 16, 16))
    same(run(tmp_path, x, 5, np.int32)[-1], y.flatten(1).int())
    assert "static int16_t spikeconv2d_3_y" in (tmp_path / "snn.c").read_text()


class Peaks(nn.Module):
    """Max pooling of rates behind neurons with a threshold for each channel, which start at a half of it."""

    def __init__(self, end):
        super().__init__()
        threshold = torch.tensor([0.4, 0.9, 0.55]).view(3, 1, 1)
        self.layers = nn.Sequential(
            Time(nn.Conv2d(1, 3, 3, padding=1)), IF(v_threshold=threshold, v_reset=None, v_init=threshold / 2),
            RatePool(nn.MaxPool2d(3, 2, 1)), Time(nn.Flatten(), nn.Linear(48, 6)),
            IF(v_threshold=0.7, v_init=-0.1), Time(nn.Linear(6, 4)), end,
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


@needs_compiler
@pytest.mark.parametrize("end", [Rate(), Count()])
def test_layers_of_a_converted_network(end, tmp_path):
    """Neurons start off rest, have a threshold for each channel, and the last sums add up over time."""
    torch.manual_seed(0)
    few = quantize(Peaks(end), "int8").eval()
    with torch.no_grad():
        few.layers[0].layer.parametrizations.weight.original.mul_(3)
    whole, x = integer(few, (1, 8, 8), unit=1 / 127), frames(12)
    y = whole(x)
    with backend.use("reference"):
        same(whole(x), y)
    snnfast.export_c(whole, tmp_path, (1, 8, 8))
    same(run(tmp_path, x, 4, np.int32)[-1], y)
    with torch.no_grad():
        real, want = few.layers[:5](x / 127), few(x / 127)
    assert 0.02 < real.mean() < 0.8
    assert (whole.layers[:5](x).float() != real).float().mean() < 0.03
    unit = whole.layers[6][0].unit / (12 if isinstance(end, Rate) else 1)
    assert (y * unit - want).abs().max() < 0.03 * want.abs().max()


@needs_compiler
def test_sums_of_16_bits_are_used_up_to_their_limit(tmp_path):
    """258 spikes of weight 127 reach 32,766; one more would not fit."""
    for inputs, kind in ((258, "int16_t"), (259, "int32_t")):
        net = nn.Sequential(Time(nn.Linear(2, inputs)), LIF(), Time(nn.Linear(inputs, 2, bias=False)), LI())
        for p in net.parameters():
            nn.init.constant_(p, 1.0)
        nn.init.constant_(net[2].layer.weight[1], -1.0)
        whole = integer(quantize(net, "int8").eval())
        x = torch.full((5, 1, 2), 100, dtype=torch.int8)
        snnfast.export_c(whole, tmp_path / kind)
        same(run(tmp_path / kind, x, 2, np.int32), whole(x))
        assert whole(x)[-1].abs().min() > 0
        assert f"static {kind} spikelinear_2_y" in (tmp_path / kind / "snn.c").read_text()


@needs_compiler
def test_a_bias_counts_for_the_bits_of_a_sum(tmp_path):
    product = SpikeLinear(2, 2)
    product.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    product.bias = nn.Parameter(torch.tensor([40_000, -3], dtype=torch.int32), requires_grad=False)
    ones = torch.ones(2, dtype=torch.int32)
    net = nn.Sequential(Time(product), IntegerLIF(ones, 0 * ones, decay=0, v_threshold=None))
    x = torch.ones(3, 1, 2, dtype=torch.int8)
    snnfast.export_c(net.eval(), tmp_path)
    same(net(x), torch.tensor([40_002, -1], dtype=torch.int32).expand(3, 1, 2))
    same(run(tmp_path, x, 2, np.int32), net(x))


@needs_compiler
@pytest.mark.parametrize(
    "pool",
    [nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2, divisor_override=3), nn.AdaptiveAvgPool2d(4)],
    ids=str,
)
def test_means_of_spikes_become_sums(pool, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        Time(nn.Conv2d(1, 4, 3, padding=1)), LIF(2.0, decay_input=False), Time(pool, nn.Flatten()),
        Time(nn.Linear(64, 20)), LIF(2.0, decay_input=False), Count(),
    )  # fmt: skip
    calibrate_(net, torch.rand(4, 16, 1, 8, 8), rate=0.2)
    few, x = quantize(net, "int8", scale="power-of-two").eval(), (frames(8, 40) > 60).to(torch.int8)
    whole = integer(few, (1, 8, 8))
    y = whole(x)
    with torch.no_grad():
        assert (whole[:-1](x).float() != few[:-1](x.float())).float().mean() < 0.003
        assert 0.02 < whole[:-1](x).float().mean() < 0.5
    snnfast.export_c(whole, tmp_path, (1, 8, 8))
    same(run(tmp_path, x, 20, np.int32)[-1], y.int())
    if find_spec("nir"):
        snnfast.nir.write(tmp_path / "net.nir", whole[:-1], (1, 8, 8), dt=1.0, scheme="euler")
        same(snnfast.nir.read(tmp_path / "net.nir")(x), whole[:-1](x))


@needs_compiler
@pytest.mark.parametrize("features", [1, 2, 7])
def test_two_weights_of_4_bits_share_a_byte_in_rows_of_any_length(features, tmp_path):
    torch.manual_seed(0)
    linear = nn.Sequential(Time(nn.Linear(12, features)), RLIF(features), Time(nn.Linear(features, features)), LI())
    conv = nn.Sequential(Time(nn.Conv2d(1, features, 2)), LIF())
    few = [quantize(net, "int4").eval() for net in (linear, conv)]
    cases = ((few[0], (12,), (12, features, features)), (few[1], (1, 4, 3), (4,)))
    cases += ((integer(few[1], (1, 4, 3)), (1, 4, 3), ()),)  # weights of an image are widened
    for k, (net, shape, rows) in enumerate(cases):
        x = torch.randn(5, 3, *shape)
        x = x.sign().to(torch.int8) if k == 2 else x
        report = snnfast.export_c(net, tmp_path / str(k), shape)
        y = report.network(x).flatten(2)
        same(run(tmp_path / str(k), x, y.shape[2], y.numpy().dtype), y)
        found = re.findall(r"static const uint8_t \w+\[(\d+)\]", (tmp_path / str(k) / "snn.c").read_text())
        assert sorted(map(int, found)) == sorted(-(-features // 2) * n for n in rows)


def test_nir_has_the_same_spikes(tmp_path):
    pytest.importorskip("nir")
    for end, soft in ((LI(4.0), False), (IF(), False)):
        net, x = integer(small("int8", end, pool=False, soft=soft), (1, 8, 8), unit=1 / 127, limit=2**26), frames()
        if isinstance(end, IF):
            net[6].bias.zero_()
        snnfast.nir.write(tmp_path / "net.nir", net, (1, 8, 8), dt=1.0, scheme="euler")
        read = snnfast.nir.read(tmp_path / "net.nir")
        same(read(x), net(x))
        assert net(x).count_nonzero() > 0
        again = snnfast.nir.from_nir(snnfast.nir.to_nir(read, (1, 8, 8), dt=1.0, scheme="euler"))
        same(again(x), net(x))
        neuron = next(layer for layer in read.modules() if isinstance(layer, IntegerLIF))
        assert (neuron.unit, neuron.limit) == (net[1].unit, net[1].limit)
    for end, soft, message in ((LI(4.0), True, "resets by subtraction"), (IF(), False, "has a bias and no leak")):
        net = integer(small("int8", end, pool=False, soft=soft), (1, 8, 8))
        with pytest.raises(ValueError, match=f"to_nir: [16] {message}"):
            snnfast.nir.to_nir(net, (1, 8, 8), dt=1.0, scheme="euler")


@pytest.mark.parametrize("scale", ["free", "power-of-two"])
def test_it_is_the_network_that_was_trained(scale):
    """Spikes differ by rounding only: almost never if scales, input and decay are powers of two or integers."""
    net = small("int8", ParametricLIF(2.0), scale=scale)
    x = (frames(8, 40) > 60).to(torch.int8)
    whole = integer(net, (1, 8, 8))
    with torch.no_grad():
        for end in (2, 5, 7):
            differ = (whole[:end](x).float() != net[:end](x.float())).float().mean()
            assert differ < 0.003
            assert whole[:end](x).float().mean() > 0.01
    with_membranes = integer(small(scale=scale), (1, 8, 8))
    with torch.no_grad():
        want, got = small(scale=scale)(x.float()), with_membranes(x) * with_membranes[6].unit
    close = (want - got).abs() < 1e-4
    assert close.float().mean() > 0.9


@pytest.mark.parametrize("unit", [1.0, 1 / 127])
@pytest.mark.parametrize("strict", [False, True])
def test_at_the_threshold(strict, unit):
    """An input of 64 equals the threshold; 65 exceeds it."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    net = quantize(nn.Sequential(Time(layer), LIF(decay_input=False, v_threshold=64 * unit, strict=strict)))
    nn.init.constant_(net[0].layer.parametrizations.weight[0].log2_scale, -6.0)  # 64 / 64
    whole = integer(net, unit=unit)
    spikes = [whole(torch.tensor([[[value]]], dtype=torch.int8)).item() for value in (63, 64, 65)]
    assert spikes == [0, int(not strict), 1]


@needs_compiler
@pytest.mark.parametrize(("end", "kind"), [(Last(), np.int32), (Count(), np.int32), (Rate(), np.int32)])
def test_readouts_and_an_input_that_stays(end, kind, tmp_path):
    neuron = LI(4.0) if isinstance(end, Last) else LIF(2.0, v_threshold=0.2)
    net = integer(small("int8", neuron, end), (1, 8, 8), unit=1 / 127)
    x = frames(1).expand(6, 5, 1, 8, 8)
    snnfast.export_c(net, tmp_path, (1, 8, 8))
    same(run(tmp_path, x, 10, kind)[-1].long(), net(x).long())
    assert net(x).count_nonzero() > 0
    once, _, always = (tmp_path / "snn.c").read_text().rpartition("if (input) {")[2].partition("  }\n")
    assert "spikeconv2d_0();" in once
    assert "integerlif_1();" in always


@needs_compiler
@pytest.mark.parametrize("end", [Rate(), Count()], ids=str)
def test_sums_of_membranes_take_64_bits(end, tmp_path):
    """50 membranes of up to 2**30 - 1."""
    net = nn.Sequential(Time(nn.Linear(8, 3, bias=False)), LI(20.0, decay_input=False), end)
    nn.init.constant_(net[0].layer.weight, 1.0)
    net = integer(quantize(net).eval())
    x = torch.full((50, 2, 8), 127, dtype=torch.int8)
    x[:, 1] = -128
    y = net(x)
    assert y.abs().min() > 2**31
    snnfast.export_c(net, tmp_path)
    steps = [net(x[: t + 1]) for t in range(50)]
    same(run(tmp_path, x, 3, np.int64), torch.stack(steps))


@pytest.mark.parametrize("neuron", [LI(2.0), LIF(2.0, v_threshold=900.0)], ids=str)
def test_a_bias_counts_for_the_largest_current(neuron):
    """Its current is 1,000 times the largest of the inputs."""
    few = quantize(nn.Sequential(Time(nn.Linear(4, 2)), neuron)).eval()
    layer = few[0].layer
    with torch.no_grad():
        layer.parametrizations.weight.original.fill_(1 / 512)
        layer.parametrizations.weight[0].log2_scale.fill_(-16)
        layer.bias.copy_(torch.tensor([1000.0, -1000.0]))
    whole = integer(few)
    current = whole[1].gain.long() * 4 * 128 * 127 + whole[1].bias.abs().long()
    assert current.max() <= MOST_CURRENT
    x = torch.full((6, 3, 4), 100, dtype=torch.int8)
    with torch.no_grad():
        wanted = few(x.float())
    assert wanted.any()
    one = whole[1].unit if isinstance(neuron, LI) else 1.0
    torch.testing.assert_close(whole(x) * one, wanted, rtol=1e-3, atol=0)


@needs_compiler
def test_the_maximum_of_spikes(tmp_path):
    net = integer(small("int8", LIF(2.0, v_threshold=0.2), Max()), (1, 8, 8), unit=1 / 127)
    x = frames()
    snnfast.export_c(net, tmp_path, (1, 8, 8))
    same(run(tmp_path, x, 10, np.int8)[-1], net(x))
    assert 0 < net(x).float().mean() < 1


@needs_compiler
def test_a_float_network_s_input_that_stays(tmp_path):
    net = nn.Sequential(Time(SpikeLinear(9, 8, method="events")), LIF(), Time(SpikeLinear(8, 3, method="events")))
    x = torch.rand(1, 4, 9).mul(5).expand(6, 4, 9)
    report = snnfast.export_c(net, tmp_path)
    same(run(tmp_path, x, 3), report.network(x))


@needs_compiler
@runs_here
def test_membranes_that_are_cut_are_counted_alike(tmp_path):
    net = integer(small(), (1, 8, 8), unit=1.0, limit=2**15 - 1)
    program_x = frames()
    with pytest.warns(UserWarning, match="were beyond 32767 and cut"):
        y = net(program_x)
    snnfast.export_c(net, tmp_path, (1, 8, 8))
    program = loaded(tmp_path)
    same(run(tmp_path, program_x, 10, np.int32, program), y)
    counted = sum(int(layer.saturated) for layer in net.modules() if isinstance(layer, IntegerLIF))
    assert counted == ctypes.c_long.in_dll(program, "snn_saturated").value > 0


def compilers():
    """Compilers at hand, with options by which floating point would need a function, or not compile at all."""
    found = {"arm-none-eabi-gcc": ["-mcpu=cortex-m0", "-mthumb"], "aarch64-linux-gnu-gcc": ["-mgeneral-regs-only"]}
    found = {name: options for name, options in found.items() if shutil.which(name)}
    return found | ({COMPILER: ["-mno-sse", "-mno-80387"]} if _x86() else {COMPILER: ["-mgeneral-regs-only"]})


def _x86():
    return (
        subprocess.run([COMPILER, "-dumpmachine"], capture_output=True, text=True, check=True).stdout[:3] in "x86 i68"
    )


@needs_compiler
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_no_floating_point_at_all(weights, tmp_path):
    """Compiled without a floating-point unit: no function of a library is missing but memset and the like."""
    snnfast.export_c(integer(small(weights), (1, 8, 8), unit=1 / 127), tmp_path, (1, 8, 8))
    for compiler, options in compilers().items():
        subprocess.run([compiler, *STRICT, *options, "-O2", "-c", "snn.c"], cwd=tmp_path, check=True)
        listed = subprocess.run(["nm", "-u", "snn.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
        missing = {line.split()[-1] for line in listed.stdout.splitlines()}
        assert missing <= {"memset", "memcpy", "_GLOBAL_OFFSET_TABLE_"}, compiler
    text = (tmp_path / "snn.c").read_text()
    assert not re.search(r"\b(float|double)\b|\d\.\d", text)


@needs_compiler
def test_a_network_of_floats_would_be_found(tmp_path):
    snnfast.export_c(small(), tmp_path, (1, 8, 8))
    compiler, options = next(reversed(compilers().items()))
    whole = subprocess.run([compiler, *STRICT, *options, "-O2", "-c", "snn.c"], cwd=tmp_path, capture_output=True)
    if whole.returncode == 0:
        listed = subprocess.run(["nm", "-u", "snn.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "__" in listed.stdout


def test_a_copy_that_is_saved_and_loaded(tmp_path):
    net, x = integer(small(), (1, 8, 8), unit=1 / 127), frames()
    other = integer(quantize(network(), "int8"), (1, 8, 8), unit=1 / 127)
    for buffer in other.buffers():
        buffer.zero_()
    other.load_state_dict(net.state_dict())
    same(other(x), net(x))


def test_errors():
    linear = quantize(nn.Sequential(Time(nn.Linear(8, 3))))

    def behind(*layers):
        return quantize(nn.Sequential(Time(nn.Linear(8, 3)), *layers))

    heavy = nn.Sequential(Time(nn.Linear(8, 3)), LIF(v_threshold=1e-5))
    cases = [
        (nn.Sequential(Time(nn.Linear(8, 3)), LIF()), "0.layer, a Linear, has weights in floating point; call"),
        (linear, "0.layer gives sums; end the network with neurons, such as LI"),
        (behind(Max()), "1, a Max, stands between a product and its neurons"),
        (behind(LIF(refractory=2)), "1, a LIF, has a refractory period"),
        (behind(LIF(torch.tensor([2.0, 3.0, 4.0]))), "1, a LIF, has a decay for each neuron"),
        (behind(LIF(v_reset=None, v_rest=0.1)), "1, a LIF, has a soft reset and v_rest=0.1"),
        (behind(LIF(v_threshold=-1.0)), "1, a LIF, has v_threshold=-1, not above v_rest=0"),
        (behind(LIF(), LIF()), "2, a LIF, does not stand directly behind a linear layer or a convolution"),
        (behind(LI(), Time(nn.Linear(3, 2)), LI()), "2.layer, a Linear, gets no spikes"),
        (quantize(heavy), "1, a LIF, has v_threshold=1e-05, and its currents could reach"),
        (behind(LIF(), Time(nn.AvgPool1d(1))), "2.layer, a AvgPool1d, has no equal in whole numbers"),
    ]
    for net, message in cases:
        with pytest.raises(ValueError, match=f"integer: {re.escape(message)}"):
            integer(net)
    wide = quantize(nn.Sequential(Time(nn.Linear(65536, 1)), LI()))
    with pytest.raises(ValueError, match="has 65536 inputs an output; sums of at most 65535 fit in 32 bits"):
        integer(wide)
    for pool, message in (
        (nn.AvgPool2d(2), "sums 4 inputs, which could reach 512; 8 bits hold 127"),
        (nn.AvgPool2d(2, ceil_mode=True), "has windows of several sizes"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), "has windows of several sizes"),
    ):
        pooled = quantize(nn.Sequential(Time(pool), Time(nn.Conv2d(2, 2, 1)), LI()))
        with pytest.raises(ValueError, match=f"integer: 0.layer, a AvgPool2d, {message}"):
            integer(pooled, (2, 4, 4))
    grouped = quantize(nn.Sequential(Time(nn.Conv2d(2, 2, 3, groups=2)), LI()))
    with pytest.raises(ValueError, match=r"0.layer, a Conv2d, has groups, a dilation"):
        integer(grouped, (2, 4, 4))
    with pytest.raises(ValueError, match="integer: give input_shape: the first layer, a Conv2d"):
        integer(grouped)
    for settings in ({"unit": 0}, {"limit": 100}, {"limit": 2**30}):
        with pytest.raises(ValueError, match=f"integer: {next(iter(settings))} must be"):
            integer(linear, **settings)
