"""``Step``, ONNX and AOTInductor: a network step by step in other tools."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import snnfast
from snnfast import nn as sn
from snnfast.export import Step
from snnfast.nn import LI, LIF, Rate, SpikeConv2d, SpikeLinear, Time

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        Time(SpikeConv2d(1, 3, 3), nn.BatchNorm2d(3)),
        LIF(2.0, v_reset=None),
        Time(nn.MaxPool2d(2), nn.Flatten(), SpikeLinear(12, 8)),
        sn.ALIF(3.0, v_threshold=0.3),
        sn.Delay(8, 3.5),
        sn.RLIF(8, v_threshold=0.3, v_rest=0.05, v_reset=-0.1, max_delay=2.5),
        Time(nn.Linear(8, 4)),
        LI(4.0),
    )
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight *= 3
    return net.eval()


def frames():
    return torch.rand(12, 2, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 2


def stepped(step, x, start):
    states, outputs = start, []
    for frame in x:
        y, *states = step(frame, *states)
        outputs.append(y)
    return torch.stack(outputs)


def test_steps_give_the_sequence():
    net, x = network(), frames()
    step = Step(net)
    with torch.no_grad():
        want = net(x)
        found = stepped(step, x, step.start(x[0]))
    torch.testing.assert_close(found, want, rtol=0, atol=0)
    assert want.abs().sum() > 0
    assert step.names[:3] == ["1.v", "3.v", "3.a"]
    assert all(not layer.stateful for layer in net.modules() if hasattr(layer, "stateful"))
    with pytest.raises(ValueError, match=r"^Step: takes x and 7 states \(1\.v, .*\), got 1"):
        step(x[0], x[0])
    with pytest.raises(TypeError, match=r"^Step: net must be a module, got int"):
        Step(3)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(0)


@pytest.mark.parametrize("readout", [Mean(), LIF(return_v_seq=True)])
def test_what_gives_no_sequence_is_refused(readout):
    """``Step`` would take the first sample for the first step."""
    with pytest.raises(ValueError, match=r"^Step: net must return one tensor \[T, B, \.\.\.\]"):
        Step(nn.Sequential(LIF(), readout)).start(torch.rand(3, 4))


def test_a_readout_is_named():
    with pytest.raises(ValueError, match=r"^Step: 1, a Rate, reads out all steps; leave it out"):
        Step(nn.Sequential(LIF(), Rate()))


def test_a_state_that_two_places_would_share_is_refused():
    for layer in (LIF(), nn.Sequential(LIF()), sn.Delay(2, 3.0)):
        step = Step(nn.Sequential(layer, nn.Identity(), layer))
        with pytest.raises(ValueError, match=r"^Step: 0(\.0)? runs twice; give each place a layer"):
            step.start(torch.rand(3, 2, 4, 4))


def converted():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)
    )
    return snnfast.convert(ann, [frames()[0]], method="max", per_channel=True)


def test_a_converted_network_is_refused():
    net = converted()
    with pytest.raises(
        ValueError, match=r"^Step: net must take .* a SpikingNetwork takes .*; give net\.sequential\(\)$"
    ):
        Step(net)
    with pytest.raises(TypeError, match=r"^SpikingNetwork: exporters take .*; give net\.sequential\(\)"):
        torch.export.export(net, (frames()[0], 4))


def test_layers_of_a_converted_network_run_step_by_step():
    """Neurons of the network start at half their threshold, and its max pooling counts."""
    net, x = converted(), frames()[:1].expand(12, -1, -1, -1, -1)
    layers = net.sequential()
    step = Step(layers[:-1])
    assert step.names == ["1.v", "2.count", "4.v"]
    with snnfast.backend.use("reference"), torch.no_grad():
        outputs = stepped(step, x, step.start(x[0]))
        torch.testing.assert_close(outputs.mean(0), net(x[0], 12), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(exported(layers[:-1], x), outputs, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        program = torch.export.export(layers, (x,), dynamic_shapes=({0: torch.export.Dim("T")},)).module()
        torch.testing.assert_close(program(x[:7]), net(x[0], 7), rtol=1e-5, atol=1e-6)


def exported(net, x, strict=False):
    """Run the steps of ``x`` by the program of torch.export."""
    step = Step(net)
    start = step.start(x[0])
    program = torch.export.export(step, (x[0], *start), strict=strict).module()
    return stepped(program, x, start)


@pytest.mark.parametrize("layer", ["ALIF", "CubaLIF", "AdLIF"])
def test_every_state_is_an_input_of_its_own(layer):
    """The reference starts all states from one tensor."""
    net = nn.Sequential(
        getattr(sn, layer)(v_threshold=0.3, refractory=2), sn.Recurrent(sn.ALIF(v_threshold=0.2, refractory=1), 4)
    )
    x = torch.rand(20, 1, 4, generator=torch.Generator().manual_seed(1)) * 6
    with snnfast.backend.use("reference"), torch.no_grad():
        want = net(x)
        torch.testing.assert_close(exported(net, x), want, rtol=0, atol=0)
    assert 0 < want.mean() < 1


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
def test_given_delays_of_recurrence_are_exported(strict):
    torch.manual_seed(0)
    layer = sn.Recurrent(LIF(v_threshold=0.3), 4, delay=torch.tensor([0.0, 1.0, 2.0, 3.5]))
    x = torch.rand(20, 1, 4)
    for late in (0.0, 2.0):  # also after delays have changed
        layer.delay += late
        with torch.no_grad():
            want = layer(x)
            torch.testing.assert_close(exported(layer, x, strict), want, rtol=0, atol=0)
        assert 0 < want.mean() < 1


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_hooks_run_and_weights_are_worked_out():
    net = nn.Sequential(Time(nn.utils.weight_norm(nn.Linear(4, 3))), LI()).eval()
    net[1].register_forward_hook(lambda layer, inputs, result: result * 2)
    x = torch.rand(5, 1, 4)
    want = net(x)  # a weight now has a graph
    torch.testing.assert_close(exported(net, x), want)


def test_a_program_for_onnx_has_no_kernels(monkeypatch):
    net = nn.Sequential(Time(SpikeLinear(4, 3)), LIF(), sn.RLIF(3, delay=torch.ones(3)))
    step, x = Step(net), torch.rand(2, 4)

    def targets():
        program = torch.export.export(step, (x, *step.start(x)))
        return " ".join(str(node.target) for node in program.graph.nodes)

    assert "lif_forward" in targets()
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert "snnfast" not in targets()
    assert "_assert_async" not in targets()  # a check of delays, which ONNX does not have either


@pytest.mark.skipif(not ONNX, reason="needs onnx, onnxscript and onnxruntime")
@pytest.mark.parametrize("is_converted", [False, True])
def test_onnx_is_the_reference_by_itself(is_converted, tmp_path):
    import onnxruntime

    net, x = converted().sequential()[:-1] if is_converted else network(), frames()
    step = Step(net)
    start = step.start(x[0])
    path = tmp_path / "step.onnx"
    torch.onnx.export(step, (x[0], *start), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(*values):
        outputs = session.run(None, dict(zip(names, (v.numpy() for v in values), strict=True)))
        return [torch.from_numpy(y) for y in outputs]

    with torch.no_grad():
        torch.testing.assert_close(stepped(run, x, start), net(x), rtol=1e-4, atol=1e-5)


MAIN = """
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/script.h>
#include <iostream>
int main(int count, char** words) {
  c10::InferenceMode guard;
  torch::inductor::AOTIModelPackageLoader step(words[1]);
  torch::jit::Module given = torch::jit::load(words[2]);
  std::vector<torch::Tensor> values;
  for (const auto& b : given.named_buffers()) values.push_back(b.value);
  const torch::Tensor x = values[0];
  std::vector<torch::Tensor> states(values.begin() + 1, values.end());
  for (int64_t t = 0; t < x.size(0); t++) {
    std::vector<torch::Tensor> inputs = {x[t].contiguous()};
    inputs.insert(inputs.end(), states.begin(), states.end());
    auto outputs = step.run(inputs);
    for (float y : std::vector<float>(outputs[0].data_ptr<float>(), outputs[0].data_ptr<float>() + outputs[0].numel()))
      std::cout << std::hexfloat << y << "\\n";
    states.assign(outputs.begin() + 1, outputs.end());
  }
}
"""


class Tensors(nn.Module):
    """Container of tensors for the program in C++."""

    def __init__(self, *values):
        super().__init__()
        for k, value in enumerate(values):
            self.register_buffer(f"v{k:02}", value)

    def forward(self):
        return self.v00


@pytest.mark.skipif(
    os.environ.get("SNNFAST_TEST_AOTI") != "1" or shutil.which("c++") is None,
    reason="compiles for a minute: SNNFAST_TEST_AOTI=1, and a C++ compiler",
)
def test_aotinductor_runs_without_python(tmp_path):
    net, x = network(), frames()
    step = Step(net)
    start = step.start(x[0])
    with snnfast.backend.use("reference"), torch.no_grad():
        program = torch.export.export(step, (x[0], *start))
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "step.pt2"))
    (tmp_path / "main.cpp").write_text(MAIN)
    torch.jit.script(Tensors(x, *start)).save(str(tmp_path / "given.pt"))
    root = Path(torch.__file__).parent
    includes = [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    libraries = [f"-L{root}/lib", f"-Wl,-rpath,{root}/lib", "-ltorch", "-ltorch_cpu", "-lc10"]
    command = ["c++", "-std=c++20", "-O0", *includes, "main.cpp", "-o", "main", "-Wl,--no-as-needed", *libraries]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([str(tmp_path / "main"), package, str(tmp_path / "given.pt")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.tensor([float.fromhex(line) for line in done.stdout.split()])
    with torch.no_grad():
        torch.testing.assert_close(found, net(x).flatten(), rtol=1e-4, atol=1e-5)
    linked = subprocess.run(["ldd", str(tmp_path / "main")], capture_output=True, text=True).stdout
    assert "libpython" not in linked
    assert sys.executable not in linked
