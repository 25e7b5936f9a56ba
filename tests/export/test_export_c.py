"""``export_c``: the program gives the bits of the network and is plain C99; errors name the reason."""

import functools
import shutil
import subprocess

import numpy as np
import pytest
import torch
from equations import klif, plain_lif, two_compartments
from program import compiled, needs_compiler, run, runs_here
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import snnfast
from snnfast import nn as sn
from snnfast.nn import LIF, SpikeConv2d, SpikeLinear, Time
from snnfast.nn.scale import Scale


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def varied(*shape, low=1.5, high=6.0, seed=3):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def events(*sizes, **options):
    return SpikeLinear(*sizes, method="events", **options)


def behind(layer, inputs=9, features=8):
    """Return ``layer`` after a product that makes a part of the neurons fire."""
    product = events(inputs, features)
    with torch.no_grad():
        product.weight *= 4
    return nn.Sequential(Time(product), layer)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.back = Time(events(9, 9)), LIF(v_threshold=0.2), Time(events(9, 4))

    def forward(self, x):
        return self.back(x + nn.functional.dropout(self.lif(self.fc(x)), training=self.training))


class Added(Residual):
    """In-place additions, read by both names."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()

    def forward(self, x):
        y = self.fc(x)
        same = self.same(y)
        y.add_(self.lif(y))
        y += x
        return self.back(same)


def learned(kind, **options):
    layer = kind(8, **options)
    with torch.no_grad():
        layer.weight *= 2
    return layer


def trained_delay():
    layer = sn.Delay(3, 4.5, sigma=0.75)
    with torch.no_grad():
        layer.d.copy_(torch.tensor([0.0, 1.3, 4.5]))
    return layer


@snnfast.neuron
def many_functions(fire, x, v, u, *, k=0.3):
    u = torch.tanh(u) * 0.5 + torch.sin(x) + torch.sigmoid(k * v) * torch.exp(-torch.abs(u)) + 0.1 * torch.log(x * x)
    u = u + torch.floor(x) * 0.1 + torch.sign(v) * torch.cos(u).clamp(-0.5, 0.5) - torch.round(u) * 0.01
    s, _, v = fire(v * 0.8 + torch.relu(x) + torch.maximum(u, x) * k, 1.0)
    return s, v, u


FEATURES, IMAGE = (9,), (2, 7, 6)
# Networks that give the program's bits as they are: their products sum by events.
NETWORKS = {
    "LIF": (lambda: behind(LIF(3.0)), FEATURES),
    "LIF soft": (lambda: behind(LIF(2.0, v_reset=None, decay_input=False)), FEATURES),
    "LIF rest": (lambda: behind(LIF(2.2, v_reset=-0.3, v_rest=0.1, v_threshold=0.7)), FEATURES),
    "LIF refractory": (lambda: behind(LIF(2.0, refractory=2, v_threshold=0.4)), FEATURES),
    "AdLIF refractory": (lambda: behind(sn.AdLIF(tau=(2.0, 4.0), q=2.0, refractory=1)), FEATURES),
    "ALIF strict": (lambda: behind(sn.ALIF(2.0, refractory=1, strict=True)), FEATURES),
    "IF strict at its threshold": (lambda: nn.Sequential(LIF(), sn.IF(strict=True)), FEATURES),
    "LIF strict": (lambda: behind(LIF(2.0, strict=True)), FEATURES),
    "LIF of each its own": (
        lambda: behind(LIF(varied(8), v_threshold=varied(8, low=0.3, high=1), v_reset=varied(8) / 9)),
        FEATURES,
    ),
    "ParametricLIF": (lambda: behind(sn.ParametricLIF(2.7, learnable_threshold=True)), FEATURES),
    "IF": (lambda: behind(sn.IF(v_threshold=1.3, v_reset=None)), FEATURES),
    "CubaLIF": (lambda: behind(sn.CubaLIF(3.0, 1.7)), FEATURES),
    "CubaLIF learned": (lambda: behind(sn.CubaLIF(3.0, 4.0, learnable=True, channels=8)), FEATURES),
    "ALIF": (lambda: behind(sn.ALIF(3.0, beta=0.3, tau_adapt=9.0, v_reset=None)), FEATURES),
    "AdLIF": (lambda: behind(sn.AdLIF(8, tau=(1.5, 4.0), q=2.0)), FEATURES),
    "AdLIF of Bittar": (
        lambda: behind(sn.AdLIF(form="bittar2022", tau=(1.5, 4.0), b=(0.1, 0.2))),
        FEATURES,
    ),
    "LI": (lambda: behind(sn.LI(5.0, v_rest=0.2)), FEATURES),
    "EIF": (lambda: behind(sn.EIF(4.0, delta_t=varied(8) + 0.5)), FEATURES),
    "QIF": (lambda: behind(sn.QIF(4.0, v_reset=-0.1)), FEATURES),
    "Izhikevich": (lambda: behind(sn.Izhikevich(4.0, b=0.3)), FEATURES),
    "IF from half its threshold": (lambda: behind(sn.IF(v_threshold=1.3, v_reset=None, v_init=0.65)), FEATURES),
    "CubaLIF from values of each its own": (lambda: behind(sn.CubaLIF(3.0, 1.7, v_init=varied(8) / 9)), FEATURES),
    "own KLIF from a value": (lambda: behind(klif.layer(decay=0.7, v_init=0.5)), FEATURES),
    "several spikes": (lambda: behind(LIF(max_spikes=None, v_reset=None, decay_input=False)), FEATURES),
    "several, silent": (
        lambda: behind(sn.CubaLIF(max_spikes=2, v_reset=None, refractory=2, decay_input=False)),
        FEATURES,
    ),
    "CubaLI": (lambda: behind(sn.CubaLI(5.0, 2.0, v_rest=varied(8))), FEATURES),
    "RLIF": (lambda: behind(learned(sn.RLIF, tau=2.0, self_connections=False)), FEATURES),
    "Recurrent": (
        lambda: behind(learned(functools.partial(sn.Recurrent, sn.AdLIF(tau=(2.0, 4.0))), max_delay=3.5)),
        FEATURES,
    ),
    "recurrent delays": (
        lambda: behind(learned(sn.RLIF, delay=torch.tensor([0.0, 1, 2.5, 0, 4, 0, 0.25, 3]))),
        FEATURES,
    ),
    "Delay": (lambda: nn.Sequential(behind(LIF(), 9, 3), trained_delay(), Time(events(3, 2))), FEATURES),
    "own KLIF": (lambda: behind(klif.layer(k=varied(8, low=0.8, high=1.5), decay=0.7)), FEATURES),
    "own two compartments": (
        lambda: behind(two_compartments.layer(refractory=2, strict=True, v_threshold=0.4)),
        FEATURES,
    ),
    "own functions": (lambda: behind(many_functions.layer(v_reset=None, max_spikes=3)), FEATURES),
    "own recurrent": (lambda: behind(learned(functools.partial(sn.Recurrent, klif.layer(k=1.2)))), FEATURES),
    "own image": (lambda: nn.Sequential(plain_lif.layer(v_rest=varied(2, 1, 1) / 9, decay=varied(2, 1, 1) / 7)), IMAGE),
    "a sum": (Residual, FEATURES),
    "sums in place": (Added, FEATURES),
    "a convolution": (
        lambda: nn.Sequential(
            Time(SpikeConv2d(2, 5, 3, padding=(1, 2), method="events")),
            LIF(varied(5, 1, 1), v_threshold=0.2),
            Time(nn.Flatten(), nn.Dropout(0.3), events(5 * 7 * 8, 6)),
            LIF(v_threshold=0.1),
        ),
        IMAGE,
    ),
    "an image of each pixel its own": (
        lambda: nn.Sequential(LIF(varied(2, 7, 6), v_threshold=varied(7, 6, low=0.1, high=0.6))),
        IMAGE,
    ),
    "pooling of rates": (
        lambda: nn.Sequential(
            Time(SpikeConv2d(2, 5, 3, method="events")), sn.IF(v_threshold=varied(5, 1, 1, low=0.3, high=0.9)),
            Scale(varied(5, 1, 1)), sn.RatePool(nn.MaxPool2d(2, 1, 1)), Scale(torch.tensor(0.3)),
        ),
        IMAGE,
    ),
    "pooling": (
        lambda: nn.Sequential(
            LIF(v_threshold=0.3), Time(nn.MaxPool2d(3, 2, 1)), sn.Delay(2, 2.0), Time(nn.AvgPool2d(2, 1, 1)),
            Time(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)),
        ),
        IMAGE,
    ),
}  # fmt: skip


def network_and_input(name):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    x = torch.randn(25, 2, *shape, generator=torch.Generator().manual_seed(1)).mul_(2).relu_()
    return make().eval(), x


@needs_compiler
@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_gives_every_bit_of_the_network(name, tmp_path):
    net, x = network_and_input(name)
    with torch.no_grad():
        want = net(x)
    report = snnfast.export_c(net, tmp_path, x.shape[2:])
    same(run(tmp_path, x, want[0, 0].numel()), want.flatten(2))
    same(report.network(x), want)
    assert want.unique().numel() > 1, "a test without spikes shows nothing"


class Strided(nn.Sequential):
    """Layers whose sums have no event-driven form, and batch normalisations that are folded."""

    def __init__(self):
        norms = [nn.BatchNorm2d(6), nn.BatchNorm1d(5)]
        with torch.no_grad():
            for value in (v for n in norms for v in (n.weight, n.bias, n.running_mean, n.running_var)):
                value.uniform_(0.5, 2.0)
        first = nn.Conv2d(2, 6, (3, 2), stride=(2, 1), padding=1, groups=2, bias=False)
        second = nn.Conv2d(6, 4, 3, padding="same", dilation=2)
        third = nn.Sequential(nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(8, 5))
        super().__init__(
            Time(first, norms[0]), LIF(v_threshold=0.9), Time(second), LIF(v_threshold=0.2), Time(third),
            Time(norms[1]), sn.LI(3.0),
        )  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_network_of_the_report_has_the_bits_of_the_program(weights, tmp_path):
    torch.manual_seed(0)
    net = Strided().eval()
    x = torch.rand(12, 2, 2, 8, 7) * 3
    report = snnfast.export_c(net, tmp_path, x.shape[2:], weights=weights)
    with torch.no_grad():
        want, original = report.network(x), net(x)
    same(run(tmp_path, x, 5), want)
    if weights == "float32":
        torch.testing.assert_close(want, original, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_weights_of_8_bits_lose_what_is_stated(tmp_path):
    torch.manual_seed(0)
    net, x = behind(learned(sn.RLIF)).eval(), torch.rand(20, 2, 9) * 2
    whole = snnfast.export_c(net, tmp_path / "float32")
    report = snnfast.export_c(net, tmp_path / "int8", weights="int8")
    same(run(tmp_path / "int8", x, 8), report.network(x))
    before, after = net[0].layer.weight, report.network[0].layer.weight
    scale = before.abs().amax(1, keepdim=True) / 127
    q = after / scale
    torch.testing.assert_close(q, q.round(), rtol=0, atol=1e-4)
    assert ((after - before).abs() <= scale * 0.5001).all()
    product, recurrent = report.losses
    assert product.largest == (after - before).abs().max().item()
    assert product.relative == pytest.approx(((after - before).norm() / before.norm()).item())
    assert recurrent.layer == "1"
    assert (recurrent.relative, whole.losses) == (pytest.approx(0.003, abs=0.003), [])
    assert whole.layers[1].weights == 4 * (72 + 8)
    assert report.layers[1].weights == 72 + 4 * 8 + 4 * 8  # with scales and biases
    same(net[0].layer.weight, before)
    assert "| 0.layer | " in str(report)


@needs_compiler
@pytest.mark.parametrize("kind", [sn.Rate, sn.Count, sn.Last, sn.Max, sn.FirstSpike])
def test_a_readout_gives_what_it_gave_if_the_sequence_ended(kind, tmp_path):
    net = nn.Sequential(*behind(LIF(3.0)), kind(), events(8, 3))
    x = torch.rand(9, 2, 9) * 4
    snnfast.export_c(net, tmp_path)
    found = run(tmp_path, x, 3)
    for t in range(1, 10):
        same(found[t - 1], net(x[:t]))


@needs_compiler
@pytest.mark.parametrize("kind", [sn.Rate, sn.Count, sn.Last, sn.Max, sn.FirstSpike])
def test_a_readout_of_a_membrane_differs_in_the_last_bits_at_most(kind, tmp_path):
    """Over many steps: PyTorch adds in blocks."""
    net = nn.Sequential(*behind(sn.LI(3.0)), kind())
    x = torch.rand(300, 2, 9) * 2
    report = snnfast.export_c(net, tmp_path)
    with torch.no_grad():
        membrane, want = net[:2](x), report.network(x)
    found = run(tmp_path, x, 8)[-1]
    assert (membrane > 1).any()
    assert (membrane < 0).any()
    if kind in (sn.Last, sn.Max):
        same(found, want)
    else:
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


@needs_compiler
@runs_here
def test_the_program_reads_frames(tmp_path):
    net = behind(LIF(3.0), 3, 2)
    x = torch.rand(6, 1, 3) * 3
    report = snnfast.export_c(net, tmp_path)
    compiled(tmp_path, "-O0", "-o", "snn", "main.c", "snn.c")
    want = net(x).flatten(1)

    def say(words, *arguments, code=0):
        done = subprocess.run([str(tmp_path / "snn"), *arguments], input=words, capture_output=True)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    text = "\n".join(" ".join(f"{v:.9g}" for v in frame.flatten()) for frame in x)
    lines = say(f"{text}\nreset\n{text}".encode()).decode().splitlines()
    found = torch.tensor([[float(word) for word in line.split()] for line in lines])
    same(found, torch.cat([want, want]))
    binary = np.frombuffer(say(x.numpy().tobytes(), "--binary"), np.float32)
    same(torch.from_numpy(binary.copy()).view(6, 2), want)
    sizes = say(b"", "--sizes").decode().splitlines()
    totals = [sum(layer[i] for layer in report.layers) for i in (3, 4)]
    assert sizes[-1] == f"all,,{totals[0]},{totals[1]}"
    assert b"the last frame has 2 numbers of 3" in say(b"1 2", code=1)
    assert b"x is no number" in say(b"1 x 2", code=1)
    for few in (1, 4, 11):
        error = say(x.numpy().tobytes()[: 12 + few], "--binary", code=1)
        assert f"the last frame has {few} bytes of 12".encode() in error
    assert b"usage" in say(b"", "--more", code=2)


WEIGHTS = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "parametrised": parametrizations.weight_norm,
    "parametrised by its spectrum": parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("how", WEIGHTS)
def test_weights_that_are_worked_out_are_written_as_they_are(how, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(9, 6), nn.BatchNorm1d(6)), sn.LI()).eval()
    WEIGHTS[how](net[0].layer[0])
    x = torch.rand(5, 2, 9)
    want = net(x)  # weights now have a graph
    found = snnfast.export_c(net, tmp_path).network(x)
    torch.testing.assert_close(found, want)
    same(net(x), want)


def test_a_monitor_does_not_see_the_export(tmp_path):
    net = behind(LIF())
    with snnfast.monitor(net) as watching:
        snnfast.export_c(net, tmp_path)
    assert watching.samples == 0


def test_what_you_wrote_stays(tmp_path):
    net = behind(LIF())
    snnfast.export_c(net, tmp_path)
    for name in ("main.c", "Makefile", "snn.c", "snn.h"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "Makefile").unlink()
    snnfast.export_c(net, tmp_path)
    unchanged = {path.name for path in tmp_path.iterdir() if path.read_text() == "mine"}
    assert unchanged == {"main.c"}


@needs_compiler
def test_memory_is_what_is_stated(tmp_path):
    """The compiler's own sum of the sections: constants, and memory that is 0 at the start."""
    report = snnfast.export_c(behind(learned(sn.RLIF)), tmp_path)
    compiled(tmp_path, "-O0", "-c", "snn.c")
    size = shutil.which("size")
    if size is None:
        pytest.skip("no size (binutils)")
    out = subprocess.run([size, "-A", "snn.o"], cwd=tmp_path, capture_output=True, text=True)
    sections = {
        words[0]: int(words[1])
        for line in out.stdout.splitlines()
        if len(words := line.split()) == 3 and words[0].startswith(".")
    }
    weights, memory = (sum(layer[i] for layer in report.layers) for i in (3, 4))
    assert 0 <= sections[".bss"] - memory < 256
    assert weights <= sections[".rodata"] < weights + 512
    assert sections[".data"] == 0


NEURONS = {
    "if_1": sn.IF,
    "lif_1": LIF,
    "lif_1, soft reset": functools.partial(LIF, v_reset=None),
    "lif_1, strict": functools.partial(LIF, strict=True),
    "alif_1": sn.ALIF,
    "cubalif_1": sn.CubaLIF,
    "adlif_1": functools.partial(sn.AdLIF, 64),
    "rlif_1_neuron": functools.partial(sn.RLIF, 64),
}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc, which says what it vectorised")
@pytest.mark.parametrize("name", NEURONS)
def test_a_compiler_takes_several_neurons_at_once(name, tmp_path):
    snnfast.export_c(behind(NEURONS[name](), features=64), tmp_path)
    options = ["-std=c99", "-O3", "-ffp-contract=off", "-fopt-info-vec-optimized", "-c", "snn.c"]
    said = subprocess.run(["gcc", *options], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    function = f"static void {name.partition(',')[0]}(void) {{"
    assert f"snn.c:{(tmp_path / 'snn.c').read_text().splitlines().index(function) + 2}:" in said


# Errors of layers that cannot be written.


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.lif = LIF()

    def forward(self, x):
        return self.lif(self.lif(x))


class Functional(nn.Module):
    def forward(self, x):
        return torch.relu(x)


class Viewed(Twice):
    def forward(self, x):
        last = self.lif(x)
        view = self.view(last)
        last += x
        return self.back(view)

    def __init__(self):
        super().__init__()
        self.view, self.back = Time(nn.Flatten()), LIF()


class Branching(Twice):
    def forward(self, x):
        return self.lif(x) if x.sum() > 0 else x


def hooked(pre):
    net = nn.Sequential(Time(nn.Linear(3, 3)), LIF())
    if pre:
        net[1].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 2,))
    else:
        net[1].register_forward_hook(lambda layer, inputs, result: result * 2)
    return net


def converted():
    return snnfast.convert(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), [torch.rand(5, 3)])


@pytest.mark.parametrize(
    ("net", "error"),
    [
        (nn.Sequential(Time(nn.ReLU())), r"^export_c: 0\.layer, a ReLU, has no equal in C"),
        (nn.Sequential(Time(nn.BatchNorm1d(3))), r"^export_c: 0\.layer, a BatchNorm1d, cannot be folded: it does not"),
        (nn.Sequential(LIF(return_v_seq=True)), r"^export_c: 0, a LIF, returns more than one tensor"),
        (nn.Sequential(LIF(v_threshold=torch.tensor([1.0, torch.inf, 1.0]))), r"^export_c: 0, a LIF, .*finite"),
        (Twice(), r"^export_c: lif runs twice"),
        (Viewed(), r"^export_c: iadd in forward: it changes in place what is read again by another name"),
        (hooked(pre=False), r"^export_c: 1, a LIF, has a forward hook"),
        (hooked(pre=True), r"^export_c: 1, a LIF, has a forward hook"),
        (
            converted(),
            r"^export_c: net must take .* a SpikingNetwork takes images and num_steps; give net\.sequential\(\)$",
        ),
        (nn.Sequential(sn.RatePool(nn.Identity())), r"^export_c: 0, a RatePool, pools by a Identity, in C by"),
        (nn.Sequential(Time(nn.Linear(4, 3))), r"^export_c: 0\.layer, a Linear, does not take \[3\], which"),
        (
            nn.Sequential(Time(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))),
            r"^export_c: 0\.layer\.1, a BatchNorm1d, cannot be folded: it has no running statistics",
        ),
        (nn.Sequential(Functional()), r"^export_c: relu in 0 is no layer"),
        (Branching(), r"^export_c: Branching cannot be traced by torch\.fx: symbolically traced variables"),
        (nn.Sequential(sn.Recurrent(LIF(return_v_seq=True), 3)), r"^export_c: 0, a Recurrent, .*more than one tensor"),
        (3, r"^export_c: net must be a module, got int"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named(net, error, tmp_path):
    with pytest.raises((TypeError, ValueError), match=error):
        snnfast.export_c(net, tmp_path / "no", (3,))
    assert not (tmp_path / "no").exists()


def test_arguments_that_are_wrong_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"^export_c: give input_shape: the first layer, a LIF"):
        snnfast.export_c(nn.Sequential(LIF()), tmp_path)
    with pytest.raises(ValueError, match=r"^export_c: input_shape must be \[features\] or"):
        snnfast.export_c(LIF(), tmp_path, (3, 4))
    with pytest.raises(ValueError, match=r"^export_c: weights must be float32 or int8"):
        snnfast.export_c(LIF(), tmp_path, (3,), weights="int4")
    image = nn.Sequential(Time(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")))
    with pytest.raises(ValueError, match=r"^export_c: 0\.layer, a Conv2d, pads by circular"):
        snnfast.export_c(image, tmp_path, (1, 4, 4))
    with pytest.raises(ValueError, match=r"^export_c: 0, a RLIF, gets \[2, 4, 5\] a sample"):
        snnfast.export_c(nn.Sequential(sn.RLIF(5)), tmp_path, (2, 4, 5))
