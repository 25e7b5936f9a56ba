"""``expand``: binary spikes with the outputs of integer spikes, in PyTorch, in integers and in C."""

import numpy as np
import pytest
import torch
from jelly import Node, named
from program import needs_compiler, run
from torch import nn

import snnfast
from snnfast import backend
from snnfast.export import Step, expand, integer
from snnfast.nn import IF, ILIF, LI, LIF, Count, IntegerLIF, Last, Max, Rate, Time, fuse, quantize
from snnfast.nn.state import Stateful


def exactly(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def chain(*end, most=4):
    """Two convolutions with batch norm, maximum and average pooling, and the ``end`` behind a linear layer."""
    return nn.Sequential(
        Time(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)), ILIF(most), Time(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3)),
        ILIF(3, decay=0.5), Time(nn.AvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(6, 5)), *end,
    )  # fmt: skip


class Shortcut(nn.Module):
    """Currents of several depths are added, as in spike-driven transformers."""

    def __init__(self):
        super().__init__()
        self.stem = Time(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.one, self.two, self.three = ILIF(4), ILIF(2, v_threshold=0.7), ILIF(3, decay=0.6)
        self.inner = nn.Sequential(Time(nn.Conv2d(4, 4, 3, padding=1)), self.two, Time(nn.Conv2d(4, 4, 1, bias=False)))
        self.head = nn.Sequential(Time(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)), LI(3.0), Last())

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.three(x + self.inner(self.one(x))))


NETWORKS = {
    "rate": lambda: chain(Rate()),
    "count": lambda: chain(Count()),
    "last currents": lambda: chain(Last()),
    "membrane": lambda: chain(LI(2.0, v_rest=0.1), Last()),
    "spikes": lambda: chain(ILIF(2), Count()),
    "a spike at most": lambda: chain(Rate(), most=1),
    "shortcut": Shortcut,
    "tokens": lambda: nn.Sequential(
        Time(nn.Flatten(2), nn.Conv1d(1, 4, 3)), ILIF(4), Time(nn.Linear(62, 5)), ILIF(2),
        Time(nn.Flatten(), nn.Linear(20, 5)), Rate(),
    ),
}  # fmt: skip


def trained(net):
    """Set statistics, and weights with which neurons spike several times."""
    for _ in range(3):
        net.train()(torch.rand(2, 8, 1, 8, 8) * 4)
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            layer.weight.data *= 3
    return net.eval()


def made(name):
    torch.manual_seed(0)
    return trained(NETWORKS[name]())


def images(steps, batch=6):
    return 4 * torch.rand(steps, batch, 1, 8, 8, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", [*NETWORKS])
def test_outputs_are_equal_bit_for_bit_where_sums_are_exact(name, steps):
    """In float64 sums of float32 weights are exact; in float32 they round."""
    net, x = made(name), images(steps)
    binary = expand(net, (1, 8, 8))
    frames = binary.frames(x)
    assert len(frames) == (steps - 1) * binary.steps + binary.delay + 1
    means = steps if name in ("rate", "a spike at most", "tokens") else 1
    with torch.no_grad():
        torch.testing.assert_close(binary(frames), net(x) * means, rtol=0, atol=1e-5)
        net = fuse(net) if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) else net
        wanted = net.double()(x.double())
        found = binary.double()(frames.double())
        assert wanted.abs().max() > 0.05
        if means == 3:  # a mean of three rounds
            torch.testing.assert_close(found, wanted * means, rtol=1e-15, atol=0)
        else:
            exactly(found, wanted * means)


@pytest.mark.parametrize("chosen", ["cpu", "reference"])
def test_every_spike_is_0_or_1_and_those_of_a_step_are_the_number(chosen):
    net, x = made("rate"), images(3)
    binary = expand(net, (1, 8, 8), steps=5)
    with torch.no_grad(), backend.use(chosen):
        numbers, spikes = net[:4](x), binary[:4](binary.frames(x))
    assert spikes.unique().tolist() == [0, 1]
    assert {0.0, 1.0, 2.0, 3.0} == set(numbers.unique().tolist())
    start = int(binary[3].start)
    assert start == 4  # substeps of the first layer besides its first one
    assert not spikes[:start].any()
    by_step = spikes[start:][:15].unflatten(0, (3, 5))
    exactly(by_step.sum(1), numbers)
    assert (by_step[:, 1:] <= by_step[:, :-1]).all()


def test_neurons_of_a_single_step_charge_once():
    """Then both forms have equally many spikes; in a stream the first layer begins another step."""
    few, x = small(Rate()), whole_images(1)
    one, stream = (expand(few, (1, 8, 8), single=single) for single in (True, False))
    frames = one.frames(x.float() * 4 / 127)
    assert one[:2](frames).sum() < stream[:2](frames).sum()
    exactly(one(frames), stream(frames))
    with torch.no_grad():
        numbers = few[:4](x.float() * 4 / 127)
    exactly(one[:4](frames).sum(0), numbers[0])
    exactly(one[:2](frames).sum(0), few[:2](x.float() * 4 / 127)[0].detach())
    whole, wholes = (integer(net, (1, 8, 8), unit=4 / 127) for net in (one, stream))
    exactly(whole(whole.frames(x)), wholes(wholes.frames(x)))
    with pytest.raises(ValueError, match="frames: the network was expanded with single=True, and x has 2 steps"):
        one.frames(torch.zeros(2, 1, 1, 8, 8))


def test_without_a_readout_the_output_of_a_step_stands_at_its_substep():
    net, x = made("rate")[:-1], images(3)
    binary = expand(net, (1, 8, 8))
    with torch.no_grad():
        y = binary(binary.frames(x))
        torch.testing.assert_close(y[binary.delay :: binary.steps], net(x), rtol=0, atol=1e-5)
    assert (binary.steps, binary.delay) == (4, 6)


def test_rounding_to_even_at_ties_and_thresholds_that_are_no_power_of_two():
    """Currents of exact halves: both forms round them alike."""
    linear = nn.Linear(1, 12, bias=False)
    linear.weight.data = torch.arange(12.0).view(-1, 1) / 2
    net = nn.Sequential(
        Time(linear), ILIF(4), Time(nn.Linear(12, 12)), ILIF(4, v_threshold=0.3), Time(nn.Linear(12, 2)), Rate()
    )
    binary = expand(net)
    x = torch.ones(1, 1, 1)
    numbers = net[:2](x).flatten().tolist()
    assert numbers == [0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4]
    exactly(binary[:2](binary.frames(x))[:4].sum(0).flatten(), torch.tensor(numbers))
    exactly(binary.double()(binary.frames(x).double()), net.double()(x.double()))


def small(*end):
    torch.manual_seed(0)
    return quantize(trained(chain(*end)), "int8").eval()


def whole_images(steps):
    x = torch.rand(steps, 40, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    return (127 * x).round().to(torch.int8)


def units(net):
    return [m.unit for m in net.modules() if isinstance(m, IntegerLIF)]


@needs_compiler
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("end", [(Rate(),), (LI(2.0), Last()), (LI(2.0),), (ILIF(2),), (ILIF(2), Count())])
def test_both_forms_are_equal_in_integers_and_in_c(end, steps, tmp_path):
    few, x = small(*end), whole_images(steps)
    binary = expand(few, (1, 8, 8), single=steps == 1)
    numbers, bits = (integer(net, (1, 8, 8), unit=4 / 127) for net in (few, binary))
    assert units(numbers) == units(bits)
    y, frames = numbers(x), bits.frames(x)
    z = bits(frames)
    with backend.use("reference"):
        exactly(numbers(x), y)
        exactly(bits(frames), z)
    assert bits[1](bits[0](frames)).unique().tolist() == [0, 1]
    assert numbers[1](numbers[0](x)).unique().tolist() == [0, 1, 2, 3, 4]
    if isinstance(end[-1], LI):
        exactly(z[bits.delay :: bits.steps], y)
    elif isinstance(end[-1], ILIF):
        exactly(z[bits.delay - 3 :].unflatten(0, (steps, 4)).sum(1, dtype=torch.int8), y)
    else:
        exactly(z, y)
    for folder, net, inputs, output in (("numbers", numbers, x, y), ("bits", bits, frames, z)):
        snnfast.export_c(net, tmp_path / folder, (1, 8, 8))
        text = (tmp_path / folder / "snn.c").read_text()
        assert "float" not in text
        kind = np.int8 if output.dtype == torch.int8 else np.int32
        found = run(tmp_path / folder, inputs, 5, kind)
        exactly(found if output.dim() == 3 else found[-1], output.to(found.dtype))
    with torch.no_grad():
        real = few(x.float() * 4 / 127)
        assert (few[:4](x.float() * 4 / 127) != numbers[:4](x).float()).float().mean() < 0.01
    if isinstance(end[-1], Last):
        assert (y * units(numbers)[-1] - real).abs().max() < 0.05 * real.abs().max()


def test_a_state_carries_over_in_integers():
    for few, last in ((small(LI(2.0)), 5), (expand(small(LI(2.0)), (1, 8, 8)), 5)):
        for layer in few.modules():
            if isinstance(layer, Stateful):
                layer.stateful = True
        whole = integer(few, (1, 8, 8), unit=1 / 127)
        x = whole.frames(whole_images(2)) if hasattr(whole, "frames") else whole_images(3)
        whole_sequence = whole(x)
        snnfast.nn.reset(whole)
        exactly(torch.cat([whole(part) for part in x.split(1)]), whole_sequence)
        assert whole[last].unit > 0


def test_a_state_carries_over_with_delayed_currents():
    net, x = made("shortcut"), images(3)
    whole = expand(net, (1, 8, 8))
    net.one.stateful = True
    parts = expand(net, (1, 8, 8))
    frames = parts.frames(x)
    for part in frames.split(2):
        y = parts(part)
    exactly(y, whole(frames))


def test_membranes_beyond_the_limit_are_cut_and_counted():
    linear = nn.Linear(1, 1, bias=False)
    linear.weight.data.fill_(-1.0)
    few = quantize(nn.Sequential(Time(linear), ILIF(2, decay=1.0), Time(nn.Linear(1, 1)), LI()), "int8").eval()
    whole = integer(few, unit=40 / 127)
    with pytest.warns(UserWarning, match="membranes were beyond"):
        whole(torch.full((6, 1, 1), 127, dtype=torch.int8))
    assert whole[1].saturated == 2


@needs_compiler
@pytest.mark.parametrize("name", ["rate", "shortcut", "spikes"])
def test_c_in_floating_point_has_the_same_bits(name, tmp_path):
    binary = expand(made(name), (1, 8, 8))
    frames = binary.frames(images(2, 3))
    report = snnfast.export_c(binary, tmp_path, (1, 8, 8))
    y = report.network(frames)
    exactly(run(tmp_path, frames, 5)[-1], y)
    torch.testing.assert_close(binary(frames), y, rtol=0, atol=1e-5)


def test_a_step_is_a_function_for_torch_export():
    binary = expand(made("rate"), (1, 8, 8))
    frames = binary.frames(images(2, 3))
    step = Step(binary[:-1])
    states = step.start(frames[0])
    program = torch.export.export(step, (frames[0], *states)).module()
    for frame in frames:
        y, *states = program(frame, *states)
    exactly(y, binary(frames))


def test_nir_has_no_such_neurons():
    pytest.importorskip("nir")
    binary, few = expand(made("rate"), (1, 8, 8)), small(ILIF(2))
    for net in (binary, few, integer(few, (1, 8, 8)), integer(expand(few, (1, 8, 8)), (1, 8, 8))):
        with pytest.raises(ValueError, match=r"to_nir: NIR has no equal for 1, a \w*I(LIF|lif)"):
            snnfast.nir.to_nir(net[:4], (1, 8, 8), dt=1e-3, scheme="euler")


@named("MultiLevelSpikeCount", "spikingjelly.activation_based.surrogate")
class MultiLevelSpikeCount:
    max_spike_count, grad_min, grad_max, spiking = 3, 0.0, 3.0, True


@named("ILIFNode")
class ILIFNode(Node):
    pass


def test_a_network_of_spikingjelly_becomes_binary():
    """Its class is a stand-in with tau = 2, so decay = 1/2."""
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(4, 9)), ILIFNode(v_reset=None, surrogate_function=MultiLevelSpikeCount()))
    ours, x = snnfast.nn.replace(net.double()), 4 * torch.randn(2, 5, 4, dtype=torch.float64)
    binary = expand(ours).double()
    y = ours(x).detach()
    exactly(binary(binary.frames(x)).unflatten(0, (2, 3)).sum(1), y)
    exactly(y, nn.Sequential(net[0], ILIF(3, decay=0.5))(x).detach())
    assert y.max() == 3


LINEAR = (Time(nn.Linear(4, 4)), ILIF(4))


@pytest.mark.parametrize(
    ("layers", "arguments", "message"),
    [
        ([Time(nn.Linear(4, 4)), LIF(), Rate()], {}, "expand: net has no snnfast.nn.ILIF"),
        ([*LINEAR, Time(nn.Linear(4, 4)), IF(), Rate()], {}, "expand: 3, a IF, fires by another rule than"),
        ([*LINEAR, Rate()], {"steps": 3}, "expand: steps must be at least 4, the most spikes of an ILIF, got 3"),
        ([*LINEAR, Rate()], {"steps": 4.5}, "expand: steps must be an integer"),
        ([*LINEAR, Time(nn.Linear(4, 4), nn.Linear(4, 4)), Rate()], {}, r"2.layer.1, a Linear, stands between"),
        ([*LINEAR, Time(nn.Linear(4, 4)), LI(), Rate()], {}, "4, a Rate, reads membranes; in binary spikes"),
        ([*LINEAR, Time(nn.Linear(4, 4)), Max()], {}, "3, a Max, reads currents"),
        ([*LINEAR, Last()], {}, "2, a Last, reads spikes"),
        ([*LINEAR, Rate(), nn.Linear(4, 4)], {}, "2, a Rate, is followed by other layers"),
        ([*LINEAR, Time(nn.Linear(4, 4)), LI(), Time(nn.Linear(4, 4))], {}, "reads membranes; LI must be the last"),
        ([*LINEAR, Time(nn.ReLU()), Rate()], {}, "2.layer, a ReLU, has no equal in binary spikes"),
        ([Time(nn.Linear(4, 4)), ILIF(4, return_v_seq=True)], {}, "1, a ILIF, returns"),
        ([nn.Linear(4, 4), "x"], {}, ""),
    ],
)  # fmt: skip
def test_refusals_name_the_layer(layers, arguments, message):
    if not message:
        with pytest.raises(TypeError, match="expand: net must be"):
            expand("net")
        return
    with pytest.raises((TypeError, ValueError), match=message):
        expand(nn.Sequential(*layers), **arguments)


class Added(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.end = ILIF(4), ILIF(2), Rate()
        self.first = Time(nn.Linear(4, 4))

    def forward(self, x):
        return self.end(self.one(self.first(x)) + self.two(x))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(Time(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), ILIF(4)), "0.layer.1, a MaxPool2d, stands between"),
        (nn.Sequential(ILIF(4), Time(nn.AvgPool2d(2), nn.MaxPool2d(2)), Rate()), "1.layer.1, a MaxPool2d, reads means"),
        (nn.Sequential(Time(nn.Conv2d(1, 2, 3)), ILIF(4), Time(nn.Flatten())), None),
    ],
)  # fmt: skip
def test_pooling_and_shapes(net, message):
    if message is None:
        with pytest.raises(ValueError, match="expand: give input_shape"):
            expand(net)
        return
    with pytest.raises(ValueError, match=message):
        expand(net, (1, 8, 8))


def test_sums_of_spikes_are_refused():
    with pytest.raises(ValueError, match="a sum, adds spikes and spikes; add currents, between products and ILIF"):
        expand(Added(), (4,))


def test_frames_are_checked_and_slices_have_them():
    binary = expand(nn.Sequential(*LINEAR, Time(nn.Linear(4, 2)), Rate()))
    frames = binary[:2].frames(torch.ones(2, 3, 4))
    assert frames.sum(dim=(1, 2)).tolist() == [12, 0, 0, 0, 12, 0, 0, 0]
    assert binary.frames(torch.ones(1, 3, 4, dtype=torch.int8)).dtype == torch.int8
    for x in (torch.ones(0, 3, 4), [1.0], torch.ones(())):
        with pytest.raises((TypeError, ValueError), match="frames: x must"):
            binary.frames(x)


def test_integers_refuse_a_bias_for_each_neuron():
    few = quantize(
        nn.Sequential(Time(nn.Conv2d(1, 2, 3), nn.Flatten()), ILIF(4), Time(nn.Linear(8, 2)), Rate()), "int8"
    )
    with pytest.raises(ValueError, match="stands between a product and its neurons"):
        integer(expand(few.eval(), (1, 4, 4)), (1, 4, 4))
