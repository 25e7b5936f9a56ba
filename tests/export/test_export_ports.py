"""Networks of snnTorch and Norse whose loops ``replace`` took apart: to C, NIR, single steps, torch.export and ONNX.

Stand-ins replace the neurons of both libraries, which need not be installed.
"""

import importlib.util

import pytest
import torch
from looping import STEPS, Layers, neuron
from program import needs_compiler, run
from replaced import loud, norse, stand_in, surrogate
from torch import nn

import snnfast
from snnfast import nn as sn

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
GENERATOR = torch.Generator().manual_seed(1)
X = torch.rand(9, 3, 4, generator=GENERATOR) * 2
RATES = {"tau_mem_inv": 100.0, "v_leak": 0.1, "v_th": 1.0, "v_reset": 0.05, "dt": 0.001}


def to_zero():
    return neuron(reset_mechanism="zero")


class SnnTorch(Layers):
    """Loop over the steps of the input, returning the spikes of the last layer."""

    def __init__(self, neuron=neuron):
        super().__init__(neuron)
        with torch.no_grad():
            self.fc1.weight /= 4
            self.fc2.weight /= 4

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for x_t in x:
            spk, mem1 = self.lif1(self.fc1(x_t), mem1)
            spk, mem2 = self.lif2(self.fc2(spk), mem2)
            spikes.append(spk)
        return torch.stack(spikes)


class Norse(nn.Module):
    """Loop of Norse's models: a readout that never fires, whose voltages fill a tensor."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = loud(nn.Linear(4, 6), 9.0), loud(nn.Linear(6, 6), 9.0)
        self.box = norse("LIFBoxCell", "norse.torch.module.lif_box")(RATES)
        self.lif = norse("LIFCell", "norse.torch.module.lif")({"tau_syn_inv": 200.0, **RATES})
        self.out = norse("LILinearCell", "norse.torch.module.leaky_integrator")(
            {n: v for n, v in RATES.items() if n in ("tau_mem_inv", "v_leak", "dt")} | {"tau_syn_inv": 200.0}
        )
        self.out.input_size, self.out.hidden_size = 6, 2
        self.out.input_weights = nn.Parameter(torch.rand(2, 6, generator=GENERATOR) + 1)

    def forward(self, x):
        s1 = s2 = s3 = None
        voltages = torch.zeros(x.shape[0], x.shape[1], 2)
        for t in range(x.shape[0]):
            z, s1 = self.box(self.fc1(x[t, :]), s1)
            z, s2 = self.lif(self.fc2(z), s2)
            voltages[t, :, :], s3 = self.out(z, s3)
        return voltages


def ported(make):
    torch.manual_seed(0)
    net = sn.replace(make().float(), sequences=True).eval()
    expected = net(X).detach()
    assert expected.unique().numel() > 1
    return net, expected


NETS = {"snntorch": SnnTorch, "snntorch, zero": lambda: SnnTorch(to_zero), "norse": Norse}
every = pytest.mark.parametrize("name", NETS)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@needs_compiler
@every
def test_in_c(name, tmp_path):
    net, expected = ported(NETS[name])
    report = snnfast.export_c(net, tmp_path, input_shape=(4,))
    close(run(tmp_path, X, expected.shape[-1]), expected)
    close(report.network(X), expected)


@every
def test_as_nir(name):
    pytest.importorskip("nir")
    net, expected = ported(NETS[name])
    if name == "snntorch":
        with pytest.raises(ValueError, match=r"^to_nir: lif1 resets by subtraction, NIR's neurons to v_reset"):
            snnfast.nir.to_nir(net, (4,), dt=1e-3, scheme="euler")
        return
    graph = snnfast.nir.to_nir(net, (4,), dt=1e-3, scheme="euler")
    close(snnfast.nir.from_nir(graph)(X), expected)


@every
def test_step_by_step(name):
    net, expected = ported(NETS[name])
    step = snnfast.export.Step(net)
    states, got = step.start(X[0]), []
    for x_t in X:
        y, *states = step(x_t, *states)
        got.append(y)
    close(torch.stack(got), expected)


@every
def test_as_a_program(name):
    net, expected = ported(NETS[name])
    program = torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim("T", min=3)},))
    close(program.module()(X), expected)
    close(program.module()(X[:4]), expected[:4])


@pytest.mark.skipif(not ONNX, reason="needs onnx, onnxscript and onnxruntime")
@pytest.mark.parametrize("name", ["snntorch", "norse"])
def test_in_onnx(name, tmp_path):
    import onnxruntime

    net, expected = ported(NETS[name])
    x = X[:2]  # few steps: they are unrolled, and each takes seconds
    torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    close(torch.from_numpy(got), expected[:2])


class Images(nn.Module):
    """Network with the same image at every step, returning firing rates."""

    def __init__(self):
        super().__init__()
        self.conv, self.lif1 = loud(nn.Conv2d(1, 2, 3)), neuron()
        self.fc, self.lif2 = loud(nn.Linear(8, 3)), neuron()

    def forward(self, x):
        mem1, mem2, count = self.lif1.init_leaky(), self.lif2.init_leaky(), 0
        for _ in range(STEPS):
            spk, mem1 = self.lif1(nn.functional.max_pool2d(self.conv(x), 2), mem1)
            spk, mem2 = self.lif2(self.fc(spk.view(x.size(0), -1)), mem2)
            count += spk
        return count


@needs_compiler
def test_an_image_that_is_the_same_at_every_step(tmp_path):
    torch.manual_seed(0)
    x = torch.rand(2, 1, 6, 6)
    net = sn.replace(Images().float(), sequences=True).eval()
    snnfast.export_c(net, tmp_path, input_shape=(1, 6, 6))
    close(run(tmp_path, x.expand(STEPS, *x.shape).contiguous(), 3)[-1], net(x))


def lapicque():
    constants = {"beta": 0.6, "R": 2.0, "C": 1.25, "threshold": 1.0, "graded_spikes_factor": 1.0}
    return stand_in(
        "snntorch._neurons.lapicque",
        "Lapicque",
        buffers=constants | {"reset_mechanism_val": 0.0, "mem": []},
        **{"reset_mechanism": "subtract", "reset_delay": True, "time_step": 1.0, "spike_grad": surrogate(2.0)},
        **dict.fromkeys(("inhibition", "state_quant", "init_hidden", "output"), False),
    )


@needs_compiler
def test_other_neurons_in_c(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(loud(nn.Linear(4, 3)), lapicque()).float()
    net[1].init_hidden = True
    fast = sn.replace(net, sequences=True).eval()
    snnfast.export_c(fast, tmp_path, input_shape=(4,))
    expected = fast(X)
    assert 0 < expected.mean() < 1
    close(run(tmp_path, X, 3), expected)


def both_results(self, x):
    mem, spikes, membranes = self.lif1.init_leaky(), [], []
    for x_t in x:
        spk, mem = self.lif1(self.fc1(x_t), mem)
        spikes.append(spk)
        membranes.append(mem)
    return torch.stack(spikes) + torch.stack(membranes)


def membranes(self, x):
    mem, found = self.lif1.init_leaky(), []
    for x_t in x:
        _, mem = self.lif1(self.fc1(x_t), mem)
        found.append(mem)
    return torch.stack(found)


def scaled(self, x):
    mem, spikes = self.lif1.init_leaky(), []
    for x_t in x:
        spk, mem = self.lif1(10 * self.fc1(x_t), mem)
        spikes.append(spk)
    return torch.stack(spikes)


REFUSED = {
    "both results": (both_results, "of lif1, a Leaky, more than one result is used, and a layer gives one"),
    "membranes": (membranes, "lif1, a Leaky, has no layer of its own here: its membranes are those before a reset"),
    "a function": (scaled, "mul in forward is no layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_in_the_way_is_said_in_one_sentence(name, tmp_path):
    forward, words = REFUSED[name]
    net = sn.replace(type("Net", (Layers,), {"forward": forward})().float(), sequences=True)
    with pytest.raises(ValueError, match=f"^export_c: {words}") as error:
        snnfast.export_c(net, tmp_path, input_shape=(4,))
    assert "\n" not in str(error.value)
