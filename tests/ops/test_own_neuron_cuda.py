"""CUDA kernels of neurons from step functions: emulated against the reference, and compiled by nvcc."""

import re
import shutil
import subprocess
import warnings
from unittest import mock

import fake_cuda
import pytest
import torch
from backends import PRESENT, force
from equations import gated, klif, two_compartments
from own_neuron_cases import Recurrent, compare, draw, every_exponent, four_functions, readout
from samples import assert_equal

import snnfast
from snnfast.compiler import build
from snnfast.compiler.build import CompileError
from snnfast.compiler.variant import source_of, variant_of
from snnfast.ops import own_kernels, own_neuron
from snnfast.reference.recurrent import NOT_RECURRENT

emulated = pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")


@snnfast.neuron
def bare(fire, x, v):
    """Step without parameters and coefficients: CUDA has no empty arrays."""
    return torch.relu(v + x), torch.abs(0.5 * v + x)


@snnfast.neuron(inputs=3)
def wide(fire, x, gain, shift, v, a, b, c, *, decay=0.5):
    """Step of many values, so that few steps fit into shared memory."""
    a, b, c = torch.sigmoid(a + x), torch.tanh(b * gain), torch.exp(-(c * c)) * shift
    s, _, v = fire(decay * v + a * b + b * c + torch.sin(a * c) + x, 0.3)
    return s, a * b * c, v, a, b, c


@snnfast.neuron(inputs=2)
def receptors(fire, x, y, v, g, *, decay=0.5):
    """Two inputs and one output: sparse connections reach both."""
    s, _, v = fire(decay * v + x + g, 1.0)
    return s, v, decay * g + y


def inputs_of(op, *shape, dtype=torch.float64):
    return [draw(*shape, seed=k, scale=1.5, dtype=dtype) for k in range(len(op.inputs))]


@emulated
@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (klif, {"k": draw(7).abs(), "v": draw(3, 7), "v_reset": None, "return_v_seq": True}),
        (two_compartments, {"refractory": 2, "strict": True, "beta_d": draw(7), "v_reset": -0.2}),
        (two_compartments, {"v_reset": None, "max_spikes": 3}),
        (gated, {"decay": draw(7).sigmoid(), "u": draw(3, 7)}),
        (readout, {"return_v_seq": True}),
        (wide, {"v_reset": None}),
    ],
)
@pytest.mark.usefixtures("nan_memory")
def test_emulated_kernels_equal_the_reference(op, arguments):
    """Few variants, since each takes a second to compile; the formulas are those of the CPU kernels."""
    with force("cuda_emulation"):
        outputs = compare(op, inputs_of(op, 37, 3, 7), **arguments)
    assert not op.fires or 0.01 < outputs[0].clamp(max=1).mean() < 0.99


@emulated
def test_emulated_functions_of_every_number_have_the_bits_of_the_reference():
    x = every_exponent(torch.float32)
    with force("cuda_emulation"):
        assert_equal(four_functions(x), four_functions.reference(x))


@emulated
@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.usefixtures("nan_memory")
def test_emulated_recurrent_kernels_equal_the_reference(delay):
    more = {"weight": draw(7, 7, seed=3), "k": draw(7).abs(), "v": draw(3, 7, seed=4)}
    if delay:
        more |= {"delay": draw(7, seed=5).abs() * 3, "past": (draw(4, 3, 7, seed=6) > 0.5).double()}
    with force("cuda_emulation"):
        compare(Recurrent(klif), [draw(37, 3, 7)], 1e-11, return_v_seq=True, **more)


@emulated
@pytest.mark.parametrize(
    ("op", "dtype", "neurons", "threads"),
    [
        (klif, torch.float32, 24, {128}),  # four neurons a thread
        (klif, torch.bfloat16, 48, {128}),
        (klif, torch.bfloat16, 6, {64}),  # a pair of neurons a thread
        (gated, torch.float16, 48, {128, 64}),  # a pair forward, one backward
    ],
)
@pytest.mark.usefixtures("nan_memory")
def test_neurons_share_a_thread_where_they_fill_the_device(op, dtype, neurons, threads, tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    monkeypatch.setenv("SNNFAST_EMULATION_TRACE", str(trace))
    with force("cuda_emulation"):
        compare(op, inputs_of(op, 37, neurons, dtype=dtype), 1e-4 if dtype.itemsize == 4 else 0.05)
    assert {int(line.split()[3]) for line in trace.read_text().splitlines()} == threads


@emulated
def test_inputs_and_gradients_that_repeat_a_value():
    x, gate = torch.rand(20, 1).expand(20, 8), torch.rand(1, 8).expand(20, 8)
    leaves = [x.clone().requires_grad_(), gate.clone().requires_grad_()]
    expected = gated.reference(*leaves)
    grads = torch.autograd.grad(sum(o.sum() for o in expected), leaves)
    with force("cuda_emulation"):
        views = [x.detach().requires_grad_(), gate.detach().requires_grad_()]
        found = gated(*views)
        got = torch.autograd.grad(sum(o.sum() for o in found), views)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(got, grads)


def emulated_kernel(op, *inputs):
    with force("cuda_emulation"):
        op(*inputs)
    return next(
        k
        for v, k in op.kernels.latest.items()
        if v.target == "cuda_emulation" and v.dtype == inputs[0].dtype and not v.tensors
    )


@emulated
def test_fewer_steps_between_checkpoints_fit_into_shared_memory():
    few = emulated_kernel(wide, *inputs_of(wide, 3, 3, 7)).checkpoint_every
    assert few < emulated_kernel(klif, torch.rand(3, 6)).checkpoint_every == 16


@emulated
def test_opcheck():
    kernel = emulated_kernel(klif, torch.rand(3, 6))
    state = torch.rand(6, requires_grad=True)
    numbers = [0.5 + n for n in range(len(kernel.numbers))]
    arguments = numbers, True, *NOT_RECURRENT, [torch.rand(40, 6, requires_grad=True)], [state], []
    op = torch.ops.snnfast_emulated.own_neuron_forward.default
    torch.library.opcheck(op, (kernel.name, *arguments, kernel.checkpoint_every))


@emulated
def test_kernels_of_another_device_are_refused():
    kernel = emulated_kernel(klif, torch.rand(3, 6))
    own_kernels.load("snnfast", build.folder() / f"{kernel.name}.so")
    arguments = [1.0] * len(kernel.numbers), False, *NOT_RECURRENT, [torch.rand(3, 6)], [], []
    with pytest.raises(RuntimeError, match="is for another device"):
        torch.ops.snnfast.own_neuron_forward(kernel.name, *arguments, 0)


# ---- on a GPU


@pytest.fixture
def gpu(monkeypatch):
    """A simulated GPU, whose kernels are compiled for the emulation."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    load, library = own_kernels.load, own_neuron.library
    targets = []

    def compiled(name, source, target):
        targets.append(target)
        return library(name, source, "cuda_emulation")

    monkeypatch.setattr(own_neuron, "library", compiled)
    monkeypatch.setattr(own_kernels, "load", lambda namespace, path: load("snnfast_emulated", path))
    with fake_cuda.present():
        yield targets


@emulated
def test_tensors_on_a_gpu_run_a_kernel_for_its_architecture(gpu):
    @snnfast.neuron
    def step(fire, x, v, *, decay=0.5):
        s, _, v = fire(decay * v + x, 1.0)
        return s, v

    x = torch.rand(20, 6)
    expected = step.reference(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = step(x.to("cuda"))
    assert gpu == ["sm_90"]
    for got, right in zip(found, expected):
        assert got.is_cuda
        assert_equal(got.cpu(), right)
    with mock.patch.object(own_neuron, "command"):
        explanation = snnfast.backend.explain(step, x.to("cuda"))
    assert explanation == "step: CUDA kernel compiled from its step (sm_90): x is on cuda"


@emulated
def test_without_nvcc_a_gpu_runs_the_reference_and_warns_once(gpu, monkeypatch):
    def missing(name, source, target):
        raise CompileError("no CUDA compiler was found")

    @snnfast.neuron
    def step(fire, x, v):
        s, _, v = fire(v + x, 1.0)
        return s, v

    monkeypatch.setattr(own_neuron, "library", missing)
    x = torch.ones(3, 2).to("cuda")
    why = "step runs in plain PyTorch, which is slow: no CUDA compiler was found"
    with pytest.warns(snnfast.backend.BackendWarning, match=why):
        spikes, _ = step(x)
    assert spikes.is_cuda
    assert spikes.sum().item() == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(x)
    with snnfast.backend.use("cuda"), pytest.raises(snnfast.backend.BackendError, match="no CUDA compiler was found"):
        step(x)


# ---- nvcc


@pytest.mark.skipif(not any(map(shutil.which, ("nvcc", "/usr/local/cuda/bin/nvcc"))), reason="no nvcc")
@pytest.mark.parametrize(
    ("op", "dtype", "recurrent"),
    [
        (wide, torch.float64, False),
        (klif, torch.bfloat16, True),
        (bare, torch.float32, False),
        (receptors, torch.float32, True),
    ],
)
def test_nvcc_compiles_them_without_spills(op, dtype, recurrent, tmp_path):
    x = [torch.zeros(1, 2, dtype=dtype) for _ in op.inputs]
    variant = variant_of(op.check(*x))._replace(recurrent=recurrent, target="sm_90", dtype=dtype)
    words = [*build.command(tmp_path / "kernel.so", "sm_90"), "-Xptxas=-v"]
    done = subprocess.run(words, input=source_of(op, variant), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", done.stderr)
    assert len(spills) >= 2
    assert set(spills) == {("0", "0")}
    symbols = (tmp_path / "kernel.so").read_bytes()
    assert b"snnfast_own_kernel" in symbols
